# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a fleet, for a person: a table of its hosts, what it serves, and what to do next.

Pure: `result` is what `zk_release` and `zk_fleet_info` return.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import by_commit, listed, reason_of
from ansible_collections.zoo.deploy.plugins.module_utils.records import GAVE_UP, AgentStatus, describe_mark
from ansible_collections.zoo.deploy.plugins.module_utils.releases import SUBJECT
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE, GOING_ON

from .host_line import short
from .plain_text import brief, cut, plain, wrapped
from .rollout_line import next_step, progress_bar, standing

MOST_ROWS = 20
"""How many hosts a table has; of a larger fleet the most important ones are shown, and the rest is counted."""
LONGEST_NAME = 32
WAITING = {"waiting": "waits for its turn", "halted": ""}
"""The text for hosts that have not started, by their state."""
MOST_REASONS = 6
"""How many reasons are shown."""
WHY = "why: "
"""The prefix of a rollout's reason that is not a host's."""
MOST_UNITS = 3
"""How many units are named whose journals are worth a look."""
UNIT = re.compile(r"[A-Za-z0-9_.@:][A-Za-z0-9_.@:-]{0,255}")
"""A unit's name that is safe to paste into a shell, whoever wrote it."""
WIDTH = 160
"""The default characters of a line."""


IN_TROUBLE, ON_ITS_WAY, AT_REST, UP_TO_DATE = range(4)
LEFT_OUT = ("are in trouble", "are on their way", "wait, or stay where they are", "are up to date")
"""The ranks of hosts: which rows come first if there are too many, and the words for those left out."""


class Row(NamedTuple):
    """A host in a table. `reason` is why it has not proved the release, to be shown once for all hosts with it."""

    name: str
    state: str
    serves: str
    back_to: str
    since: str
    text: str
    rank: int = AT_REST
    reason: str = ""


HEADER = Row("server", "state", "serves", "back to", "since (UTC)", "")


def headline(result: Mapping[str, Any], app: str) -> str:
    """Which application changes from what to what, and by whom; empty if nothing is known to be published.

    A commit that was desired already is published again.
    """
    if not result.get("commit_id"):
        return ""
    release, rollout = result.get("release") or {}, result.get("rollout") or {}
    before = (result.get("before") or {}).get("commitId") or rollout.get("from")
    way = _named(result["commit_id"], release)
    if before and before != result["commit_id"]:
        way = f"{_named(before, result.get('before') or {})} -> {way}"
    elif before and result.get("changed"):
        way = f"{way} again"
    ref = release.get("ref") if release.get("ref") != release.get("commitId") else None
    who = ", ".join(plain(one) for one in (release.get("publisher"), ref) if one)
    return "  ".join(filter(None, [plain(app.rpartition("/")[2]), way, who and f"({who})"]))


def ending(result: Mapping[str, Any]) -> str:
    """How a wait has ended, and after how long; empty if nothing was waited for.

    For a failed wait, the first reason and its hosts; for an overtaken one, what has overtaken it.
    """
    if "agents" not in result or "elapsed" not in result:
        return ""
    proved = f"{len(proved_agents(result))} of {len(result['agents'])} have proved commit {short(result['commit_id'])}"
    missing = f"; {len(result['missing_agents'])} missing" if result.get("missing_agents") else ""
    if result.get("overtaken_by") and result.get("msg"):
        return f"FAILED after {result['elapsed']:.0f} s: {brief(result['msg'])}"
    if result.get("failed"):
        why_so = next(iter(reasons(result)), f"{proved}{missing}").removeprefix(WHY)
        return f"FAILED after {result['elapsed']:.0f} s: {why_so}"
    since = "it was published" if result.get("changed") and "release" in result else "it was asked for"
    return f"{proved}, {result['elapsed']:.2f} s after {since}{missing}"


def _named(commit_id: str, release: Mapping[str, Any]) -> str:
    """A commit, with its subject if the publisher has recorded it."""
    subject = release.get(SUBJECT)
    return short(commit_id) + (f' "{cut(plain(subject), 40)}"' if subject else "")


def report(result: Mapping[str, Any], now: datetime, width: int = WIDTH) -> list[str]:
    """The progress, a row for each host, why some are not done, what they serve instead, and what to do next.

    If another release was published during a wait, all this is about the one that is desired now.
    """
    return [*overview(result, now, width), *listed_reasons(reasons(result), width), *outlook(result)]


def overview(result: Mapping[str, Any], now: datetime, width: int = WIDTH) -> list[str]:
    """The progress, as it last was if the release has been deleted, and a row for each host."""
    shown = current(result)
    counted = {**shown, "generation": result.get("generation")} if _is_deleted(result) else shown
    return [how_far(counted, now), *(table(list(table_rows(shown)), width) if "agents" in result else [])]


