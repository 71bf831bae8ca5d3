# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outcome of a fleet by its statuses: who has proved something, what stops the others, when a wait is over.

Pure: the time is given, in seconds of one clock. `fleet.py` reads the statuses and waits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from .records import STATES, AgentStatus
from .shares import at_least, at_most, parse_share

RETRY_TIMEOUT = 60.0
"""The default seconds for which agents that are all retrying are waited for."""
STRAGGLERS = 1.0
"""Seconds for which agents without an outcome are waited for once a wait is over."""
NEEDS_SOMEBODY = frozenset({"credentials", "health"})
"""What an agent may wait for (`AgentStatus.waits_for`) that does not happen on its own."""
ANY_NUMBER = "100%"
"""By default any number of the roster's hosts may be missing: they are named, and are not failures."""
MOST_NAMED = 5
"""How many agents, and how many reasons, a message names."""
MANY = 200
"""The size of a fleet in which each look takes a while: then progress of its agents does not end a turn to show it."""
QUIET = 2.0
"""Seconds of a first wait in which progress ends no turn: a quick deployment is reported at its end."""
UNANSWERED = "the ensemble did not answer at the end of the wait"
FOLLOW = "hosts that are not held follow by themselves: wait for that (wait_timeout), or roll back (rollback.yml)"

_PAUSE = re.compile(r"; (tried again in \d+ s|trying again)$")


class Verdict(NamedTuple):
    """The agents that have proved it, have given up, or are still in progress: sorted names, and no others."""

    proved: list[str]
    failed: list[str]
    pending: list[str]

    @property
    def names(self) -> list[str]:
        """All agents that are to prove it."""
        return sorted([*self.proved, *self.failed, *self.pending])


class Description(NamedTuple):
    """The state of an agent, for a message: `failed (disk full)`; `of` precedes its name, as in `/etc/x on `.

    `reason` is the cause, if known, the same for all agents with the same problem. `waits_for` is what it waits for, in
    a word, if it continues on its own as soon as that is there. An agent that `waits_its_turn` has not started: the
    rollout has not reached it.
    """

    what: str
    of: str = ""
    reason: str | None = None
    waits_for: str | None = None
    waits_its_turn: bool = False

    @property
    def kind(self) -> tuple[str, str]:
        """Equal for agents that a message names together."""
        return self.of, _PAUSE.sub("", self.what.rstrip(")"))


NOT_LIVE = Description("not live")


def reason_of(status: AgentStatus) -> str | None:
    """Why an agent is in its state, without the seconds to the next try."""
    return _PAUSE.sub("", status.message) if status.message else None


class Limits(NamedTuple):
    """How many agents must have an outcome at least, how many may fail at most, and how long retries are waited for.

    A number of agents may be a percentage, such as `80%`, of all that are to prove it or were live and are lost; for
    `max_missing`, of the roster as well.
    """

    min_agents: int | str
    max_failures: int | str
    retry_timeout: float = RETRY_TIMEOUT
    max_missing: int | str = ANY_NUMBER


class Stand(NamedTuple):
    """The state of the rollout of what is to be proved, if there is one.

    `goes_on` is what it does on its own, even after failures; `ended` how it has stopped, and `rests` that it waits for
    a person. `accepted` is how many failures it was completed with. `moves` tells its phases apart. If it `is_done`,
    hosts that it was done without may follow.
    """

    goes_on: str | None = None
    ended: str | None = None
    rests: str | None = None
    accepted: int = 0
    moves: int | None = None
    is_done: bool = False


NO_ROLLOUT = Stand()


class EarlierWait(NamedTuple):
    """What came before a wait that is one of several in a row.

    `seen` are the agents that were live before. `told` are the reasons that have been shown: any other one ends the
    wait; None if nobody shows them. `stuck` are the seconds for which no agent could continue before. `moves` are those
    of the rollout that have been shown: any other number ends the wait. So does a `come_to` that differs from
    `outcomes`, as far as these go; None if that is not news, or nothing was shown yet.
    """

    seen: Sequence[str] = ()
    told: Collection[str] | None = None
    stuck: float = 0.0
    moves: int | None = None
    outcomes: Sequence[int] | None = None


