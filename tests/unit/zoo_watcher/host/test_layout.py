"""A base's directories: what is left over goes, what is written is written whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo_watcher.errors import DeployError
from zoo_watcher.host.layout import Layout, disk_errors, remove_tree, sync_file_system, write_durably

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


def test_removing_a_link_leaves_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tmp_path / "link").symlink_to("kept")
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "never there")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept"]


def test_who_reads_while_a_file_is_replaced_has_the_old_text_whole(tmp_path: Path) -> None:
    file = tmp_path / "journal.json"
    write_durably(file, "old" * 10_000)
    with file.open() as reader:
        write_durably(file, "new")
        assert reader.read() == "old" * 10_000
    assert file.read_text() == "new"


def test_a_file_is_written_with_the_mode_that_is_asked_for_also_over_another(tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    write_durably(file, "old")
    write_durably(file, "new", mode=0o600)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["session.json"]


def test_an_error_of_the_disk_says_what_was_being_done_and_where(tmp_path: Path) -> None:
    with (
        pytest.raises(DeployError, match=f"^staging: {tmp_path}/none No such file or directory$"),
        disk_errors("staging"),
    ):
        sync_file_system(tmp_path / "none")
