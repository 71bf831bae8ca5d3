"""A rulebook as a user runs it: `ansible-rulebook` in a process of its own, with this checkout's collection."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.ensemble import Ensemble
from support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("ansible-rulebook")
PATIENCE = 240.0
"""Seconds that a start may take: it starts a JVM, often on a busy machine."""


class Rulebook:
    """A running rulebook: a path, or its name in the collection. Its inventory is the directory `inventory`."""

    def __init__(self, directory: Path, rulebook: str, **variables: Any) -> None:
        self.directory = directory
        self._log = directory / "log"
        self._rulebook = rulebook
        self._variables = directory / "vars.yml"
        self._variables.write_text(json.dumps(variables))
        (directory / "inventory").mkdir(exist_ok=True)
        (directory / "inventory" / "hosts").write_text("localhost ansible_connection=local\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Rulebook:
        """Start it."""
        surroundings = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "PATH": f"{COMMAND.parent}:{os.environ['PATH']}:/usr/sbin",
            "TMPDIR": str(self.directory),
        }
        words = ["-r", self._rulebook, "-i", "inventory", "-e", str(self._variables)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(COMMAND), *words], cwd=self.directory, env=surroundings, stdout=log, stderr=log
            )
        return self

    def stop(self) -> int:
        """Interrupt it as Ctrl-C does, wait for it, and return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()

    def end(self) -> int:
        """Wait until it has ended by itself, and return its exit status."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    @property
    def log(self) -> str:
        """What it has printed, including the output of the playbooks it runs."""
        return self._log.read_text(errors="replace")

    def watching(self, ensemble: Ensemble, path: str) -> None:
        """Wait until the ensemble has a watch on the znode at `path`."""

        def watched() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log
            return any(f"{path}\n" in member.ask("wchp") for member in ensemble.members)

        wait_for(watched, f"{path} is watched", PATIENCE)

    def says(self, text: str) -> None:
        """Wait until it has printed `text`."""
        try:
            wait_for(lambda: text in self.log, f"the rulebook says {text!r}", PATIENCE)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.log}") from exc
