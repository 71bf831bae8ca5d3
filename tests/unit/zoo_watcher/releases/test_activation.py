"""The symlink to the live release: it is swapped in one step, and never replaces anything else."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from support.immutable import immutable
from zoo_watcher.errors import DeployError, PassingError
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.activation import activate, linked_commits, live_commit, read_link, restore_link

OLD, NEW, OTHER = "a" * 40, "b" * 40, "c" * 64


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A base with three complete releases, each with its own name in the file `commit`."""
    made = Layout(tmp_path / "base")
    made.make()
    for commit_id in (OLD, NEW, OTHER):
        made.release(commit_id).mkdir()
        (made.release(commit_id) / "commit").write_text(commit_id)
    return made


def test_the_release_that_was_activated_last_is_live(layout: Layout) -> None:
    assert live_commit(layout, "site") is None
    for commit_id in (OLD, NEW, OTHER, OLD):
        activate(layout, "site", commit_id)
        assert live_commit(layout, "site") == commit_id
        assert (layout.base / "site" / "commit").read_text() == commit_id
    assert list(layout.staging.iterdir()) == []


def test_a_place_may_be_deep_and_its_directories_are_readable_by_all(layout: Layout) -> None:
    mask = os.umask(0o022)
    try:
        activate(layout, "srv/www/site", NEW)
    finally:
        os.umask(mask)
    assert (layout.base / "srv/www/site/commit").read_text() == NEW
    assert (layout.base / "srv/www").stat().st_mode & 0o777 == 0o755


def test_the_link_is_relative_so_that_the_base_can_be_moved(layout: Layout, tmp_path: Path) -> None:
    activate(layout, "srv/site", NEW)
    layout.base.rename(tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere/srv/site/commit").read_text() == NEW


def test_a_reader_finds_the_old_release_or_the_new_one_at_every_instant(layout: Layout) -> None:
    activate(layout, "site", OLD)
    place = layout.base / "site" / "commit"
    seen: list[str] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                seen.append(place.read_text())
            except OSError as exc:
                seen.append(str(exc))

    reader = threading.Thread(target=read)
    reader.start()
    for _unused in range(100):
        activate(layout, "site", NEW)
        activate(layout, "site", OLD)
    ended.set()
    reader.join()
    assert set(seen) == {OLD, NEW}


def test_two_places_of_one_base_may_be_live_at_the_same_time(layout: Layout) -> None:
    activate(layout, "one", OLD)
    activate(layout, "two", NEW)
    assert (live_commit(layout, "one"), live_commit(layout, "two")) == (OLD, NEW)


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_what_is_where_the_link_belongs_is_left_alone_and_named(layout: Layout, kind: str) -> None:
    place = layout.base / "site"
    if kind == "directory":
        place.mkdir()
        (place / "precious").write_text("mine")
    else:
        place.write_text("mine")
    with pytest.raises(DeployError, match=f"a {kind} is at {place}.*move it away"):
        activate(layout, "site", NEW)
    assert not place.is_symlink()
    assert (place / "precious" if kind == "directory" else place).read_text() == "mine"


def test_a_link_that_points_at_nothing_or_elsewhere_is_replaced(layout: Layout, tmp_path: Path) -> None:
    for target in (tmp_path / "nowhere", tmp_path):
        place = layout.base / "site"
        place.unlink(missing_ok=True)
        place.symlink_to(target)
        assert live_commit(layout, "site") is None
        activate(layout, "site", NEW)
        assert live_commit(layout, "site") == NEW


def test_a_parent_that_is_a_link_is_not_followed(layout: Layout, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (layout.base / "way").symlink_to(outside)
    with pytest.raises(DeployError, match="is a symlink"):
        activate(layout, "way/out/site", NEW)
    assert list(outside.iterdir()) == []


def test_no_release_is_put_below_a_live_one(layout: Layout) -> None:
    activate(layout, "site", OLD)
    with pytest.raises(DeployError, match="is a symlink"):
        activate(layout, "site/inner", NEW)
    assert os.listdir(layout.release(OLD)) == ["commit"]


def test_a_parent_that_is_a_file_is_named(layout: Layout) -> None:
    (layout.base / "srv").write_text("mine")
    with pytest.raises(DeployError, match=f"{layout.base}/srv"):
        activate(layout, "srv/site", NEW)
    assert (layout.base / "srv").read_text() == "mine"


def test_a_release_that_is_no_longer_on_disk_is_not_live(layout: Layout) -> None:
    activate(layout, "site", OLD)
    (layout.release(OLD) / "commit").unlink()
    layout.release(OLD).rmdir()
    assert live_commit(layout, "site") is None


@pytest.mark.parametrize("link", [None, "/srv/elsewhere"])
def test_a_place_is_restored_as_it_was(layout: Layout, link: str | None) -> None:
    if link:
        (layout.base / "site").symlink_to(link)
    assert read_link(layout, "site") == link
    activate(layout, "site", NEW)
    restore_link(layout, "site", link)
    assert read_link(layout, "site") == link
    assert os.path.lexists(layout.base / "site") == bool(link)


def test_what_has_taken_the_place_of_the_link_is_not_removed(layout: Layout) -> None:
    (layout.base / "site").mkdir()
    for link in (None, "elsewhere"):
        restore_link(layout, "site", link)
    assert (layout.base / "site").is_dir()


def test_a_release_of_another_base_is_not_live_here(layout: Layout, tmp_path: Path) -> None:
    theirs = tmp_path / "other" / ".zoo" / "releases" / NEW
    theirs.mkdir(parents=True)
    assert layout.release(NEW).is_dir()
    (layout.base / "site").symlink_to(theirs)
    assert live_commit(layout, "site") is None
    assert linked_commits(layout) == set()


def test_every_symlink_below_the_base_counts_whoever_made_it(layout: Layout) -> None:
    activate(layout, "a/b/site", OLD)
    (layout.base / "by-hand").symlink_to(layout.release(NEW))
    (layout.base / "nowhere").symlink_to(layout.release("f" * 40))
    (layout.release(OLD) / "link").symlink_to(layout.release("e" * 40))
    assert linked_commits(layout) == {OLD, NEW}


@pytest.mark.parametrize("name", ["readlink", "stat"])
@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOMEM]
)
def test_a_link_that_cannot_be_read_now_is_not_mistaken_for_none(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    activate(layout, "site", NEW)

    def fail(path: Any, **_words: Any) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            live_commit(layout, "site")
        if name == "readlink":
            with pytest.raises(OSError, match=os.strerror(number)):
                read_link(layout, "site")
    assert live_commit(layout, "site") == NEW
    assert live_commit(layout, "x" * 300) is None
    assert live_commit(layout, "site/below/it") is None


def test_a_staging_directory_that_a_hook_has_removed_is_recreated(layout: Layout) -> None:
    layout.staging.rmdir()
    activate(layout, "site", NEW)
    assert live_commit(layout, "site") == NEW


@pytest.mark.parametrize("name", [".zoo/staging", "."])
def test_a_directory_that_is_immutable_for_a_moment_is_not_a_failure_of_the_release(layout: Layout, name: str) -> None:
    activate(layout, "site", OLD)
    with immutable(layout.base / name), pytest.raises(PassingError, match=r"^activating site: .* not permitted$"):
        activate(layout, "site", NEW)
    assert live_commit(layout, "site") == OLD
    activate(layout, "site", NEW)
    assert live_commit(layout, "site") == NEW
