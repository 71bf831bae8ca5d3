"""A fleet whose hosts take part in a rollout by the agent's own code, over znodes in memory and a clock that is set."""

from __future__ import annotations

import errno
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from zoo_watcher.desired import Assignment, Desired
from zoo_watcher.errors import NoParentError, RefusedError, SessionTroubleError
from zoo_watcher.rollouts.participation import Participation
from zoo_watcher.rollouts.turn import HostView
from zoo_watcher.wire.records import AppPaths, Release
from zoo_watcher.wire.rollout_events import Command
from zoo_watcher.wire.rollout_phases import GOING_ON
from zoo_watcher.wire.rollout_records import ADMITTED, RETURNING, RolloutRecord
from zoo_watcher.wire.rollout_rules import decide
from zoo_watcher.wire.rollout_writes import CREATE, SET, Write, change_writes
from zoo_watcher.zookeeper.session import Znode

APP = AppPaths("/app")
URL = "https://git.example/site.git"
OLD, NEW, BAD = "a" * 40, "b" * 40, "c" * 40
GENERATION = 1000
BEGIN = 1_000_000.0
"""The time when a fleet is made."""
FOR_EVER = 1e9
"""Seconds of a deployment that comes to nothing."""
PROOF = 5.0
"""Seconds within which a release that is live already has to be healthy when an agent begins, or it is published."""

Watch = Callable[[Any], None]


@dataclass
class Node:
    """A znode: its value, and what of its stat is used."""

    data: bytes
    version: int = 0
    owner: int = 0
    czxid: int = 0


class Ensemble:
    """Znodes in memory, with watches and ephemerals. `check` is called after each change."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.watches: dict[str, set[Watch]] = {}
        self.fired: Counter[Watch] = Counter()
        self.sequences: dict[str, int] = {}
        self.check: Callable[[], None] = lambda: None
        self.zxid = GENERATION
        self.forbidden: set[str] = set()
        self.locked: set[str] = set()
        self.acls: dict[str, list[Any]] = {}
        self.clock: Callable[[], float] = lambda: 0.0
        self.latency = 0.0
        self.changed_at = 0.0

    def commit(self, writes: list[Write]) -> bool:
        """Carry out all of the writes, or none; none so soon after others that nobody can have seen these."""
        if self.clock() - self.changed_at < self.latency:
            return False
        done = self.apply(writes)
        if done:
            self.changed_at = self.clock()
        return done

    def fire(self, path: str) -> None:
        """Tell those who watch a znode."""
        for watch in self.watches.pop(path, set()):
            self.fired[watch] += 1
            watch(SimpleNamespace(path=path))

    def children(self, path: str) -> list[str]:
        """The names right below a znode."""
        prefix = f"{path}/"
        return [
            name[len(prefix) :] for name in self.nodes if name.startswith(prefix) and "/" not in name[len(prefix) :]
        ]

    def apply(self, writes: list[Write], owner: int = 0) -> bool:
        """Carry out all of the writes, or none."""
        copy = dict(self.nodes)
        self.zxid += 1
        for write in writes:
            there = copy.get(write.path)
            if (write.kind == CREATE) == (there is not None):
                return False
            if write.kind == SET and there:
                if write.version not in {-1, there.version}:
                    return False
                copy[write.path] = replace(there, data=write.value, version=there.version + 1)
            elif write.kind == CREATE:
                copy[write.path] = Node(write.value, owner=owner, czxid=self.zxid)
            else:
                del copy[write.path]
        self.nodes = copy
        for write in writes:
            self.fire(write.path)
        self.check()
        return True

    def end_session(self, owner: int) -> None:
        """Delete what a session holds."""
        for path in [path for path, node in self.nodes.items() if node.owner == owner]:
            del self.nodes[path]
            self.fire(path)


class FakeStat:
    """What is used of a znode's stat."""

    def __init__(self, ensemble: Ensemble, path: str, node: Node) -> None:
        self._ensemble = ensemble
        self._path = path
        self.version, self.ephemeralOwner, self.czxid = node.version, node.owner, node.czxid

    @property
    def numChildren(self) -> int:  # noqa: N802  # as kazoo has it
        """How many znodes are right below it."""
        return len(self._ensemble.children(self._path))


