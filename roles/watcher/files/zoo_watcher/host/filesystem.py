# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories that are written whole, made durable, removed, and read back."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from zoo_watcher.errors import DeployError, PassingError
from zoo_watcher.frozen import dataclass

from . import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

MAY_PASS = frozenset(
    [
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO),
        *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EBUSY),
    ]
)
"""Errors of a full, broken or remote disk, or of a host short of something, which may not recur."""
REFUSED = frozenset([errno.EPERM, errno.EACCES])
"""Errors of writing to an immutable file, or one with a new owner or mode: somebody did that, and may undo it."""
MAY_BE_UNDONE = MAY_PASS | REFUSED
"""What a step of a deployment waits out. Not for readers: what they may not read, they skip, as it may stay so."""
FULL = frozenset([errno.ENOSPC, errno.EDQUOT])
"""Errors of a full disk, or of this user's exhausted quota."""
MAY_BE_REMOVED = MAY_BE_UNDONE | {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP}
"""The same for the agent's own files, with the errors of an obstacle at their place, which a person may remove."""
NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
"""Errors of a path without a file."""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
"""Flags that open a directory, but not through a symlink."""
NO_REGULAR_FILE = {errno.ELOOP, errno.EISDIR, errno.ENXIO}
"""The errors in `open_regular` if a symlink, a directory, or a socket or FIFO without a reader is at the path."""


class NotRegularError(OSError):
    """Something other than a regular file is where one belongs; to a caller, it is as if a directory were there."""

    def __init__(self, path: Path | str) -> None:
        # With its name: the caller names the file it writes, and the obstacle may be the one next to it.
        super().__init__(errno.EISDIR, f"{os.path.basename(path)} is not a regular file", str(path))


def load_json(path: Path, build: Callable[[Any], T], fallback: T) -> T:
    """What `build` makes of a file's JSON; `fallback` if it can't be read or has another form.

    For the agent's own notes, which it can do without. `build` may raise whatever a wrong form causes.
    """
    try:
        return read_json(path, build, fallback)
    except OSError:
        return fallback


def read_json(path: Path, build: Callable[[Any], T], fallback: T) -> T:
    """As `load_json`, for files that must not be taken for missing. Raises `OSError` if a file is there, or may be."""
    try:
        return build(json.loads(read_regular(path).decode("utf-8")))
    except OSError as exc:
        if exc.errno in NO_FILE:
            return fallback
        raise
    except (ValueError, OverflowError, AttributeError, TypeError, KeyError, RecursionError):
        return fallback


