"""System calls: exchanging two paths, syncing a file system, and errors that carry their number."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from zoo_watcher.host import linux


def test_two_directories_change_places(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    linux.exchange(tmp_path / "new", tmp_path / "old")
    assert os.listdir(tmp_path / "old") == ["new"]
    assert os.listdir(tmp_path / "new") == ["old"]


def test_a_path_that_cannot_change_places_is_named(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "old")):
        linux.exchange(tmp_path / "new", tmp_path / "old")


def test_a_function_that_the_c_library_lacks_is_a_system_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as renameat2 in glibc before 2.28, and in musl."""
    monkeypatch.setattr(ctypes, "CDLL", lambda *_words, **_options: SimpleNamespace())
    with pytest.raises(OSError, match="Function not implemented"):
        linux.exchange(tmp_path / "new", tmp_path / "old")


def test_a_file_system_is_synced_by_an_open_file_of_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        linux.sync_file_system(file.fileno(), path)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        linux.sync_file_system(-1, path)
    assert (caught.value.errno, caught.value.filename) == (errno.EBADF, str(path))
