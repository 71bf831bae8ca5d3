"""A real agent in a process of its own, and its reports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from support.client import connected
from support.interpreter import PYTHON
from support.waiting import wait_for

SOURCE = Path(__file__).resolve().parents[2] / "roles" / "watcher" / "files"
OUTCOMES = {"active", "failed", "rolled_back"}
MEASURED = bool(os.environ.get("COVERAGE_PROCESS_START"))
"""Whether coverage is measured (`suites/measure.py`); a process writes its data when it ends."""
PYTHON_PATH = os.pathsep.join(map(str, [SOURCE, *([Path(__file__).with_name("measured")] if MEASURED else [])]))


@dataclass
class Agent:
    """An agent with its files under `root`. `config` holds further keys of its configuration."""

    root: Path
    hosts: str
    app: str
    zk: KazooClient = field(repr=False)
    name: str = "server1"
    config: dict[str, Any] = field(default_factory=dict)
    program: Sequence[str] = ("-m", "zoo_watcher")
    process: subprocess.Popen[bytes] | None = None
    log_to: Path | None = None
    """Another file for its standard error."""

    @property
    def base(self) -> Path:
        """The directory of its releases."""
        return self.root / "base"

    @property
    def log(self) -> str:
        """Its standard error so far."""
        path = self.root / "agent.log"
        return path.read_text() if path.exists() else ""

    def configure(self) -> Path:
        """Write its configuration file."""
        self.root.mkdir(parents=True, exist_ok=True)
        keys = {
            "hosts": self.hosts,
            "app": self.app,
            "base": str(self.base),
            "name": self.name,
            "allowed_schemes": ["file"],
            "session_timeout": 4,
            **self.config,
        }
        path = self.root / "agent.json"
        path.write_text(json.dumps(keys))
        return path

    def start(self, **environment: str) -> Agent:
        """Start it, without waiting until it is connected."""
        command = [PYTHON, *self.program, "run", "--config", str(self.configure())]
        with (self.log_to or self.root / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": PYTHON_PATH, **environment},
            )
        return self

    def wait_live(self, seconds: float = 30) -> Agent:
        """Wait until its status is in the ensemble."""
        wait_for(lambda: self.status, f"{self.name} is live; its log:\n{self.log}", seconds)
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait until it has ended, and return its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(20)
        self.process = None
        return status

    def kill(self) -> None:
        """End it as a crash would, if it runs, and wait for it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def finish(self) -> None:
        """End it with its test: as a crash would, unless its coverage is measured, because it has to write the data."""
        if MEASURED and self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.kill()

    def control(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `zoo-watcher` on it, such as `drain`."""
        name, *rest = words
        return self.run(name, "--config", str(self.root / "agent.json"), *rest)

    @staticmethod
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        """Run `zoo-watcher` with these arguments."""
        command = [PYTHON, "-m", "zoo_watcher", *words]
        environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
        return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)

    @property
    def status(self) -> dict[str, Any]:
        """Its status in the ensemble; empty while there is none. A request that fails with its session is retried."""
        try:
            return dict(json.loads(self.zk.retry(self.zk.get, f"{self.app}/agents/{self.name}")[0]))
        except NoNodeError:
            return {}

    def live(self, relative_path: str = "site") -> str | None:
        """The commit that is live on its disk."""
        place = self.base / relative_path
        return place.resolve().name if place.is_symlink() else None

    def wait_outcome(self, generation: int, seconds: float = 30) -> dict[str, Any]:
        """Wait until it has proved or given up a generation, and return its status."""

        def outcome() -> dict[str, Any] | None:
            status = self.status
            return status if status.get("generation") == generation and status["state"] in OUTCOMES else None

        try:
            return wait_for(outcome, f"{self.name} has an outcome of {generation}", seconds) or {}
        except AssertionError as exc:
            raise AssertionError(f"{exc}\nstatus: {self.status}\nlog:\n{self.log}") from exc


def expire_session(agent: Agent) -> None:
    """End the session that an agent remembers, from outside, as the ensemble does at the session timeout.

    Raises FileNotFoundError if it remembers none.
    """
    memory = json.loads((agent.base / ".zoo/session.json").read_text())
    with connected(agent.hosts, client_id=(memory["id"], bytes.fromhex(memory["password"]))):
        pass


def publish(zk: KazooClient, app: str, value: dict[str, Any] | bytes) -> int:
    """Write the desired release as any program could, and return its generation."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    path = f"{app}/config"
    if zk.exists(path):
        return int(zk.set(path, data).mzxid)
    zk.create(path, data, makepath=True)
    return int(zk.get(path)[1].mzxid)
