# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of one file: which value it has, as of when, why not the newest, and what its status says."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import MOST_KILLED, FileError, KilledFileError, TransientFileError
from zoo_watcher.wire.records import FileStatus

from .actions import Actions
from .snapshot import Snapshot

PATIENCE = 5.0
"""Seconds for which a subtree that keeps changing is read again to get a consistent snapshot. After that, it is taken
as it is."""
LONGEST_MESSAGE = 300
"""The most characters of a file's message: there may be many files, and one znode holds the status."""


@dataclass
class FileState:
    """The state of one file.

    `retry_at` is the time (of `time.monotonic()`) of the next try, None if none is due; `inconsistent_since` that
    of the first of the inconsistent snapshots in a row. `fingerprint` and `zxid` are those of the last snapshot,
    `killed` is how many tries of its contents in a row have ended with a command that was killed.
    """

    file: ManagedFile
    zxid: int = 0
    fingerprint: tuple[Any, ...] | None = None
    present: bool = False
    version: int | None = None
    mzxid: int | None = None
    problem: FileError | None = None
    pending: bool = True
    backoff: Backoff = field(default_factory=Backoff)
    retry_at: float | None = None
    killed: int = 0
    logged: str = ""
    inconsistent_since: float | None = None

    def status(self, actions: Actions) -> FileStatus:
        """Its part of the agent's status."""
        message = str(self.problem) if self.problem else actions.problem(self.file.dest)
        if self.problem:
            state = "failed"
        elif self.pending or actions.is_pending(self.file.dest):
            state = "pending"
        elif message:
            state = "failed"
        else:
            state = "current" if self.present else "missing"
        return FileStatus(
            znode=self.file.znode,
            format=self.file.format,
            state=state,
            version=self.version,
            mzxid=self.mzxid,
            zxid=self.zxid,
            message=_shortened(message) if message else None,
        )

    def is_due(self, now: float) -> bool:
        """Whether it is time for the next try."""
        return self.retry_at is not None and self.retry_at <= now

    def accepts(self, snapshot: Snapshot) -> bool:
        """Whether the file is to be written as of this snapshot; if not, the znodes are read again."""
        now = time.monotonic()
        self.inconsistent_since = None if snapshot.consistent else self.inconsistent_since or now
        return self.inconsistent_since is None or now - self.inconsistent_since > PATIENCE

    def settle(self, snapshot: Snapshot, *, removed: bool) -> None:
        """The file matches its znodes."""
        self.problem, self.retry_at, self.pending, self.logged = None, None, False, ""
        self.backoff.reset()
        self.present = bool(snapshot.nodes)
        if self.present:
            self.mzxid = snapshot.newest
            self.version = None if self.file.is_subtree else snapshot.nodes[""].stat.version
        elif removed:
            self.mzxid = self.version = None

    def postpone(self) -> None:
        """The file does not match its znodes yet."""
        self.problem, self.pending = None, True

    def fail(self, problem: FileError) -> None:
        """The file can't be made to match its znodes; it is tried again if the problem may pass."""
        self.problem, self.pending, self.retry_at = problem, False, None
        self.killed = self.killed + 1 if isinstance(problem, KilledFileError) else 0
        if isinstance(problem, TransientFileError) and self.killed < MOST_KILLED:
            self.retry_at = time.monotonic() + next(self.backoff)


def _shortened(message: str) -> str:
    """One line: first what happened, then the end of a command's output."""
    line = " | ".join(message.encode("utf-8", "backslashreplace").decode("utf-8").splitlines())
    return line if len(line) <= LONGEST_MESSAGE else f"{line[:100]}...{line[103 - LONGEST_MESSAGE :]}"
