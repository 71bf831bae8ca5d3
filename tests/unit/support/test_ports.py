"""Suites that run side by side never choose the same port."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
ASK = "from support.ports import free_ports; print(*free_ports(150), flush=True); input()"


def start() -> subprocess.Popen[str]:
    """A process that prints its ports, and keeps them until it is given a line."""
    return subprocess.Popen(
        [sys.executable, "-c", ASK],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_no_two_processes_are_given_the_same_port() -> None:
    processes = [start() for number in range(8)]
    given: list[str] = []
    for process in processes:
        assert process.stdout
        given += process.stdout.readline().split()
    for process in processes:
        process.communicate("\n")
    assert len(set(given)) == len(given) == 8 * 150