NO_EARLIER_WAIT = EarlierWait()


class WaitResult(NamedTuple):
    """How waiting ended. `problem` is None if the proof is complete; `lost` were live and no longer are.

    `agents` are those that are to prove it and are live; `live` are the names of all. `timed_out` marks a problem that
    more time could solve. `missing` are in the roster, or named, and not live.
    """

    agents: Mapping[str, AgentStatus]
    verdict: Verdict
    lost: list[str]
    problem: str | None = None
    timed_out: bool = False
    rest: str | None = None
    live: frozenset[str] = frozenset()
    missing: Sequence[str] = ()

    def after(self, before: WaitResult) -> WaitResult:
        """This wait combined with the one before, ending as this one: for each agent what was seen last.

        What waited for a person before still does.
        """
        still = {name: status for name, status in before.agents.items() if name in self.live}
        failed = {*before.verdict.failed, *self.verdict.failed}
        pending = {*self.verdict.pending, *(before.verdict.pending if before.rest else ())} - failed
        proved = {*before.verdict.names, *self.verdict.names} - failed - pending
        return self._replace(
            agents={**still, **self.agents},
            verdict=Verdict(sorted(proved), sorted(failed), sorted(pending)),
            lost=sorted({*before.agents, *before.lost, *self.lost} - self.live),
            rest=self.rest or before.rest,
        )

    def to_result(self) -> dict[str, Any]:
        """The part of a module's result about it."""
        return {
            "agents": [self.agents[name].to_object() for name in sorted(self.agents)],
            # Not `failed`: to Ansible that means the task.
            "failed_agents": self.verdict.failed,
            "pending_agents": self.verdict.pending,
            "lost_agents": self.lost,
            "missing_agents": list(self.missing),
            "timed_out": self.timed_out,
            "converged": self.problem is None and self.rest is None,
            **({"msg": self.rest} if self.rest and not self.problem else {}),
        }


NOTHING_PROVED = WaitResult({}, Verdict([], [], []), [])
"""The result of waiting for nothing."""


class Proof(Protocol):
    """What a fleet is to prove: a release, or the files of some znodes."""

    subject: str
    """The znode that a message begins with."""
    undone: str
    """What a message says about agents that gave up: `not deployed`."""
    kind: str
    """What a message counts: `agents`."""

    @property
    def names(self) -> Collection[str] | None:
        """The agents that are to prove it, live or not; None for all that are live."""

    def judge(self, agents: Mapping[str, AgentStatus]) -> Verdict:
        """Sort the agents that are to prove it by what the live ones' statuses say about it."""

    gate: str | None
    """The znode with the state of its rollout; None if there is none."""

    def stand(self, gate: Any) -> Stand:
        """The state of that rollout; `gate` is the znode, None for none."""

    def obstacle(self, config: Any) -> str | None:
        """Why it can no longer be proved, now that `config` is the application's znode, None for none."""

    def describe(self, status: AgentStatus) -> Description:
        """The state of an agent with regard to it."""

    def advise(self, agents: Mapping[str, AgentStatus]) -> str:
        """The state of the fleet if it is not proved, and what to do about it; empty if that is not known."""


