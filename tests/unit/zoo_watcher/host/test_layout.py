"""The directories of a base: the agent's own are all in one, and leftovers are removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo_watcher.host.layout import Layout

COMMIT = "a" * 40


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A base with its directories."""
    made = Layout(tmp_path / "deep" / "base")
    made.make()
    return made


def test_all_that_is_the_agents_own_is_in_one_directory_of_the_base(layout: Layout) -> None:
    assert [entry.name for entry in layout.base.iterdir()] == [".zoo"]
    for place in (layout.repository, layout.releases, layout.staging, layout.journal, layout.session):
        assert place.parent == layout.base / ".zoo"


def test_making_the_directories_again_changes_nothing(layout: Layout) -> None:
    layout.release(COMMIT).mkdir()
    layout.make()
    assert layout.staged() == [COMMIT]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o777])
def test_whatever_the_umask_others_can_reach_a_release_and_nothing_else(tmp_path: Path, umask: int) -> None:
    layout = Layout(tmp_path / "deep" / "base")
    before = os.umask(umask)
    try:
        layout.make()
    finally:
        os.umask(before)
    for directory in (layout.base.parent, layout.base, layout.own, layout.releases):
        assert directory.stat().st_mode & 0o777 == 0o755, directory
    for directory in (layout.manifests, layout.staging):
        assert directory.stat().st_mode & 0o777 == 0o700, directory


def test_only_a_commit_is_counted_as_a_release(layout: Layout) -> None:
    for name in (COMMIT, "b" * 64, "a" * 39, "lost+found", COMMIT.upper()):
        layout.release(name).mkdir()
    assert sorted(layout.staged()) == [COMMIT, "b" * 64]


def test_a_base_without_directories_has_no_release(tmp_path: Path) -> None:
    assert Layout(tmp_path / "none").staged() == []
    Layout(tmp_path / "none").clean_staging()


def test_staging_is_emptied_whatever_is_in_it(layout: Layout) -> None:
    tree = layout.staging / COMMIT / "sub"
    tree.mkdir(parents=True)
    (tree / "file").write_text("x")
    tree.chmod(0o500)
    (layout.staging / "dangling").symlink_to("/nowhere")
    (layout.staging / "outside").symlink_to(layout.base)
    layout.release(COMMIT).mkdir()
    layout.clean_staging()
    assert list(layout.staging.iterdir()) == []
    assert layout.staged() == [COMMIT]


def test_a_release_is_staged_at_an_unused_name(layout: Layout) -> None:
    """At a fixed name, a leftover that can't be removed would keep a release from being staged for good."""
    names = {layout.unused(COMMIT) for _time in range(3)}
    assert len(names) == 3
    assert {(name.parent, name.name[: len(COMMIT)]) for name in names} == {(layout.staging, COMMIT)}
