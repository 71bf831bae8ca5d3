"""New files that are not renamed into place yet: whatever somebody puts in their place is not used."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import FileError, TransientFileError
from zoo_watcher.files.directory_writer import STAGING, DirectoryWriter
from zoo_watcher.files.file_writer import FileWriter, staged_path, validate

REPLACED = "the new file was replaced by another before it was in place: it is not used"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """Somebody else's file, which must stay as it is."""
    path = tmp_path / "foreign"
    path.write_bytes(b"foreign")
    path.chmod(0o604)
    return path


@pytest.mark.parametrize("how", ["ln", "cp -p", "ln -s"])
def test_what_replaces_a_new_file_while_it_is_checked_is_neither_used_nor_changed(
    tmp_path: Path, foreign: Path, how: str
) -> None:
    dest = tmp_path / "a.conf"
    replace = f"rm %s && {how} {foreign} %s"
    writer = FileWriter(ManagedFile("/a", str(dest), mode=0o640, validate=("sh", "-c", replace)), b"one", 10)
    with pytest.raises(TransientFileError, match=REPLACED):
        writer.prepare()
    writer.discard()
    assert os.listdir(tmp_path) == ["foreign"]
    assert (foreign.read_bytes(), foreign.stat().st_mode & 0o777) == (b"foreign", 0o604)


def test_what_replaces_a_new_file_before_it_is_renamed_is_not_used(tmp_path: Path, foreign: Path) -> None:
    dest = tmp_path / "a.conf"
    writer = FileWriter(ManagedFile("/a", str(dest)), b"one", 10)
    writer.prepare()
    foreign.replace(staged_path(str(dest)))
    with pytest.raises(TransientFileError, match=REPLACED):
        writer.commit()
    assert not dest.exists()


def test_a_directory_that_replaces_that_of_a_new_file_is_not_written_to(tmp_path: Path) -> None:
    directory, elsewhere = tmp_path / "etc", tmp_path / "elsewhere"
    directory.mkdir()
    elsewhere.mkdir()
    writer = FileWriter(ManagedFile("/a", str(directory / "a.conf")), b"one", 10)
    writer.prepare()
    directory.rename(tmp_path / "moved")
    directory.symlink_to(elsewhere)
    with pytest.raises(TransientFileError, match=REPLACED):
        writer.commit()
    assert os.listdir(elsewhere) == []


def directory_writer(dest: Path) -> DirectoryWriter:
    """A writer of one file two levels below `dest`."""
    file = ManagedFile("/a", str(dest), "directory")
    return DirectoryWriter(file, {"": b"", "sub": b"", "sub/a.conf": b"one"}, set(), dest.parent / "proof", 10)


def test_a_directory_that_replaces_that_of_new_files_is_not_used(tmp_path: Path) -> None:
    dest = tmp_path / "conf.d"
    dest.mkdir()
    writer = directory_writer(dest)
    assert writer.differs()
    writer.prepare()
    (dest / STAGING).rename(tmp_path / "moved")
    (dest / STAGING / "sub").mkdir(parents=True)
    (dest / STAGING / "sub" / "a.conf").write_bytes(b"foreign")
    with pytest.raises(TransientFileError, match=r"was replaced by another directory: it is not used$"):
        writer.commit()
    writer.discard()
    assert os.listdir(dest) == []


def test_somebody_elses_directory_in_place_of_a_new_one_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "conf.d"
    writer = directory_writer(dest)
    assert writer.differs()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(
        TransientFileError, match=r"^conf\.d was replaced by somebody else's directory: it is not used$"
    ):
        writer.prepare()
    writer.discard()
    assert os.listdir(tmp_path) == []


def test_files_of_a_directory_are_not_written_through_a_symlink_at_dest(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / STAGING).mkdir(parents=True)
    dest = tmp_path / "conf.d"
    dest.symlink_to("elsewhere")
    writer = directory_writer(dest)
    with pytest.raises(TransientFileError, match="dest is not a directory"):
        writer.prepare()
    writer.discard()
    assert os.listdir(tmp_path / "elsewhere") == [STAGING], "nothing is cleared there either"


def test_a_validate_that_changes_the_file_it_is_shown_puts_nothing_in_place(tmp_path: Path) -> None:
    dest = tmp_path / "a"
    dest.write_text("zero")
    writer = FileWriter(ManagedFile("/a", str(dest), validate=("sh", "-c", 'echo evil > "$0"', "%s")), b"evil\n", 10)
    with pytest.raises(FileError, match="validate has changed the file that it was to look at"):
        writer.prepare()
    writer.discard()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "zero")]


@pytest.mark.parametrize(
    ("script", "may_pass"),
    [("kill -9 $$", True), ("sh -c 'kill -9 $$'; exit $?", True), ("sleep 60", False), ("exit 1", False)],
    ids=["killed", "killed below a shell", "too long", "refused"],
)
def test_only_a_validate_that_was_killed_may_pass_later(tmp_path: Path, script: str, may_pass: bool) -> None:
    file = ManagedFile("/a", str(tmp_path / "a"), validate=("sh", "-c", script))
    with pytest.raises(FileError) as caught:
        validate(file, file.dest, 0.5)
    assert isinstance(caught.value, TransientFileError) == may_pass


def test_somebody_elses_files_where_a_file_belongs_are_named(tmp_path: Path) -> None:
    dest = tmp_path / "conf.d"
    (dest / "x").mkdir(parents=True)
    (dest / "x/foreign").touch()
    file = ManagedFile("/a", str(dest), "directory", on_delete="remove")
    writer = DirectoryWriter(file, {"": b"", "x": b"one"}, {"x/", "x/y"}, tmp_path / "proof", 10)
    assert writer.differs()
    writer.prepare()
    with pytest.raises(TransientFileError, match=r"^a directory is at x, where a file belongs: move it away$"):
        writer.commit()
    assert (dest / "x/foreign").exists()


def test_a_problem_of_one_file_of_a_directory_is_reported_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "conf.d"
    writer = directory_writer(dest)
    assert writer.differs()
    writer.prepare()

    def refuse(source: str, target: str, **_keys: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", source, None, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(TransientFileError, match=rf"^{dest}/sub/a\.conf: Operation not permitted$"):
        writer.commit()
