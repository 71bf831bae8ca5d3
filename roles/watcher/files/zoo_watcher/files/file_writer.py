# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes or removes one file. A new one is written next to it, validated, given owner and mode, synced, and renamed.

No symlink is followed at a file's own path: what it points at is somebody else's. Directories are held open, so that
nobody who may write in one of them can make the agent write in another. A new file is held open too until it is
complete, and is renamed only if it is still the same file: nobody can make the agent give another file away.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import FileError, KilledFileError, TransientFileError
from zoo_watcher.host import command
from zoo_watcher.host.filesystem import open_directory

from .rendering import STAGED


@dataclass(frozen=True)
class FileAttributes:
    """The owner, group and mode of a file; -1 if the configuration names no owner or group."""

    owner: int
    group: int
    mode: int

    @classmethod
    def of(cls, file: ManagedFile) -> FileAttributes:
        """What the configuration requires. Raises `TransientFileError` for a user or group that does not exist."""
        try:
            owner = pwd.getpwnam(file.owner).pw_uid if file.owner else -1
            group = grp.getgrnam(file.group).gr_gid if file.group else -1
        except KeyError as exc:
            raise TransientFileError(f"this host has no such owner or group: {exc}") from exc
        return cls(owner, group, file.mode)

    @property
    def directory_mode(self) -> int:
        """The mode of their directory: who may read the files may enter it."""
        return self.mode | (self.mode & 0o444) >> 2 | 0o300

    def match(self, status: os.stat_result) -> bool:
        """Whether a file has them."""
        return (
            stat.S_IMODE(status.st_mode) == self.mode
            and self.owner in {-1, status.st_uid}
            and self.group in {-1, status.st_gid}
        )

    def apply(self, descriptor: int, mode: int) -> None:
        """Give what is open its owner and group, then this mode. Raises `OSError`."""
        if (self.owner, self.group) != (-1, -1):
            os.fchown(descriptor, self.owner, self.group)
        os.fchmod(descriptor, mode)


@dataclass(frozen=True)
class Identity:
    """Which file or directory something is, whatever its name. Includes the owner: an inode number may be reused."""

    device: int
    number: int
    owner: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """The identity of the file with this status."""
        return cls(status.st_dev, status.st_ino, status.st_uid)

    def check(self, path: str, directory: int | None = None) -> None:
        """Raises `TransientFileError` if another file or none has this path; the arguments are as in `remove_tree`."""
        try:
            found = Identity.of(os.lstat(path, dir_fd=directory))
        except FileNotFoundError:
            found = None
        if found != self:
            raise TransientFileError("the new file was replaced by another before it was in place: it is not used")


class FileWriter:
    """Writes one file. `prepare`, then `commit` or `discard`.

    `created` are the paths that the agent creates, `remaining` those of its own that exist afterwards: "" is the file
    itself. `partly_committed` is whether a `commit` that failed changed anything.
    """

    def __init__(self, file: ManagedFile, data: bytes, timeout: float) -> None:
        self.file = file
        self.data = data
        self.timeout = timeout
        self.created = self.remaining = {""}
        self.partly_committed = False
        self._attributes = FileAttributes.of(file)
        self._directory, self._name = os.path.split(file.dest)
        self._staged = os.path.basename(staged_path(file.dest))
        self._identity: Identity | None = None
        self.directories = {self._directory}
        """The directories that `commit` changes."""

    def differs(self) -> bool:
        """Whether the file is missing or not as it should be. Raises `FileError`."""
        with disk_trouble(self.file.dest), open_directory(self._directory) as directory:
            return not is_same(directory, self._name, self.data, self._attributes)

    def prepare(self) -> None:
        """Write the new file next to the old one, validate and sync it. Raises `FileError`."""
        path = os.path.join(self._directory, self._staged)
        with disk_trouble(self.file.dest), self._new_file() as descriptor:
            before = _content(descriptor)
            validate(self.file, path, self.timeout)
            if _content(descriptor) != before:
                raise FileError("validate has changed the file that it was to look at: it is not used")
            self._identity = Identity.of(os.fstat(descriptor))
            # By its path, because that is what the command was shown.
            self._identity.check(path)
            finish(descriptor, self._attributes)
            self._identity = Identity.of(os.fstat(descriptor))

    @contextlib.contextmanager
    def _new_file(self) -> Iterator[int]:
        with open_directory(self._directory) as directory, new_file(directory, self._staged, self.data) as descriptor:
            yield descriptor

    def commit(self) -> None:
        """Put the new file in its place; durable once `directories` are synced. Raises `FileError`."""
        with disk_trouble(self.file.dest), open_directory(self._directory) as directory:
            if self._identity:
                self._identity.check(self._staged, directory)
            os.replace(self._staged, self._name, src_dir_fd=directory, dst_dir_fd=directory)

    def discard(self) -> None:
        """Remove what was prepared, and what a killed agent left."""
        with contextlib.suppress(OSError):
            os.unlink(staged_path(self.file.dest))


