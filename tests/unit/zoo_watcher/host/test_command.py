"""Commands from the host's own configuration."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.agent import SOURCE
from support.waiting import wait_for
from zoo_watcher.host import command

UNIT = SOURCE.parent / "templates" / "zoo-watcher@.service.j2"


def test_a_command_runs_even_where_no_temporary_file_can_be_created(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    ended = command.run(["/bin/sh", "-c", "echo said; exit 3"], 10)
    assert ended == ("ended with status 3", "said\n")


def test_a_command_may_print_something_even_where_the_disk_for_temporary_files_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file can be created there but not written to, so a healthy command that prints something would fail."""
    full = os.memfd_create("full", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(full, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    with os.fdopen(full, "w+b") as file:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: file)
        monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=3, f_frsize=4096))
        ended = command.run(["/bin/sh", "-c", "echo all is well"], 10)
    assert ended == (None, "all is well\n")


def test_a_lack_of_memory_is_not_a_failure_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*_words: Any, **_options: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(subprocess, "Popen", starve)
    ended = command.run(["/bin/true"], 10)
    assert ended.problem == "can't be started now: out of memory"
    assert ended.found_shortage


def test_a_command_inherits_none_of_the_agents_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    of_the_unit = re.findall(r"^Environment=(\w+)=", UNIT.read_text(), re.MULTILINE)
    assert of_the_unit
    for name in (*of_the_unit, "NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OF_THE_HOST", "1")
    found = {line.partition("=")[0] for line in command.run(["/usr/bin/env"], 10).output.splitlines()}
    assert "OF_THE_HOST" in found
    assert found & {*of_the_unit, "NOTIFY_SOCKET", "WATCHDOG_USEC"} == set()


def test_empty_lines_of_an_output_are_not_logged() -> None:
    ended = command.run(["/bin/sh", "-c", "echo first; yes '' | head -c 1000; echo '  '; echo '  last'"], 10)
    assert ended.lines == ["first", "  last"]


@pytest.mark.parametrize(
    ("count", "first", "lines"), [(200, "0", 200), (1000, "at least 800 lines before these are left out", 201)]
)
def test_the_last_lines_of_a_long_output_are_in_the_log(count: int, first: str, lines: int) -> None:
    ended = command.Ended(None, "\n".join(map(str, range(count))))
    assert (ended.lines[0], ended.lines[-1], len(ended.lines)) == (first, str(count - 1), lines)


def test_what_is_quoted_of_an_output_is_short_and_printable() -> None:
    long = "x" * 5000
    assert command.Ended("failed", f"first\n{long}\nlast\n").tail == f"first\n{'x' * 197}...\nlast"
    many = "\n".join(f"{number} {long}" for number in range(20))
    assert [line[:2] for line in command.Ended("failed", many).tail.splitlines()] == ["16", "17", "18", "19"]
    assert len(command.Ended("failed", many).tail) <= 1000
    assert command.Ended("failed", "\x1b[31mred\tand \u202eback\x07").tail == "\ufffd[31mred and \ufffdback\ufffd"
    assert command.Ended("failed", "").tail == ""


def test_the_end_of_the_agent_ends_its_commands_without_a_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Restored at the end, because this process runs other tests.
    monkeypatch.setattr(command, "_agent_ends", False)
    heard: list[command.Ended] = []

    def listen(words: Sequence[str]) -> None:
        with contextlib.suppress(SystemExit):  # pytest would warn about it
            heard.append(command.run(words, 60))

    def run(*words: str) -> threading.Thread:
        thread = threading.Thread(target=listen, args=(words,))
        thread.start()
        return thread

    pid = tmp_path / "pid"
    running = run("/bin/sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 50")
    wait_for(pid.exists, "the command runs")
    command.end_all()
    running.join(30)
    # It has also been waited for: there is no zombie.
    assert subprocess.run(["ps", "-p", pid.read_text().strip()], check=False, capture_output=True).returncode == 1
    late = run("/bin/sh", "-c", f"touch {tmp_path}/late; sleep 50")
    late.join(30)
    assert not (tmp_path / "late").exists()
    assert (running.is_alive(), late.is_alive(), heard) == (False, False, [])


def test_a_command_that_is_just_being_started_is_waited_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that restarts itself stays the same process: a command it has not waited for would stay a zombie."""
    monkeypatch.setattr(command, "_agent_ends", False)
    begun, may_start, start = threading.Event(), threading.Event(), subprocess.Popen
    made: list[subprocess.Popen[bytes]] = []

    def start_late(*words: Any, **options: Any) -> subprocess.Popen[bytes]:
        begun.set()
        may_start.wait(30)
        made.append(start(*words, **options))
        return made[0]

    monkeypatch.setattr(subprocess, "Popen", start_late)

    def listen() -> None:
        with contextlib.suppress(SystemExit):
            command.run(["/bin/sleep", "50"], 60)

    running = threading.Thread(target=listen)
    running.start()
    assert begun.wait(30)
    end = threading.Thread(target=command.end_all)
    end.start()
    wait_for(lambda: command._agent_ends, "the agent ends")
    may_start.set()
    end.join(30)
    assert made
    assert made[0].returncode is not None
    running.join(30)
