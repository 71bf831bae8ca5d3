"""A release directory goes live only as it was made, and those that are no longer needed are removed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from support.other_user import other_user
from zoo_watcher.errors import PassingError
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.manifest import Manifest
from zoo_watcher.releases.release_directory import allowed_signers, is_deployable, is_unmodified, prune

OLD, NEW, OTHER = "a" * 40, "b" * 40, "c" * 64


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A base with three complete releases, each with its own name in the file `commit`."""
    made = Layout(tmp_path / "base")
    made.make()
    for commit_id in (OLD, NEW, OTHER):
        made.release(commit_id).mkdir()
        (made.release(commit_id) / "commit").write_text(commit_id)
        Manifest.of(made.release(commit_id), ("data",), "signers").save(made.manifest(commit_id))
    return made


def test_a_release_as_it_was_made_is_deployable_for_the_same_signers_and_shared_paths_only(layout: Layout) -> None:
    assert is_deployable(layout, NEW, ["data"], "signers")
    assert not is_deployable(layout, NEW, ["data"], "other signers")
    assert not is_deployable(layout, NEW, ["data"])
    assert not is_deployable(layout, NEW, [], "signers")


def test_a_release_that_was_changed_is_neither_unmodified_nor_deployable(layout: Layout) -> None:
    assert is_unmodified(layout, NEW, ["data"])
    (layout.release(NEW) / "commit").write_text("changed")
    assert not is_unmodified(layout, NEW, ["data"])
    assert not is_deployable(layout, NEW, ["data"], "signers")


def test_a_release_without_a_manifest_that_can_be_read_is_not_unmodified(layout: Layout) -> None:
    layout.manifest(NEW).write_text("{")
    layout.manifest(OLD).unlink()
    assert not is_unmodified(layout, NEW, ["data"])
    assert not is_unmodified(layout, OLD, ["data"])


def test_other_allowed_signers_have_another_digest_and_a_missing_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "signers"
    file.write_text("one")
    before = allowed_signers(str(file))
    file.write_text("two")
    assert allowed_signers(str(file)) != before
    assert allowed_signers(None) is None
    with pytest.raises(PassingError, match=r"^require_signature: /nowhere: No such file"):
        allowed_signers("/nowhere")


def test_a_fifo_in_place_of_the_allowed_signers_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "signers")
    (tmp_path / "link").symlink_to("signers")
    for path in (tmp_path / "signers", tmp_path / "link"):
        with pytest.raises(PassingError, match=f"^require_signature: {path}: not a regular file$"):
            allowed_signers(str(path))


def test_pruning_removes_all_releases_but_those_that_are_kept(layout: Layout) -> None:
    assert prune(layout, frozenset({NEW})) == {}
    assert layout.staged() == [NEW]
    assert list(layout.staging.iterdir()) == []
    assert [path.name for path in layout.manifests.iterdir()] == [f"{NEW}.json"]


def test_what_a_symlink_of_the_base_leads_to_is_not_removed(layout: Layout) -> None:
    (layout.base / "tools").symlink_to(layout.release(OLD))
    prune(layout, frozenset({NEW}))
    assert sorted(layout.staged()) == [OLD, NEW]


def test_a_release_that_cannot_be_removed_is_reported_and_the_others_are_removed(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if source == layout.release(OLD):
            raise OSError(errno.EBUSY, "Device or resource busy")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    assert prune(layout, frozenset({NEW})) == {layout.release(OLD): "Device or resource busy"}
    assert sorted(layout.staged()) == [OLD, NEW]
    assert layout.manifest(OLD).exists()


@pytest.mark.parametrize("stays", [False, True])
def test_a_release_in_the_lower_layer_of_an_overlay_which_cannot_be_renamed_is_removed_in_place(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    def fail(*_paths: Path, **_options: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "replace", fail)
    if stays:
        monkeypatch.setattr(os, "rmdir", fail)
    removed = [layout.release(commit_id) for commit_id in (OLD, OTHER)]
    assert prune(layout, frozenset({NEW})) == (dict.fromkeys(removed, "Invalid cross-device link") if stays else {})
    assert [path.exists() for path in removed] == [stays, stays]
    assert [path.name for path in layout.manifests.iterdir()] == [f"{NEW}.json"]


@pytest.mark.parametrize("error", [errno.ENOTCONN, errno.ESTALE, errno.EIO])
def test_where_a_mount_below_the_base_is_dead_nothing_is_removed_and_that_is_reported(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    scandir, uploads = os.scandir, layout.base / "uploads"
    uploads.mkdir()

    def fail(path: Path) -> Any:
        if Path(path) == uploads:
            raise OSError(error, os.strerror(error), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    why = f"{uploads}: {os.strerror(error)}"
    assert prune(layout, frozenset({NEW})) == dict.fromkeys([layout.release(OLD), layout.release(OTHER)], why)
    assert sorted(layout.staged()) == sorted([OLD, OTHER, NEW])


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_release_that_a_hook_has_made_read_only_is_removed_by_an_agent_that_is_not_root(
    layout: Layout, mode: int
) -> None:
    inner = layout.release(OLD) / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    for directory in (inner, inner.parent, layout.release(OLD)):
        directory.chmod(mode)
    with other_user(layout.base):
        assert prune(layout, frozenset({NEW, OTHER})) == {}
    assert sorted(layout.staged()) == [NEW, OTHER]
    assert list(layout.staging.iterdir()) == []
