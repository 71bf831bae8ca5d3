# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fleet's statuses come to: who has proved something, what keeps the others from it, when a wait is over.

Pure: the time is given, in seconds of one clock. `fleet.py` reads the statuses and waits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from .records import AgentStatus, InvalidRecord, quote

RETRY_TIMEOUT = 60.0
"""Seconds for which agents that all try again are hoped for, where nobody says another number."""
STRAGGLERS = 1.0
"""Seconds for which the others are waited for that have no outcome yet, once a wait is over."""
NEEDS_SOMEBODY = frozenset({"credentials", "health"})
"""What an agent waits for (`AgentStatus.waits_for`) that does not come by itself."""
MOST_NAMED = 5
"""How many agents, and how many reasons, a message names."""

_SHARE = re.compile(r"([0-9]+)(%?)")
_PAUSE = re.compile(r"; (tried again in \d+ s|trying again)$")


class Verdict(NamedTuple):
    """The names, sorted, of those who have proved it, who gave up on it, who are still at it; of no others."""

    proved: list[str]
    failed: list[str]
    pending: list[str]

    @property
    def names(self) -> list[str]:
        """All who are to prove it."""
        return sorted([*self.proved, *self.failed, *self.pending])


class Description(NamedTuple):
    """How far an agent is, for a message: `failed (disk full)`; `of` is before its name, as in `/etc/x on `.

    `reason` is why, where that is known, the same for all to whom the same has happened. `waits_for` is what it waits
    for, in a word, where it goes on by itself as soon as that is there.
    """

    what: str
    of: str = ""
    reason: str | None = None
    waits_for: str | None = None

    @property
    def kind(self) -> tuple[str, str]:
        """The same for agents that a message names together."""
        return self.of, _PAUSE.sub("", self.what.rstrip(")"))


NOT_LIVE = Description("not live")


def reason_of(status: AgentStatus) -> str | None:
    """Why an agent is in its state, without the seconds to the next try."""
    return _PAUSE.sub("", status.message) if status.message else None


def parse_share(value: int | str) -> tuple[int, bool]:
    """A number of agents, and whether it is a percentage: that many of each 100. Raises `InvalidRecord`."""
    match = _SHARE.fullmatch(str(value))
    if match is None or (match[2] and int(match[1]) > 100):
        raise InvalidRecord(f'expected a whole number of agents or a percentage such as "80%", got {quote(value)}')
    return int(match[1]), bool(match[2])


