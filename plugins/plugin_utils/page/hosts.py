# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a fleet as a page shows them: the kind of each, the reason, and everything in its status.

Pure: `fleet` is what `zk_fleet_info` returns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.fleet_files import files_of
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import reason_of
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, describe_mark
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_report import UNIT
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.host_line import RETURNED, STEPS, outcomes, short
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.plain_text import brief

from .kinds import DRIFTED, FAILED, KINDS, MISSING, UP_TO_DATE, WAITS, WENT_BACK, Kind, kind_of
from .moments import Moment, moment
from .plain_data import lines, mapping, texts

MOST_FILES = 50
"""How many files a host's details name."""
MOST_BLOCKS = 300
"""The largest fleet in which each host has a block and a row of its own."""
MOST_ROWS = 100
"""In a larger fleet, the rows of a kind that needs attention; the other hosts are counted, and found by name."""


class PageHost(NamedTuple):
    """A host. `why` is what there is to say about it, in lines; `entry` is its entry in the rollout.

    A missing host has no `status`.
    """

    name: str
    kind: Kind
    state: str
    serves: str
    since: Moment | None
    why: list[str]
    status: AgentStatus | None
    entry: Mapping[str, Any]

    @property
    def anchor(self) -> str:
        """The name of its row: the same in each page, even if other hosts have been added or removed."""
        return f"h-{hashlib.sha256(self.name.encode(errors='surrogatepass')).hexdigest()[:16]}"

    @property
    def step(self) -> int | None:
        """The step of the rollout in which it was admitted, from 1."""
        return self.entry.get("step")

    @property
    def reason(self) -> str:
        """The reason for its kind, in one line: the same for all hosts with the same problem."""
        return self.why[0] if self.why else ""


class Group(NamedTuple):
    """The hosts of a kind: those that have a row, and how many there are."""

    kind: Kind
    rows: list[PageHost]
    size: int

    @property
    def left(self) -> int:
        """How many have no row."""
        return self.size - len(self.rows)


def read_hosts(fleet: Mapping[str, Any], now: datetime) -> list[PageHost]:
    """Every host, live or missing, the worst first, then by name."""
    rollout = fleet.get("rollout") or {}
    returned = {name for name, outcome in outcomes(fleet).items() if outcome == RETURNED}
    live = [_live(agent, fleet, now, came_back=agent["name"] in returned) for agent in fleet.get("agents", [])]
    missing = [_missing(name, rollout) for name in fleet.get("missing_agents") or []]
    return sorted([*live, *missing], key=lambda host: (KINDS.index(host.kind), host.name))


def group_hosts(hosts: list[PageHost]) -> list[Group]:
    """The kinds that occur, the worst first, with the rows that a page for this many hosts has."""
    members: dict[Kind, list[PageHost]] = {}
    for host in hosts:
        members.setdefault(host.kind, []).append(host)
    return [Group(kind, _rows(kind, members[kind], len(hosts)), len(members[kind])) for kind in members]


def _rows(kind: Kind, hosts: list[PageHost], fleet: int) -> list[PageHost]:
    if fleet <= MOST_BLOCKS:
        return hosts
    return hosts[:MOST_ROWS] if kind.needs_attention else []


def _live(agent: Mapping[str, Any], fleet: Mapping[str, Any], now: datetime, *, came_back: bool) -> PageHost:
    status, rollout = AgentStatus.from_object(agent), fleet.get("rollout") or {}
    generation = fleet.get("generation")
    kind = kind_of(status, generation, rollout, came_back=came_back)
    entry = mapping(rollout.get("hosts", {}).get(status.name))
    return PageHost(
        status.name,
        kind,
        status.state,
        short(status.commit_id),
        moment(status.since, now),
        list(_why(status, kind, rollout, entry)),
        status,
        entry,
    )


