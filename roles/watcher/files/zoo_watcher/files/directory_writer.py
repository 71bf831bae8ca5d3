# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the files of a subtree into one directory, each by a rename. Other files in the directory stay as they are.

New files are written in a hidden directory within it, which is on the same file system even if the directory is a mount
point, and which only the agent can enter. No symlink within the directory is followed, and no directory that somebody
else put in place of one of the agent's is used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import FileError, TransientFileError
from zoo_watcher.host.filesystem import DIRECTORY, open_directory, remove_tree

from .file_writer import (
    FileAttributes,
    Identity,
    disk_trouble,
    finish,
    is_same,
    missing_directory,
    new_file,
    validate,
)
from .rendering import STAGED, leaves

STAGING = f"{STAGED}new"
ROOT = "/"
"""The directory's own name among the paths that the agent created; a directory within it ends with a slash."""


class DirectoryWriter:
    """Writes the files of one directory. `prepare`, then `commit` or `discard`.

    `values` is what the znodes hold, None if there are none; `earlier` are the paths that the agent created there
    before; `proof` is where the new contents are shown to `validate`. The rest is as in `FileWriter`.
    """

    def __init__(
        self, file: ManagedFile, values: Mapping[str, bytes] | None, earlier: set[str], proof: Path, timeout: float
    ) -> None:
        self.file = file
        self.proof = proof
        self.timeout = timeout
        self.directories: set[str] = set()
        self.partly_committed = False
        self._contents = leaves(values) if values else {}
        self._exists = values is not None
        self._attributes = FileAttributes.of(file)
        self._earlier = earlier
        self.created = {*self._contents, *(f"{parent}/" for path in self._contents for parent in _parents(path))}
        # An empty znode without children may as well be a directory whose last child was deleted.
        may_stay = {f"{path}/" for path, value in self._contents.items() if not value}
        # Files come before their directories.
        obsolete = sorted(earlier - self.created - may_stay - {ROOT}, reverse=True)
        self._obsolete = obsolete if file.on_delete == "remove" else []
        self._changed: list[str] = []
        self._staging: Identity | None = None

    @property
    def remaining(self) -> set[str]:
        """The agent's paths that exist after `commit`."""
        return (self._earlier | self.created) - set(self._obsolete) - (set() if self._exists else {ROOT})

    def differs(self) -> bool:
        """Whether anything there is not as it should be. Raises `FileError`."""
        dest = self.file.dest
        with disk_trouble(dest):
            if not os.path.lexists(dest):
                self._changed = list(self._contents)
                self.created = self.created | {ROOT} if self._exists else self.created
                return self._exists
            with _open_dest(dest) as root:
                self._changed = [path for path in self._contents if not self._is_current(root, path)]
            if not self._exists and ROOT in self._earlier:
                return True
            return bool(self._changed) or any(os.path.lexists(os.path.join(dest, path)) for path in self._obsolete)

    def prepare(self) -> None:
        """Validate the new contents; write and sync the new files. Raises `FileError`."""
        if not self._exists:
            return
        dest = self.file.dest
        with disk_trouble(dest):
            if self.file.validate:
                self._validate()
            if ROOT in self.created:
                self._make_dest()
            with _open_dest(dest) as root:
                remove_tree(STAGING, root)
                with _opened(_make_directory(root, STAGING)) as staging:
                    self._staging = Identity.of(os.fstat(staging))
                    for path in self._changed:
                        with disk_trouble(os.path.join(dest, path)):
                            self._write(staging, path)

    def _write(self, staging: int, path: str) -> None:
        name, data = os.path.basename(path), self._contents[path]
        with _open_below(staging, _parent(path), None) as directory, new_file(directory, name, data) as descriptor:
            finish(descriptor, self._attributes)

    def _make_dest(self) -> None:
        parent, name = os.path.split(self.file.dest)
        with open_directory(parent) as directory:
            try:
                root = _make_directory(directory, name)
            except OSError as exc:
                if exc.errno == errno.EROFS:
                    raise TransientFileError(missing_directory(self.file.dest)) from exc
                raise
            with _opened(root):
                self._attributes.apply(root, self._attributes.directory_mode)

    def _validate(self) -> None:
        """Show all new contents in a directory of the agent's own: its commands need no access to `dest`."""
        remove_tree(self.proof)
        try:
            self.proof.mkdir(mode=0o700)
            for path, value in self._contents.items():
                file = self.proof / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(value)
            validate(self.file, str(self.proof), self.timeout)
        finally:
            remove_tree(self.proof)

    def commit(self) -> None:
        """Remove obsolete files and put the new ones in place; durable once `directories` are synced."""
        dest = self.file.dest
        with disk_trouble(dest):
            with _open_dest(dest) as root:
                with self._open_staging(root) as staging:
                    for path in self._obsolete:
                        with disk_trouble(os.path.join(dest, path)):
                            self._remove(root, path)
                    for path in self._changed:
                        with disk_trouble(os.path.join(dest, path)):
                            self._move(staging, root, path)
                remove_tree(STAGING, root)
            self.directories.update({dest, os.path.dirname(dest)})
            if not self._exists and ROOT in self._earlier:
                # The directory stays if somebody else's files are in it.
                with contextlib.suppress(OSError):
                    os.rmdir(dest)
            self.directories = {directory for directory in self.directories if os.path.isdir(directory)}

    def discard(self) -> None:
        """Remove what was prepared, and what a killed agent has left."""
        with contextlib.suppress(OSError, FileError), _open_dest(self.file.dest) as root:
            remove_tree(STAGING, root)
        if ROOT in self.created:
            with contextlib.suppress(OSError):
                os.rmdir(self.file.dest)

    def _is_current(self, root: int, path: str) -> bool:
        try:
            with _open_below(root, _parent(path), None, create=False) as directory:
                name = os.path.basename(path)
                if _is_directory(directory, name):
                    return not self._contents[path] or not self._may_replace(f"{path}/")
                return is_same(directory, name, self._contents[path], self._attributes)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _may_replace(self, directory: str) -> bool:
        if directory in self._obsolete:
            return True
        raise _in_the_way(directory[:-1])

    def _move(self, staging: int, root: int, path: str) -> None:
        directory, name = _parent(path), os.path.basename(path)
        for parent in _parents(path):
            if parent in self._earlier:
                # A znode that had no children was a file of the agent's.
                self._remove(root, parent)
        with _open_below(staging, directory, None) as source, _open_below(root, directory, self._attributes) as target:
            try:
                os.replace(name, name, src_dir_fd=source, dst_dir_fd=target)
            except IsADirectoryError as exc:
                raise _in_the_way(path) from exc
        self.partly_committed = True
        self.directories.update(os.path.join(self.file.dest, parent) for parent in _parents(path))

    @contextlib.contextmanager
    def _open_staging(self, root: int) -> Iterator[int]:
        """The directory that the new files are in, if it still is the one in which they were prepared."""
        if not self._staging:
            # Nothing was prepared: there is only something to remove.
            yield root
            return
        with _opened(os.open(STAGING, DIRECTORY, dir_fd=root)) as staging:
            if Identity.of(os.fstat(staging)) != self._staging:
                raise TransientFileError(f"{STAGING} in dest was replaced by another directory: it is not used")
            yield staging

    def _remove(self, root: int, path: str) -> None:
        """Remove one file, or a directory that is empty."""
        parent, name = os.path.split(path.rstrip("/"))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with _open_below(root, parent, None, create=False) as directory:
                if path.endswith("/"):
                    with contextlib.suppress(OSError):
                        os.rmdir(name, dir_fd=directory)
                elif not _is_directory(directory, name):
                    os.unlink(name, dir_fd=directory)
                    self.partly_committed = True
            self.directories.add(os.path.join(self.file.dest, parent))