class FleetWait:
    """A wait: what it has seen, and when it is over."""

    def __init__(self, proof: Proof, limits: Limits, deadline: float, earlier: EarlierWait = NO_EARLIER_WAIT) -> None:
        self._proof = proof
        self._limits = limits
        self._deadline = deadline
        self._told = earlier.told
        self._seen = set(earlier.seen)
        self._stuck_before = earlier.stuck
        self._moves = earlier.moves
        self._outcomes = None if earlier.outcomes is None else tuple(earlier.outcomes)
        self._stuck_since: float | None = None
        self._over_at: float | None = None
        self._quiet_until: float | None = None

    def look(
        self,
        agents: Mapping[str, AgentStatus],
        config: Any,
        now: float,
        roster: Collection[str] = (),
        gate: Any = None,
    ) -> WaitResult | None:
        """The outcome, if these agents are live and those of the roster should be; None while the wait continues."""
        result, stand = self._judged(agents, roster), self._proof.stand(gate)
        if not result.verdict.proved:  # then nobody has it, whatever was accepted
            stand = stand._replace(accepted=0)
        fails = self._has_failed(result, stand)
        unmet = self._lacks_agents(result) or self._misses_too_many(result) or fails
        if not result.verdict.pending and not unmet and not (stand.goes_on or stand.rests or stand.ended):
            return result
        obstacle = self._proof.obstacle(config)
        if obstacle:
            return result._replace(problem=obstacle)
        if stand.rests:
            return result._replace(rest=stand.rests)
        self._note_stuck(result, now)
        return self._settle(result, stand, now)

    def unanswered(self, agents: Mapping[str, AgentStatus], roster: Collection[str] = ()) -> WaitResult:
        """The outcome if the ensemble does not answer at the deadline; `agents` and `roster` were seen last.

        Agents that were seen before, and have not been read since, may be live.
        """
        result = self._judged(agents, roster)
        proved, failed, pending = result.verdict
        result = result._replace(verdict=Verdict(proved, failed, sorted({*pending, *result.lost})), lost=[])
        seen = self._overdue(result).problem if result.verdict.pending else None
        return result._replace(problem="; seen last: ".join(filter(None, [UNANSWERED, seen])), timed_out=True)

    def _judged(self, agents: Mapping[str, AgentStatus], roster: Collection[str]) -> WaitResult:
        """The verdict on these agents; those that are live are remembered."""
        verdict = self._proof.judge(agents)
        live = {name: agents[name] for name in verdict.names if name in agents}
        self._seen.update(live)
        expected = set(roster if self._proof.names is None else self._proof.names)
        lost, missing = sorted(self._seen.difference(agents)), sorted(expected.difference(agents))
        return WaitResult(live, verdict, lost, live=frozenset(agents), missing=missing)

    def _fleet(self, result: WaitResult) -> int:
        """How many agents percentages refer to: those that are to prove it, and those that were live and are lost."""
        return len(self._seen.union(result.verdict.names))

    def _least(self, result: WaitResult) -> int:
        return at_least(self._limits.min_agents, self._fleet(result))

    def _lacks_agents(self, result: WaitResult) -> bool:
        return len(result.verdict.names) < self._least(result)

    def _whole_fleet(self, result: WaitResult) -> int:
        """The same, with the roster's missing hosts."""
        return len(self._seen.union(result.verdict.names, result.missing))

    def _misses_too_many(self, result: WaitResult) -> bool:
        return len(result.missing) > at_most(self._limits.max_missing, self._whole_fleet(result))

    def _has_failed(self, result: WaitResult, stand: Stand) -> bool:
        allowed = max(at_most(self._limits.max_failures, self._fleet(result)), stand.accepted)
        return len(result.verdict.failed) > allowed

    def left(self, now: float) -> float:
        """Seconds until the next look, even if nothing has changed."""
        due = [self._deadline, *(moment for moment in (self._over_at, self._quiet_until) if moment is not None)]
        if self._stuck_since is not None:
            due.append(self._stuck_since + self._limits.retry_timeout)
        return max(0.0, min(one for one in due if one > now or one == self._deadline) - now)

    def _settle(self, result: WaitResult, stand: Stand, now: float) -> WaitResult | None:
        """The end, once the stragglers have had their time; at the deadline, whatever the result is."""
        end = self._end(result, stand, now)
        if end is None:
            self._over_at = None
            return self._overdue(result, stand) if now >= self._deadline else None
        if not result.verdict.pending:
            return end
        if self._over_at is None:
            self._over_at = now + STRAGGLERS
        return end if now >= min(self._over_at, self._deadline) else None

    def _end(self, result: WaitResult, stand: Stand, now: float) -> WaitResult | None:
        """How it would end now, before its deadline; None if it would not."""
        failed, pending = result.verdict.failed, result.verdict.pending
        if stand.ended:
            return self._problem(result, stand.ended, failed or pending)
        if self._has_failed(result, stand) and not stand.goes_on:
            what = f"{self._proof.undone} on {len(failed)} of {len(result.verdict.names)}"
            return self._problem(result, what, failed)
        if self._stuck_since is not None and not self._lacks_agents(result) and not stand.goes_on:
            known = self._descriptions(result, pending)
            waits = {description.waits_for for description in known if not description.waits_its_turn}
            hopeless = waits <= NEEDS_SOMEBODY
            if hopeless or now - self._stuck_since >= self._limits.retry_timeout:
                patience = "" if hopeless else f" for {self._limits.retry_timeout:g} s"
                what = (
                    f"not proved by {len(pending)} of {len(result.verdict.names)}, none of which could go on{patience}"
                )
                return self._problem(result, what, pending)
        return self._overdue(result, stand) if self._has_news(result, stand, now) else None

    def _has_news(self, result: WaitResult, stand: Stand, now: float) -> bool:
        """Whether there is anything to show that has not been shown."""
        is_new_phase = self._moves is not None and stand.moves not in {None, self._moves}
        if self._told is None:
            return is_new_phase
        is_reason = not set(self.reasons(result)) <= set(self._told)
        return is_new_phase or self._has_moved(result, stand, now) or is_reason

    def _has_moved(self, result: WaitResult, stand: Stand, now: float) -> bool:
        """Whether agents have new outcomes, or without a rollout new states, since those that were shown."""
        verdict = result.verdict
        states = [result.agents[name].state for name in verdict.pending if name in result.agents]
        numbers = come_to(len(verdict.proved), len(verdict.failed), states)
        if self._outcomes is None and stand.moves is not None:
            self._outcomes = (0, 0) if self._moves is None else None
        elif self._outcomes is None and len(result.agents) <= MANY:
            self._outcomes, self._quiet_until = numbers, now + QUIET
        if self._outcomes is None or (self._quiet_until is not None and now < self._quiet_until):
            return False
        return numbers[: len(self._outcomes)] != self._outcomes

    def _note_stuck(self, result: WaitResult, now: float) -> None:
        """Remember since when no pending agent can continue."""
        known = self._descriptions(result, result.verdict.pending)
        descriptions = [description for description in known if not description.waits_its_turn]
        if not descriptions or not all(description.waits_for for description in descriptions):
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now - self._stuck_before
        self._stuck_before = 0.0

    def reasons(self, result: WaitResult) -> list[str]:
        """The reasons of agents that have failed and of those that are retrying."""
        told = [
            description.reason
            for description in self._descriptions(result, [*result.verdict.failed, *result.verdict.pending])
            if description.reason
        ]
        return list(dict.fromkeys(told))

    def _descriptions(self, result: WaitResult, names: Iterable[str]) -> list[Description]:
        return list(describe_all(self._proof, result.agents, names).values())

    def _overdue(self, result: WaitResult, stand: Stand = NO_ROLLOUT) -> WaitResult:
        live, pending = len(result.agents), result.verdict.pending
        if self._lacks_agents(result):
            what = f"published, but timed out waiting for {self._proof.kind}: "
            what += f"{live} live, at least {self._least(result)} required"
            what += _of(self._limits.min_agents, self._fleet(result))
            return result._replace(problem=_joined(what, describe_missing(result.missing)), timed_out=True)
        if not pending and self._misses_too_many(result):
            return result._replace(problem=self._too_many_missing(result), timed_out=True)
        if stand.goes_on:
            far = f"{stand.goes_on}: {len(result.verdict.proved)} of {len(result.verdict.names)} have proved it"
            said = grouped(describe_all(self._proof, result.agents, [*result.verdict.failed, *pending]))
            return result._replace(problem=_joined(far, said), timed_out=True)
        what = f"not proved in time by {len(pending)} of {len(result.verdict.names)}"
        if stand.is_done and not result.verdict.failed and self._follow(result):
            said = grouped(describe_all(self._proof, result.agents, pending))
            return result._replace(problem=_joined(f"{what}: {said}", FOLLOW), timed_out=True)
        return self._problem(result, what, pending)._replace(timed_out=True)

    def _follow(self, result: WaitResult) -> bool:
        """Whether there are hosts whose turn comes on its own; that of a held one does not."""
        waiting = [status for name, status in result.agents.items() if name in result.verdict.pending]
        return any(self._proof.describe(status).waits_its_turn and not status.held for status in waiting)

    def _too_many_missing(self, result: WaitResult) -> str:
        share, fleet = self._limits.max_missing, self._whole_fleet(result)
        expected = f"expected at most {at_most(share, fleet)}{_of(share, fleet)}"
        return f"published, but {len(result.missing)} of {fleet} are missing, {expected}: {listed(result.missing)}"

    def _problem(self, result: WaitResult, what: str, names: Iterable[str]) -> WaitResult:
        said = grouped(describe_all(self._proof, result.agents, names))
        # A named agent that is not live is among the pending ones.
        missing = describe_missing(sorted(set(result.missing).difference(result.verdict.pending)))
        return result._replace(problem=_joined(f"{what}: {said}", missing, self._proof.advise(result.agents)))


