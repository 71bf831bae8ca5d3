"""Files are written atomically, removed without following links, and read back where possible."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.agent import SOURCE
from support.deep import deep_directory
from support.other_user import NOBODY, other_user
from zoo_watcher.errors import DeployError, PassingError
from zoo_watcher.host import linux
from zoo_watcher.host.filesystem import (
    disk_errors,
    load_json,
    open_directory,
    read_json,
    remove_tree,
    sync_file_system,
    write_durably,
    write_durably_though_full,
)


def test_removing_a_link_leaves_what_it_points_at(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tmp_path / "link").symlink_to("kept")
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "never there")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept"]


@pytest.mark.parametrize("write", [write_durably, write_durably_though_full])
def test_a_reader_gets_the_complete_old_text_while_a_file_is_replaced(
    tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    file = tmp_path / "journal.json"
    write(file, "older")
    write(file, "old" * 10_000)
    with file.open() as reader:
        write(file, "new")
        assert reader.read() == "old" * 10_000
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o644)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")
@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_file_of_another_user_is_replaced_and_not_overwritten(open_path: Path, mode: int) -> None:
    file, kept = open_path / "journal.json", open_path / ".old.journal.json"
    with other_user(open_path):
        for text in ("first", "second"):
            write_durably_though_full(file, text)
        os.seteuid(0)
        for path in (file, kept):
            os.chown(path, 0, 0)
            path.chmod(mode)
        os.seteuid(NOBODY)
        for text in ("third", "fourth", "fifth"):
            write_durably_though_full(file, text)
            assert file.read_text() == text
    assert [path.stat().st_uid for path in (file, kept)] == [NOBODY, NOBODY]


@pytest.mark.parametrize("place", range(6))
def test_a_write_that_is_cut_off_at_any_instant_leaves_the_text_intact_for_the_next_write_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    file = tmp_path / "journal.json"
    for text in ("first", "second"):
        write_durably_though_full(file, text)
    calls: list[str] = []

    def cut_off(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def fail_there(*words: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == place + 1:
                raise KeyboardInterrupt
            return call(*words, **options)

        return fail_there

    with monkeypatch.context() as patch:
        for name in ("replace", "open", "fchmod", "fsync", "link"):
            patch.setattr(os, name, cut_off(name, getattr(os, name)))
        with pytest.raises(KeyboardInterrupt):
            write_durably_though_full(file, "third")
    assert calls == ["replace", "open", "fchmod", "fsync", "link", "replace"][: place + 1]
    assert file.read_text() == "second"
    with file.open() as reader:
        write_durably_though_full(file, "fourth")
        assert reader.read() == "second"
    assert file.read_text() == "fourth"


def test_a_file_is_written_with_the_requested_mode_even_over_another(tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    write_durably(file, "old")
    write_durably(file, "new", mode=0o600)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["session.json"]


def test_an_error_of_the_disk_says_what_was_being_done_and_where(tmp_path: Path) -> None:
    with (
        pytest.raises(DeployError, match=f"^staging: {tmp_path}/none: No such file or directory$"),
        disk_errors("staging"),
    ):
        sync_file_system(tmp_path / "none")


def test_a_sync_that_fails_is_named_with_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "_call", lambda _function, _descriptor: errno.ENOSPC)
    staging = f"^staging: {tmp_path}: No space left on device$"
    with pytest.raises(PassingError, match=staging) as full, disk_errors("staging"):
        sync_file_system(tmp_path)
    assert full.value.reason == "disk"


def count_of(record: Mapping[str, Any]) -> int:
    """The number under `count`."""
    return int(record["count"])


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"count": 3}')
    assert load_json(tmp_path / "file", count_of, 0) == 3


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", '{"count": null}', '{"count": "x"}', "[" * 100_000, b"\xff", '{"count": Infinity}'],
)
def test_a_file_that_is_unreadable_or_malformed_counts_as_missing(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "file").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert load_json(tmp_path / "file", count_of, 7) == 7
    assert load_json(tmp_path / "none", count_of, 7) == 7
    assert read_json(tmp_path / "file", count_of, 7) == 7
    assert read_json(tmp_path / "none", count_of, 7) == 7


def test_a_file_that_cannot_be_read_now_does_not_count_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_path: Path, _flags: int, _mode: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read_json(tmp_path / "file", count_of, 7)
    assert load_json(tmp_path / "file", count_of, 7) == 7


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        *((number, PassingError) for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM)),
        *((number, PassingError) for number in (errno.EPERM, errno.EACCES)),
        *((number, DeployError) for number in (errno.ENOTDIR, errno.ENAMETOOLONG)),
    ],
)
def test_only_an_error_that_may_pass_is_a_passing_error(number: int, kind: type[DeployError]) -> None:
    with pytest.raises(DeployError, match=r"^staging: /srv/a: ") as raised, disk_errors("staging"):
        raise OSError(number, os.strerror(number), "/srv/a")
    assert isinstance(raised.value, PassingError) == (kind is PassingError)


def test_an_error_about_two_paths_names_both(tmp_path: Path) -> None:
    made, wanted = tmp_path / "made", tmp_path / "missing" / "place"
    made.touch()
    text = f"^activating: {made} to {wanted}: No such file or directory$"
    with pytest.raises(DeployError, match=text), disk_errors("activating"):
        made.rename(wanted)


@pytest.mark.parametrize("levels", [1, 1_500])
def test_a_directory_is_removed_however_deep_it_is_with_one_descriptor(tmp_path: Path, levels: int) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    with deep_directory(tmp_path / "deep", levels, tmp_path / "kept"):
        before = os.listdir("/proc/self/fd")
        remove_tree(tmp_path / "deep")
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept"]
        assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_directory_without_write_permission_is_removed_by_its_owner(tmp_path: Path, mode: int) -> None:
    (tmp_path / "top" / "below").mkdir(parents=True)
    (tmp_path / "top" / "below" / "file").write_text("x")
    (tmp_path / "kept").mkdir(mode=0o500)
    (tmp_path / "top" / "below" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "top" / "below").chmod(mode)
    (tmp_path / "top").chmod(mode)
    with other_user(tmp_path):
        remove_tree(tmp_path / "top")
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o500


def test_a_name_in_an_open_directory_is_removed_there(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    with open_directory(tmp_path) as directory:
        remove_tree("a", directory)
    assert os.listdir(tmp_path) == ["c"]


def test_a_directory_that_somebody_moves_meanwhile_takes_nothing_else_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "top" / "moved" / "below").mkdir(parents=True)
    (tmp_path / "elsewhere" / "moved").mkdir(parents=True)
    unlink = os.unlink
    (tmp_path / "top" / "moved" / "below" / "file").write_text("x")

    def move(path: str, dir_fd: int | None = None) -> None:
        unlink(path, dir_fd=dir_fd)
        (tmp_path / "top" / "moved" / "below").rename(tmp_path / "elsewhere" / "below")

    monkeypatch.setattr(os, "unlink", move)
    remove_tree(tmp_path / "top")
    assert sorted(os.listdir(tmp_path / "elsewhere")) == ["below", "moved"]
    assert (tmp_path / "top" / "moved").is_dir()


def test_what_cannot_be_removed_stays_and_the_rest_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "top" / "stuck").mkdir(parents=True)
    (tmp_path / "top" / "stuck" / "file").write_text("x")
    (tmp_path / "top" / "other").mkdir()
    unlink = os.unlink

    def fail(path: Path | str, dir_fd: int | None = None) -> None:
        if path == "file":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", fail)
    remove_tree(tmp_path / "top")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "stuck", "top"]


def put(kind: str, path: Path) -> None:
    """Put something other than a regular file at a path, as anybody who may write in the directory could."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        (path.parent / "valuable").write_text("theirs")
        path.symlink_to("valuable")
    elif kind == "directory":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))


