# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the files of a subtree into one directory, each by a rename; what else is in the directory is left alone.

New files are made in a hidden directory within it, which is on the same file system wherever the directory itself is
mounted from. No symlink within the directory is followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import PassingKeepError
from zoo_watcher.host.filesystem import remove_tree

from .file_writer import DIRECTORY, FileAttributes, disk_trouble, finish, is_same, open_directory, prove, write_new
from .rendering import STAGED, leaves

STAGING = f"{STAGED}new"
ROOT = "/"
"""How the directory itself is called among what was made; another directory in it ends with a slash."""


class DirectoryWriter:
    """A directory's files on their way to `file.dest`. `prepare`, then `commit` or `discard`.

    `values` is what the znodes hold, None where there are none; `earlier` is what the agent made there before;
    `proof` is where a directory can be shown to `validate`. `begun` is whether `commit` has changed anything.
    """

    def __init__(
        self, file: ManagedFile, values: Mapping[str, bytes] | None, earlier: set[str], proof: Path, timeout: float
    ) -> None:
        self.file = file
        self.proof = proof
        self.timeout = timeout
        self.directories: set[str] = set()
        self.begun = False
        self._wanted = leaves(values) if values else {}
        self._there = values is not None
        self._manner = FileAttributes.of(file)
        self._earlier = earlier
        names = {*self._wanted, *(f"{directory}/" for path in self._wanted for directory in _above(path))}
        # An empty znode without children may as well be a directory whose last child has gone.
        may_stay = {f"{path}/" for path, value in self._wanted.items() if not value}
        # Those below come before their directory.
        gone = sorted(earlier - names - may_stay - {ROOT}, reverse=True)
        self._gone = gone if file.on_delete == "remove" else []
        self._changed: list[str] = []
        self.made = names

    @property
    def left(self) -> set[str]:
        """What there is of the agent's, once it is in place."""
        return (self._earlier | self.made) - set(self._gone) - (set() if self._there else {ROOT})

    def differs(self) -> bool:
        """Whether something there is not as it should be. Raises `KeepError`."""
        dest = self.file.dest
        with disk_trouble(dest):
            if not os.path.lexists(dest):
                self._changed = list(self._wanted)
                self.made = self.made | {ROOT} if self._there else self.made
                return self._there
            with _open_own(dest) as root:
                self._changed = [path for path in self._wanted if not self._is_there(root, path)]
            if not self._there and ROOT in self._earlier:
                return True
            return bool(self._changed) or any(os.path.lexists(os.path.join(dest, path)) for path in self._gone)

    def prepare(self) -> None:
        """Have the new files proved, and make them, durable. Raises `KeepError`."""
        if not self._there:
            return
        dest, manner = self.file.dest, self._manner
        with disk_trouble(dest):
            if self.file.validate:
                self._prove()
            if ROOT in self.made:
                os.mkdir(dest, 0o700)
                with open_directory(dest) as root:
                    manner.give(root, manner.directory_mode)
            self._clear()
            with _open_own(dest) as root:
                os.mkdir(STAGING, 0o700, dir_fd=root)
                for path in self._changed:
                    with self._open_staged(root, path) as directory:
                        write_new(directory, os.path.basename(path), self._wanted[path])
                        finish(directory, os.path.basename(path), manner)

    def _prove(self) -> None:
        """Show all that there will be, in a directory of the agent's own: its commands need not get into `dest`."""
        remove_tree(self.proof)
        try:
            self.proof.mkdir(mode=0o700)
            for path, value in self._wanted.items():
                file = self.proof / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(value)
            prove(self.file, str(self.proof), self.timeout)
        finally:
            remove_tree(self.proof)

    def commit(self) -> None:
        """Put each new file in its place, take away what is gone; durable with `sync_directory` alone."""
        dest = self.file.dest
        with disk_trouble(dest):
            with _open_own(dest) as root:
                for path in self._gone:
                    self._remove(root, path)
                for path in self._changed:
                    self._move(root, path)
            self._clear()
            self.directories.update({dest, os.path.dirname(dest)})
            if not self._there and ROOT in self._earlier:
                # Somebody else's files keep the directory.
                with contextlib.suppress(OSError):
                    os.rmdir(dest)
            self.directories = {directory for directory in self.directories if os.path.isdir(directory)}

    def discard(self) -> None:
        """Remove what was prepared, and what a killed agent left."""
        self._clear()
        if ROOT in self.made:
            with contextlib.suppress(OSError):
                os.rmdir(self.file.dest)

    def _clear(self) -> None:
        remove_tree(Path(self.file.dest, STAGING))

    def _is_there(self, root: int, path: str) -> bool:
        directories = _above(path)
        try:
            with _open_below(root, directories[-1:], None, make=False) as directory:
                name = os.path.basename(path)
                if _is_directory(directory, name):
                    return not self._wanted[path] or not self._may_replace(f"{path}/")
                return is_same(directory, name, self._wanted[path], self._manner)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _may_replace(self, directory: str) -> bool:
        if directory in self._gone:
            return True
        raise PassingKeepError(f"a directory is at {directory[:-1]}, where a file belongs: move it away")

    def _move(self, root: int, path: str) -> None:
        name, above = os.path.basename(path), _above(path)
        for directory in above:
            if directory in self._earlier:
                # What was a znode without children was a file of the agent's.
                self._remove(root, directory)
        with self._open_staged(root, path) as source, _open_below(root, above[-1:], self._manner) as target:
            os.replace(name, name, src_dir_fd=source, dst_dir_fd=target)
        self.begun = True
        self.directories.update(os.path.join(self.file.dest, directory) for directory in above)

    @staticmethod
    def _open_staged(root: int, path: str) -> contextlib.AbstractContextManager[int]:
        """The directory that a new file is in until it is in its place."""
        return _open_below(root, (STAGING, *_above(path)[-1:]), None)

    def _remove(self, root: int, path: str) -> None:
        """Remove one file, or a directory where nothing is left in it."""
        directory_path, name = os.path.split(path.rstrip("/"))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            with _open_below(root, (directory_path,) if directory_path else (), None, make=False) as directory:
                if path.endswith("/"):
                    with contextlib.suppress(OSError):
                        os.rmdir(name, dir_fd=directory)
                elif not _is_directory(directory, name):
                    os.unlink(name, dir_fd=directory)
                    self.begun = True
            self.directories.add(os.path.join(self.file.dest, directory_path))