def _why(status: AgentStatus, kind: Kind, rollout: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[str]:
    """What there is to say about a live host, the most important first."""
    reason = brief(reason_of(status) or "")
    if kind == FAILED:
        yield reason or brief(entry.get("message") or "it does not say why")
    elif kind == DRIFTED:
        yield reason or f"it is {status.state}, and has not taken up the desired release"
    elif kind not in {WAITS, WENT_BACK} or not rollout:
        # What a rollout waits for is shown once, not for each host that waits with it.
        yield from [reason] if reason and kind != UP_TO_DATE else []
    for name in ("held", "drained"):
        mark = getattr(status, name)
        yield from [brief(describe_mark(name, mark))] if mark is not None else []
    yield from map(brief, texts(status.troubles))
    for dest, file in files_of(status).items():
        yield from [brief(f"{dest}: {file.message or file.state}")] if file.state == "failed" else []


def details(host: PageHost, generation: int | None, now: datetime) -> list[tuple[str, list[str]]]:
    """Everything known about a host, in lines under labels."""
    own = _of_status(host.status, generation) if host.status else ()
    known = [*own, ("In the rollout", _in_rollout(host.entry, now))]
    return [(label, said) for label, said in known if said]


def _of_status(status: AgentStatus, generation: int | None) -> Iterator[tuple[str, list[str]]]:
    """Everything in a status, under labels; a label without lines if the status does not have it."""
    yield "Message", lines(status.message)
    for label, commit in (("Serves", status.commit_id), ("Can go back to", status.previous_commit_id)):
        yield label, [str(commit)] if commit else []
    if status.generation != generation:
        yield "State is about", [f"generation {status.generation}" if status.generation else "no release yet"]
    yield "Waits for", lines(status.waits_for)
    for label, mark in (("Held", status.held), ("Drained", status.drained)):
        yield label, lines(describe_mark(label.lower(), mark)) if mark is not None else []
    yield "Troubles", [line for one in texts(status.troubles) for line in lines(one)]
    yield "Failed step", _failed_step(mapping(status.failed_step))
    yield "Timings", _timings(mapping(status.timings))
    yield "Files", list(_files(status))
    named = isinstance(status.unit, str) and UNIT.fullmatch(status.unit)
    yield "Logs", [f"journalctl -u {status.unit}"] if named else []
    yield "Agent", lines(status.version and f"version {status.version}")


def _in_rollout(entry: Mapping[str, Any], now: datetime) -> list[str]:
    """The host's state in the rollout, in which step and since when."""
    if not entry:
        return []
    since = moment(entry.get("since"), now)
    where = f"in step {entry['step']}" if entry.get("step") else ""
    when = f"since {since.utc}" if since else ""
    return [" ".join(filter(None, [brief(entry.get("state")), where, when])), *lines(entry.get("message"))]


def _failed_step(failed: Mapping[str, Any]) -> list[str]:
    return (
        [" after ".join(filter(None, [brief(failed.get("step")), _seconds(failed.get("seconds"))]))] if failed else []
    )


def _timings(timings: Mapping[str, Any]) -> list[str]:
    """The seconds of a deployment: its steps in their order, then anything else."""
    order = [*(step for step in STEPS if step in timings), *(step for step in timings if step not in STEPS)]
    said = [f"{brief(step)} {_seconds(timings[step])}" for step in order if _seconds(timings[step])]
    return [", ".join(said)] if said else []


def _seconds(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:.2f} s" if is_number and abs(value) < 1e9 else ""


def _files(status: AgentStatus) -> Iterator[str]:
    files = files_of(status)
    for dest, file in list(files.items())[:MOST_FILES]:
        yield brief(f"{dest}: {file.state}, from {file.znode}{f' ({file.message})' if file.message else ''}")
    if len(files) > MOST_FILES:
        yield f"and {len(files) - MOST_FILES} more"


def _missing(name: str, rollout: Mapping[str, Any]) -> PageHost:
    entry = mapping(rollout.get("hosts", {}).get(name))
    return PageHost(name, MISSING, "missing", "-", None, ["in the roster, and its agent is not live"], None, entry)


def names_by_kind(hosts: Iterable[PageHost]) -> dict[str, list[str]]:
    """The names of the hosts of each kind, including empty kinds, for a program."""
    names: dict[str, list[str]] = {kind.name: [] for kind in KINDS}
    for host in hosts:
        names[host.kind.name].append(host.name)
    return names