def _in_the_way(path: str) -> TransientFileError:
    return TransientFileError(f"a directory is at {path}, where a file belongs: move it away")


def _parent(path: str) -> str:
    """The directory that a path is in: "a/b/c" is in "a/b", "a" in ""."""
    return path.rpartition("/")[0]


def _parents(path: str) -> list[str]:
    """All directories that a path is in, the outermost first: "a/b/c" is in "a" and "a/b"."""
    segments = path.split("/")[:-1]
    return ["/".join(segments[: length + 1]) for length in range(len(segments))]


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _open_dest(path: str) -> Iterator[int]:
    """The descriptor of the directory itself, not of what a symlink there points at. Raises `TransientFileError`."""
    try:
        descriptor = os.open(path, DIRECTORY)
    except NotADirectoryError as exc:
        raise TransientFileError("dest is not a directory, and is left untouched: move it away") from exc
    with _opened(descriptor):
        yield descriptor


@contextlib.contextmanager
def _open_below(root: int, path: str, attributes: FileAttributes | None, *, create: bool = True) -> Iterator[int]:
    """The descriptor of a directory below `root`, created if it is missing. Raises `OSError`, also for a symlink."""
    current = os.dup(root)
    try:
        for segment in filter(None, path.split("/")):
            below = _open_child(current, segment, attributes, create=create)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def _open_child(directory: int, name: str, attributes: FileAttributes | None, *, create: bool) -> int:
    try:
        return os.open(name, DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        if not create:
            raise
    except OSError as exc:
        if exc.errno in {errno.ENOTDIR, errno.ELOOP} and create:
            raise TransientFileError(f"{name} in dest is not a directory, and is left untouched: move it away") from exc
        raise
    child = _make_directory(directory, name)
    if attributes:
        attributes.apply(child, attributes.directory_mode)
    return child


def _make_directory(directory: int, name: str) -> int:
    """The descriptor of a new directory, which only the agent can enter.

    Raises `OSError`, and `TransientFileError` if somebody else has already put a directory in its place.
    """
    os.mkdir(name, 0o700, dir_fd=directory)
    child = os.open(name, DIRECTORY, dir_fd=directory)
    if os.fstat(child).st_uid != os.geteuid():
        os.close(child)
        raise TransientFileError(f"{name} was replaced by somebody else's directory: it is not used")
    return child


@contextlib.contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    """A descriptor for as long as the block lasts."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)