def come_to(proved: int, failed: int, states: Sequence[str]) -> tuple[int, ...]:
    """How many have proved it, how many have given up, and how many of the others are in each of the `states`."""
    return (proved, failed, *map(states.count, STATES))


def _of(share: int | str, fleet: int) -> str:
    """What a percentage refers to, for a message; empty if it is a plain number."""
    return f" ({share} of {fleet})" if parse_share(share)[1] else ""


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def describe_missing(names: Sequence[str]) -> str:
    """The missing hosts, for a message; empty if there are none."""
    return f"missing, expected and not live: {listed(names)}" if names else ""


def absences(result: Mapping[str, Any]) -> list[str]:
    """What a module warns of after a successful wait: hosts that have not proved it because they are not live."""
    lost = result.get("lost_agents", [])
    missing = [name for name in result.get("missing_agents", []) if name not in lost]
    gone = f"live at first and gone before the end: {', '.join(lost)}" if lost else ""
    return list(filter(None, [gone, describe_missing(missing)]))


def describe_all(proof: Proof, agents: Mapping[str, AgentStatus], names: Iterable[str]) -> dict[str, Description]:
    """The states of some agents, by name."""
    return {name: proof.describe(agents[name]) if name in agents else NOT_LIVE for name in names}


def grouped(descriptions: Mapping[str, Description]) -> str:
    """The states of some agents, for a message, grouped by what can be said together."""
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


