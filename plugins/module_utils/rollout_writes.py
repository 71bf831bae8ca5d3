# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written when a rollout begins or changes: the writes of one transaction, all of them or none.

Standard library and records only: the agent ships this same file.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from .records import AppPaths
from .rollout_events import Decision
from .rollout_records import ADMITTED, URGENT, HostEntry, RolloutPaths, RolloutRecord

CREATE = "create"
SET = "set"
DELETE = "delete"


class Write(NamedTuple):
    """One operation of a transaction; a `version` of -1 is any."""

    kind: str
    path: str
    value: bytes = b""
    version: int = -1


class Actor(NamedTuple):
    """The host that a change is about: its name, its former entry and the step of that, and its message now."""

    name: str
    before: str | None
    message: str | None = None
    step: int | None = None


def begin_writes(root: str, state: RolloutRecord, now: str) -> list[Write]:
    """The writes for a rollout that begins `now` (RFC 3339); `root` is its znode, whose parent exists."""
    paths, dated = RolloutPaths(root), state.dated(now)
    lines = (paths.line, paths.lanes, paths.back, paths.back_lanes)
    parents = (paths.in_flight, paths.hosts, paths.proving, *lines)
    return [
        Write(CREATE, root, dated.to_node()),
        Write(CREATE, paths.gate, dated.gate.to_node()),
        *(Write(CREATE, parent) for parent in parents),
    ]


def change_writes(
    root: str, before: RolloutRecord, version: int, decision: Decision, now: str, host: Actor | None = None
) -> list[Write]:
    """The writes for a decision: the state if it still has this `version`, its gate, and the host's entry."""
    state = decision.state.dated(now)
    writes = [Write(SET, root, state.to_node(), version)]
    if state.moves != before.moves:
        writes.append(Write(SET, RolloutPaths(root).gate, state.gate.to_node()))
    return [*writes, *(_entry_writes(root, before, decision, now, host) if host else [])]


def entry_of(
    before: RolloutRecord, decision: Decision, now: str, message: str | None, step: int | None
) -> HostEntry | None:
    """The entry of the host that a decision is about; `before` is the state in which it was taken.

    `step` is that of the former entry: whatever happens to the host later, it was admitted there.
    """
    if decision.entry is None:
        return None
    is_new = step is None or decision.entry in {ADMITTED, URGENT}
    return HostEntry(decision.entry, now, message, decision.state.moves, before.step if is_new else step)


def _entry_writes(root: str, before: RolloutRecord, decision: Decision, now: str, host: Actor) -> list[Write]:
    paths, entry = RolloutPaths(root), decision.entry
    if entry == host.before:
        return []
    old = paths.entry(host.name, host.before) if host.before else None
    new = paths.entry(host.name, entry) if entry else None
    record = entry_of(before, decision, now, host.message, host.step)
    value = record.to_node() if record else b""
    if old == new and new:
        return [Write(SET, new, value)]
    return [*([Write(DELETE, old)] if old else []), *([Write(CREATE, new, value)] if new else [])]


def bad_write(app: AppPaths, state: RolloutRecord, generation: int, by: str, now: str) -> Write:
    """The write that marks the commit of a rollout as bad, for all publishers; the mark may exist already."""
    record = {"reason": state.reason, "since": now, "by": by, "generation": generation}
    return Write(CREATE, app.bad(str(state.release["commitId"])), json.dumps(record).encode())
