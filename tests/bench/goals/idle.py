"""P11: what an agent at rest takes, against the least that watches a znode with kazoo (`bare_watcher.py`).

The agent is as the role installs it, in the environment of its unit, and has one service, checked every two seconds.
Its memory is `Rss` of /proc/PID/smaps_rollup, of the one process that there is at rest, after `REST` seconds. `Pss`
would depend on what else runs on the machine: it shares out the pages of Python and of the C library.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.agents import install
from bench.harness import BenchError, Comparison, Sample, Side, goal
from bench.workbench import HERE, Workbench
from support.agent import Agent, publish
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

LIMIT = 1.15
EMPTY, DEPLOYED = "/bench/idle/empty", "/bench/idle/deployed"
"""The applications without a release, and with one."""
REST, QUICK_REST = 5.0, 1.0
"""Seconds without anything to do before memory is looked at, and in a run that is quick."""
CHECKS = (("tcp", EMPTY), ("http", EMPTY), ("tcp", DEPLOYED), ("http", DEPLOYED))
BUSY = "tcp", EMPTY
"""The agent whose processor time is taken."""
WATCHED = 15.0
"""Seconds over which the processor's time is taken."""
MOST_BUSY = 60.0
"""Milliseconds that a processor may be busy in a minute."""
NANOSECONDS_IN_MILLISECOND = 1_000_000

Who = tuple[str, str]
"""A process at rest, by the check of its service (`BARE` for the bare watcher) and its application."""
BARE = "bare"


@goal("P11")
def idle_agent(bench: Workbench) -> Iterator[Comparison]:
    """Memory with either check, before and after a deployment; then the time that the processor is busy."""
    _publish(bench)
    service = Service().open()
    try:
        rounds = _Rounds(bench, service.port)
        for check, app in CHECKS[-1:] if bench.quick else CHECKS:
            work = f"RSS, {check} check, {'a deployment' if app == DEPLOYED else 'no release'}; bare watcher"
            sides = rounds.memory(check, app), rounds.memory(BARE, app)
            yield Comparison("P11", work, LIMIT, *sides, _same_generation, "MB")
        if not bench.quick:
            sides = rounds.busy(*BUSY), rounds.busy(BARE, EMPTY)
            yield Comparison("P11", "CPU in a minute, tcp check; bare watcher", None, *sides, _same_generation, "ms")
            work = "CPU in a minute, tcp check; the most allowed"
            yield Comparison("P11", work, 1.0, rounds.busy(*BUSY), _most_busy, _any, "ms")
    finally:
        service.close()


def _publish(bench: Workbench) -> None:
    bench.client.ensure_path(EMPTY)
    repository = GitRepository.create(bench.directory / "repository")
    publish(
        bench.client,
        DEPLOYED,
        {"url": repository.url, "commitId": repository.head, "relativePath": "site"},
    )


class _Figures(NamedTuple):
    """Of one process at rest: megabytes, milliseconds in a minute (only of some), and the generation it has seen."""

    memory: float
    busy: float
    generation: int | None


class _Rounds:
    """The rounds that all comparisons share: in each, all processes are started, rest together, and are looked at.

    At rest, none takes anything from another: together they are busy for less than a hundredth of a second in one.
    """

    def __init__(self, bench: Workbench, port: int) -> None:
        self._bench = bench
        self._port = port
        self._environment = install(bench)
        self._rounds: list[dict[Who, _Figures]] = []

    def memory(self, check: str, app: str) -> Side:
        """The memory of a process, and the generation that it has seen."""
        return self._side((check, app), lambda figures: figures.memory)

    def busy(self, check: str, app: str) -> Side:
        """The processor time of a process, and the generation that it has seen."""
        return self._side((check, app), lambda figures: figures.busy)

    def _side(self, who: Who, figure: Callable[[_Figures], float]) -> Side:
        numbers = itertools.count()

        def side() -> Sample:
            number = next(numbers)
            if number == len(self._rounds):
                self._rounds.append(self._round())
            figures = self._rounds[number][who]
            return Sample(figure(figures), figures.generation)

        return side

    def _round(self) -> dict[Who, _Figures]:
        """Every process from its start on, an agent from an empty base."""
        checks = CHECKS[-1:] if self._bench.quick else CHECKS
        apps = sorted({app for _check, app in checks})
        with contextlib.ExitStack() as stack:
            agents = {who: stack.enter_context(self._agent(*who)) for who in checks}
            bare = {(BARE, app): stack.enter_context(self._bare(app)) for app in apps}
            pids = {who: agent.process.pid for who, agent in agents.items() if agent.process}
            pids.update({who: process.pid for who, (process, _seen) in bare.items()})
            time.sleep(QUICK_REST if self._bench.quick else REST)
            memory = {who: _rss(pid) for who, pid in pids.items()}
            busy = {} if self._bench.quick else _busy({who: pids[who] for who in (BUSY, (BARE, BUSY[1]))})
            seen = {who: agent.status.get("generation") for who, agent in agents.items()}
            seen.update({who: generation for who, (_process, generation) in bare.items()})
        return {who: _Figures(memory[who], busy.get(who, 0.0), seen[who]) for who in pids}

    @contextlib.contextmanager
    def _agent(self, check: str, app: str) -> Iterator[Agent]:
        name = f"{len(self._rounds)}-{check}-{app.rpartition('/')[2]}"
        service = {
            "path": "/bench/idle/service",
            "id": name,
            "address": "127.0.0.1",
            "port": self._port,
            "check": {"type": check, "interval": 2},
        }
        agent = Agent(
            self._bench.directory / f"agent{name}",
            self._bench.ensemble.hosts,
            app,
            self._bench.client,
            name,
            config={"services": [service], "session_timeout": 10},
        )
        agent.start(**self._environment)
        try:
            wait_for(lambda: self._has_settled(agent, f"{service['path']}/{service['id']}"), "an agent has settled")
            yield agent
        finally:
            agent.end()

    def _has_settled(self, agent: Agent, registration: str) -> bool:
        settled = "idle" if agent.app == EMPTY else "active"
        return agent.status.get("state") == settled and self._bench.client.exists(registration) is not None

    @contextlib.contextmanager
    def _bare(self, app: str) -> Iterator[tuple[subprocess.Popen[str], int | None]]:
        """The bare watcher, and the generation that it has seen."""
        command = [sys.executable, str(HERE / "bare_watcher.py"), self._bench.ensemble.hosts, f"{app}/config"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            try:
                assert process.stdout is not None
                seen = process.stdout.readline().strip()
                yield process, None if seen == "None" else int(seen)
            finally:
                process.kill()


def _rss(pid: int) -> float:
    """Megabytes of memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith("Rss:"))
    return int(kibibytes) * 1024 / 1e6


def _busy(pids: Mapping[Who, int]) -> dict[Who, float]:
    """Milliseconds that a processor is busy with each of these processes in a minute."""
    before = {who: _processor_time(pid) for who, pid in pids.items()}
    time.sleep(WATCHED)
    scale = 60 / WATCHED / NANOSECONDS_IN_MILLISECOND
    return {who: (_processor_time(pid) - before[who]) * scale for who, pid in pids.items()}


def _processor_time(pid: int) -> int:
    """Nanoseconds, of the threads that there are now: proc(5), schedstat."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _most_busy() -> Sample:
    return Sample(MOST_BUSY)


def _any(_ours: object, _yardstick: object) -> None:
    """What is compared with a number has come to nothing else."""


def _same_generation(ours: Any, yardstick: Any) -> None:
    if ours != yardstick:
        raise BenchError(f"the agent has seen generation {ours}, the bare watcher {yardstick}")
