"""P11: memory and processor time of an agent at rest, against the least that watches a znode with kazoo.

The yardstick is `bare_watcher.py`. The agent is as the role installs it, in the environment of its unit, with one
service, checked every two seconds. Its memory is `Rss` in /proc/PID/smaps_rollup of its only process at rest, after
`REST` seconds. `Pss` would depend on what else runs on the machine, because it divides the shared pages of Python and
of the C library.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.agents import install
from bench.harness import BenchError, Comparison, Rounds, Sample, goal
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
MEMORY, BUSY = "memory", "busy"
WATCHED = 15.0
"""Seconds over which processor time is measured."""
MOST_BUSY = 60.0
"""Milliseconds of processor time that are allowed in a minute."""
NANOSECONDS_IN_MILLISECOND = 1_000_000

BARE = "bare"
"""What a bare watcher has in place of the kind of check."""


@goal("P11")
def idle_agent(bench: Workbench) -> Iterator[Comparison]:
    """Memory with either check, before and after a deployment, then processor time."""
    _publish(bench)
    service = Service().open()
    try:
        rounds = Rounds(_AtRest(bench, service.port).look)
        for check, app in CHECKS[-1:] if bench.quick else CHECKS:
            work = f"RSS, {check} check, {'a deployment' if app == DEPLOYED else 'no release'}; bare watcher"
            sides = rounds.side(f"{MEMORY} {check} {app}"), rounds.side(f"{MEMORY} {BARE} {app}")
            yield Comparison("P11", work, LIMIT, *sides, _same_generation, "MB")
        if not bench.quick:
            sides = rounds.side(f"{BUSY} tcp {EMPTY}"), rounds.side(f"{BUSY} {BARE} {EMPTY}")
            yield Comparison("P11", "CPU in a minute, tcp check; bare watcher", None, *sides, _same_generation, "ms")
            work = "CPU in a minute, tcp check; the most allowed"
            yield Comparison("P11", work, 1.0, rounds.side(f"{BUSY} tcp {EMPTY}"), _most_busy, _any, "ms")
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


class _AtRest:
    """Starts all processes in each round, lets them rest together, and looks at them.

    At rest, none takes anything from another: together they are busy for less than a hundredth of a second in one.
    """

    def __init__(self, bench: Workbench, port: int) -> None:
        self._bench = bench
        self._port = port
        self._environment = install(bench)

    def look(self, number: int) -> dict[str, Sample]:
        """The memory of every process, and the processor time of those without a release, by check and application.

        The result of each is the generation that it has seen. An agent begins with an empty base.
        """
        checks = CHECKS[-1:] if self._bench.quick else CHECKS
        apps = sorted({app for _check, app in checks})
        with contextlib.ExitStack() as stack:
            agents = {f"{who[0]} {who[1]}": stack.enter_context(self._agent(number, *who)) for who in checks}
            bare = {f"{BARE} {app}": stack.enter_context(self._bare(app)) for app in apps}
            pids = {who: agent.process.pid for who, agent in agents.items() if agent.process}
            pids.update({who: process.pid for who, (process, _seen) in bare.items()})
            time.sleep(QUICK_REST if self._bench.quick else REST)
            memory = {who: _rss(pid) for who, pid in pids.items()}
            busy = _busy({who: pid for who, pid in pids.items() if who.endswith(EMPTY)})
            seen = {who: agent.status.get("generation") for who, agent in agents.items()}
            seen.update({who: generation for who, (_process, generation) in bare.items()})
        figures = (MEMORY, memory), (BUSY, busy)
        return {f"{what} {who}": Sample(of[who], seen[who]) for what, of in figures for who in of}

    @contextlib.contextmanager
    def _agent(self, number: int, check: str, app: str) -> Iterator[Agent]:
        name = f"{number}-{check}-{app.rpartition('/')[2]}"
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


def _busy(pids: Mapping[str, int]) -> dict[str, float]:
    """Milliseconds that a processor is busy with each of these processes in a minute."""
    before = {who: _processor_time(pid) for who, pid in pids.items()}
    if pids:
        time.sleep(WATCHED)
    scale = 60 / WATCHED / NANOSECONDS_IN_MILLISECOND
    return {who: (_processor_time(pid) - before[who]) * scale for who, pid in pids.items()}


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
