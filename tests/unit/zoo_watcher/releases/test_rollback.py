"""What a host can go back to, according to its disk and its journal."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo_watcher.errors import DeployError, PassingError
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.activation import activate
from zoo_watcher.releases.journal import Place, ReleaseJournal
from zoo_watcher.releases.manifest import Manifest
from zoo_watcher.releases.rollback import PlacedRelease, WayBack, live_releases

A, B, C, NEW = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
RELEASE = PlacedRelease(NEW, "site")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A base with the complete releases A, B and NEW; C has been removed."""
    made = Layout(tmp_path / "base")
    made.make()
    for commit_id in (A, B, NEW):
        made.release(commit_id).mkdir()
        (made.release(commit_id) / "index.html").write_text(commit_id)
        Manifest.of(made.release(commit_id)).save(made.manifest(commit_id))
    return made


def test_the_latest_healthy_release_of_the_place_comes_first_and_the_failed_one_never(layout: Layout) -> None:
    activate(layout, "site", B)
    journal = ReleaseJournal(places=(Place("site", (NEW, C, B, A)),))
    assert WayBack.find(layout, journal, RELEASE).earlier == (PlacedRelease(B, "site"), PlacedRelease(A, "site"))


def test_a_release_that_was_healthy_at_another_place_is_gone_back_to_only_there(layout: Layout) -> None:
    activate(layout, "old", B)
    activate(layout, "older", A)
    journal = ReleaseJournal((B, A), places=(Place("site"), Place("old", (B,)), Place("older", (A,))))
    way_back = WayBack.find(layout, journal, RELEASE)
    assert way_back == WayBack(elsewhere=PlacedRelease(B, "old"))
    assert way_back.first == way_back.choose(layout, (), None) == PlacedRelease(B, "old")


def test_a_place_with_a_history_does_not_give_way_to_an_earlier_place(layout: Layout) -> None:
    activate(layout, "old", B)
    journal = ReleaseJournal((A,), places=(Place("site", (A,)), Place("old", (B,))))
    assert WayBack.find(layout, journal, RELEASE) == WayBack((PlacedRelease(A, "site"),))


def test_a_live_release_that_was_never_healthy_is_better_than_nothing(layout: Layout) -> None:
    activate(layout, "site", A)
    assert WayBack.find(layout, ReleaseJournal(places=(Place("site"),)), RELEASE).first == PlacedRelease(A, "site")


def test_the_first_release_of_a_host_has_no_way_back(layout: Layout) -> None:
    for _twice in range(2):
        way_back = WayBack.find(layout, ReleaseJournal(places=(Place("site"),)), RELEASE)
        assert way_back.first is None
        with pytest.raises(DeployError, match="no earlier release to go back to"):
            way_back.choose(layout, (), None)
        activate(layout, "site", NEW)


def test_a_release_that_may_not_go_live_again_is_passed_over(layout: Layout) -> None:
    way_back = WayBack((PlacedRelease(B, "site"), PlacedRelease(A, "site")))
    assert way_back.choose(layout, (), None) == PlacedRelease(B, "site")
    (layout.release(B) / "more").touch()
    assert way_back.choose(layout, (), None) == PlacedRelease(A, "site")
    with pytest.raises(DeployError, match=f"no earlier release may go live again: .*{B}, {A}"):
        way_back.choose(layout, (), "the digest of other signers")


def test_a_release_that_cannot_be_read_now_does_not_keep_the_host_from_another(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable = {B}

    def is_deployable(_layout: Layout, commit_id: str, *_words: Any) -> bool:
        if commit_id in unreadable:
            raise PassingError("comparing: Input/output error", "disk")
        return True

    monkeypatch.setattr("zoo_watcher.releases.rollback.is_deployable", is_deployable)
    way_back = WayBack((PlacedRelease(B, "site"), PlacedRelease(A, "site")))
    assert way_back.choose(layout, (), None) == PlacedRelease(A, "site")
    unreadable.add(A)
    with pytest.raises(PassingError, match="Input/output error"):
        way_back.choose(layout, (), None)
    assert way_back.choose(layout, (), None, waits=False) == PlacedRelease(B, "site")
    with pytest.raises(PassingError, match="Input/output error"):
        way_back.choose(layout, (), "signers", waits=False)


def test_a_release_that_cannot_be_read_now_does_not_keep_the_host_from_one_that_a_hook_has_built_in(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_deployable(_layout: Layout, commit_id: str, *_words: Any) -> bool:
        if commit_id == B:
            raise PassingError("comparing: Input/output error", "disk")
        return False

    monkeypatch.setattr("zoo_watcher.releases.rollback.is_deployable", is_deployable)
    way_back = WayBack((PlacedRelease(B, "site"), PlacedRelease(A, "site")))
    assert way_back.choose(layout, (), None) == PlacedRelease(A, "site")
    with pytest.raises(PassingError, match="Input/output error"):
        way_back.choose(layout, (), "signers")


def test_a_release_that_can_never_be_read_does_not_keep_the_host_from_another(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a damaged file system or a manifest that only root may read, which does not pass."""
    load: Callable[..., Manifest | None] = Manifest.load.__func__  # type: ignore[attr-defined]

    def fail(cls: type[Manifest], path: Path) -> Manifest | None:
        if path == layout.manifest(B):
            raise OSError(errno.EUCLEAN, os.strerror(errno.EUCLEAN), str(path))
        return load(cls, path)

    monkeypatch.setattr(Manifest, "load", classmethod(fail))
    way_back = WayBack((PlacedRelease(B, "site"), PlacedRelease(A, "site")))
    assert way_back.choose(layout, (), None) == PlacedRelease(A, "site")
    assert WayBack((PlacedRelease(B, "site"),)).choose(layout, (), None) == PlacedRelease(B, "site")
    with pytest.raises(DeployError, match="no earlier release may go live again"):
        way_back.choose(layout, (), "signers")


def test_where_none_is_as_it_was_staged_the_latest_is_better_than_the_failed_one(layout: Layout) -> None:
    way_back = WayBack((PlacedRelease(B, "site"), PlacedRelease(A, "site")))
    for commit_id in (A, B):
        (layout.release(commit_id) / "built by a hook").touch()
    assert way_back.choose(layout, (), None) == PlacedRelease(B, "site")
    assert way_back.choose(layout, ("var",), None) == PlacedRelease(B, "site")


def test_a_place_without_a_release_of_this_base_is_not_live(layout: Layout) -> None:
    activate(layout, "old", A)
    (layout.base / "moved").symlink_to("/srv/elsewhere")
    layout.release(C).mkdir(exist_ok=True)
    activate(layout, "pruned", C)
    layout.release(C).rmdir()
    journal = ReleaseJournal(places=tuple(map(Place, ("moved", "pruned", "removed", "old"))))
    assert live_releases(layout, journal) == [PlacedRelease(A, "old")]
