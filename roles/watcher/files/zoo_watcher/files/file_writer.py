# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a file in its place: written beside it, with its owner and mode, proved, durable, and then renamed over it.

No symlink is followed at a file's own place: what it points at is somebody else's. Directories are held open, so that
nobody who may write in one of them can make the agent write in another.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import KeepError, PassingKeepError
from zoo_watcher.host import command

from .rendering import STAGED

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class FileAttributes:
    """The owner, group and mode of what is made; -1 where the owner or group is not told."""

    owner: int
    group: int
    mode: int

    @classmethod
    def of(cls, file: ManagedFile) -> FileAttributes:
        """As the configuration has it. Raises `PassingKeepError` for a user or group that is not there."""
        try:
            owner = pwd.getpwnam(file.owner).pw_uid if file.owner else -1
            group = grp.getgrnam(file.group).gr_gid if file.group else -1
        except KeyError as exc:
            raise PassingKeepError(f"this host has no such owner or group: {exc}") from exc
        return cls(owner, group, file.mode)

    @property
    def directory_mode(self) -> int:
        """Who may read the files may enter the directory."""
        return self.mode | (self.mode & 0o444) >> 2 | 0o300

    def is_of(self, found: os.stat_result) -> bool:
        """Whether a file is as it should be."""
        return (
            stat.S_IMODE(found.st_mode) == self.mode
            and self.owner in {-1, found.st_uid}
            and self.group in {-1, found.st_gid}
        )

    def give(self, descriptor: int, mode: int) -> None:
        """Give what is open its owner, then its mode. Raises `OSError`."""
        if (self.owner, self.group) != (-1, -1):
            os.fchown(descriptor, self.owner, self.group)
        os.fchmod(descriptor, mode)


class FileWriter:
    """One file on its way to `file.dest`. `prepare`, then `commit` or `discard`.

    `made` is what the agent makes of it, `left` what there is of the agent's afterwards: "" is `dest` itself.
    `begun` is whether a `commit` that failed has changed something.
    """

    def __init__(self, file: ManagedFile, data: bytes, timeout: float) -> None:
        self.file = file
        self.data = data
        self.timeout = timeout
        self.made = self.left = {""}
        self.begun = False
        self._manner = FileAttributes.of(file)
        self._directory, self._name = os.path.split(file.dest)
        self._beside = os.path.basename(staged_path(file.dest))

    def differs(self) -> bool:
        """Whether the file is not there as it should be. Raises `KeepError`."""
        with disk_trouble(self.file.dest), open_directory(self._directory) as directory:
            return not is_same(directory, self._name, self.data, self._manner)

    def prepare(self) -> None:
        """Make the new file, have it proved, and durable. Raises `KeepError`."""
        with disk_trouble(self.file.dest), open_directory(self._directory) as directory:
            write_new(directory, self._beside, self.data)
            prove(self.file, os.path.join(self._directory, self._beside), self.timeout)
            finish(directory, self._beside, self._manner)

    def commit(self) -> None:
        """Put the new file in its place; durable with `sync_directory` alone. Raises `KeepError`."""
        with disk_trouble(self.file.dest), open_directory(self._directory) as directory:
            os.replace(self._beside, self._name, src_dir_fd=directory, dst_dir_fd=directory)

    def discard(self) -> None:
        """Remove what was prepared, and what a killed agent left."""
        with contextlib.suppress(OSError):
            os.unlink(staged_path(self.file.dest))

    @property
    def directories(self) -> set[str]:
        """The directories that have changed entries."""
        return {self._directory}


class FileRemover:
    """One file on its way to be no more."""

    def __init__(self, file: ManagedFile) -> None:
        self.file = file
        self.made: set[str] = set()
        self.left: set[str] = set()
        self.begun = False
        self.directories = {os.path.dirname(file.dest)}

    def differs(self) -> bool:
        """Whether there is a file. Raises `KeepError` for what is none."""
        with disk_trouble(self.file.dest):
            try:
                _check_kind(os.lstat(self.file.dest))
            except FileNotFoundError:
                return False
            return True

    def prepare(self) -> None:
        """Nothing has to be made."""

    def commit(self) -> None:
        """Remove it. Raises `KeepError`."""
        with disk_trouble(self.file.dest), contextlib.suppress(FileNotFoundError):
            os.unlink(self.file.dest)

    def discard(self) -> None:
        """Nothing was made."""


def staged_path(dest: str) -> str:
    """Where the new file is until it is renamed: beside `dest`, hidden from every glob, the same after a crash."""
    name = f"{STAGED}{hashlib.sha256(os.fsencode(dest)).hexdigest()[:16]}.new"
    return os.path.join(os.path.dirname(dest), name)


@contextlib.contextmanager
def open_directory(path: str) -> Iterator[int]:
    """A directory's descriptor. Raises `OSError`."""
    descriptor = os.open(path, DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_same(directory: int, name: str, data: bytes, manner: FileAttributes) -> bool:
    """Whether the file `name` has these bytes, owner and mode. Raises `OSError`, `KeepError` for what is no file."""
    try:
        found = os.lstat(name, dir_fd=directory)
        _check_kind(found)
        if found.st_size != len(data) or not manner.is_of(found):
            return False
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory), "rb") as file:
            return file.read(len(data) + 1) == data
    except (FileNotFoundError, PermissionError):
        # What can't be read is replaced, where the directory lets it be.
        return False


def write_new(directory: int, name: str, data: bytes) -> None:
    """Make the file `name`, which is the agent's alone until `finish`: what proves it runs as the agent does.

    Raises `OSError`.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def finish(directory: int, name: str, manner: FileAttributes) -> None:
    """Give a new file its owner and mode, and make it durable. Raises `OSError`."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
    try:
        manner.give(descriptor, manner.mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prove(file: ManagedFile, path: str, timeout: float) -> None:
    """Run `validate` on what is to be put in place. Raises `KeepError` with the end of its output."""
    if not file.validate:
        return
    ended = command.run([word.replace("%s", path) for word in file.validate], timeout)
    if ended.problem:
        error = PassingKeepError if ended.problem.startswith(command.NOT_STARTED) else KeepError
        raise error(f"validate {ended.problem}: {ended.tail}".rstrip(": "))


@contextlib.contextmanager
def disk_trouble(dest: str) -> Iterator[None]:
    """Turn an `OSError` into a `PassingKeepError` that says where."""
    try:
        yield
    except OSError as exc:
        raise PassingKeepError(f"{_where(dest, exc)}: {exc.strerror or exc}") from exc


def _where(dest: str, exc: OSError) -> str:
    named = os.fsdecode(exc.filename) if isinstance(exc.filename, (str, bytes)) else ""
    return f"directory {named}" if named == os.path.dirname(dest) else dest


def _check_kind(found: os.stat_result) -> None:
    kinds = {stat.S_IFLNK: "symlink", stat.S_IFDIR: "directory"}
    if not stat.S_ISREG(found.st_mode):
        kind = kinds.get(stat.S_IFMT(found.st_mode), "special file")
        raise PassingKeepError(f"a {kind} is in the file's place, and is left alone: move it away")