class FakeSession:
    """What the agent's `Session` offers, over the znodes in memory. A request may fail, before or after it is done."""

    numbers = itertools.count(1)

    def __init__(self, ensemble: Ensemble, chance: random.Random, failures: float) -> None:
        self._ensemble = ensemble
        self._chance = chance
        self._failures = failures
        self.client_id: tuple[int, bytes] | None = (next(self.numbers), b"")
        self.owner = self.client_id[0]
        self.connections = 1
        self.lost_at: float | None = None
        self.timeout = 10.0
        self.is_closed = False
        self.requests = 0
        self.watches: set[Watch] = set()

    @property
    def events(self) -> int:
        """How often a watch of it has been fired."""
        return sum(self._ensemble.fired[watch] for watch in self.watches)

    def _fail_perhaps(self, path: str = "") -> None:
        self.requests += 1
        if path in self._ensemble.forbidden:
            raise SessionTroubleError(f"{path}: its ACL does not let this agent read it")
        if self._chance.random() < self._failures:
            raise SessionTroubleError("connection loss")

    def expire(self) -> None:
        """The session ends, another begins, and every watch is told."""
        self._ensemble.end_session(self.owner)
        self.client_id = (next(self.numbers), b"")
        self.owner = self.client_id[0]
        for watch in self.watches:
            watch(SimpleNamespace(path=None))

    def begin_read(self, path: str, watch: Watch | None = None) -> Callable[[], Znode | None]:
        """As in `Session`."""
        self._fail_perhaps(path)
        if watch is not None:
            self.watches.add(watch)
        node = self._ensemble.nodes.get(path)
        if node is not None and watch is not None:
            self._ensemble.watches.setdefault(path, set()).add(watch)
        return lambda: Znode(node.data, FakeStat(self._ensemble, path, node)) if node else None

    def read_all(self, paths: Iterable[str]) -> dict[str, Any]:
        """As in `Session`."""
        return {path: self._read_or_trouble(path) for path in paths}

    def _read_or_trouble(self, path: str) -> Znode | SessionTroubleError | None:
        if path in self._ensemble.forbidden:
            self.requests += 1
            return SessionTroubleError(f"{path}: its ACL does not let this agent read it")
        return self.begin_read(path)()

    def begin_look(self, path: str) -> Callable[[], Znode | None]:
        """As in `Session`."""
        found = self._read_or_trouble(path)
        return lambda: found if isinstance(found, Znode) else None

    def read_acl(self, path: str) -> list[Any]:
        """As in `Session`."""
        self._fail_perhaps()
        return self._ensemble.acls.get(path, [])

    def catch_up(self) -> int:
        """As in `Session`; nobody lags behind here."""
        self._fail_perhaps()
        return self._ensemble.zxid

    def begin_list(self, path: str) -> Callable[[], list[str]]:
        """As in `Session`."""
        self._fail_perhaps(path)
        names = self._ensemble.children(path)
        return lambda: names

    def read(self, path: str, watch: Watch) -> Znode | None:
        """As in `Session`."""
        found = self.begin_read(path, watch)()
        if found is None:
            self._ensemble.watches.setdefault(path, set()).add(watch)
        return found

    def create(
        self, path: str, value: bytes, *, ephemeral: bool = False, sequence: bool = False, parents: bool = True
    ) -> str | None:
        """As in `Session`, but that it makes no parents."""
        self._fail_perhaps()
        parent = path.rpartition("/")[0]
        if parent in self._ensemble.locked:
            raise RefusedError(path, f"{path}: its parent's ACL does not let this agent create it")
        if not parents and parent and parent not in self._ensemble.nodes:
            raise NoParentError(f"{parent} is not there")
        if sequence:
            number = self._ensemble.sequences.get(path, 0)
            self._ensemble.sequences[path] = number + 1
            path = f"{path}{number:010d}"
        done = self._ensemble.apply([Write(CREATE, path, value)], self.owner if ephemeral else 0)
        self._fail_perhaps()
        return path if done else None

    def delete(self, path: str) -> None:
        """As in `Session`."""
        self._fail_perhaps()
        self._ensemble.apply([Write("delete", path)])
        self._fail_perhaps()

    def commit(self, writes: list[Write]) -> bool:
        """As in `Session`."""
        self._fail_perhaps()
        for write in writes:
            if write.kind == SET and write.version == -1 and write.path not in self._ensemble.nodes:
                raise RefusedError(write.path, f"{write.path} is not there")
        done = self._ensemble.commit(list(writes))
        self._fail_perhaps()
        return done


