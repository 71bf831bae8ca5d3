"""A fleet whose hosts take part in a rollout by the agent's own code, with znodes in memory and a simulated clock."""

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
"""The time at which a fleet is created."""
FOR_EVER = 1e9
"""Seconds of a deployment that never ends."""
PROOF = 5.0
"""Seconds until a release that is already live is proved when an agent starts or the release is published."""

Watch = Callable[[Any], None]


@dataclass
class Node:
    """A znode: its value, and the parts of its stat that are used."""

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
        """Carry out all of the writes or none: none within `latency` of earlier ones, which nobody can have seen."""
        if self.clock() - self.changed_at < self.latency:
            return False
        done = self.apply(writes)
        if done:
            self.changed_at = self.clock()
        return done

    def fire(self, path: str) -> None:
        """Call the watches of a znode."""
        for watch in self.watches.pop(path, set()):
            self.fired[watch] += 1
            watch(SimpleNamespace(path=path))

    def children(self, path: str) -> list[str]:
        """The names of a znode's children."""
        prefix = f"{path}/"
        return [
            name[len(prefix) :] for name in self.nodes if name.startswith(prefix) and "/" not in name[len(prefix) :]
        ]

    def apply(self, writes: list[Write], owner: int = 0) -> bool:
        """Carry out all of the writes or none."""
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
        """Delete a session's ephemeral znodes."""
        for path in [path for path, node in self.nodes.items() if node.owner == owner]:
            del self.nodes[path]
            self.fire(path)


class FakeStat:
    """The parts of a znode's stat that are used."""

    def __init__(self, ensemble: Ensemble, path: str, node: Node) -> None:
        self._ensemble = ensemble
        self._path = path
        self.version, self.ephemeralOwner, self.czxid = node.version, node.owner, node.czxid

    @property
    def numChildren(self) -> int:  # noqa: N802  # kazoo's name
        """The number of its children."""
        return len(self._ensemble.children(self._path))


class FakeSession:
    """The agent's `Session`, with znodes in memory. A request may fail, before or after it is carried out."""

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
        """How often its watches have been called."""
        return sum(self._ensemble.fired[watch] for watch in self.watches)

    def _fail_perhaps(self, path: str = "") -> None:
        self.requests += 1
        if path in self._ensemble.forbidden:
            raise SessionTroubleError(f"{path}: its ACL does not let this agent read it")
        if self._chance.random() < self._failures:
            raise SessionTroubleError("connection loss")

    def expire(self) -> None:
        """End the session, begin another, and call every watch."""
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
        """As in `Session`; no server lags behind here."""
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
        """As in `Session`, except that it creates no parents."""
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
    """A host: the release that is live on it, and its behaviour with each release."""

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
        """As in `HostFacts`."""
        return SimpleNamespace(app=APP, name=self.name, labels=self.labels)

    def start(self) -> None:
        """Start an agent, with a session of its own."""
        fleet = self.fleet
        self.is_up = self.is_woken = True
        self.tries_at = None
        self._forget_goal()
        self.session = FakeSession(fleet.ensemble, fleet.chance, fleet.failures)
        fleet.ensemble.nodes.setdefault(APP.roster_entry(self.name), Node(b"{}"))
        self.report()
        self.part = Participation(self, self.session, fleet.desired, self.wake, resumes=False)  # type: ignore[arg-type]

    def restart(self) -> None:
        """Kill the agent, and start another process, which resumes its session."""
        fleet = self.fleet
        self.is_woken, self.tries_at = True, None
        self._forget_goal()
        self.part = Participation(self, self.session, fleet.desired, self.wake, resumes=True)  # type: ignore[arg-type]

    def _forget_goal(self) -> None:
        """Forget the goal: the next agent has to prove the live release again."""
        self.goal, self.awaits_health = None, False
        self.ended = {commit: ended for commit, ended in self.ended.items() if ended[0] != "active"}

    def report(self) -> None:
        """Write the status of the host, which is live."""
        assert self.session
        status = {
            "name": self.name,
            "state": "idle",
            "commitId": self.has,
            **({"held": {"since": "now"}} if self.is_held else {}),
        }
        self.fleet.ensemble.nodes[APP.agent(self.name)] = Node(json.dumps(status).encode(), owner=self.session.owner)

    def hold(self, is_held: bool) -> None:  # the new state
        """Hold the host, or release it, as a person does."""
        self.is_held = is_held
        if self.is_up:
            self.report()
        self.wake()

    def expire(self) -> None:
        """Expire the session; the agent has another immediately."""
        assert self.session
        self.session.expire()
        self.report()
        self.wake()

    def stop(self) -> None:
        """Take the host down, and end its session."""
        self.is_up, self.part = False, None
        assert self.session
        self.fleet.ensemble.end_session(self.session.owner)

    def wake(self) -> None:
        """Have the loop take another turn."""
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
        """Whether a deployment or proof is in progress that will end by itself."""
        is_kept = self.is_held and self.goal != self.has
        return self.goal is not None and self.goal not in self.ended and not (self.awaits_health or is_kept)

    def _outcome(self, desired: Desired) -> tuple[str, str | None] | None:
        commit = desired.release.commit_id if desired.release else None
        ended = self.ended.get(str(commit))
        return ended if self.goal == commit or (ended and ended[0] != "active") else None

    def turn(self) -> None:
        """Take one turn of the loop."""
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
            # A deployment in progress is cancelled.
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
            # It was proved before: no release is better, so the agent waits for its service indefinitely.
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
        """Seconds until the next turn without an event."""
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
    """Hosts and the clock. `run` lets time pass."""

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
        """Add a new host, on which nothing is live."""
        self.hosts.append(SimulatedHost(f"web{len(self.hosts)}", self, has=None))
        self.hosts[-1].start()

    def begin_with(self, commit: str, hosts: Sequence[SimulatedHost]) -> None:
        """Make a commit live on hosts before the rollout has begun."""
        for host in hosts:
            host.has, host.had = commit, commit == NEW
            host.report()

    def mark_bad(self, commit: str) -> None:
        """Mark a commit as bad."""
        for path in (f"{APP.root}/bad", APP.bad(commit)):
            self.ensemble.nodes.setdefault(path, Node(b""))

    @property
    def state(self) -> RolloutRecord | None:
        """The rollout's state."""
        node = self.ensemble.nodes.get(APP.rollout(GENERATION))
        return RolloutRecord.from_node(node.data) if node else None

    def entry(self, host: SimulatedHost) -> str | None:
        """The state of a host in the rollout; None if it has no entry."""
        for parent in ("in_flight", "hosts"):
            node = self.ensemble.nodes.get(f"{APP.rollout(GENERATION)}/{parent}/{host.name}")
            if node:
                return str(eval(node.data.decode().replace("null", "None"))["state"])  # the agent's own data
        return None

    def check(self) -> None:
        """Assert the invariants, after every change."""
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
        """Carry out a person's command, and return the reason for its outcome."""
        root = APP.rollout(GENERATION)
        state = self.state
        if state is None:
            return "nothing"
        decision = decide(state.parsed_plan(), state, Command(verb, "ann", **keys))
        if decision.state is not state:
            self.ensemble.apply(change_writes(root, state, self.ensemble.nodes[root].version, decision, "now"))
        return decision.why

    def lose_ensemble(self, seconds: float) -> None:
        """Let no server answer for so long; then every host reconnects, and no session has expired.

        Every watch is called and removed.
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
        """Let time pass until `until()` is true, no host is up, or so many seconds have passed."""
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
