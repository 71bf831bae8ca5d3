"""Run Ansible's commands, each in a process of its own, without importing Ansible again for each (`prepared.py`)."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
KEPT = 2
"""How many prepared commands wait at most, at sixty megabytes each."""


class Prepared:
    """A command that waits for its arguments, in an environment and a directory that no run of it changes."""

    def __init__(self, name: str, environment: dict[str, str], cwd: Path) -> None:
        self.name = name
        self.surroundings = (name, environment, cwd)
        self._connection, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("prepared.py")), str(other.fileno()), str(BIN / name)],
                cwd=cwd,
                env=environment,
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def run(self, words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
        """Run it with these arguments; it is killed after so many seconds."""
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            self._connection.settimeout(seconds)
            socket.send_fds(self._connection, [json.dumps(words).encode()], [stdout.fileno(), stderr.fileno()])
            try:
                status = self._connection.recv(16)
            except TimeoutError:
                raise subprocess.TimeoutExpired([self.name, *words], seconds) from None
            assert status, f"{self.name} could not be prepared, or was killed"
            stdout.seek(0)
            stderr.seek(0)
            return subprocess.CompletedProcess([self.name, *words], int(status), stdout.read(), stderr.read())

    def close(self) -> None:
        """End it, and any run in progress."""
        self._connection.close()
        self._process.kill()
        self._process.wait()


_waiting: list[Prepared] = []
"""The idle ones; the one used last is at the end."""
_choosing = threading.Lock()
"""Held by the thread that changes `_waiting`."""


def run_command(
    name: str, *words: str, environment: Mapping[str, str], seconds: float, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's commands in a directory, in exactly this environment."""
    alike = {key: value for key, value in environment.items() if key != "PYTEST_CURRENT_TEST"}
    with _prepared(name, alike, cwd) as command:
        return command.run(list(words), seconds)


@contextlib.contextmanager
def _prepared(name: str, environment: dict[str, str], cwd: Path) -> Iterator[Prepared]:
    """A command for one run. One whose run fails is ended."""
    with _choosing:
        alike = [one for one in _waiting if one.surroundings == (name, environment, cwd)]
        if alike:
            _waiting.remove(alike[0])
    command = alike[0] if alike else Prepared(name, environment, cwd)
    try:
        yield command
    except BaseException:
        command.close()
        raise
    with _choosing:
        _waiting.append(command)
        while len(_waiting) > KEPT:
            _waiting.pop(0).close()
