"""A fleet of simulated hosts that go through one rollout, each with its own session and the agent's own code.

What else a host does is simulated: it watches `config` as the agent does, and its deployment takes some
milliseconds.
"""

from __future__ import annotations

import heapq
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

from greenlet import greenlet
from kazoo.client import KazooClient

from bench.harness import BenchError
from bench.raw_session import Hub, RawSession, Traffic
from support.ensemble import Ensemble
from support.simulated_fleet import APP, NEW, OLD, URL, SimulatedHost
from zoo_watcher.desired import Desired
from zoo_watcher.rollouts.participation import Participation
from zoo_watcher.rollouts.znodes import RolloutZnodes
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.rollout_phases import DONE
from zoo_watcher.wire.rollout_records import RolloutRecord

ROLLOUT = {
    "steps": [{"hosts": 1, "soak": 1}, {"percent": 10, "soak": 1}],
    "maxInFlight": "10%",
    "minHealthy": 0,
    "from": OLD,
}
DEPLOYS = 0.02
"""Seconds that a deployment takes, at most."""
PING = 15.0
"""Seconds between two pings of every session."""
DEADLINE = 900.0
"""Seconds that a rollout may take."""
LOOK, SETTLES = 0.5, 1.0
"""Seconds between two checks whether a rollout is done, and seconds for the last hosts to learn of it."""
LIST = "/list"
STATUS = b'{"name": "x", "state": "idle"}'


@dataclass(frozen=True)
class Course:
    """The seconds that a rollout took, and the traffic of each host."""

    seconds: float
    traffic: list[Traffic]


class RawHost(SimulatedHost):
    """A host with a session on its own socket."""

    __eq__, __hash__ = object.__eq__, object.__hash__

    def attach(self, session: RawSession) -> None:
        """Be live, and watch for a release."""
        self.session = session  # type: ignore[assignment]
        self.raw = session
        self.wake_at: float | None = None
        self.is_in_turn = False
        session.create(APP.agent(self.name), STATUS, ephemeral=True)
        session.read(APP.config, self._on_config)
        session.traffic = Traffic()

    def _on_config(self, _event: Any) -> None:
        self.fleet.publish_to(self)  # type: ignore[attr-defined]

    def take_up(self) -> None:
        """Read what is published, as the agent does, and take part in its rollout."""
        config = self.raw.begin_read(APP.config, self._on_config)
        self.raw.begin_read(APP.policy)
        self.raw.begin_list(APP.rollouts)
        znode = config()
        self.raw.exists(APP.agents)
        assert znode is not None
        desired = Desired(znode.stat.mzxid, self.fleet.count, Release.from_node(znode.data))  # type: ignore[attr-defined]
        self.part = Participation(self, self.raw, desired, self.wake, resumes=False)  # type: ignore[arg-type]

    def report(self) -> None:
        """Write nothing, because an agent's status is not counted."""

    def wake(self) -> None:
        """Take note that there is something to look at."""
        self.is_woken = True
        self.fleet.ready(self)  # type: ignore[attr-defined]

    def live(self) -> None:
        """Take a turn of the loop, and further ones while there is something to look at."""
        self.is_in_turn = True
        if self.part is None:
            self.take_up()
        self.is_woken = True
        while self.is_woken:
            self.turn()
        self.is_in_turn = False
        self.fleet.sleep(self, self.pause)  # type: ignore[attr-defined]