def at_least(share: int | str, fleet: int) -> int:
    """How many agents that is of a fleet, rounded up; one where it is a percentage above 0, whoever there is."""
    number, is_percentage = parse_share(share)
    return max(-(-number * fleet // 100), min(number, 1)) if is_percentage else number


def at_most(share: int | str, fleet: int) -> int:
    """How many agents that is of a fleet, rounded down."""
    number, is_percentage = parse_share(share)
    return number * fleet // 100 if is_percentage else number


class Limits(NamedTuple):
    """How many agents must have an outcome at least, how many may fail at the most, how long retries are hoped for.

    A number of agents may be a percentage, as in `80%`, of all who are to prove it or were and are lost.
    """

    min_agents: int | str
    max_failures: int | str
    retry_timeout: float = RETRY_TIMEOUT


class EarlierWait(NamedTuple):
    """What came before a wait that is one of several in a row.

    `seen` are the agents that were live already. `told` are the reasons that have been shown: the wait is over at any
    other one; None where nobody shows them. `stuck` are the seconds for which no agent could go on already.
    """

    seen: Sequence[str] = ()
    told: Collection[str] | None = None
    stuck: float = 0.0


NO_EARLIER_WAIT = EarlierWait()


class WaitResult(NamedTuple):
    """How waiting ended. `problem` is None where the proof is there; `lost` were live and are not.

    `agents` are those that are to prove it and are live. `timed_out` tells a problem that more time could solve from
    another one.
    """

    agents: Mapping[str, AgentStatus]
    verdict: Verdict
    lost: list[str]
    problem: str | None = None
    timed_out: bool = False

    def after(self, before: WaitResult) -> WaitResult:
        """This wait and the one before it as one, whose end is that of this one: of each agent what was last seen."""
        failed = {*before.verdict.failed, *self.verdict.failed}
        pending = {*self.verdict.pending} - failed
        proved = {*before.verdict.names, *self.verdict.names} - failed - pending
        return self._replace(
            agents={**before.agents, **self.agents},
            verdict=Verdict(sorted(proved), sorted(failed), sorted(pending)),
            lost=sorted({*before.lost, *self.lost}),
        )

    def to_result(self) -> dict[str, Any]:
        """What a module returns of it."""
        return {
            "agents": [self.agents[name].to_object() for name in sorted(self.agents)],
            # Not `failed`: to Ansible that is whether the task did.
            "failed_agents": self.verdict.failed,
            "pending_agents": self.verdict.pending,
            "lost_agents": self.lost,
            "timed_out": self.timed_out,
            "converged": self.problem is None,
        }


NOTHING_PROVED = WaitResult({}, Verdict([], [], []), [])
"""How a wait for nothing ends."""


class Proof(Protocol):
    """What a fleet is to prove: a release, or the files of some znodes."""

    subject: str
    """The znode that a message begins with."""
    undone: str
    """What a message says of agents that gave up: `not deployed`."""
    kind: str
    """Whom a message counts: `agents`."""

    def judge(self, agents: Mapping[str, AgentStatus]) -> Verdict:
        """Sort the agents that are to prove it by what the live ones' statuses say of it."""

    def obstacle(self, config: Any) -> str | None:
        """Why it can't be proved any more, now that `config` is the application's znode, None for none."""

    def describe(self, status: AgentStatus) -> Description:
        """How far an agent is with it."""

    def advise(self, agents: Mapping[str, AgentStatus]) -> str:
        """How it is with the fleet where it is not proved, and what to do about it; empty where that is not known."""


class FleetWait:
    """A wait: what it has seen, and when it is over."""

    def __init__(self, proof: Proof, limits: Limits, deadline: float, earlier: EarlierWait = NO_EARLIER_WAIT) -> None:
        self._proof = proof
        self._limits = limits
        self._deadline = deadline
        self._told = earlier.told
        self._seen = set(earlier.seen)
        self._stuck_before = earlier.stuck
        self._stuck_since: float | None = None
        self._over_at: float | None = None

    def look(self, agents: Mapping[str, AgentStatus], config: Any, now: float) -> WaitResult | None:
        """The outcome, now that these agents are live; None while it is waited on."""
        verdict = self._proof.judge(agents)
        live = {name: agents[name] for name in verdict.names if name in agents}
        self._seen.update(live)
        result = WaitResult(live, verdict, sorted(self._seen - set(agents)))
        if not verdict.pending and not self._lacks_agents(result) and not self._has_failed(result):
            return result
        obstacle = self._proof.obstacle(config)
        if obstacle:
            return result._replace(problem=obstacle)
        self._note_stuck(result, now)
        return self._settle(result, self._end(result, now), now)

    def _fleet(self, result: WaitResult) -> int:
        """How many agents percentages are of: those who are to prove it, and those who were and are lost."""
        return len(self._seen.union(result.verdict.names))

    def _least(self, result: WaitResult) -> int:
        return at_least(self._limits.min_agents, self._fleet(result))

    def _lacks_agents(self, result: WaitResult) -> bool:
        return len(result.verdict.names) < self._least(result)

    def _has_failed(self, result: WaitResult) -> bool:
        return len(result.verdict.failed) > at_most(self._limits.max_failures, self._fleet(result))

    def left(self, now: float) -> float:
        """Seconds after which to look again, also where nothing has changed."""
        due = [self._deadline, *([self._over_at] if self._over_at is not None else [])]
        if self._stuck_since is not None:
            due.append(self._stuck_since + self._limits.retry_timeout)
        return max(0.0, min(one for one in due if one > now or one == self._deadline) - now)

    def _settle(self, result: WaitResult, end: WaitResult | None, now: float) -> WaitResult | None:
        """The end, once the stragglers have had their time; at the deadline whatever there is."""
        if end is None:
            self._over_at = None
            return self._overdue(result) if now >= self._deadline else None
        if not result.verdict.pending:
            return end
        if self._over_at is None:
            self._over_at = now + STRAGGLERS
        return end if now >= min(self._over_at, self._deadline) else None

    def _end(self, result: WaitResult, now: float) -> WaitResult | None:
        """How it would end now, before its deadline; None where it would not."""
        failed, pending = result.verdict.failed, result.verdict.pending
        if self._has_failed(result):
            what = f"{self._proof.undone} on {len(failed)} of {len(result.verdict.names)}"
            return self._problem(result, what, failed)
        if self._stuck_since is not None and not self._lacks_agents(result):
            waits = {description.waits_for for description in self._descriptions(result, pending)}
            hopeless = waits <= NEEDS_SOMEBODY
            if hopeless or now - self._stuck_since >= self._limits.retry_timeout:
                patience = "" if hopeless else f" for {self._limits.retry_timeout:g} s"
                what = (
                    f"not proved by {len(pending)} of {len(result.verdict.names)}, none of which could go on{patience}"
                )
                return self._problem(result, what, pending)
        if self._told is not None and not set(self.reasons(result)) <= set(self._told):
            return self._overdue(result)
        return None

    def _note_stuck(self, result: WaitResult, now: float) -> None:
        """Remember since when nobody who is waited for can go on."""
        descriptions = self._descriptions(result, result.verdict.pending)
        if not descriptions or not all(description.waits_for for description in descriptions):
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now - self._stuck_before
        self._stuck_before = 0.0

    def reasons(self, result: WaitResult) -> list[str]:
        """Why those who have failed have, and why those who try again do."""
        told = [
            description.reason
            for description in self._descriptions(result, [*result.verdict.failed, *result.verdict.pending])
            if description.reason
        ]
        return list(dict.fromkeys(told))

    def _descriptions(self, result: WaitResult, names: Iterable[str]) -> list[Description]:
        return list(describe_all(self._proof, result.agents, names).values())

    def _overdue(self, result: WaitResult) -> WaitResult:
        live, pending = len(result.agents), result.verdict.pending
        if self._lacks_agents(result):
            what = f"published, but {live} {self._proof.kind} are live in time, expected at least {self._least(result)}"
            share = self._limits.min_agents
            of = f" ({share} of {self._fleet(result)})" if parse_share(share)[1] else ""
            return result._replace(problem=f"{what}{of}", timed_out=True)
        what = f"not proved in time by {len(pending)} of {len(result.verdict.names)}"
        return self._problem(result, what, pending)._replace(timed_out=True)

    def _problem(self, result: WaitResult, what: str, names: Iterable[str]) -> WaitResult:
        said = grouped(describe_all(self._proof, result.agents, names))
        advice = self._proof.advise(result.agents)
        return result._replace(problem="; ".join(filter(None, [f"{what}: {said}", advice])))


def describe_all(proof: Proof, agents: Mapping[str, AgentStatus], names: Iterable[str]) -> dict[str, Description]:
    """How far some agents are, by name."""
    return {name: proof.describe(agents[name]) if name in agents else NOT_LIVE for name in names}


def grouped(descriptions: Mapping[str, Description]) -> str:
    """How far some agents are, for a message: those of whom the same can be said together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in sorted(descriptions):
        groups.setdefault(descriptions[name].kind, []).append(name)
    sentences = [_sentence(descriptions[names[0]], names) for names in groups.values()]
    left = sum(len(names) for names in list(groups.values())[MOST_NAMED:])
    return "; ".join([*sentences[:MOST_NAMED], *([f"and {left} more"] if left else [])])


def _sentence(description: Description, names: Sequence[str]) -> str:
    verb = "is" if description.of or len(names) == 1 else "are"
    return f"{description.of}{listed(names)} {verb} {description.what}"


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Some names, for a message: `a, b and 3 more`."""
    parts = [*names[:most], f"{len(names) - most} more"] if len(names) > most else list(names)
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def by_commit(agents: Iterable[AgentStatus]) -> dict[str | None, list[str]]:
    """Who serves each commit, that of most agents first; None is for who serves none, or says nothing sensible."""
    served: dict[str | None, list[str]] = {}
    for status in agents:
        known = isinstance(status.commit_id, str) and status.commit_id
        served.setdefault(status.commit_id if known else None, []).append(status.name)
    return dict(sorted(served.items(), key=lambda group: -len(group[1])))


def advice(agents: Iterable[AgentStatus], desired: str) -> str:
    """What a fleet serves that has not proved the desired commit, and the next step."""
    served = {commit_id: len(names) for commit_id, names in by_commit(agents).items() if commit_id}
    if not served:
        return f"no server has a release; desired is {desired[:10]}: mend that, or deploy a fix"
    counts = [f"{commit_id[:10]} on {number}" for commit_id, number in served.items()]
    serves = listed(counts) if len(served) > 1 else next(iter(served))[:10]
    still = "" if desired in served else "still "
    step = "roll back (rollback.yml), or deploy a fix" if set(served) != {desired} else "mend that, or deploy a fix"
    return f"the fleet serves {serves}; desired is {still}{desired[:10]}: {step}"