def open_regular(path: Path | str, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
    """The descriptor of a regular file. Raises `OSError`; a `NotRegularError` for anything else at the path.

    No symlink is followed, and a FIFO, which anybody who may write in the directory can put there, is not waited for.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
    except OSError as exc:
        if exc.errno in NO_REGULAR_FILE:
            raise NotRegularError(path) from exc
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise NotRegularError(path)


def read_regular(path: Path | str) -> bytes:
    """The content of a regular file. Raises as `open_regular`."""
    with os.fdopen(open_regular(path), "rb") as file:
        try:
            return file.read()
        except OSError as exc:
            exc.filename = exc.filename or str(path)
            raise


def make_directory(path: Path, mode: int, *, parents: bool = False) -> None:
    """Create a directory if there is none, and give it at least this mode, whatever the umask of this process.

    Raises `OSError`, which says so if something else is at the path.
    """
    try:
        path.mkdir(mode=mode)
    except FileNotFoundError:
        if not parents or path == path.parent:
            raise
        make_directory(path.parent, mode, parents=True)
        make_directory(path, mode)
    except OSError as exc:
        if path.is_dir():
            return
        if isinstance(exc, FileExistsError):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory; move it away", str(path)) from exc
        raise
    else:
        # Some file systems have one mode for all files.
        with contextlib.suppress(OSError):
            _allow(path, mode)


def _allow(path: Path | str, mode: int, directory: int | None = None) -> None:
    descriptor = os.open(path, os.O_PATH | DIRECTORY, dir_fd=directory)
    try:
        present = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if present & mode != mode:
            os.chmod(f"/proc/self/fd/{descriptor}", present | mode)
    finally:
        os.close(descriptor)


def write_regular(path: Path, text: str) -> None:
    """Overwrite a regular file's text in place. Raises as `open_regular`."""
    with os.fdopen(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w", encoding="utf-8") as file:
        file.write(text)


def write_whole(path: Path, text: str) -> None:
    """Replace a file's text: a reader sees the old or the new one. Raises `OSError`."""
    beside = path.with_name(f".new.{path.name}")
    write_regular(beside, text)
    os.replace(beside, path)


def write_durably(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's text: a reader, also after a crash, sees the old or the new one. Raises `OSError`."""
    beside = path.with_name(f".new.{path.name}")
    descriptor = open_regular(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        # In the file system's encoding: a path in the text need not be UTF-8.
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(os.fsencode(text))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
    os.replace(beside, path)
    sync_directory(path.parent)


def write_durably_though_full(path: Path, text: str) -> None:
    """As `write_durably`, also on a full disk: the text before the last is kept, and overwritten.

    That takes no space if the file system writes in place, and the text needs no further block. Raises `OSError`.
    """
    beside, kept = path.with_name(f".new.{path.name}"), path.with_name(f".old.{path.name}")
    with contextlib.suppress(OSError):
        os.replace(kept, beside)
    with os.fdopen(_open_to_write_over(beside), "wb") as file:
        try:
            os.fchmod(file.fileno(), 0o644)
            file.write(os.fsencode(text))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.replace(beside, kept)
            raise
    # A file system without hard links keeps none.
    with contextlib.suppress(OSError):
        os.link(path, kept)
    os.replace(beside, path)
    sync_directory(path.parent)


def _open_to_write_over(path: Path) -> int:
    """The descriptor of a regular file of this user that has no other name. Raises as `open_regular`."""
    with contextlib.suppress(PermissionError):
        descriptor = open_regular(path, os.O_WRONLY | os.O_CREAT)
        status = os.fstat(descriptor)
        if (status.st_nlink, status.st_uid) == (1, os.geteuid()):
            return descriptor
        os.close(descriptor)
    # A file with another name is the text that counts now: the last write was interrupted before it could replace it.
    path.unlink(missing_ok=True)
    return open_regular(path, os.O_WRONLY | os.O_CREAT)


def remove_tree(path: Path | str, directory: int | None = None) -> None:
    """Remove a directory or file, however deep it is; what can't be removed stays for the next time.

    `path` is relative to the open `directory`, if there is one. No symlink is followed, and nothing is raised.
    A directory without write permission is not an obstacle to its owner.
    """
    try:
        os.unlink(path, dir_fd=directory)
    except OSError:
        with contextlib.suppress(OSError):
            _empty(_open_to_empty(path, directory))
        with contextlib.suppress(OSError):
            os.rmdir(path, dir_fd=directory)


def allow_owner(path: Path | str, directory: int | None = None) -> None:
    """Give the owner of a directory all permissions, which moving or emptying it requires. Raises `OSError`.

    No symlink is followed. The directory need not be readable: it is opened as a path, and changed through that.
    """
    _allow(path, stat.S_IRWXU, directory)


def _open_to_empty(path: Path | str, directory: int | None) -> int:
    """The descriptor of a directory whose entries are to be removed. Raises `OSError`."""
    with contextlib.suppress(OSError):
        allow_owner(path, directory)
    return os.open(path, DIRECTORY, dir_fd=directory)


@dataclass(frozen=True)
class _Level:
    """A directory on the way down: its `name` in the one above, and the names of those in it that are left."""

    name: str
    identity: tuple[int, int]
    below: list[str]


def _empty(directory: int) -> None:
    """Remove all that is in an open directory, and close it. Raises `OSError` if somebody else moves a directory.

    It needs at most two descriptors and no path, so neither runs out, however deep the directory is. The way up is
    "..", and has to lead to where the way down began.
    """
    try:
        levels = [_remove_files(directory, "")]
        while levels:
            level = levels[-1]
            if level.below:
                name = level.below.pop()
                with contextlib.suppress(OSError):
                    directory = _go(directory, name)
                    levels.append(_remove_files(directory, name))
                continue
            levels.pop()
            if levels:
                directory = _go(directory, "..")
                if _identity(directory) != levels[-1].identity:
                    return
                with contextlib.suppress(OSError):
                    os.rmdir(level.name, dir_fd=directory)
    finally:
        os.close(directory)


def _go(directory: int, name: str) -> int:
    """The descriptor of another directory in place of this one. Raises `OSError`, and leaves this one open."""
    other = _open_to_empty(name, directory)
    os.close(directory)
    return other


def _remove_files(directory: int, name: str) -> _Level:
    """Remove everything except the directories in an open directory."""
    identity = _identity(directory)
    below: list[str] = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        below = [entry.name for entry in list(entries) if not _unlinked(entry, directory)]
    return _Level(name, identity, below)


def _unlinked(entry: os.DirEntry[str], directory: int) -> bool:
    """Unlink anything but a directory; returns whether no directory is left to remove."""
    if entry.is_dir(follow_symlinks=False):
        return False
    with contextlib.suppress(OSError):
        os.unlink(entry.name, dir_fd=directory)
    return True


def _identity(place: Path | int) -> tuple[int, int]:
    status = os.stat(place)
    return status.st_dev, status.st_ino


def identify(place: Path | int) -> tuple[int, int] | None:
    """Device and inode of what is at a path, or is open; None if that can't be told."""
    try:
        return _identity(place)
    except OSError:
        return None


def sync_directory(path: Path) -> None:
    """Make a directory's entries durable."""
    with open_directory(path) as descriptor:
        os.fsync(descriptor)


def sync_file_system(path: Path) -> None:
    """Make everything written to the file system of the directory `path` durable in one call. Raises `OSError`."""
    with open_directory(path) as descriptor:
        linux.sync_file_system(descriptor, path)


@contextlib.contextmanager
def open_directory(path: Path | str) -> Iterator[int]:
    """A directory's descriptor, for as long as the block lasts. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(doing: str, may_pass: Collection[int] = MAY_BE_UNDONE) -> Iterator[None]:
    """Turn an `OSError` into a `DeployError`, or `PassingError`, that says what was being done, and where.

    `may_pass` are the numbers of the errors that may not recur.
    """
    try:
        yield
    except OSError as exc:
        paths = " to ".join(str(path) for path in (exc.filename, exc.filename2) if path)
        text = ": ".join(filter(None, [doing, paths, exc.strerror or str(exc)]))
        raise (PassingError(text, "disk") if exc.errno in may_pass else DeployError(text)) from exc
