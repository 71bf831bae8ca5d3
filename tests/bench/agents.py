"""Real agents, each as the role leaves it on a host: with its version, compiled, in the environment of its unit."""

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
"""Where the release is, below the base of each agent."""
LONGEST = 300.0
"""Seconds that a fleet may take to start, or to prove a release."""
AT_ONCE = 20
"""Agents that are started at one time."""
PAUSE = 0.02
"""Seconds between looks at the statuses of a fleet; at that of one agent it is a tenth."""


def install(bench: Workbench) -> dict[str, str]:
    """Install the package below the directory of the bench, where that is not done; the environment of an agent."""
    place = bench.directory / "installed"
    package = place / "zoo_watcher"
    if not package.exists():
        shutil.copytree(SOURCE / "zoo_watcher", package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / "VERSION").write_text("0.0.0\n")
        compileall.compile_dir(package, quiet=1)
    return {"PYTHONPATH": str(place), **dict(VARIABLE.findall(UNIT.read_text()))}


class Fleet:
    """Agents that follow one application, named `app`; `started` makes them."""

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
        """A fleet of `size` agents with nothing published yet; `config` are further keys of their configuration."""
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
            # All at first: those that are left alone with a busy machine keep it busy.
            for agent in fleet.agents:
                if agent.process is not None:
                    agent.process.kill()
            for agent in fleet.agents:
                agent.kill()

    def deploy(self, url: str, commit_id: str) -> float:
        """Publish a commit; the seconds until every agent has proved it. Raises `BenchError` where one has not."""
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
        """The checksums of what is live, of all agents together."""
        return {checksum(agent.base / PLACE) for agent in self.agents}

    def count_logged(self, text: str) -> int:
        """How many lines of all agents' logs have this in them."""
        return sum(agent.log.count(text) for agent in self.agents)


def _has_outcome(status: dict[str, Any], generation: int) -> bool:
    return status.get("generation") == generation and status["state"] in OUTCOMES
