"""Random histories of rollouts: whatever happens, and whoever is late, no rule is broken and each rollout ends."""

from __future__ import annotations

import bisect
import itertools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import Release
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_admission import may_leave
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_events import (
    Ask,
    Command,
    Count,
    Decision,
    Event,
    Has,
    Outcome,
    Tick,
    Withdraw,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_failures import gives_up, overdue, timer
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import (
    DONE,
    FINAL,
    GOING_BACK,
    GOING_ON,
    HALTED,
    PAUSED,
    ROLLED_BACK,
    RUNNING,
    SOAKING,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_plan import Plan, RolloutStep
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import (
    ADMITTED,
    ENTRIES,
    FAILED,
    FAILURES,
    GATES,
    IN_FLIGHT,
    LOST,
    PROVED,
    RETURNED,
    RETURNING,
    URGENT,
    HostEntry,
    RolloutRecord,
    begin,
    choose_stable,
    describe,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_rules import decide
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_steps import count
from ansible_collections.zoo.deploy.plugins.module_utils.shares import at_least

HISTORIES = int(os.environ.get("ZOO_ROLLOUT_HISTORIES", "500"))
BLOCKS = 10
FIRST = int(os.environ.get("ZOO_ROLLOUT_FIRST_HISTORY", "0"))
SHARES = (1, 3, "20%", "100%")
PAUSES = (0.0, 0.1, 1.0, 7.0, 30.0)
"""Seconds that may pass between two events."""
OVER = frozenset({HALTED, *FINAL})
HAS_RETURNED = frozenset({None, RETURNED})
HAS_NONE = frozenset({None, LOST})


@dataclass(eq=False)
class Host:
    """A host of the simulated fleet: what it runs, and what it has in the rollout."""

    zone: str
    runs: str | None = None
    live: bool = True
    held: bool = False
    ill: bool = False
    gave_up: bool = False
    leaves_no_more: bool = False
    hangs: bool = False
    message: str | None = None
    entry: str | None = None
    moves: int = 0
    labels: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.labels = {"zone": self.zone}

    @property
    def able(self) -> bool:
        """Whether it can do something in the rollout."""
        return self.live and not self.held and not self.gave_up

    @property
    def is_stuck(self) -> bool:
        """Whether it is on its way, and never finishes."""
        return self.hangs and self.able and self.entry in IN_FLIGHT


class Write(NamedTuple):
    """What somebody is about to write, by compare-and-set on the version that was read."""

    version: int
    event: Event
    decision: Decision
    is_full: bool


@dataclass
class History:
    """A fleet, its people and clocks, and one rollout after another; every write is checked against the rules."""

    chance: random.Random
    hosts: dict[str, Host]
    now: float = 0.0
    version: int = 0
    events: int = 0
    releases: dict[int, Release] = field(default_factory=dict)
    rollouts: dict[int, RolloutRecord] = field(default_factory=dict)
    late: list[Write] = field(default_factory=list)
    forgiven: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)
    asked: list[tuple[RolloutRecord, str]] = field(default_factory=list)
    seen: dict[str, tuple[tuple[int, ...], float]] = field(default_factory=dict)
    moved_at: float = 0.0
    calm: bool = False
    reached: dict[tuple[int, ...], float] = field(default_factory=dict)
    names: list[str] = field(init=False)
    plan: Plan = field(init=False)
    state: RolloutRecord = field(init=False)

    def __post_init__(self) -> None:
        self.names = list(self.hosts)
        works = self._any_release()
        self.releases[1] = replace(
            works, extra={"provedAt": "2026-01-01T00:00:00Z"} if self.chance.random() < 0.9 else {}
        )
        for host in self.hosts.values():
            host.runs = works.commit_id
        self.publish()

    # --- a release is published

    def publish(self) -> None:
        """A rollout of a new release, or of an earlier one, replaces the current one."""
        if len(self.releases) > 1:
            self.rollouts[max(self.releases)] = self.state
        release = self._any_release()
        stable = choose_stable(release, release.extra.get("rollout"), self.releases, self.rollouts)
        assert stable is None or stable.commit_id != release.commit_id
        self.state = begin(release, self._any_rollout(), stable, sum(host.live for host in self.hosts.values()))
        self.plan = self.state.parsed_plan()
        self.releases[max(self.releases, default=0) + 1] = release
        self.version += 1
        self.moved_at = self.now
        self.reached = {self._mark(self.state): self.now}
        self.forgiven.clear()
        self.asked.clear()
        self.seen.clear()
        for host in self.hosts.values():
            host.entry, host.gave_up, host.leaves_no_more, host.message, host.moves = None, False, False, None, 0

    def _any_release(self) -> Release:
        newest = max(self.releases, default=0)
        if newest and self.chance.random() < 0.2:
            past = self.releases[self.chance.randint(1, newest)]
            current = self.releases[newest].commit_id
            return Release(past.url, past.commit_id, "shop", extra={"rolledBackFrom": current})
        return Release("https://git.example.org/shop", f"{newest + 1:040x}", "shop")

    def _any_rollout(self) -> dict[str, object]:
        kinds: list[dict[str, object]] = [
            {"hosts": 1},
            {"hosts": "50%"},
            {"percent": 60},
            {"labels": {"zone": "a"}},
            {"names": ["h0", "h3", "h99"]},
        ]
        chosen = sorted(self.chance.sample(range(len(kinds)), self.chance.randint(0, len(kinds))))
        steps = [
            {
                **kinds[kind],
                "soak": self.chance.choice([0, 10]),
                "gate": self.chance.random() < 0.3,
                "pause": self.chance.random() < 0.2,
            }
            for kind in chosen
        ]
        return {
            "steps": steps,
            "maxInFlight": self.chance.choice(SHARES),
            "maxFailures": self.chance.choice([0, 2, "30%"]),
            "progressDeadline": 600,
            "onFailure": self.chance.choice(["halt", "rollback", "rollback"]),
        }

    @property
    def commit(self) -> str:
        """The release that is rolled out."""
        return str(self.state.release["commitId"])

    @property
    def stable(self) -> str | None:
        """The release that hosts have while they wait."""
        return str(self.state.stable["commitId"]) if self.state.stable else None

    # --- each actor decides, and writes now or later

    def put(self, event: Event, late: bool = False) -> Decision:
        """Somebody decides about an event and writes the decision, now or late."""
        decision = decide(self.plan, self.state, event)
        self.events += 1
        if decision.state is self.state:
            assert decision.why
            assert decision.entry == getattr(event, "entry", None)
            return decision
        write = Write(self.version, event, decision, self._is_full())
        if late:
            self.late.append(write)
        else:
            self._commit(write)
        return decision

    def write_late(self) -> None:
        """Somebody who has read the state a while ago writes, which fails if another was faster."""
        if self.late:
            write = self.late.pop(self.chance.randrange(len(self.late)))
            if write.version == self.version:
                self._commit(write)

    def _commit(self, write: Write) -> None:
        before, after, event = self.state, write.decision.state, write.event
        if isinstance(event, (Ask, Has, Outcome, Withdraw)):
            host = self.hosts[event.name]
            assert host.entry == event.entry
            host.entry, host.moves = write.decision.entry, after.moves
            self._run(host, event)
            self._remember(host, event)
            if host.entry not in FAILURES:
                self.forgiven.discard(event.name)
        elif isinstance(event, Command) and before.phase == HALTED:
            self.forgiven = {name for name, host in self.hosts.items() if host.entry in FAILURES}
            assert not after.failures
        self._check(before, write)
        if write.decision.is_bad:
            self.bad.add(self.commit)
        self.state = after
        self.version += 1
        if after.moves != before.moves:
            self.moved_at = self.now
            self.reached.clear()
        # A host that returns to where it was has made no progress.
        self.reached.setdefault(self._mark(after), self.now)

    @staticmethod
    def _mark(state: RolloutRecord) -> tuple[int, ...]:
        return (state.given_up, state.departed, *state.counts.values())

    def _run(self, host: Host, event: Ask | Has | Outcome | Withdraw) -> None:
        """Set what a host runs after its entry has changed."""
        if host.entry == PROVED:
            host.runs = self.commit
        elif host.entry in FAILURES and event.entry in {ADMITTED, URGENT}:
            host.runs = host.runs if host.hangs else self.chance.choice([host.runs, self.commit])
        elif isinstance(event, Outcome) and event.outcome == RETURNED:
            host.runs = self.stable

    @staticmethod
    def _remember(host: Host, event: Ask | Has | Outcome | Withdraw) -> None:
        """Remember what the entry of a host says about it."""
        if isinstance(event, Outcome) and event.is_given_up:
            host.message = event.message if host.entry else None
            host.gave_up = bool(host.entry) and HostEntry(str(host.entry), message=host.message).is_given_up
            host.leaves_no_more = host.leaves_no_more or not host.entry
        elif isinstance(event, Ask):
            before = HostEntry(event.entry, message=host.message) if event.entry else None
            host.message = before.next_message if before else None

    # --- the rules, stated once more

    def _check(self, before: RolloutRecord, write: Write) -> None:
        after, event = write.decision.state, write.event
        all_entries = [host.entry for host in self.hosts.values()]
        entries = {kind: all_entries.count(kind) for kind in ENTRIES}
        assert after.counts == entries
        assert entries[ADMITTED] <= after.places == before.places
        if after.phase in GOING_ON:
            assert entries[ADMITTED] + entries[RETURNING] <= after.places
        assert not entries[URGENT] or after.is_rollback
        self._check_failures(after, write)
        self._check_move(before, write)
        if isinstance(event, Ask):
            self._check_place(before, event, str(write.decision.entry))
        if self.events % 100 == 0:
            assert RolloutRecord.from_node(after.to_node()) == after

    def _check_failures(self, after: RolloutRecord, write: Write) -> None:
        failed = {name for name, host in self.hosts.items() if host.entry in FAILURES}
        assert after.failures == len(failed - self.forgiven)
        event = write.event
        is_failure = isinstance(event, Outcome) and event.entry != RETURNING and write.decision.entry in FAILURES
        if after.phase in GOING_ON and is_failure and not after.is_rollback:
            assert self.plan.accepts(after.failures, after.fleet)
        if write.decision.is_bad:
            assert is_failure
            assert not self.plan.accepts(after.failures, after.fleet)
            assert not after.is_rollback
            assert 2 * after.had <= after.fleet

    def _check_place(self, before: RolloutRecord, event: Ask, entry: str) -> None:
        """Check that a host may be given its place."""
        if entry == RETURNING:
            if event.leaves:
                assert before.counts[RETURNING] < before.places
                assert before.phase not in {HALTED, DONE}
                return
            assert before.phase in GOING_BACK
            at_once = event.entry != PROVED or event.urgent or before.phase == ROLLED_BACK
            assert at_once or before.counts[RETURNING] < before.places
            return
        assert before.phase == RUNNING
        assert entry == ADMITTED or (event.urgent and before.is_rollback)
        opened = self.plan.steps[: before.step + 1]
        assert (
            event.entry
            or len(opened) == len(self.plan.steps)
            or any(
                before.reached < at_least(step.hosts, before.fleet)
                if step.hosts is not None
                else _picks(step, event.name, self.hosts[event.name])
                for step in opened
            )
        )

    def _check_move(self, before: RolloutRecord, write: Write) -> None:
        after, event = write.decision.state, write.event
        stand = (after.phase, after.step, after.by, after.waits_for)
        begins_anew = before.phase == after.phase == SOAKING and after.failures > before.failures
        is_same = stand == (before.phase, before.step, before.by, before.waits_for) and not begins_anew
        assert (after.moves == before.moves) == is_same
        if after.moves == before.moves:
            return
        self._check_gates(before, write)
        assert after.moves == before.moves + 1
        assert after.step in {before.step, before.step + 1}
        assert before.phase not in FINAL
        if before.phase == HALTED:
            assert isinstance(event, Command)
            assert event.force
        if before.phase == PAUSED and after.phase in {RUNNING, DONE}:
            assert isinstance(event, Command)
        if not isinstance(event, Command) and after.phase in {HALTED, *GOING_BACK}:
            assert not before.is_rollback, "only a person stops a rollback"
        if before.phase == SOAKING and after.phase in {RUNNING, DONE, PAUSED} and not isinstance(event, Command):
            assert isinstance(event, Tick)
            assert self.now - self.moved_at >= self.plan.steps[before.step].soak
            step = self.plan.steps[before.step]
            assert (after.phase == PAUSED) == (step.pause or step.gate)
        if before.phase == RUNNING and after.phase in {RUNNING, SOAKING, DONE} and not isinstance(event, Command):
            assert isinstance(event, Count)
            assert write.is_full
            assert after.phase == SOAKING or not self.plan.steps[before.step].soak
        self._check_end_of_phase(before, write)

    def _check_end_of_phase(self, before: RolloutRecord, write: Write) -> None:
        after, event = write.decision.state, write.event
        if isinstance(event, Tick) and before.phase == RUNNING:
            assert self.now - self.reached[self._mark(before)] >= self.plan.progress_deadline
        if after.phase in GOING_BACK:
            assert after.stable
        if after.phase in FINAL or (after.phase == SOAKING and before.phase == RUNNING):
            assert not after.in_flight
        if after.phase == ROLLED_BACK and isinstance(event, Tick):
            assert self.now - self.reached[self._mark(before)] >= self.plan.progress_deadline
        elif after.phase == ROLLED_BACK:
            assert write.is_full

    def _check_gates(self, before: RolloutRecord, write: Write) -> None:
        after, gate = write.decision.state, self.plan.steps[before.step].gate
        if gate and (after.step > before.step or after.phase == DONE):
            assert isinstance(write.event, Command), "nothing else opens what waits for gates"
        assert after.waits_for in {"", GATES if after.phase == PAUSED else ""}
        if before.phase == SOAKING and after.phase == PAUSED and isinstance(write.event, Tick):
            assert (after.waits_for == GATES) == gate

    def _is_full(self) -> bool:
        """Whether no host is in flight, and none is left for the open step or for the way back."""
        hosts = self.hosts.values()
        if any(host.entry in IN_FLIGHT for host in hosts):
            return False
        if self.state.phase in GOING_BACK:
            return all(host.entry in HAS_RETURNED or not host.able for host in hosts)
        step = self.plan.steps[self.state.step]
        known = sum([host.live or host.entry is not None for host in hosts])
        if step.hosts is not None and step.hosts != "100%" and self.state.reached >= at_least(step.hosts, known):
            return True
        left = [(name, host) for name, host in self.hosts.items() if host.entry in HAS_NONE and host.able]
        return not any(_picks(step, name, host) for name, host in left)

    # --- what may happen

    def step(self) -> None:
        """Let anything happen that may."""
        self.now += PAUSES[int(self.chance.random() * len(PAUSES))]
        weights = WEIGHTS[self.state.phase in OVER]
        HAPPENINGS[bisect.bisect(weights, self.chance.random() * weights[-1])](self)

    def fare(self) -> None:
        """A host joins, dies or returns, falls ill or recovers, is held or released."""
        if self.chance.random() < 0.1:
            self.names.append(f"h{len(self.hosts)}")
            self.hosts[self.names[-1]] = Host(self.chance.choice("abc"))
            return
        host = self.hosts[self._any_name()]
        attribute = self.chance.choice(["live", "live", "ill", "ill", "held"])
        setattr(host, attribute, self.chance.random() < (0.7 if attribute == "live" else 0.3))

    def command(self) -> None:
        """A person gives a command."""
        verb = self.chance.choice(["promote", "promote", "pause", "halt"])
        self.put(Command(verb, "ann", "because", force=self.chance.random() < 0.5), self._is_late())

    def ask_gates(self) -> None:
        """A controller asks the gates of what it sees; their answer comes later."""
        self.asked.append((self.state, self.chance.choice(["pass", "pass", "halt", "pause"])))

    def answer_of_gates(self) -> None:
        """An answer counts for the state that was asked about, and for that only."""
        if not self.asked:
            return
        asked, verb = self.asked.pop(self.chance.randrange(len(self.asked)))
        before = self.state
        self.put(Command(verb, "gate", "status 500", moves=asked.moves))
        if self.state is not before:
            assert (asked.phase, asked.step, asked.waits_for) == (before.phase, before.step, before.waits_for)
            assert verb != "pass" or asked.waits_for == GATES

    def _any_name(self) -> str:
        return self.names[int(self.chance.random() * len(self.names))]

    def _is_late(self) -> bool:
        return not self.calm and self.chance.random() < 0.1

    def ask(self) -> None:
        """Any host may ask."""
        self.ask_as(self._any_name(), self._is_late())

    def ask_as(self, name: str, late: bool = False) -> None:
        """A host does what it can: it reports what it has, asks for a place, or goes where all may go."""
        host = self.hosts[name]
        if not host.able:
            return
        if self.state.phase == DONE and host.entry not in FAILURES:
            host.runs = self.commit
        elif host.runs == self.commit and not host.ill and host.entry in {None, LOST}:
            self.put(Has(name, host.entry, host.moves), late)
        elif self._leaves(host):
            self.put(Ask(name, host.labels, leaves=True), late)
        elif host.entry != FAILED or self.state.phase in GOING_BACK or self.chance.random() < 0.1:
            self.put(Ask(name, host.labels, host.entry, host.ill, host.moves), late)

    def _leaves(self, host: Host) -> bool:
        """Whether a host asks to return before its turn: what it has is bad."""
        may = may_leave(self.plan, self.state) and not host.leaves_no_more
        return (
            (self.state.phase in GOING_BACK or may)
            and host.entry is None
            and host.runs in self.bad - {self.commit, self.stable}
        )

    def come_to(self) -> None:
        """Any host may reach an outcome."""
        self.come_to_as(self._any_name(), self._is_late(), self.chance.random())

    def come_to_as(self, name: str, late: bool = False, luck: float = 1.0) -> None:
        """A host that is on its way reaches an outcome; one that has disappeared is found to be lost."""
        host = self.hosts[name]
        if not host.live:
            if host.entry in IN_FLIGHT:
                self.put(Outcome(name, host.entry, LOST), late)
        elif host.held:
            if host.entry in IN_FLIGHT:
                self.put(Withdraw(name, host.entry), late)
        elif host.entry in {ADMITTED, URGENT}:
            self.put(Outcome(name, host.entry, FAILED if luck < 0.1 else PROVED, "status 404"), late)
        elif host.entry == RETURNING:
            host.gave_up = luck < 0.1
            self.put(Outcome(name, host.entry, FAILED if host.gave_up else RETURNED, "disk full"), late)
        elif host.entry is None and self.state.phase not in GOING_BACK:
            host.gave_up = False
        elif host.entry == PROVED and host.ill and self.state.phase != DONE:
            self.put(Outcome(name, host.entry, FAILED, "fell ill"), late)
        elif (
            host.entry in FAILURES and self.state.phase in GOING_BACK and host.runs != self.commit and not host.gave_up
        ):
            self.put(Outcome(name, host.entry, RETURNED, moves=host.moves), late)

    def count(self) -> None:
        """Somebody counts the fleet."""
        live = {name: host.labels for name, host in self.hosts.items() if host.live}
        entries = {name: host.entry for name, host in self.hosts.items() if host.entry}
        unable = {name: "is held" for name, host in self.hosts.items() if host.held or host.gave_up or not host.live}
        self.put(count(self.plan, self.state, live, entries, unable), self._is_late())

    def tick(self) -> None:
        """One of some clocks is looked at, perhaps for the first time since something has changed."""
        clock = "abc"[int(self.chance.random() * 3)]
        if clock in self.seen:
            of, since = self.seen[clock]
            self.look(of, self.now - since)
        due = timer(self.plan, self.state)
        if due is not None and self.seen.get(clock, ((), 0.0))[0] != due.of:
            self.seen[clock] = due.of, self.now

    def look(self, of: tuple[int, ...], waited: float) -> None:
        """A clock has seen so many seconds pass: it gives up a host that does not finish, or moves the rollout on."""
        due = timer(self.plan, self.state)
        slow = sorted(name for name, host in self.hosts.items() if host.entry in IN_FLIGHT)
        if due and due.of == of and waited >= due.seconds and gives_up(self.state):
            name = self.chance.choice(slow)
            host = self.hosts[name]
            entry = HostEntry(str(host.entry), message=host.message)
            self.put(overdue(self.plan, self.state, name, entry), self._is_late())
            return
        behind = sorted(name for name, host in self.hosts.items() if host.entry not in {None, RETURNED})
        self.put(Tick(of, waited, tuple(slow if self.state.phase == RUNNING else behind)), self._is_late())

    # --- the end

    def settle(self) -> None:
        """From now on nothing fails, except that some hosts hang forever, and a person promotes what waits for one.

        The rollout ends.
        """
        self.calm = True
        hang = self.chance.choice([0.0, 0.0, 0.1, 1.0])
        for host in self.hosts.values():
            host.ill, host.hangs = False, self.chance.random() < hang
            host.held = host.held and self.chance.random() < 0.5
        for _round in range(3 * len(self.plan.steps) + 6 * len(self.hosts) + 10):
            before = self.version
            for name, host in self.hosts.items():
                if not host.is_stuck:
                    self.come_to_as(name)
                self.ask_as(name)
            self.count()
            if self.state.phase == SOAKING:
                self.now += 100.0
                self.tick()
            if self.state.waits_for == GATES and self.chance.random() < 0.5:
                self.put(Command("pass", "the gates of ann", moves=self.state.moves))
            elif self.state.phase == PAUSED:
                self.put(Command("promote", "ann"))
            due = timer(self.plan, self.state)
            if self.version == before and due is not None:
                self.now += due.seconds + 1.0
                self.look(due.of, due.seconds)
            if self.version == before and self.state.phase != SOAKING:
                break
        assert self.state.phase in {*FINAL, HALTED}, describe(self.plan, self.state)
        assert self.state.phase != HALTED or self.state.reason
        self._check_end()

    def _check_end(self) -> None:
        able = [host for host in self.hosts.values() if host.able]
        if self.state.phase == DONE:
            assert all(host.runs == self.commit for host in able if host.entry not in FAILURES)
        if self.state.phase == ROLLED_BACK:
            left = {name for name, host in self.hosts.items() if host.able and host.runs == self.commit}
            assert all(name in self.state.reason for name in left) or "more" in self.state.reason


def _picks(step: RolloutStep, name: str, host: Host) -> bool:
    return step.hosts is not None or name in step.names or ("zone", host.zone) in step.labels


_CHANCES: dict[Callable[[History], None], tuple[float, float]] = {
    History.ask: (40, 40),
    History.come_to: (40, 40),
    History.fare: (10, 10),
    History.count: (20, 20),
    History.tick: (15, 15),
    History.command: (2, 2),
    History.ask_gates: (3, 3),
    History.answer_of_gates: (3, 3),
    History.write_late: (10, 10),
    History.publish: (0.2, 10),
}
"""What may happen, and how likely it is: while a rollout goes on, and once it is over."""
HAPPENINGS = list(_CHANCES)
WEIGHTS = [list(itertools.accumulate(weights)) for weights in zip(*_CHANCES.values())]


def any_history(seed: int) -> History:
    """A history of a fleet of up to 30 hosts."""
    chance = random.Random(seed)
    return History(chance, {f"h{number}": Host(chance.choice("abc")) for number in range(chance.randint(1, 30))})


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_history_breaks_a_rule_and_each_rollout_ends_or_is_halted(block: int) -> None:
    """Hosts die, return, fail, fall ill, are held, join. People promote, pause, halt. Releases and rollbacks come."""
    for seed in range(FIRST + block * HISTORIES // BLOCKS, FIRST + (block + 1) * HISTORIES // BLOCKS):
        history = any_history(seed)
        try:
            for _event in range(history.chance.randint(0, 400)):
                history.step()
            history.settle()
        except AssertionError as exc:
            raise AssertionError(f"history {seed}: {history.plan}, {history.state}") from exc
