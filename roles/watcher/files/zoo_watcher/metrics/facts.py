# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one scrape reports: what the loop knew at the end of its last turn, and what is read for the scrape."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from zoo_watcher.wire.records import AgentStatus

from .disk_use import DiskUse, FileSystem


@dataclass(frozen=True)
class Turn:
    """What the loop knew at the end of its last turn. Times are of `time.time()`, here and below.

    `converged` is whether the host has proved what is desired, also if nothing is. `registered` and `refused` are
    paths of registrations; `actions_pending` is the number of files whose actions have not all succeeded.
    """

    at: float
    status: AgentStatus
    desired_generation: int = 0
    desired_commit: str = ""
    converged: bool = False
    session_since: float = 0.0
    registered: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    actions_pending: int = 0


@dataclass(frozen=True)
class SessionFacts:
    """The session at this moment; `last_contact` is 0 if there never was any."""

    state: str
    timeout: float
    last_contact: float
    counts: Counter[str]


@dataclass(frozen=True)
class CheckFacts:
    """A service's check at this moment. `answered_at` is 0 before its first answer; `max_age` is in seconds."""

    service: str
    healthy: bool
    answered_at: float
    max_age: float


@dataclass(frozen=True)
class Tally:
    """Counts of what has happened to deployments since the agent was started, by outcome, step and reason."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    retries: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Facts:
    """All of it. `disk_use` and `file_system` are None if they are not known."""

    app: str
    started: float
    turn: Turn
    session: SessionFacts
    tally: Tally
    checks: tuple[CheckFacts, ...] = ()
    disk_use: DiskUse | None = None
    file_system: FileSystem | None = None