def reasons(result: Mapping[str, Any]) -> list[str]:
    """Why the rollout has stopped, and why hosts have not proved it: each reason once, with its hosts."""
    if _is_deleted(result):
        return []
    result = current(result)
    stopped = brief((result.get("rollout") or {}).get("reason") or "")
    rows = _unproved_rows(result)
    groups = why(rows)
    is_told = any(row.reason and row.reason in stopped for row in rows)
    return [*([f"{WHY}{stopped}"] if stopped and not is_told else []), *groups]


def outlook(result: Mapping[str, Any]) -> list[str]:
    """What the hosts serve, unless it is only the desired commit, what to do next, and whose journal to look at."""
    later, result = result.get("overtaken_by"), current(result)
    rollout = result.get("rollout") or {}
    step = after_failure(result) if later is None else after_overtaking(**later)
    if rollout:
        step = "" if _is_refused(result) and rollout["phase"] in GOING_ON else next_step(rollout)
    return [*serves(result), *([f"Next: {step}"] if step else []), *logs(result)]


def _is_refused(result: Mapping[str, Any]) -> bool:
    """Whether a command was refused before the fleet was read; its message says what helps."""
    return bool(result.get("failed")) and not {"agents", "elapsed"}.intersection(result)


def after_failure(result: Mapping[str, Any]) -> str:
    """What a person can do if hosts have failed without a rollout; empty if none has."""
    return "rollback.yml, or deploy a fix" if result.get("failed_agents") else ""


