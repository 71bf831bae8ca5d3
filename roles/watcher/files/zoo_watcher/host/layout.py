# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things are on a host, and how they are made durable there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo_watcher.errors import DeployError
from zoo_watcher.wire.records import AGENT_DIRECTORY, COMMIT_ID

AT_FDCWD = -100
RENAME_EXCHANGE = 2

READABLE = 0o755
"""Mode of the directories on the way to a release: the application's own user reads them."""


@dataclass(frozen=True)
class Layout:
    """The directories under one base."""

    base: Path

    @property
    def own(self) -> Path:
        """The agent's own directory."""
        return self.base / AGENT_DIRECTORY

    @property
    def repository(self) -> Path:
        """The object store."""
        return self.own / "repository.git"

    @property
    def releases(self) -> Path:
        """Complete release directories, one a commit."""
        return self.own / "releases"

    @property
    def manifests(self) -> Path:
        """What each release directory was made of."""
        return self.own / "manifests"

    @property
    def staging(self) -> Path:
        """What is being made. Whatever is here when nothing runs is left over."""
        return self.own / "staging"

    @property
    def shared(self) -> Path:
        """What outlives a release; linked into each."""
        return self.own / "shared"

    @property
    def status(self) -> Path:
        """The agent's last status, for whoever looks at the host."""
        return self.own / "status.json"

    @property
    def journal(self) -> Path:
        """What the agent remembers of this host."""
        return self.own / "journal.json"

    @property
    def file_journal(self) -> Path:
        """What the agent remembers of the files that it keeps."""
        return self.own / "files.json"

    @property
    def proof(self) -> Path:
        """Where the new contents of a directory are shown to the command that proves them."""
        return self.own / "proof"

    @property
    def lock(self) -> Path:
        """Held by the agent that works in this base."""
        return self.own / "agent.lock"

    @property
    def session(self) -> Path:
        """The session that a restarted agent takes up again, where the service manager gives no runtime directory."""
        return self.own / "session.json"

    def release(self, commit_id: str) -> Path:
        """The complete release directory of a commit."""
        return self.releases / commit_id

    def manifest(self, commit_id: str) -> Path:
        """What the release directory of a commit was made of."""
        return self.manifests / f"{commit_id}.json"

    def place(self, relative_path: str) -> Path:
        """The symlink through which the application sees the live release."""
        return self.base / relative_path

    def make(self) -> None:
        """Make the directories. Raises `OSError`."""
        self.base.mkdir(mode=READABLE, parents=True, exist_ok=True)
        for directory in (self.own, self.releases, self.manifests, self.staging):
            directory.mkdir(mode=READABLE, exist_ok=True)

    def clean_staging(self) -> None:
        """Remove what an interrupted deployment left."""
        for left in self.staging.iterdir() if self.staging.is_dir() else ():
            remove_tree(left)

    def staged(self) -> list[str]:
        """The commits that have a complete release directory."""
        if not self.releases.is_dir():
            return []
        return [entry.name for entry in self.releases.iterdir() if COMMIT_ID.fullmatch(entry.name)]


def remove_tree(path: Path) -> None:
    """Remove a directory or file, whatever its contents' modes; what can't be removed stays for the next time."""
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(OSError):
            path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)


def sync_directory(path: Path) -> None:
    """Make a directory's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """Make all that was written to the file system of `path` durable, in one call (syncfs(2))."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if library.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def replace_tree(made: Path, place: Path) -> None:
    """Put a directory in the place of another, at one instant (renameat2(2)); the other is then at `made`."""
    library = ctypes.CDLL(None, use_errno=True)
    words = (AT_FDCWD, os.fsencode(made), AT_FDCWD, os.fsencode(place), RENAME_EXCHANGE)
    if library.renameat2(*words) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(place))


def write_whole(path: Path, text: str) -> None:
    """Replace a file's text: a reader sees the old or the new one. Raises `OSError`."""
    beside = path.with_name(f".new.{path.name}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def write_durably(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's text: a reader, also after a crash, sees the old or the new one. Raises `OSError`."""
    beside = path.with_name(f".new.{path.name}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    # As the file system names them: a path in it need not be UTF-8.
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(os.fsencode(text))
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_directory(path.parent)


@contextlib.contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn an `OSError` into a `DeployError` that says what was being done, and where."""
    try:
        yield
    except OSError as exc:
        where = f" {exc.filename}" if exc.filename else ""
        raise DeployError(f"{doing}:{where} {exc.strerror or exc}") from exc
