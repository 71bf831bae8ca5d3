"""Results of `zk_fleet_info` and `zk_release_info` for fleets of any size in any state, made by their own code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, Release
from ansible_collections.zoo.deploy.plugins.module_utils.release_outcomes import outcomes
from ansible_collections.zoo.deploy.plugins.module_utils.releases import HistoryEntry, Published
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import HostEntry, RolloutRecord
from ansible_collections.zoo.deploy.plugins.module_utils.rollouts import Rollout
from ansible_collections.zoo.deploy.plugins.modules import zk_fleet_info, zk_release_info

APP = "/app/shop"
NEW, OLD, FIRST = "6ad3d46ec1" + "0b" * 15, "3587832961" + "1c" * 15, "3b45d1b99a" + "2d" * 15
GENERATION = 8_589_934_610
URL = "https://git.example.com/shop.git"
SINCE = "2026-11-29T14:59:53.120+00:00"
UNHEALTHY = f"not healthy within 5 s: http 127.0.0.1:80/health: status 404, expected 200; rolled back to {OLD}"
PLAN = {
    "steps": [{"hosts": 1, "soak": 60}, {"hosts": "25%", "soak": 30}],
    "maxInFlight": "10%",
    "onFailure": "rollback",
}
PROBLEM = 'commitId: expected 40 or 64 hex digits, got "main"'
TIMINGS = {"fetching": 0.22, "staging": 0.15, "activating": 0.003, "checking": 0.02}


def release(commit: str, **keys: Any) -> Release:
    """A release of the shop."""
    extra = {key: value for key, value in keys.items() if key not in {"url", "ref", "publisher", "published_at"}}
    given = {"ref": "main", "publisher": "ann@ctl", "published_at": "2026-11-29T14:59:17+00:00"}
    known = {key: value for key, value in keys.items() if key not in extra}
    return Release(**{"url": URL, "commit_id": commit, "relative_path": "shop", **given, **known}, extra=extra)


def agent(name: str, state: str = "active", **keys: Any) -> AgentStatus:
    """A live agent, by default one that has proved the desired release."""
    given = {"generation": GENERATION, "commit_id": NEW, "previous_commit_id": OLD, "since": SINCE, "version": "0.2.0"}
    return AgentStatus(name=name, state=state, **{**given, "timings": TIMINGS, "unit": "zoo-watcher@shop", **keys})


def failed(name: str, **keys: Any) -> AgentStatus:
    """An agent that rolled back by itself."""
    step = {"step": "checking", "seconds": 5.0}
    given = {"commit_id": OLD, "previous_commit_id": FIRST, "message": UNHEALTHY, "failed_step": step}
    return agent(name, "rolled_back", **{**given, **keys})


def waiting(name: str, state: str = "waiting") -> AgentStatus:
    """An agent that has not begun."""
    said = "waits for its turn in the rollout" if state == "waiting" else "the rollout is halted"
    return agent(name, state, commit_id=OLD, previous_commit_id=FIRST, message=said)


@dataclass
class FleetState:
    """A fleet: the published release, its agents, the missing hosts, its rollout; further keys of the fleet's result.

    `is_open` means that anybody can deploy the application.
    """

    agents: Iterable[AgentStatus] = ()
    missing: Iterable[str] = ()
    desired: Release | None = field(default_factory=lambda: release(NEW, subject="breaks health"))
    rollout: Rollout | None = None
    bad: tuple[str, ...] = ()
    problem: str | None = None
    lock: Mapping[str, Any] | None = None
    is_open: bool = False
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fleet(self) -> dict[str, Any]:
        """The result of `zk_fleet_info` without a wait."""
        agents = {status.name: status for status in self.agents}
        generation = GENERATION if self.desired or self.problem else None
        published = Published(generation, 1, self.desired, self.problem, SINCE)
        undone = [name for name, status in agents.items() if not status.converged(GENERATION)]
        gave_up = [name for name in undone if agents[name].gave_up(GENERATION)]
        return {
            **zk_fleet_info.describe(agents, published, sorted(self.missing)),
            "failed_agents": gave_up,
            "pending_agents": sorted(set(undone) - set(gave_up)),
            "lost_agents": [],
            "converged": not undone,
            "timed_out": bool(undone),
            **self._rollout,
            **self.keys,
        }

    @property
    def releases(self) -> dict[str, Any]:
        """The result of `zk_release_info`."""
        past = [release(OLD, subject="faster search", provedAt=SINCE), release(FIRST, subject="first", provedAt=SINCE)]
        kept = [one for one in (self.desired, *past) if one]
        last = len(kept) - 1
        history = [HistoryEntry(f"release-{last - n:010}", GENERATION - n, one, None) for n, one in enumerate(kept)]
        generation = GENERATION if self.desired or self.problem else None
        rollouts = {GENERATION: self.rollout.state} if self.rollout else {}
        words = outcomes(history, generation, rollouts, self.bad)
        return {
            "generation": generation,
            "release": self.desired.to_object() if self.desired else None,
            "problem": self.problem,
            "lock": self.lock,
            "open": self.is_open,
            **self._rollout,
            "history": [{**zk_release_info.describe(entry), "outcome": said} for entry, said in zip(history, words)],
        }

    @property
    def _rollout(self) -> dict[str, Any]:
        if not self.rollout:
            return {}
        marked = {"bad": "web-2 failed (since 2026-11-29, by web-2)"} if NEW in self.bad else {}
        return {"rollout": {**self.rollout.to_object(), **marked}}


def rollout(phase: str, step: int, entries: Mapping[str, tuple[str, int]], fleet: int, **keys: Any) -> Rollout:
    """A rollout, `step` from 0; `entries` holds the state of each host in it, and the step in which it was admitted."""
    hosts = {name: HostEntry(state, SINCE, None, 1, number) for name, (state, number) in entries.items()}
    counts: dict[str, int] = {}
    for entry in hosts.values():
        counts[entry.state] = counts.get(entry.state, 0) + 1
    places = max(1, fleet // 10)
    given = {"plan": PLAN, "release": release(NEW).to_object(), "stable": release(OLD).to_object(), "since": SINCE}
    stand = {"phase": phase, "step": step, "fleet": fleet, "places": places}
    record = RolloutRecord(**{**given, **stand, **keys}, counts=counts)
    return Rollout(GENERATION, record, 3, hosts)


def files(problem: str = "") -> dict[str, Any]:
    """Two files of a host, one of them with `problem`, if given."""
    good = {"znode": "/config/shop", "format": "directory", "state": "current", "zxid": GENERATION}
    bad = {**good, "format": "value", "znode": "/config/shop/nginx", "state": "failed", "message": problem}
    return {"/etc/shop": good, "/etc/nginx/sites-enabled/shop.conf": bad if problem else {**bad, "state": "current"}}


HOSTILE = (
    "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1><style>*{display:none}</style>"
    "<a href=javascript:window.hacked=1>a</a>' onclick='window.hacked=1\" {{ 7*7 }} {% raw %} <!--<script> &lt; ]]>"
)
"""Markup that an attacker might write to run a script in a page or change it."""
UNSEEN = "\u202eright to left\u2066 \x1b[2J\x00\ud800 zero\u200bwidth\u2028line"
"""Characters that are invisible, or that reverse the text around them."""


def hostile() -> FleetState:
    """A fleet in which an attacker wrote every text."""
    text = f"{HOSTILE} {UNSEEN} {'long' * 200}"
    odd = {"since": text, "by": {"a": text}, "reason": [text]}
    entry = {"znode": "/x", "format": text, "state": "failed", "zxid": 1, "message": text}
    agents = [
        agent(f"{HOSTILE} 1".replace("/", "|"), "failed", message=text, troubles=[text], held=odd, drained=text),
        agent("2", files={text: entry}, unit=text, version=text, since=text, timings={text: 1e300, "a": "b"}),
        agent(
            "3",
            "fetching",
            commit_id=text,
            previous_commit_id=5,
            waits_for=text,
            message=text,
            failed_step={text: text},
        ),
        agent("4", files=text, troubles=text, version=5, since=5, unit=5, timings=text, extra={text: text}),
    ]
    desired = release(
        NEW, url=f"https://{'s' * 8}@example.com/<b>", subject=text, publisher=text, ref=text, published_at=text
    )
    reason = f"{HOSTILE} {UNSEEN}"
    going = rollout("halted", 0, {"2": ("failed", 0)}, 4, reason=reason, by=text)
    return FleetState(agents, [text], desired, going, (NEW,), lock={"says": text}, keys={"lost_agents": [text]})


def fleet_state(name: str, size: int) -> FleetState:
    """A fleet of this size in one of the `STATES`."""
    numbers = range(1, size + 1)
    return STATES[name]([f"web-{number:0{len(str(size))}}" for number in numbers])


def _held_back(names: list[str], **keys: Any) -> FleetState:
    """The first host has the release, and all others wait."""
    agents = [agent(names[0]), *map(waiting, names[1:])]
    phase = keys.pop("phase", "soaking")
    return FleetState(agents, rollout=rollout(phase, 0, {names[0]: ("proved", 0)}, len(names), **keys))


def _at_once(names: list[str], **keys: Any) -> FleetState:
    return FleetState([agent(names[0]), *(agent(name, "staging", commit_id=OLD) for name in names[1:])], **keys)


def _running(names: list[str]) -> FleetState:
    first, second, moving, others = _parted(names)
    agents = [agent(first), agent(second), *(agent(name, "fetching", commit_id=OLD) for name in moving)]
    entries = {first: ("proved", 0), second: ("proved", 1), **dict.fromkeys(moving, ("admitted", 1))}
    return FleetState([*agents, *map(waiting, others)], rollout=rollout("running", 1, entries, len(names)))


def _parted(names: list[str]) -> tuple[str, str, list[str], list[str]]:
    """The canary, another host, a tenth of the fleet, and the remaining hosts."""
    tenth = max(1, len(names) // 10)
    return names[0], names[1], names[2 : 2 + tenth], names[2 + tenth :]


def _stopped(names: list[str], phase: str) -> FleetState:
    """The second host has failed; in a rollout that was rolled back, others have returned with it."""
    first, second, some, others = _parted(names)
    went_back = phase == "rolled_back"
    returned = [first, *some] if went_back else []
    entries = {first: ("proved", 0), second: ("returned" if went_back else "failed", 1)}
    agents = [failed(name, failed_step=None, message="the rollout has rolled back") for name in returned]
    agents += [] if went_back else [agent(first), *(waiting(name, "halted") for name in some)]
    return FleetState(
        [failed(second), *agents, *(waiting(name, "halted") for name in others)],
        rollout=rollout(
            phase,
            1,
            {**entries, **{name: ("returned", int(name != first)) for name in returned}},
            len(names),
            reason=f"{second} failed: {UNHEALTHY}",
        ),
        bad=(NEW,),
    )


def _mixed(names: list[str]) -> FleetState:
    """Hosts that each need attention for a reason of their own."""
    held = {"since": SINCE, "by": "ann", "reason": "disk swap"}
    return FleetState(
        [
            agent(names[0], held=held, troubles=["/service/shop: no permission, path=/service/shop/web-1"]),
            agent(names[1], drained=held),
            agent(
                names[2], "fetching", commit_id=OLD, message="no such commit; tried again in 8 s", waits_for="commit"
            ),
            agent(names[3], generation=GENERATION - 1, commit_id=OLD, version="0.1.0"),
            *(agent(name, files=files()) for name in names[5:]),
            agent("db-1", files=files("not valid: nginx: [emerg] unexpected end of file")),
        ],
        missing=names[4:5],
        lock={"says": "locked by ann since 14:00, until 18:00: freeze for the sale"},
        is_open=True,
    )


def _all(names: list[str], **keys: Any) -> FleetState:
    return FleetState(list(map(agent, names)), **keys)


STATES: dict[str, Callable[[list[str]], FleetState]] = {
    "nothing published": lambda names: FleetState(
        [agent(name, "idle", generation=None, commit_id=None) for name in names], desired=None
    ),
    "no release": lambda names: FleetState(
        [agent(name, "failed", commit_id=OLD, message=PROBLEM) for name in names], desired=None, problem=PROBLEM
    ),
    "no agent": lambda names: FleetState(missing=names),
    "nobody": lambda _names: FleetState(),
    "healthy": _all,
    "at once, under way": _at_once,
    "at once, failed": lambda names: FleetState([*map(failed, names[:2]), *map(agent, names[2:])]),
    "soaking": _held_back,
    "paused": lambda names: _held_back(names, phase="paused", by="ann", reason="looks at it first"),
    "running": _running,
    "halted": lambda names: _stopped(names, "halted"),
    "gone back": lambda names: _stopped(names, "rolled_back"),
    "done": lambda names: _all(names, rollout=rollout("done", 2, dict.fromkeys(names, ("proved", 2)), len(names))),
    "locked, missing, degraded, stuck and drifted": _mixed,
}
"""A fleet of these hosts in every state that a page shows. The first host is the canary of a rollout."""
