"""A fleet of real agents to which releases are rolled out, and a thread that checks the limits of a rollout."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from faults.support.host import patiently
from faults.support.ledger import LIMITS, Ledger
from faults.support.ways import Ways
from support.agent import Agent, publish
from support.client import connected
from support.ensemble import Ensemble
from support.lonely import RETRY
from support.playbook import ROOT, start_playbook
from support.repository import GitRepository
from support.rollout import Rollout
from support.waiting import wait_for

PAST = {"promote": "promoted", "pause": "paused", "halt": "halted"}
PAUSE = 0.02
"""Seconds between two looks at the znodes."""


@dataclass
class RollingFleet:
    """Agents of one application, each with its own proxies to the ensemble."""

    agents: list[Agent]
    ways: dict[str, Ways]
    zk: KazooClient = field(repr=False)
    servers: Ensemble
    origin: GitRepository
    ledger: Ledger
    url: str
    """The URL of the origin, for the agents."""

    @property
    def app(self) -> str:
        """The application of the agents."""
        return self.agents[0].app

    @property
    def generation(self) -> int:
        """The published generation."""
        return int(patiently(lambda: self.zk.get(f"{self.app}/config"))[1].mzxid)

    def named(self, name: str) -> Agent:
        """The agent with this name."""
        return next(agent for agent in self.agents if agent.name == name)

    def publish(self, commit: str, **keys: Any) -> int:
        """Publish a commit, and return the generation."""
        release = {"url": self.url, "commitId": commit, "relativePath": "site", **keys}
        return patiently(partial(publish, self.zk, self.app, release))

    def commit(self, *bad: str) -> str:
        """A new commit, which fails on the named hosts."""
        number = len(self.origin.git("log", "--oneline").splitlines())
        return self.origin.commit({"index.html": f"{number}\n", "bad": "".join(f"{name}\n" for name in ("", *bad))})

    def settle(self) -> str:
        """Make every agent run and deploy one new commit, and return that commit."""
        for agent in self.agents:
            self.ways[agent.name].open()
            if agent.process is None:
                agent.start()
        commit = self.commit()
        self.wait_active(self.publish(commit, rollout=False), commit)
        return commit

    def wait_active(self, generation: int, commit: str, seconds: float = 60) -> None:
        """Wait until a generation is active and its commit live on all hosts. The AssertionError describes others."""

        def are_all() -> bool:
            return next(self._behind(generation, commit), None) is None

        try:
            wait_for(are_all, f"{commit} is active on all", seconds)
        except AssertionError as exc:
            told = "\n".join(self._describe(agent, generation) for agent in self._behind(generation, commit))
            raise AssertionError(f"{exc}\n{told or 'it is now'}") from exc

    def _behind(self, generation: int, commit: str) -> Iterator[Agent]:
        """The agents on which a generation is not active, or that do not have this commit live."""
        return (agent for agent in self.agents if agent.live() != commit or not self._has(agent, generation, "active"))

    @staticmethod
    def _has(agent: Agent, generation: int, state: str) -> bool:
        """Whether the status of an agent has this state and generation."""
        status = patiently(lambda: agent.status)
        return (status.get("generation"), status.get("state")) == (generation, state)

    def _describe(self, agent: Agent, generation: int) -> str:
        """All that is known about an agent and its part in the rollout of a generation."""
        process = agent.process and (agent.process.pid, agent.process.poll())
        made = Rollout(self.zk, self.app, generation)
        entry = patiently(lambda: made.entries).get(agent.name) if patiently(lambda: made.state) else None
        status = patiently(lambda: agent.status)
        return (
            f"{agent.name}: live: {agent.live()}, entry: {entry}, process and what it ended with: {process}, "
            f"status: {status}\nend of its log:\n{agent.log[-4000:]}"
        )

    def wait_state(self, agent: Agent, generation: int, state: str) -> None:
        """Wait until the status of an agent has this state and generation."""
        wait_for(lambda: self._has(agent, generation, state), f"{agent.name} is {state}")

    def lives(self) -> dict[str, str | None]:
        """The live commit of each host."""
        return {agent.name: agent.live() for agent in self.agents}

    def roll_out(self, commit: str, **rollout: Any) -> Rollout:
        """Publish a commit to be rolled out."""
        return self._seen(self.publish(commit, rollout={"minHealthy": 0, **rollout}))

    def roll_back(self, commit: str, since: str, **rollout: Any) -> Rollout:
        """Publish an earlier commit, to go back to it from the commit `since`."""
        return self._seen(self.publish(commit, rolledBackFrom=since, rollout={"minHealthy": 0, **rollout}), "rollback")

    def _seen(self, generation: int, what: str = "rollout") -> Rollout:
        self.ledger.see_rollout(f"a {what} to {len(self.agents)} hosts")
        return Rollout(self.zk, self.app, generation)

    def roll_out_by_playbook(self, commit: str, **rollout: Any) -> Rollout:
        """Make `deploy.yml` publish a commit to be rolled out, and kill the playbook as soon as a host is admitted."""
        before = self.generation
        plan = {"minHealthy": 0, **rollout}
        given = {"hosts": self.servers.hosts, "app": self.app, "ref": commit, "rollout": plan}
        words = json.dumps({f"zoo_{name}": value for name, value in given.items()})
        controller = start_playbook(ROOT / "playbooks/deploy.yml", "-e", words)
        try:
            wait_for(lambda: self.generation != before, "it is published", 60)
            made = self._seen(self.generation)
            self.wait_entry(made, "admitted")
            assert controller.poll() is None
        finally:
            self.ledger.inject("in a rollout: kill -9 of the ansible-playbook that published it")
            os.killpg(controller.pid, signal.SIGKILL)
            controller.wait()
        return made

    def command(self, made: Rollout, verb: str) -> None:
        """Give a rollout a command, as a person does."""
        self.ledger.see_rollout(f"a rollout is {PAST[verb]} by a person")
        patiently(lambda: made.command(verb))

    def heads(self, made: Rollout, places: int) -> list[Agent]:
        """The agents that wait at the heads of the lanes, once each lane has one."""

        def find() -> list[Agent]:
            line = made.values("line")
            first: dict[int, tuple[int, str]] = {}
            for name in line:
                number = int(name.rpartition("-")[2])
                first[number % places] = min(first.get(number % places, (number, name)), (number, name))
            hosts = [line[name] for _number, name in first.values()]
            return [self.named(host) for host in hosts] if len(hosts) == places else []

        return wait_for(lambda: patiently(find), "each lane has a head")

    def wait_entry(self, made: Rollout, entry: str, but: Collection[str] = ()) -> Agent:
        """An agent with this entry that is not among `but`, once there is one."""

        def find() -> Agent | None:
            entries = patiently(lambda: made.entries) if patiently(lambda: made.state) else {}
            names = sorted(name for name, found in entries.items() if found == entry and name not in but)
            return self.named(names[0]) if names else None

        return wait_for(find, f"one is {entry}", 60)

    @contextlib.contextmanager
    def looking(self, made: Rollout, places: int, *before: str) -> Iterator[None]:
        """Check all the time that the rollout keeps to its limits. `before` are the commits that the hosts had."""
        look = Look(self, made, places, before)
        look.start()
        try:
            yield
        finally:
            look.end()
        look.raise_trouble()


class Look(threading.Thread):
    """Checks a rollout again and again."""

    def __init__(self, fleet: RollingFleet, made: Rollout, places: int, before: Collection[str]) -> None:
        super().__init__(daemon=True)
        self._fleet, self._made, self._places, self._before = fleet, made, places, before
        self._is_over = threading.Event()
        self._trouble: Exception | None = None

    def run(self) -> None:
        """Check until the rollout is over or something is wrong."""
        try:
            with connected(self._fleet.servers.hosts, timeout=10, connection_retry=RETRY) as zk:
                made = Rollout(zk, self._made.app, self._made.generation)
                while not self._is_over.wait(PAUSE):
                    patiently(partial(self._look, made))
        except Exception as exc:  # noqa: BLE001  # told by the test
            self._trouble = exc

    def _look(self, made: Rollout) -> None:
        lives = self._fleet.lives()
        entries = self._entries(made)
        early = [name for name, live in lives.items() if live not in self._before and name not in entries]
        if early:
            # An entry may have been moved between the reads of its old and its new place.
            entries = {**entries, **self._entries(made)}
            early = [name for name in early if name not in entries]
        if early and made.state.get("phase") == "done":
            early = []  # it was done without them, as they were not live, and they follow
        trouble = f"{early} have the release, and were not admitted: {entries}" if early else ""
        # In a rollback, hosts that were not proved need no place.
        for entry, most in (("admitted", self._places), ("returning", 2 * self._places)):
            names = sorted(name for name, found in entries.items() if found == entry)
            trouble = trouble or (f"{names} are {entry}, {most} may be" if len(names) > most else "")
        self._fleet.ledger.judge(LIMITS, trouble)

    @staticmethod
    def _entries(made: Rollout) -> dict[str, str]:
        try:
            return made.entries
        except NoNodeError:
            return {}  # it has not begun

    def end(self) -> None:
        """Stop checking."""
        self._is_over.set()
        self.join(60)

    def raise_trouble(self) -> None:
        """Raise what was wrong."""
        if self._trouble:
            raise self._trouble


@contextlib.contextmanager
def rolling_fleet(root: Path, servers: Ensemble, app: str, count: int, ledger: Ledger) -> Iterator[RollingFleet]:
    """A fleet of `count` agents, not started yet, that share an origin."""
    origin = GitRepository.create(root / "origin")
    with ExitStack() as stack:
        zk = stack.enter_context(connected(servers.hosts, timeout=10, connection_retry=RETRY))
        agents, ways = [], {}
        for number in range(count):
            name = f"web{number:02}"
            ways[name] = Ways(servers, stack)
            # Long enough to be hit by a fault meanwhile.
            hook = ["sh", "-c", f'sleep 0.3; ! grep -qx {name} "$ZOO_RELEASE/bad"']
            agents.append(Agent(root / name, ways[name].hosts, app, zk, name, {"hooks": {"after_activate": hook}}))
            stack.callback(agents[-1].kill)
        yield RollingFleet(agents, ways, zk, servers, origin, ledger, origin.url)