@dataclass
class SimulatedHost:
    """A host: what is live on it, and how it goes with each release."""

    name: str
    fleet: Fleet
    labels: dict[str, str] = field(default_factory=dict)
    has: str | None = OLD
    had: bool = False
    fails: bool = False
    falls_ill: bool = False
    dies: bool = False
    is_held: bool = False
    is_sick: bool = False
    is_blind: bool = False
    is_up: bool = True
    deploys_for: float = 5.0
    never_returns: bool = False
    keeps_failure: bool = False
    goal: str | None = None
    ends_at: float = 0.0
    awaits_health: bool = False
    tries_at: float | None = None
    turns: int = 0
    ended: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    part: Participation | None = None
    session: FakeSession | None = None
    is_woken: bool = True

    @property
    def config(self) -> Any:
        """As `HostFacts` has it."""
        return SimpleNamespace(app=APP, name=self.name, labels=self.labels)

    def start(self) -> None:
        """An agent begins, with a session of its own."""
        fleet = self.fleet
        self.is_up = self.is_woken = True
        self.tries_at = None
        self._forget_goal()
        self.session = FakeSession(fleet.ensemble, fleet.chance, fleet.failures)
        fleet.ensemble.nodes.setdefault(APP.roster_entry(self.name), Node(b"{}"))
        self.report()
        self.part = Participation(self, self.session, fleet.desired, self.wake, resumes=False)  # type: ignore[arg-type]

    def restart(self) -> None:
        """The agent is killed, and another process of it takes up its session."""
        fleet = self.fleet
        self.is_woken, self.tries_at = True, None
        self._forget_goal()
        self.part = Participation(self, self.session, fleet.desired, self.wake, resumes=True)  # type: ignore[arg-type]

    def _forget_goal(self) -> None:
        """What is live has to be healthy once more, for the next agent."""
        self.goal, self.awaits_health = None, False
        self.ended = {commit: ended for commit, ended in self.ended.items() if ended[0] != "active"}

    def report(self) -> None:
        """Have the status say how it is; the host is live."""
        assert self.session
        status = {
            "name": self.name,
            "state": "idle",
            "commitId": self.has,
            **({"held": {"since": "now"}} if self.is_held else {}),
        }
        self.fleet.ensemble.nodes[APP.agent(self.name)] = Node(json.dumps(status).encode(), owner=self.session.owner)

    def hold(self, is_held: bool) -> None:  # as it is from now on
        """A person holds the host, or ends that."""
        self.is_held = is_held
        if self.is_up:
            self.report()
        self.wake()

    def expire(self) -> None:
        """The session ends, and the agent has another at once."""
        assert self.session
        self.session.expire()
        self.report()
        self.wake()

    def stop(self) -> None:
        """The host goes down, and its session ends."""
        self.is_up, self.part = False, None
        assert self.session
        self.fleet.ensemble.end_session(self.session.owner)

    def wake(self) -> None:
        """There is something to look at."""
        self.is_woken = True

    def gather(self, desired: Desired, stable: Desired | None) -> HostView:
        """As `HostFacts.gather`."""
        if self.is_blind:
            raise OSError(errno.EIO, "Input/output error", "/srv/site")
        stable_ended = self._outcome(stable) if stable else None
        known = self.gather_without_disk(desired)
        return replace(known, has=self.has, is_switched=self.has == NEW, stable_ended=stable_ended)

    def gather_without_disk(self, desired: Desired) -> HostView:
        """As `HostFacts.gather_without_disk`."""
        return HostView(
            self.name,
            self.labels,
            ended=self._outcome(desired),
            sickness="port closed" if self.is_sick else None,
            is_healthy=not self.is_sick,
            awaits_health=self.awaits_health and self.goal == NEW,
            is_held=self.is_held,
            is_busy=self._goes_on,
        )

    @property
    def _goes_on(self) -> bool:
        """Whether something is deployed or proved, which comes to something by itself."""
        is_kept = self.is_held and self.goal != self.has
        return self.goal is not None and self.goal not in self.ended and not (self.awaits_health or is_kept)

    def _outcome(self, desired: Desired) -> tuple[str, str | None] | None:
        commit = desired.release.commit_id if desired.release else None
        ended = self.ended.get(str(commit))
        return ended if self.goal == commit or (ended and ended[0] != "active") else None

    def turn(self) -> None:
        """One turn of the loop."""
        assert self.part
        self.turns += 1
        self.is_woken, self.tries_at = False, None
        try:
            self.part.follow()
        except (SessionTroubleError, OSError):
            self.tries_at = self.fleet.now + self.fleet.chance.uniform(0.1, 1)
        self._converge(self.part.assignment)

    def _converge(self, assignment: Assignment) -> None:
        release = assignment.desired.release if assignment.desired else None
        commit = release.commit_id if release else None
        if commit is None:
            # What is under way is cancelled.
            self.goal = self.goal if self.goal in self.ended else None
            return
        if commit != self.goal:
            self.goal, self.awaits_health = commit, False
            if commit == OLD and not self.keeps_failure:
                self.ended.pop(commit, None)
            lasts = self.fleet.chance.uniform(self.deploys_for - 5.0, self.deploys_for)
            lasts = PROOF if commit == self.has else lasts
            self.ends_at = self.fleet.now + (FOR_EVER if commit == OLD and self.never_returns else lasts)
        if commit in self.ended or (self.is_held and commit != self.has) or self.fleet.now < self.ends_at:
            return
        if commit == self.has and self.is_sick:
            # It was proved before: there is nothing that is better, and it waits for its service for ever.
            self.is_woken = self.is_woken or not self.awaits_health
            self.awaits_health = True
            return
        self.awaits_health = False
        if commit == NEW and self.dies:
            self.stop()
            return
        self.is_sick = False
        if commit == NEW and self.fails:
            self.ended[NEW] = ("rolled_back", "hook failed")
        else:
            self.has = commit
            self.report()
            self.ended[commit] = ("active", None)
        self.is_woken = True

    @property
    def pause(self) -> float:
        """Seconds until it looks again by itself."""
        if self.is_woken:
            return 0.0
        assert self.part
        waits = [60.0 if self.part.pause is None else self.part.pause]
        if self.tries_at is not None:
            waits.append(max(0.0, self.tries_at - self.fleet.now))
        if self.goal and self.goal not in self.ended and not (self.is_held or self.awaits_health):
            waits.append(max(0.0, self.ends_at - self.fleet.now))
        return min(waits)


