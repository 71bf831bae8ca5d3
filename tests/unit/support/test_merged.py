"""What a person would see of a command, and that no command is waited for indefinitely."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.merged import run_merged
from support.waiting import wait_for


def test_what_a_command_prints_is_in_its_order_and_its_status_is_returned() -> None:
    done = run_merged(["sh", "-c", "echo one; echo two >&2; echo three; exit 3"], 30)
    assert (done.returncode, done.stdout) == (3, "one\ntwo\nthree\n")


def test_a_command_that_hangs_is_killed_with_what_it_has_started_and_its_output_is_reported(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(AssertionError, match=r"has not ended within 1 s; it printed:\nbegins"):
        run_merged(["sh", "-c", f"echo begins; sleep 600 & echo $! >{pid}; wait"], 1)
    there = Path("/proc", pid.read_text().strip())
    wait_for(lambda: not there.exists(), "what it has started has ended")


def test_what_has_escaped_from_a_command_and_keeps_its_output_open_is_not_waited_for(tmp_path: Path) -> None:
    pid, over = tmp_path / "pid", tmp_path / "over"
    escaped = f"echo $$ >{pid}; until [ -e {over} ]; do sleep 0.1; done"
    try:
        with pytest.raises(AssertionError, match=r"(?s)printed:\nbegins.*still has its output open"):
            run_merged(["sh", "-c", f"echo begins; setsid --fork sh -c '{escaped}'; sleep 600"], 1)
    finally:
        over.touch()
    there = Path("/proc", pid.read_text().strip())
    wait_for(lambda: not there.exists(), "what has escaped has ended")
