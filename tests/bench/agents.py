"""Real agents, each as the role installs it: with its version, compiled, in the environment of its unit."""

from __future__ import annotations

import compileall
import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

from bench.harness import BenchError
from bench.raw_client import RawClient
from bench.site import checksum
from bench.workbench import Workbench
from support.agent import OUTCOMES, SOURCE, Agent

UNIT = SOURCE.parent / "templates" / "zoo-watcher@.service.j2"
VARIABLE = re.compile(r"^Environment=((?:MALLOC_|PYTHON)\w+)=(\S+)$", re.MULTILINE)
PLACE = "site"
"""The path of the release below the base of each agent."""
LONGEST = 300.0
"""Seconds that a fleet may take to start, or to prove a release."""
AT_ONCE = 20
"""Agents that are started at the same time."""
PAUSE = 0.02
"""Seconds between looks at the statuses of a fleet, a tenth of that for a single agent."""


def install(bench: Workbench) -> dict[str, str]:
    """Install the package below the bench's directory if it is not there, and return an agent's environment."""
    place = bench.directory / "installed"
    package = place / "zoo_watcher"
    if not package.exists():
        shutil.copytree(SOURCE / "zoo_watcher", package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / "VERSION").write_text("0.0.0\n")
        compileall.compile_dir(package, quiet=1)
    return {"PYTHONPATH": str(place), **dict(VARIABLE.findall(UNIT.read_text()))}


class Fleet:
    """Agents that follow one application, named `app`, created by `started`."""

    def __init__(self, bench: Workbench, app: str, size: int, config: dict[str, Any]) -> None:
        self.app = f"/bench/{app}"
        self._bench = bench
        config = {"allowed_schemes": ["git"], "session_timeout": 30, **config}
        hosts, root = bench.ensemble.hosts, bench.directory / app
        self.agents = [
            Agent(root / f"host{number:03}", hosts, self.app, bench.client, f"host{number:03}", config)
            for number in range(size)
        ]

    @classmethod
    @contextlib.contextmanager
    def started(cls, bench: Workbench, app: str, size: int, **config: Any) -> Iterator[Fleet]:
        """A fleet of `size` agents, with further keys of their configuration, and nothing published yet."""
        fleet = cls(bench, app, size, config)
        bench.client.ensure_path(fleet.app)
        environment = install(bench)
        try:
            for first in range(0, size, AT_ONCE):
                group = fleet.agents[first : first + AT_ONCE]
                for agent in group:
                    agent.start(**environment)
                for agent in group:
                    agent.wait_live(LONGEST)
            yield fleet
        finally:
            # Kill all of them before waiting for any, because those that are left keep the machine busy.
            for agent in fleet.agents:
                if agent.process is not None:
                    agent.process.kill()
            for agent in fleet.agents:
                agent.kill()

    def deploy(self, url: str, commit_id: str) -> float:
        """Publish a commit, and return the seconds until every agent has proved it, or raise `BenchError`."""
        release = json.dumps({"url": url, "commitId": commit_id, "relativePath": PLACE}).encode()
        config = f"{self.app}/config"
        self._bench.client.ensure_path(config)
        with contextlib.closing(RawClient("127.0.0.1", self._bench.ensemble.members[0].client_port)) as statuses:
            begun = time.perf_counter()
            generation = self._bench.client.set(config, release).mzxid
            self._wait_proved(statuses, generation, begun + LONGEST)
            return time.perf_counter() - begun

    def _wait_proved(self, statuses: RawClient, generation: int, deadline: float) -> None:
        waiting = [f"{self.app}/agents/{agent.name}" for agent in self.agents]
        pause = PAUSE / 10 if len(waiting) == 1 else PAUSE
        while waiting:
            time.sleep(pause)
            found = {path: json.loads(data) for path, (data, _stat) in zip(waiting, statuses.read(waiting))}
            ended = {path: status for path, status in found.items() if _has_outcome(status, generation)}
            for path, status in ended.items():
                if status["state"] != "active":
                    raise BenchError(f"{path} has not proved generation {generation}: {status}")
            waiting = [path for path in waiting if path not in ended]
            if time.perf_counter() > deadline:
                raise BenchError(f"not proved within {LONGEST:.0f} s: {waiting}: {found[waiting[0]]}")

    def trees(self) -> set[str]:
        """The distinct checksums of the agents' live releases."""
        return {checksum(agent.base / PLACE) for agent in self.agents}

    def count_logged(self, text: str) -> int:
        """How often a string occurs in the logs of all agents."""
        return sum(agent.log.count(text) for agent in self.agents)


def _has_outcome(status: dict[str, Any], generation: int) -> bool:
    return status.get("generation") == generation and status["state"] in OUTCOMES