def _above(path: str) -> list[str]:
    """The directories that a path is in, the outermost first: "a/b/c" is in "a" and "a/b"."""
    segments = path.split("/")[:-1]
    return ["/".join(segments[: length + 1]) for length in range(len(segments))]


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _open_own(path: str) -> Iterator[int]:
    """The descriptor of the directory itself, not of what a symlink there points at. Raises `PassingKeepError`."""
    try:
        descriptor = os.open(path, DIRECTORY | os.O_NOFOLLOW)
    except NotADirectoryError as exc:
        raise PassingKeepError(
            "what is in the directory's place is no directory, and is left alone: move it away"
        ) from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _open_below(
    root: int, paths: tuple[str, ...] | list[str], manner: FileAttributes | None, *, make: bool = True
) -> Iterator[int]:
    """The descriptor of a directory below `root`, made where it is missing. Raises `OSError`, also for a symlink."""
    current = os.dup(root)
    try:
        for segment in filter(None, "/".join(paths).split("/")):
            below = _step(current, segment, manner, make=make)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def _step(directory: int, name: str, manner: FileAttributes | None, *, make: bool) -> int:
    try:
        return os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        if not make:
            raise
    except OSError as exc:
        if exc.errno in {errno.ENOTDIR, errno.ELOOP} and make:
            raise PassingKeepError(f"what is at {name} in it is no directory, and is left alone: move it away") from exc
        raise
    os.mkdir(name, 0o700, dir_fd=directory)
    made = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    if manner:
        manner.give(made, manner.directory_mode)
    return made
