"""Commands of the host's own configuration."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.waiting import wait_for
from zoo_watcher.host import command


def test_a_command_runs_also_where_no_temporary_file_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    ended = command.run(["/bin/sh", "-c", "echo said; exit 3"], 10)
    assert ended == ("ended with status 3", "said\n")


def test_the_end_of_the_agent_ends_its_commands_and_nobody_hears_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Put back at the end: this process has other tests to run.
    monkeypatch.setattr(command, "_agent_ends", False)
    heard: list[command.Ended] = []

    def listen(words: Sequence[str]) -> None:
        with contextlib.suppress(SystemExit):  # pytest warns of it
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
    # Waited for too: there is no zombie.
    assert subprocess.run(["ps", "-p", pid.read_text().strip()], check=False, capture_output=True).returncode == 1
    late = run("/bin/sh", "-c", f"touch {tmp_path}/late; sleep 50")
    late.join(30)
    assert not (tmp_path / "late").exists()
    assert (running.is_alive(), late.is_alive(), heard) == (False, False, [])
