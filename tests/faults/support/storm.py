"""Troubles that befall a fleet at random, several at once, each for a while."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kazoo.exceptions import NoNodeError

from faults.support import trees
from faults.support.host import Host, patiently
from faults.support.ledger import COMMITS, HOSTS, Ledger
from faults.support.proxy import Proxy
from faults.support.ways import Ways
from support.agent import expire_session
from support.ensemble import Ensemble, Member
from support.repository import GitRepository

LONGEST = 8.0
"""Seconds that a trouble lasts at most: longer than the session timeout of the fleet."""

Act = Callable[[], object]


@dataclass(frozen=True)
class Trouble:
    """A trouble's name, what begins it, and what ends it if it does not end by itself."""

    name: str
    begin: Act
    end: Act | None = None


@dataclass(frozen=True)
class Fleet:
    """Hosts of one application, their proxies to the ensemble, and the proxy and URL of the git server."""

    hosts: list[Host]
    ways: dict[str, Ways]
    servers: Ensemble
    git: Proxy
    url: str

    @property
    def origin(self) -> GitRepository:
        """The repository whose commits are published."""
        return self.hosts[0].origin

    def commit(self, *, bad: bool = False) -> str:
        """A new commit. A bad one has a file that makes the after_activate hook fail."""
        there = (self.origin.path / "bad").exists()
        changes = {"bad": "yes\n" if bad else None} if bad or there else {}
        return self.origin.commit({"index.html": f"{time.monotonic_ns()}\n", **changes})

    def publish(self, commit_id: str) -> int:
        """Publish a commit, and return the generation."""
        return self.hosts[0].publish(commit_id, url=self.url)


class Storm:
    """Begins and ends troubles. Each thing (a host, a member, the git server) has only one at a time."""

    def __init__(self, fleet: Fleet, ledger: Ledger, seed: int) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._random = random.Random(seed)
        self._under_way: dict[str, tuple[float, Act]] = {}

    def step(self) -> None:
        """End the troubles that have lasted long enough, and begin a new one."""
        now = time.monotonic()
        for thing in [thing for thing, (until, _end) in self._under_way.items() if until <= now]:
            self._under_way.pop(thing)[1]()
        thing, troubles = self._random.choice(list(self._things()))
        trouble = self._random.choice(troubles)
        lasts = self._random.uniform(0.2, LONGEST)
        if thing in self._under_way:
            return
        self._ledger.inject(f"in a storm: {trouble.name}")
        trouble.begin()
        if trouble.end:
            self._under_way[thing] = now + lasts, trouble.end

    def calm(self) -> None:
        """End all troubles."""
        while self._under_way:
            self._under_way.popitem()[1][1]()

    def look(self) -> None:
        """Check that every live tree is complete, and that every agent that was not stopped is running."""
        for host in self._fleet.hosts:
            self._ledger.judge(COMMITS, damage(host))
            status = host.agent.process and host.agent.process.poll()
            ended = f"{host.agent.name} has ended with {status}:\n{host.agent.log[-4000:]}"
            self._ledger.judge(HOSTS, "" if status is None else ended)

    def _things(self) -> Iterator[tuple[str, list[Trouble]]]:
        for host in self._fleet.hosts:
            yield host.agent.name, self._of_host(host)
        yield "member", self._of_member(self._random.choice(self._fleet.servers.members))
        yield "git server", self._of_git_server()
        # More often than each of the others, or hardly anything would be deployed.
        yield from [("config", self._of_config())] * 3

    def _of_host(self, host: Host) -> list[Trouble]:
        ways, agent = self._fleet.ways[host.agent.name], host.agent
        return [
            Trouble("kill -9 of an agent", agent.kill, host.start),
            Trouble("restart of an agent by SIGTERM", agent.end, host.start),
            Trouble("restart of an agent by SIGUSR2", partial(agent.end, signal.SIGUSR2), host.start),
            Trouble("SIGHUP to an agent", partial(_reload, host)),
            Trouble(
                "SIGSTOP of an agent", partial(_signal, host, signal.SIGSTOP), partial(_signal, host, signal.SIGCONT)
            ),
            Trouble("an agent's connections refused", ways.refuse, ways.open),
            Trouble("an agent's connections swallowed", ways.swallow, ways.open),
            Trouble("an agent's connections cut", ways.cut),
            Trouble("an agent's session expired", partial(_expire, host)),
            Trouble("an agent's registration deleted", partial(_delete, host, host.registration)),
            Trouble("a service is down", host.service.close, host.service.open),
        ]

    def _of_member(self, member: Member) -> list[Trouble]:
        return [
            Trouble("kill -9 of a member", member.kill, self._fleet.servers.start),
            Trouble(
                "SIGSTOP of a member", partial(member.signal, signal.SIGSTOP), partial(member.signal, signal.SIGCONT)
            ),
        ]

    def _of_git_server(self) -> list[Trouble]:
        git = self._fleet.git
        return [
            Trouble("the git server refuses", git.refuse, git.behave),
            Trouble("the git server swallows", git.swallow, git.behave),
            Trouble("the git server hangs up", git.cut),
        ]

    def _of_config(self) -> list[Trouble]:
        fleet, first = self._fleet, self._fleet.hosts[0]
        return [
            Trouble("a release", lambda: fleet.publish(fleet.commit())),
            Trouble("two releases at once", lambda: [fleet.publish(fleet.commit()) for _number in range(2)]),
            Trouble("a bad release", lambda: fleet.publish(fleet.commit(bad=True))),
            Trouble("a release that is no release", partial(first.publish_bytes, b'{"url": "x"')),
            Trouble("a commit that nobody has", partial(fleet.publish, "f" * 40)),
            Trouble("deletion of the config znode", partial(_delete, first, f"{first.agent.app}/config")),
        ]


def damage(host: Host) -> str:
    """How the live tree of a host differs from its commit, empty if it does not."""
    while True:
        live = host.agent.live()
        if live is None:
            return f"nothing is live at {host.agent.name}"
        trouble = trees.difference(host.agent.base / ".zoo/releases" / live, host.origin.path, live)
        if host.agent.live() == live:
            return trouble


def hears(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal, or blocks it until it has one (proc_pid_status(5))."""
    sets = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(sets["SigCgt"], 16) | int(sets["SigBlk"], 16)) >> (number - 1) & 1)


def _signal(host: Host, number: int) -> None:
    assert host.agent.process
    host.agent.process.send_signal(number)


def _reload(host: Host) -> None:
    # An agent that has just been started has no handler yet, and would end. A service manager waits for it too.
    assert host.agent.process
    if hears(host.agent.process.pid, signal.SIGHUP):
        _signal(host, signal.SIGHUP)


def _expire(host: Host) -> None:
    # An agent that has just lost its session, or deleted its file as it ended, has none until the next session.
    with contextlib.suppress(FileNotFoundError):
        expire_session(host.agent)


def _delete(host: Host, path: str) -> None:
    with contextlib.suppress(NoNodeError):
        patiently(lambda: host.zk.delete(path))