def current(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result, for what is desired now."""
    later = result.get("overtaken_by")
    return result if later is None else {**result, **later, "rollout": None, "failed_agents": []}


def _is_deleted(result: Mapping[str, Any]) -> bool:
    """Whether nothing is desired any longer."""
    return (result.get("overtaken_by") or {"generation": 0})["generation"] is None


def logs(result: Mapping[str, Any]) -> list[str]:
    """How to read the journals of hosts that have not proved the release, if they have a reason or gave up."""
    named = {row.name for row in table_rows(result) if row.reason or row.state in GAVE_UP}
    return log_command(agent.get("unit") for agent in result.get("agents", []) if plain(agent["name"]) in named)


def log_command(units: Iterable[Any]) -> list[str]:
    """How to read the journals of the most frequent of these units; empty if none has a sensible name."""
    known = Counter(unit for unit in units if isinstance(unit, str) and UNIT.fullmatch(unit)).most_common(MOST_UNITS)
    return [f"Logs: journalctl {' '.join(f'-u {unit}' for unit, _number in sorted(known))}"] if known else []


def after_overtaking(commit_id: str | None, generation: int | None) -> str:
    """What a person can do after this generation overtook the wait; None: the release was deleted."""
    if generation is None:
        return "deploy.yml publishes a release; this one was deleted meanwhile"
    if commit_id is None:
        return "status.yml shows what was published meanwhile, which is not a release"
    return f"status.yml shows how {short(commit_id)} gets on, which was published meanwhile"


def listed_reasons(told: Sequence[str], width: int) -> list[str]:
    """Some reasons, each on as many lines as it needs."""
    lines = [line for one in told[:MOST_REASONS] for line in wrapped(one, width, "  ")]
    left = len(told) - MOST_REASONS
    return [*lines, *([f"  and {left} more reasons"] if left > 0 else [])]


def how_far(result: Mapping[str, Any], now: datetime) -> str:
    """How many have proved it, and where its rollout is; only the latter if the fleet was not read."""
    if "agents" not in result:
        return standing(result["rollout"], now)
    rollout, missing = result.get("rollout"), result.get("missing_agents") or []
    whole, proved = len(result["agents"]) + len(missing), len(proved_agents(result))
    troubles = _troubles(rollout or {}, result, len(missing))
    return "  ".join(filter(None, [standing(rollout, now) if rollout else "", progress_bar(proved, whole)])) + (
        f" {proved} of {whole}{troubles}"
    )


def proved_agents(result: Mapping[str, Any]) -> list[str]:
    """The names of the agents that have proved the desired release."""
    return [agent["name"] for agent in result["agents"] if _has_proved(agent, result.get("generation"))]


def _has_proved(agent: Mapping[str, Any], generation: int | None) -> bool:
    return generation is not None and agent.get("state") == "active" and agent.get("generation") == generation


def _troubles(rollout: Mapping[str, Any], result: Mapping[str, Any], missing: int) -> str:
    counts = rollout.get("counts") or {"failed": len(result.get("failed_agents") or [])}
    numbers = {"failed": counts.get("failed", 0), "lost": counts.get("lost", 0), "missing": missing}
    return "".join(f", {number} {name}" for name, number in numbers.items() if number)


def table_rows(result: Mapping[str, Any]) -> Iterable[Row]:
    """A row for each host, live or missing."""
    rollout = result.get("rollout") or {}
    for agent in result.get("agents", []):
        yield _row(agent, result.get("generation"), rollout)
    for name in result.get("missing_agents") or []:
        text = "; ".join(filter(None, [_entry(name, rollout), "expected, and not live"]))
        yield Row(plain(name), "missing", "-", "-", "", text, IN_TROUBLE)


def _unproved_rows(result: Mapping[str, Any]) -> list[Row]:
    """The rows of hosts that have not proved it: only they have a reason to show."""
    generation = result.get("generation")
    agents = [agent for agent in result.get("agents", []) if not _has_proved(agent, generation)]
    return list(table_rows({**result, "agents": agents}))


def _row(agent: Mapping[str, Any], generation: int | None, rollout: Mapping[str, Any]) -> Row:
    status = AgentStatus.from_object(agent)
    proved = _has_proved(agent, generation)
    marks = [brief(describe_mark(mark, agent[mark])) for mark in ("held", "drained") if agent.get(mark)]
    troubles = [brief(trouble) for trouble in agent["troubles"]] if isinstance(agent.get("troubles"), list) else []
    # What the rollout waits for is shown once, not for each host that waits with it.
    waits = bool(rollout) and status.state in WAITING
    reason, stopped = brief(reason_of(status) or ""), brief(rollout.get("reason") or "")
    said = WAITING[status.state] if waits else "" if stopped and stopped in reason else reason
    drift = "" if proved or generation is None else "drift"
    text = "; ".join(filter(None, [_entry(status.name, rollout), *marks, _joined(drift, said), *troubles]))
    has_failed = generation is not None and status.gave_up(generation)
    return Row(
        plain(status.name),
        status.state,
        short(status.commit_id),
        short(status.previous_commit_id if status.previous_commit_id != status.commit_id else None),
        _moment(status.since),
        text or ("up to date" if proved else ""),
        _rank(bad=bool(has_failed or marks or troubles), proved=proved, waits=waits or generation is None),
        "" if proved or waits else said,
    )


def _rank(*, bad: bool, proved: bool, waits: bool) -> int:
    if bad:
        return IN_TROUBLE
    if proved:
        return UP_TO_DATE
    return AT_REST if waits else ON_ITS_WAY


def _joined(drift: str, shown: str) -> str:
    return ": ".join(filter(None, [drift, shown]))


def _entry(name: str, rollout: Mapping[str, Any]) -> str:
    """A host's state in a rollout that is not done, and in which step."""
    entry = rollout.get("hosts", {}).get(name)
    if not entry or rollout.get("phase") == DONE:
        return ""
    where = f"step {entry['step']}" if entry.get("step") else "the rollout"
    return f"{plain(entry['state'])} in {where}"


def _moment(since: object) -> str:
    """A time from a status, to the second."""
    return plain(since)[:19].replace("T", " ") if isinstance(since, str) else ""


def table(rows: Sequence[Row], width: int = WIDTH) -> list[str]:
    """The hosts, one per line; if more than `MOST_ROWS`, the most important ones, and how many are left out."""
    if not rows:
        return ["no agent is live"]
    shown = list(rows) if len(rows) <= MOST_ROWS else sorted(rows, key=lambda row: row.rank)[:MOST_ROWS]
    name = min(LONGEST_NAME, max(len(row.name) for row in (HEADER, *shown)))
    lines = [_line(row, name, width) for row in (HEADER, *shown)]
    left = Counter(row.rank for row in rows)
    left.subtract(row.rank for row in shown)
    counted = [f"{left[rank]} more {words}" for rank, words in enumerate(LEFT_OUT) if left[rank]]
    return [*lines, *([", ".join(counted)] if counted else [])]


def _line(row: Row, name: int, width: int) -> str:
    line = f"{row.name:{name}}  {row.state:11} {row.serves:10} {row.back_to:10} {row.since:19} {row.text}"
    return cut(line.rstrip(), width)


def why(rows: Iterable[Row]) -> list[str]:
    """Why hosts have not proved it: each reason once, with its hosts; hosts in trouble first."""
    groups: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.rank):
        if row.reason:
            groups.setdefault(row.reason, []).append(row.name)
    return [f"{listed(names)}: {reason}" for reason, names in groups.items()]


def serves(result: Mapping[str, Any]) -> list[str]:
    """What the fleet serves, unless it is only what is desired."""
    if not result.get("commit_id") or "agents" not in result:
        return []
    desired = result["commit_id"]
    served = {commit: len(names) for commit, names in by_commit(map(AgentStatus.from_object, result["agents"])).items()}
    if set(served) <= {desired}:
        return []
    counts = [f"{short(commit)} ({number})" for commit, number in {**served, desired: served.get(desired, 0)}.items()]
    bad = ", which is marked as bad" if (result.get("rollout") or {}).get("bad") else ""
    return [f"The fleet serves {', '.join(counts)}; desired is {short(desired)}{bad}."]