def _content(descriptor: int) -> tuple[int, int]:
    """What changes when somebody writes to a file: its size and its time of modification."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


class FileRemover:
    """Removes one file, with the methods of `FileWriter`."""

    def __init__(self, file: ManagedFile) -> None:
        self.file = file
        self.created: set[str] = set()
        self.remaining: set[str] = set()
        self.partly_committed = False
        self.directories = {os.path.dirname(file.dest)}

    def differs(self) -> bool:
        """Whether there is a file. Raises `FileError` for anything else."""
        with disk_trouble(self.file.dest):
            try:
                _check_kind(os.lstat(self.file.dest))
            except FileNotFoundError:
                return False
            return True

    def prepare(self) -> None:
        """Nothing to prepare."""

    def commit(self) -> None:
        """Remove it. Raises `FileError`."""
        with disk_trouble(self.file.dest), contextlib.suppress(FileNotFoundError):
            os.unlink(self.file.dest)

    def discard(self) -> None:
        """Nothing was prepared."""


def staged_path(dest: str) -> str:
    """Where the new file is until it is renamed: next to `dest`, hidden from every glob, the same after a crash."""
    name = f"{STAGED}{hashlib.sha256(os.fsencode(dest)).hexdigest()[:16]}.new"
    return os.path.join(os.path.dirname(dest), name)


def is_same(directory: int, name: str, data: bytes, attributes: FileAttributes) -> bool:
    """Whether the file `name` has these bytes and attributes. Raises `OSError`, and `FileError` if it is not a file."""
    try:
        status = os.lstat(name, dir_fd=directory)
        _check_kind(status)
        if status.st_size != len(data) or not attributes.match(status):
            return False
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory), "rb") as file:
            return attributes.match(os.fstat(file.fileno())) and file.read(len(data) + 1) == data
    except (FileNotFoundError, PermissionError):
        # A file that can't be read is replaced, if the directory allows it.
        return False


@contextlib.contextmanager
def new_file(directory: int, name: str, data: bytes) -> Iterator[int]:
    """The descriptor of a new file with these bytes, which only the agent can read: `validate` runs as the agent does.

    Raises `OSError`.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        yield descriptor


def finish(descriptor: int, attributes: FileAttributes) -> None:
    """Give a new file its attributes, and sync it. Raises `OSError`."""
    attributes.apply(descriptor, attributes.mode)
    os.fsync(descriptor)


def validate(file: ManagedFile, path: str, timeout: float) -> None:
    """Run the file's command `validate` on its new contents. Raises `FileError` with the end of the output."""
    if not file.validate:
        return
    ended = command.run([word.replace("%s", path) for word in file.validate], timeout)
    if ended.problem:
        text = f"validate {ended.problem}: {ended.tail}".rstrip(": ")
        # A command killed by somebody else says nothing about the contents; one that hangs would block all other files.
        if ended.was_killed:
            raise KilledFileError(text)
        raise (TransientFileError if ended.problem.startswith(command.NOT_STARTED) else FileError)(text)


@contextlib.contextmanager
def disk_trouble(dest: str) -> Iterator[None]:
    """Turn an `OSError` into a `TransientFileError` that says where, and what to do about a missing directory."""
    try:
        yield
    except OSError as exc:
        path = os.fsdecode(exc.filename) if isinstance(exc.filename, (str, bytes)) else ""
        directory = os.path.dirname(dest)
        if exc.errno == errno.ENOENT and path == directory:
            raise TransientFileError(missing_directory(directory)) from exc
        where = f"directory {directory}" if path == directory else dest
        # The unit's sandbox contains what existed when the agent was started.
        hint = "; if its directory is new, restart the agent" if exc.errno == errno.EROFS else ""
        raise TransientFileError(f"{where}: {exc.strerror or exc}{hint}") from exc


def missing_directory(path: str) -> str:
    """What to do if a directory does not exist. The unit allows writing only in those that existed at its start."""
    return f"no directory {path} on this host; make it, then restart the agent"


def _check_kind(status: os.stat_result) -> None:
    kinds = {stat.S_IFLNK: "symlink", stat.S_IFDIR: "directory"}
    if not stat.S_ISREG(status.st_mode):
        kind = kinds.get(stat.S_IFMT(status.st_mode), "special file")
        raise TransientFileError(f"a {kind} is in the file's place, and is left untouched: move it away")