class Fleet:
    """Hosts, and the clock. `run` lets time pass until the rollout is at an end, or nothing goes on."""

    def __init__(self, chance: random.Random, count: int, rollout: Any, failures: float = 0.0, **keys: Any) -> None:
        self.chance = chance
        self.failures = failures
        self.deploys = 5.0
        self.now = BEGIN
        self.ensemble = Ensemble()
        self.ensemble.clock = lambda: self.now
        release = Release(URL, NEW, "site", extra={"rollout": rollout, **keys})
        self.desired = Desired(GENERATION, count, release)
        for path in ("/app", APP.agents, APP.history, APP.roster):
            self.ensemble.nodes[path] = Node(b"")
        self.ensemble.check = self.check
        self.most = 0
        self.hosts = [SimulatedHost(f"web{number}", self) for number in range(count)]
        for host in self.hosts:
            host.start()

    def join(self) -> None:
        """A new host, on which nothing is live."""
        self.hosts.append(SimulatedHost(f"web{len(self.hosts)}", self, has=None))
        self.hosts[-1].start()

    def begin_with(self, commit: str, hosts: Sequence[SimulatedHost]) -> None:
        """Have a commit live on hosts before the rollout has begun."""
        for host in hosts:
            host.has, host.had = commit, commit == NEW
            host.report()

    def mark_bad(self, commit: str) -> None:
        """Note that a commit is bad."""
        for path in (f"{APP.root}/bad", APP.bad(commit)):
            self.ensemble.nodes.setdefault(path, Node(b""))

    @property
    def state(self) -> RolloutRecord | None:
        """The rollout's state."""
        node = self.ensemble.nodes.get(APP.rollout(GENERATION))
        return RolloutRecord.from_node(node.data) if node else None

    def entry(self, host: SimulatedHost) -> str | None:
        """What a host has in the rollout."""
        for parent in ("in_flight", "hosts"):
            node = self.ensemble.nodes.get(f"{APP.rollout(GENERATION)}/{parent}/{host.name}")
            if node:
                return str(eval(node.data.decode().replace("null", "None"))["state"])  # our own
        return None

    def check(self) -> None:
        """What holds at every instant."""
        state = self.state
        if state is None:
            return
        self.most = max(self.most, state.counts[ADMITTED], state.counts[RETURNING])
        assert state.counts[ADMITTED] <= state.places
        if state.phase in GOING_ON:
            assert state.counts[ADMITTED] + state.counts[RETURNING] <= state.places
        names = [self.ensemble.children(f"{APP.rollout(GENERATION)}/{parent}") for parent in ("in_flight", "hosts")]
        assert sum(map(len, names)) == state.entries
        assert not set(names[0]) & set(names[1])
        if state.phase != "done":
            for host in self.hosts:
                assert host.has != NEW or host.had or self.entry(host), (
                    f"{host.name} has the release and was not admitted"
                )

    def command(self, verb: str, **keys: Any) -> str:
        """What a person does; what is said of it."""
        root = APP.rollout(GENERATION)
        state = self.state
        if state is None:
            return "nothing"
        decision = decide(state.parsed_plan(), state, Command(verb, "ann", **keys))
        if decision.state is not state:
            self.ensemble.apply(change_writes(root, state, self.ensemble.nodes[root].version, decision, "now"))
        return decision.why

    def lose_ensemble(self, seconds: float) -> None:
        """No server answers for so long; then all have their connections again, and every session has lasted.

        Every watch is told, and gone.
        """
        lost_at, self.now = self.now, self.now + seconds
        watches = set[Watch]().union(*self.ensemble.watches.values())
        self.ensemble.watches.clear()
        for host in self.hosts:
            if host.is_up and host.session and host.part:
                host.session.connections += 1
                host.session.lost_at = lost_at
                for watch in watches & host.session.watches:
                    watch(SimpleNamespace(path=None))
                host.part.mark_stale()
                host.wake()

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end and not until():
            hosts = [host for host in self.hosts if host.is_up]
            if not hosts:
                return
            pause = min(end - self.now, *(host.pause for host in hosts))
            self.now += pause + self.chance.uniform(0, 0.01)
            ready = [host for host in hosts if host.pause <= 0.0]
            for host in self.chance.sample(ready, len(ready)):
                if host.is_up:
                    host.turn()
