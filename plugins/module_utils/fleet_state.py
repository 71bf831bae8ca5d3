# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of a fleet: what it serves, how far its agents are, why some of them are not done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .fleet_files import files_of
from .fleet_outcome import by_commit, listed, reason_of
from .records import AgentStatus


def describe_fleet(agents: Mapping[str, AgentStatus], generation: int | None, commit_id: str | None) -> dict[str, Any]:
    """The part of a module's result about these agents, with `generation` and `commit_id` desired."""
    statuses = [agents[name] for name in sorted(agents)]
    failures = _grouped((reason, status.name) for status in statuses for reason in _failures(status, generation))
    return {
        "agents": [{**status.to_object(), "converged": _has_proved(status, generation)} for status in statuses],
        "served": [
            {"commit_id": served, "desired": served is not None and served == commit_id, "agents": names}
            for served, names in by_commit(statuses).items()
        ],
        "states": _grouped((status.state, status.name) for status in statuses),
        "failures": [{"reason": reason, "agents": names} for reason, names in failures.items()],
        "degraded": _degraded(statuses, generation),
    }


def _degraded(statuses: Sequence[AgentStatus], generation: int | None) -> list[str]:
    """What is not as it should be other than the release: one line for each group of agents with the same problem."""
    lines = [
        f"{status.name} is {status.controls}"
        for status in statuses
        if status.controls and _has_proved(status, generation)
    ]
    said = _grouped(
        (text, status.name) for status in statuses for text in [*_troubles(status), *_file_failures(status)]
    )
    return [*lines, *(f"{listed(names)}: {text}" for text, names in said.items())]


def _troubles(status: AgentStatus) -> list[str]:
    # Another program may have written anything.
    return [str(trouble) for trouble in status.troubles] if isinstance(status.troubles, list) else []


def _has_proved(status: AgentStatus, generation: int | None) -> bool:
    return generation is not None and status.converged(generation)


def _failures(status: AgentStatus, generation: int | None) -> list[str]:
    """Why an agent does not have a file or the release, including failures that are being retried."""
    reasons = _file_failures(status)
    if generation is not None and status.generation == generation and (status.gave_up(generation) or status.waits_for):
        reasons.append(reason_of(status) or status.state)
    return reasons


def _file_failures(status: AgentStatus) -> list[str]:
    return [
        f"{dest}: {file.message or file.state}" for dest, file in files_of(status).items() if file.state == "failed"
    ]


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The names of each group, the groups in the order of their first one."""
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return groups