OTHER_KINDS = ["fifo", "symlink", "directory", "socket"]


READ = """
import sys
from pathlib import Path
from zoo_watcher.host.filesystem import read_json, read_regular
print(read_json(Path(sys.argv[1]), len, 7), end=" ")
try:
    read_regular(sys.argv[1])
except OSError as exc:
    print(f"{exc.filename}: {exc.strerror}")
"""
WRITE = """
import sys
from pathlib import Path
from zoo_watcher.host import filesystem
try:
    getattr(filesystem, sys.argv[2])(Path(sys.argv[1]), "mine")
except OSError as exc:
    print(f"{exc.filename}: {exc.strerror}")
"""


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_anything_but_a_regular_file_is_neither_waited_for_nor_followed_and_counts_as_missing(
    open_path: Path, kind: str
) -> None:
    path = open_path / "file"
    put(kind, path)
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(SOURCE)}, timeout=20, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"7 {path}: file is not a regular file\n"


@pytest.mark.parametrize("write", ["write_whole", "write_durably", "write_durably_though_full"])
@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_whatever_is_in_the_way_of_a_new_file_is_named_and_left_as_it_is(
    open_path: Path, kind: str, write: str
) -> None:
    beside = open_path / ".new.file"
    put(kind, beside)
    command = [sys.executable, "-c", WRITE, str(open_path / "file"), write]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(SOURCE)}, timeout=20, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{beside}: .new.file is not a regular file\n"
    assert kind != "symlink" or (open_path / "valuable").read_text() == "theirs"
