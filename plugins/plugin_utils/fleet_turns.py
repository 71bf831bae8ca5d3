# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A long wait for a fleet, in turns of some seconds, with the fleet's progress shown between them.

`zk_release` and `zk_fleet_info` wait like this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.fleet import WAITING_OPTIONS
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import MANY, NOT_LIVE, come_to, listed, reason_of
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE

from .fleet_limit import Limit, is_seen
from .progress.fleet_report import how_far
from .progress.fleet_show import Show
from .progress.host_line import news, outcomes
from .progress.plain_text import brief, plain
from .progress.rollout_line import on_their_way

PATIENCE = 10.0
"""Seconds between two lines of progress."""
PAUSE = 1.0
"""Seconds before the module is run again after an outage has ended it early."""
FLEET = (
    *("agents", "failed_agents", "pending_agents", "lost_agents", "converged", "degraded"),
    *("generation", "commit_id", "release", "served", "states", "failures", "missing_agents", "rollout"),
)
"""What the module knows better each time it has seen the fleet."""
NAMED = 5
"""How many of the pending agents a line of progress names."""


class FleetTurn(NamedTuple):
    """One more wait: its `seconds`, the seconds `left` in all, and what the module must know about earlier turns.

    `agents` were live before; none has been able to continue for `stuck` seconds; the reasons in `told` have been
    shown, and so have the rollout with this many `moves` and the agents' `outcomes` (None if those are not news).
    """

    seconds: float
    left: float
    agents: list[str]
    stuck: float
    told: list[str]
    moves: int | None = None
    outcomes: Sequence[int] | None = None


def limit_of(options: Mapping[str, Any]) -> float | None:
    """Seconds to wait; None if the module is to refuse the option itself."""
    limit = options.get("wait_timeout")
    try:
        return float(WAITING_OPTIONS["wait_timeout"]["default"] if limit is None else limit)
    except (TypeError, ValueError):
        return None


def wait_on(
    result: dict[str, Any],
    limit: float,
    run: Callable[[FleetTurn], dict[str, Any]],
    files: str = "",
    named: Collection[str] = (),
    show: Show | None = None,
    *,
    by_rollout: bool = False,
) -> dict[str, Any]:
    """Run the module again while its wait has timed out, until `limit` seconds after its beginning; the last result.

    The beginning is `elapsed` seconds before the end of the first turn. An ensemble that does not answer counts as
    timed out. `files` names the znodes whose files are waited for instead of a release. Agents in `named` are waited
    for even if they have not been live. `show` prints the fleet's progress before each run. `by_rollout`: nobody has
    set the limit, and during a rollout there is none.
    """
    show, latest, memory = show or Show(""), result, _Memory(files, named)
    began = time.monotonic()
    published = began - result.get("elapsed", 0.0)
    limits = Limit(limit, by_rollout=by_rollout)
    while result.get("timed_out"):
        left = limits.left(result, latest, began - published)
        if left <= 0:
            break
        if not files:
            show.begin(result)
        show.tell(progress(latest, began - published, memory.told, files, show.shown))
        show.shown.update(outcomes(latest))
        turn = memory.turn(result, left, began)
        latest = run(turn)
        result = combined(result, latest)
        spent = time.monotonic() - began
        if result.get("timed_out") and spent < turn.seconds and not is_seen(latest):
            time.sleep(min(PAUSE, left - spent))
        began = time.monotonic()
        result["elapsed"] = round(began - published, 3)
    return {**result, **limits.why_over()}


class _Memory:
    """What the turns of a wait have seen, for the next one. Nothing in it is about `files`."""

    def __init__(self, files: str, named: Collection[str]) -> None:
        self.told: list[str] = []
        self._files = files
        self._named = named
        self._live: set[str] = set()
        self._stuck_since: float | None = None

    def turn(self, result: dict[str, Any], left: float, now: float) -> FleetTurn:
        """The next turn, after a `result` that has been shown."""
        self._live.update(seen(result, self._named))
        turn = FleetTurn(min(left, PATIENCE), left, sorted(self._live), 0.0, [])
        moves = (result.get("rollout") or {}).get("moves")
        if self._files:
            return turn._replace(moves=moves)
        self.told += [reason for reason in reasons(result) if reason not in self.told]
        self._stuck_since = (self._stuck_since or now) if is_stuck(result) else None
        stuck = now - (self._stuck_since or now)
        return turn._replace(stuck=stuck, told=[*self.told], moves=moves, outcomes=counted(result))


def seen(result: dict[str, Any], named: Collection[str]) -> set[str]:
    """The names of all agents that have ever been live.

    Pending agents have been, unless they are `named`; in an outage, the result has no others.
    """
    names = {agent["name"] for agent in result.get("agents", [])}
    return names.union(result.get("lost_agents", []), set(result.get("pending_agents", [])).difference(named))