def describe_proving(names: Sequence[str]) -> str:
    """The hosts that prove the release once more, for a message."""
    return f"{listed(names)} {'proves' if len(names) == 1 else 'prove'} the release once more, as after a boot"


def by_commit(agents: Iterable[AgentStatus]) -> dict[str | None, list[str]]:
    """The agents by the commit they serve, the most frequent first; None for none, or an invalid one."""
    served: dict[str | None, list[str]] = {}
    for status in agents:
        known = isinstance(status.commit_id, str) and status.commit_id
        served.setdefault(status.commit_id if known else None, []).append(status.name)
    return dict(sorted(served.items(), key=lambda group: -len(group[1])))


def advice(agents: Iterable[AgentStatus], desired: str) -> str:
    """What a fleet that has not proved the desired commit serves, and the next step."""
    served = {commit_id: len(names) for commit_id, names in by_commit(agents).items() if commit_id}
    if not served:
        return f"no server has a release; desired is {desired[:10]}: correct that, or deploy a fix"
    counts = [f"{commit_id[:10]} on {number}" for commit_id, number in served.items()]
    serves = listed(counts) if len(served) > 1 else next(iter(served))[:10]
    still = "" if desired in served else "still "
    step = "roll back (rollback.yml), or deploy a fix" if set(served) != {desired} else "correct that, or deploy a fix"
    return f"the fleet serves {serves}; desired is {still}{desired[:10]}: {step}"
