"""A command under guard leaves nothing running, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.waiting import wait_for

TESTS = Path(__file__).resolve().parents[2]
ESCAPED = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["setsid", "--fork", "sleep", "6789"], env={"OF": sys.argv[1]})
child.wait()
"""
"""A program that leaves behind a process in a session of its own; each test adds what it does then."""
SLEEP = """
try:
    print("started", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("tidied")
    sys.exit(4)
"""


def start(program: str, mark: str, seconds: int = 0) -> subprocess.Popen[str]:
    """Start a Python program under guard, for at most `seconds` (0: no limit)."""
    return subprocess.Popen(
        [sys.executable, "-m", "suites.guard", str(seconds), sys.executable, "-c", ESCAPED + program, mark],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left(mark: str) -> list[int]:
    """The processes that a guarded program has left behind."""
    processes = psutil.process_iter(["environ"])
    return [process.pid for process in processes if (process.info["environ"] or {}).get("OF") == mark]


def test_what_has_escaped_from_a_command_is_killed_when_it_ends(tmp_path: Path) -> None:
    process = start("print('started'); sys.exit(3)", str(tmp_path))
    assert process.communicate(timeout=30) == ("started\n", "")
    assert process.returncode == 3
    assert left(str(tmp_path)) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_the_command_which_cleans_up(tmp_path: Path, number: int) -> None:
    process = start(SLEEP, str(tmp_path))
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    wait_for(lambda: len(left(str(tmp_path))) == 1, "what has escaped has its own environment to be known by")
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == "tidied\n"
    assert process.returncode == 4
    assert left(str(tmp_path)) == []


def test_what_has_not_ended_when_its_time_is_over_is_interrupted_and_named(tmp_path: Path) -> None:
    process = start(SLEEP, str(tmp_path), seconds=2)
    printed, said = process.communicate(timeout=45)
    assert printed == "started\ntidied\n"
    assert "interrupted: has not ended within 2 s" in said
    assert process.returncode == 4
    assert left(str(tmp_path)) == []


def test_nothing_is_left_if_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    guarded = [sys.executable, "-m", "suites.guard", "0", sys.executable, "-c", ESCAPED + SLEEP, str(tmp_path)]
    parent = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *guarded],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout
    assert parent.stdout.readline() == "started\n"
    parent.kill()
    parent.communicate(timeout=30)
    wait_for(lambda: not left(str(tmp_path)), "its processes have ended")