class RawFleet:
    """The hosts, and the loop that runs them."""

    chance = SimpleNamespace(uniform=lambda _least, _most: random.uniform(DEPLOYS / 2, DEPLOYS))
    """The source of the durations of deployments."""

    def __init__(self, ensemble: Ensemble, count: int) -> None:
        self.count = count
        self._hub = Hub()
        self._alarms: list[tuple[float, int, RawHost]] = []
        self._ready: list[RawHost] = []
        self._ports = [member.client_port for member in ensemble.members]
        self._ping_at = time.monotonic() + PING
        self._hosts: list[RawHost] = []
        self._failure: BaseException | None = None

    @property
    def now(self) -> float:
        """The present moment, in seconds."""
        return time.monotonic()

    def start(self) -> None:
        """Make every host live."""
        for number in range(self.count):
            host = RawHost(f"web-{number:05}", self)  # type: ignore[arg-type]
            self._hosts.append(host)
            session = RawSession(self._hub, self._ports[number % len(self._ports)])
            self._run(partial(host.attach, session))
            self._serve(0)
        while not all(hasattr(host, "raw") and host.raw.traffic.requests == 0 for host in self._hosts):
            self._serve(1)

    def _run(self, work: Any) -> None:
        greenlet(self._guarded(work)).switch()

    def _guarded(self, work: Any) -> Any:
        def run() -> None:
            try:
                work()
            except Exception as exc:  # noqa: BLE001  # the loop raises it
                self._failure = exc

        return run

    def publish_to(self, host: RawHost) -> None:
        """Let a host know of a release."""
        self.ready(host)

    def ready(self, host: RawHost) -> None:
        """Take note that a host has something to do."""
        if not host.is_in_turn:
            self._ready.append(host)

    def sleep(self, host: RawHost, seconds: float) -> None:
        """Wake a host after so many seconds."""
        host.wake_at = time.monotonic() + seconds
        heapq.heappush(self._alarms, (host.wake_at, id(host), host))

    def _serve(self, seconds: float) -> None:
        self._hub.serve(seconds)
        if self._failure is not None:
            raise BenchError(f"a host has failed: {self._failure!r}") from self._failure
        if time.monotonic() >= self._ping_at:
            self._ping_at = time.monotonic() + PING
            self._hub.ping()

    def step(self) -> None:
        """Run the hosts that have something to do, and wait for more."""
        now = time.monotonic()
        while self._alarms and self._alarms[0][0] <= now:
            moment, _unused, host = heapq.heappop(self._alarms)
            if moment == host.wake_at:
                self.ready(host)
        ready, self._ready = dict.fromkeys(self._ready), []
        for host in ready:
            if not host.is_in_turn:
                host.wake_at = None
                self._run(host.live)
        alarm = self._alarms[0][0] - time.monotonic() if self._alarms else 0.1
        self._serve(0 if self._ready else min(alarm, 0.1))

    def traffic(self) -> list[Traffic]:
        """What each host has sent and received."""
        return [host.raw.traffic for host in self._hosts]

    def has_all(self) -> bool:
        """Whether every host has the release."""
        return all(host.has == NEW for host in self._hosts)

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()

    def close(self) -> None:
        """End every session."""
        self._hub.close()


@contextmanager
def published(client: KazooClient) -> Iterator[None]:
    """The znodes of an application in which nothing deletes old rollouts, which an agent does in its own thread."""
    for path in (APP.root, APP.agents, APP.history, APP.roster, APP.rollouts, f"{APP.root}/bad"):
        client.ensure_path(path)
    with mock.patch.object(RolloutZnodes, "trim", return_value=None):
        yield


def roll_out(ensemble: Ensemble, client: KazooClient, count: int) -> Course:
    """Publish once to `count` hosts, and wait until the rollout is done."""
    with published(client):
        fleet = RawFleet(ensemble, count)
        try:
            fleet.start()
            release = Release(URL, NEW, "site", extra={"rollout": ROLLOUT})
            begun = time.monotonic()
            client.create(APP.config, json.dumps(release.to_object()).encode())
            root = APP.rollout(client.exists(APP.config).mzxid)
            while not (_is_done(client, root) and fleet.has_all()):
                fleet.rest(LOOK)
                if time.monotonic() - begun > DEADLINE:
                    raise BenchError(f"the rollout of {count} hosts is not done after {DEADLINE:g} s")
            seconds = time.monotonic() - begun
            fleet.rest(SETTLES)
            return Course(seconds, fleet.traffic())
        finally:
            fleet.close()


def _is_done(client: KazooClient, root: str) -> bool:
    return client.exists(root) is not None and RolloutRecord.from_node(client.get(root)[0]).phase == DONE


class WatchingFleet:
    """Hosts that watch the list of outcomes, and list it at each change.

    The list grows by one host at a time, as fast as the slowest host reads it.
    """

    def __init__(self, ensemble: Ensemble, count: int) -> None:
        self._hub = Hub()
        ports = [member.client_port for member in ensemble.members]
        self._sessions = [RawSession(self._hub, ports[number % len(ports)]) for number in range(count)]
        self._seen = [0] * count

    @classmethod
    def run(cls, ensemble: Ensemble, client: KazooClient, count: int) -> Course:
        """Add the outcomes of all hosts, one after the other."""
        client.ensure_path(LIST)
        fleet = cls(ensemble, count)
        try:
            begun = time.monotonic()
            for number in range(count):
                greenlet(fleet._look).switch(number)
            for number in range(count):
                client.create(f"{LIST}/web-{number:05}")
                fleet._await(number + 1)
            return Course(time.monotonic() - begun, [session.traffic for session in fleet._sessions])
        finally:
            fleet._hub.close()

    def _look(self, number: int) -> None:
        names = self._sessions[number].begin_list(LIST, lambda _event: greenlet(self._look).switch(number))
        self._seen[number] = len(names())

    def _await(self, length: int) -> None:
        deadline = time.monotonic() + DEADLINE
        while min(self._seen) < length:
            self._hub.serve(1.0)
            if time.monotonic() > deadline:
                raise BenchError(f"a host has not seen {length} names after {DEADLINE:g} s")
