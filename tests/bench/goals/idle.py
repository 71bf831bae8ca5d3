"""P11: memory and processor time of an agent at rest, against the least that watches a znode with kazoo.

The yardstick is `bare_watcher.py`. The agent is as the role installs it, in the environment of its unit, with one
service, checked every two seconds. Its memory is `Rss` in /proc/PID/smaps_rollup of its only process at rest, after
`REST` seconds. `Pss` would depend on what else runs on the machine, because it divides the shared pages of Python and
of the C library.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
"""Seconds of rest before the measurement, and those of a quick run."""
CHECKS = (("tcp", EMPTY), ("http", EMPTY), ("tcp", DEPLOYED), ("http", DEPLOYED))
WATCHED = 15.0
"""Seconds over which processor time is measured."""
MOST_BUSY = 60.0
"""Milliseconds of processor time that are allowed in a minute."""
NANOSECONDS_IN_MILLISECOND = 1_000_000

Measure = Callable[[int], float]
"""A function from a process ID to a figure of that process at rest."""


@goal("P11")
def idle_agent(bench: Workbench) -> Iterator[Comparison]:
    """Memory with either check, before and after a deployment, then processor time."""
    _publish(bench)
    service = Service().open()
    try:
        agents = _Agents(bench, service.port)
        for check, app in CHECKS[-1:] if bench.quick else CHECKS:
            release = "a deployment" if app == DEPLOYED else "no release"
            yield _comparison(f"RSS, {check} check, {release}; bare watcher", LIMIT, agents, check, app, _rss, "MB")
        if not bench.quick:
            yield _comparison("CPU in a minute, tcp check; bare watcher", None, agents, "tcp", EMPTY, _busy, "ms")
            busy = agents.side("tcp", EMPTY, _busy)
            yield Comparison("P11", "CPU in a minute, tcp check; the most allowed", 1.0, busy, _most_busy, _any, "ms")
    finally:
        service.close()


def _comparison(
    work: str, limit: float | None, agents: _Agents, check: str, app: str, measure: Measure, unit: str
) -> Comparison:
    ours, yardstick = agents.side(check, app, measure), _bare(agents.bench, app, measure)
    return Comparison("P11", work, limit, ours, yardstick, _same_generation, unit)


def _publish(bench: Workbench) -> None:
    bench.client.ensure_path(EMPTY)
    repository = GitRepository.create(bench.directory / "repository")
    publish(
        bench.client,
        DEPLOYED,
        {"url": repository.url, "commitId": repository.head, "relativePath": "site"},
    )


class _Agents:
    """Makes agents from the package as the role installs it."""

    def __init__(self, bench: Workbench, port: int) -> None:
        self.bench = bench
        self._port = port
        self._turns = itertools.count()
        self._environment = install(bench)

    def side(self, check: str, app: str, measure: Measure) -> Side:
        """A side with an agent that begins with an empty base and has this check. Its result is its generation."""

        def side() -> Sample:
            with self._running(check, app) as agent:
                assert agent.process is not None
                figure = _at_rest(self.bench, agent.process.pid, measure)
                return Sample(figure, agent.status.get("generation"))

        return side

    @contextlib.contextmanager
    def _running(self, check: str, app: str) -> Iterator[Agent]:
        turn = next(self._turns)
        service = {
            "path": "/bench/idle/service",
            "id": f"server{turn}",
            "address": "127.0.0.1",
            "port": self._port,
            "check": {"type": check, "interval": 2},
        }
        agent = Agent(
            self.bench.directory / f"agent{turn}",
            self.bench.ensemble.hosts,
            app,
            self.bench.client,
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
        return agent.status.get("state") == settled and self.bench.client.exists(registration) is not None


def _bare(bench: Workbench, app: str, measure: Measure) -> Side:
    command = [sys.executable, str(HERE / "bare_watcher.py"), bench.ensemble.hosts, f"{app}/config"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def side() -> Sample:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            try:
                assert process.stdout is not None
                seen = process.stdout.readline().strip()
                figure = _at_rest(bench, process.pid, measure)
            finally:
                process.kill()
        return Sample(figure, None if seen == "None" else int(seen))

    return side


def _at_rest(bench: Workbench, pid: int, measure: Measure) -> float:
    time.sleep(QUICK_REST if bench.quick else REST)
    return measure(pid)


def _rss(pid: int) -> float:
    """Megabytes of memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith("Rss:"))
    return int(kibibytes) * 1024 / 1e6


def _busy(pid: int) -> float:
    """Milliseconds of processor time in a minute."""
    before = _processor_time(pid)
    time.sleep(WATCHED)
    return (_processor_time(pid) - before) / NANOSECONDS_IN_MILLISECOND * 60 / WATCHED


def _processor_time(pid: int) -> int:
    """Nanoseconds of processor time of the present threads, from schedstat, see proc(5)."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _most_busy() -> Sample:
    return Sample(MOST_BUSY)


def _any(_ours: object, _yardstick: object) -> None:
    """Accept any results, because a comparison with a constant has none."""


def _same_generation(ours: Any, yardstick: Any) -> None:
    if ours != yardstick:
        raise BenchError(f"the agent has seen generation {ours}, the bare watcher {yardstick}")
