# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How it is with one file: which value it has, as of when, what is the matter, and what is told of it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import KeepError, PassingKeepError
from zoo_watcher.wire.records import FileStatus

from .actions import Actions
from .snapshot import Snapshot

AGAIN = 1.0
LONGEST_PAUSE = 30.0
"""Seconds between two tries of what may pass; doubled from `AGAIN` to `LONGEST_PAUSE`."""
PATIENCE = 5.0
"""Seconds for which a subtree that changes all the time is read again, to have it whole. Then it is taken as it is."""
LONGEST_MESSAGE = 300
"""Characters that a file's message may have: there may be many files, and one znode holds the status."""


@dataclass
class FileState:
    """How it is with one file. `again` is the time (of `time.monotonic()`) of the next try, None where none is due."""

    file: ManagedFile
    zxid: int = 0
    stamp: tuple[Any, ...] | None = None
    there: bool = False
    version: int | None = None
    mzxid: int | None = None
    problem: KeepError | None = None
    pending: bool = True
    tries: int = 0
    again: float | None = None
    logged: str = ""
    unsettled: float | None = None

    def status(self, actions: Actions) -> FileStatus:
        """What the ensemble is told of it."""
        message = str(self.problem) if self.problem else actions.problem(self.file.dest)
        if self.problem:
            state = "failed"
        elif self.pending or actions.owes(self.file.dest):
            state = "pending"
        elif message:
            state = "failed"
        else:
            state = "current" if self.there else "missing"
        return FileStatus(
            znode=self.file.znode,
            format=self.file.format,
            state=state,
            version=self.version,
            mzxid=self.mzxid,
            zxid=self.zxid,
            message=_shortened(message) if message and state == "failed" else None,
        )

    def may_take(self, seen: Snapshot) -> bool:
        """Whether what was seen is to be kept, or rather looked at once more."""
        now = time.monotonic()
        self.unsettled = None if seen.whole else self.unsettled or now
        return self.unsettled is None or now - self.unsettled > PATIENCE

    def settle(self, seen: Snapshot, *, removed: bool) -> None:
        """The file is as its znodes are."""
        self.problem, self.tries, self.again, self.pending, self.logged = None, 0, None, False, ""
        self.there = bool(seen.nodes)
        if self.there:
            self.mzxid = seen.newest
            self.version = None if self.file.is_subtree else seen.nodes[""].stat.version
        elif removed:
            self.mzxid = self.version = None

    def fail(self, problem: KeepError) -> None:
        """The file is not as its znodes are; what may pass is tried again."""
        self.problem, self.pending, self.again = problem, False, None
        if isinstance(problem, PassingKeepError):
            pause = min(AGAIN * 2 ** min(self.tries, 10), LONGEST_PAUSE)
            self.again = time.monotonic() + pause * random.uniform(0.7, 1.0)  # noqa: S311
            self.tries += 1


def _shortened(message: str) -> str:
    """One line, with what happened at its beginning, and the end of what a command said."""
    line = " | ".join(message.encode("utf-8", "backslashreplace").decode("utf-8").splitlines())
    return line if len(line) <= LONGEST_MESSAGE else f"{line[:100]}...{line[103 - LONGEST_MESSAGE :]}"