def combined(before: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """The result of the publication with that of the later wait: for the fleet, what was seen last."""
    fleet = FLEET if "agents" in later else ()
    of_then = {"rollout"} if fleet and later.get("generation") != before.get("generation") else set()
    ended = {"msg", "exception", "failed", "timed_out", *of_then}
    kept = {key: value for key, value in before.items() if key not in ended}
    known = {key: later[key] for key in (*fleet, "timed_out", "overtaken_by", "msg", "exception") if key in later}
    warnings = list(dict.fromkeys([*before.get("warnings", []), *later.get("warnings", [])]))
    return {**kept, **known, "failed": later.get("failed", False), **({"warnings": warnings} if warnings else {})}


def statuses(result: dict[str, Any], which: str) -> dict[str, AgentStatus]:
    """The statuses of the agents in one of the result's lists, as far as they were read."""
    known = {agent["name"]: agent for agent in result.get("agents", [])}
    return {name: AgentStatus.from_object(known[name]) for name in result.get(which, []) if name in known}


def is_stuck(result: dict[str, Any]) -> bool:
    """Whether no pending agent can continue."""
    pending = statuses(result, "pending_agents")
    return bool(pending) and len(_stopped(result)) == len(pending)


def _stopped(result: dict[str, Any]) -> dict[str, AgentStatus]:
    """The pending agents that can't continue; a status about an earlier generation does not count."""
    generation = result.get("generation")
    pending = statuses(result, "pending_agents").items()
    return {name: status for name, status in pending if status.waits_for and status.generation == generation}


def reasons(result: dict[str, Any]) -> dict[str, list[str]]:
    """Why agents have failed or are retrying: the names by reason."""
    why: dict[str, list[str]] = {}
    for name, status in sorted({**_stopped(result), **statuses(result, "failed_agents")}.items()):
        reason = reason_of(status)
        if reason:
            why.setdefault(reason, []).append(name)
    return why


def counted(result: Mapping[str, Any]) -> list[int] | None:
    """How many agents have each outcome, and without a rollout each state. None if that is not news."""
    agents = result.get("agents", [])
    if not 0 < len(agents) <= MANY:
        return None
    failed, pending = result["failed_agents"], set(result["pending_agents"])
    proved = [agent["name"] for agent in agents if agent["name"] not in pending.union(failed)]
    numbers = come_to(len(proved), len(failed), [agent["state"] for agent in agents if agent["name"] in pending])
    return [*(numbers[:2] if result.get("rollout") else numbers)]


def progress(
    result: dict[str, Any],
    seconds: float,
    told: Collection[str] = (),
    files: str = "",
    shown: Mapping[str, str] | None = None,
) -> list[str]:
    """The fleet's progress, and which agents are pending or missing.

    Further lines are the outcomes of hosts that were not `shown`, and the reasons that were not `told`.
    In an outage the line is about that. An agent's state and reason are about the release, so they are left out for
    `files`.
    """
    line = f"{seconds:5.0f} s  {_how_far(result, files)}"
    if files:
        return [line]
    hosts = news(result, shown or {}) if result.get("commit_id") else []
    why = [f"{listed(names)}: {brief(reason)}" for reason, names in reasons(result).items() if reason not in told]
    return [line, *(f"{'':9}{text}" for text in [*hosts, *why])]


def _how_far(result: dict[str, Any], files: str) -> str:
    if not is_seen(result):
        return plain(result.get("msg"))
    if result.get("rollout") and not files:
        return _how_far_rolled_out(result)
    states, pending = _states(result), result["pending_agents"]
    named = _waited_for(result, files)
    fleet = {*states, *pending, *result["failed_agents"]}
    proved = len(fleet) - len(pending) - len(result["failed_agents"])
    waited = named or "fewer are live than min_agents and max_missing ask for"
    absent = [name for name in result.get("missing_agents", []) if name not in pending]
    missing = f"; missing: {listed(absent)}" if absent else ""
    what = f"the files of {files}" if files else short(result["commit_id"])
    return plain(f"{proved} of {len(fleet)} agents have proved {what}; {waited}{missing}")


def _how_far_rolled_out(result: dict[str, Any]) -> str:
    """The rollout's line; once it is done and no host is on its way, it names the pending agents."""
    way = on_their_way(result["rollout"])
    missing = f"; missing: {listed(result['missing_agents'])}" if result.get("missing_agents") else ""
    going = f"; on their way: {listed(way)}" if way else ""
    waited = plain(_waited_for(result)) if result["rollout"]["phase"] == DONE and not way else ""
    far = how_far(result, datetime.now(timezone.utc))
    return f"{short(result['commit_id'])}  {far}{going}{f'; {waited}' if waited else ''}{missing}"


def _states(result: dict[str, Any]) -> dict[str, str]:
    return {agent["name"]: agent["state"] + (", held" if agent.get("held") else "") for agent in result["agents"]}


def _waited_for(result: dict[str, Any], files: str = "") -> str:
    """The pending agents and their states; empty if there are none."""
    states, pending = _states(result), result["pending_agents"]
    waiting = {name: "pending" if files and name in states else states.get(name, NOT_LIVE.what) for name in pending}
    named = ", ".join(f"{name} is {state}" for name, state in list(waiting.items())[:NAMED])
    return named + (f" and {len(pending) - NAMED} more" if len(pending) > NAMED else "")


def short(commit_id: str | None) -> str:
    """A commit in a line of progress. If none is published, agents only have to be live."""
    return commit_id[:10] if commit_id else "that they are live"
