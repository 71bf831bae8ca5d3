"""What the agent writes to standard error, for a person and for journald."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from zoo_watcher.logs import JournalFormatter, is_journal

SAY = """
import logging
from zoo_watcher.logs import set_up_log
set_up_log("info")
logging.getLogger("kazoo.client").warning("Connection dropped")
logging.getLogger("kazoo.client").error("an error of kazoo's")
logging.getLogger("zoo_watcher.x").info("watching")
"""
WARN = """
from zoo_watcher.logs import print_warning
print_warning("no room\\nat all")
"""


def said(path: Path, journal: bool, program: str = SAY) -> list[str]:
    """What a process writes whose standard error is the file `path`, which may be what JOURNAL_STREAM names."""
    with path.open("wb") as file:
        status = os.fstat(file.fileno())
        stream = f"{status.st_dev}:{status.st_ino}" if journal else "1:1"
        subprocess.run(
            [sys.executable, "-c", program], check=True, stderr=file, env={**os.environ, "JOURNAL_STREAM": stream}
        )
    return path.read_text().splitlines()


def test_of_kazoos_lines_only_errors_are_written(tmp_path: Path) -> None:
    lines = said(tmp_path / "log", journal=False)
    assert [line.partition(" ")[2] for line in lines] == ["ERROR an error of kazoo's", "INFO watching"]


def test_where_no_journal_has_the_time_of_a_line_it_is_in_the_line(tmp_path: Path) -> None:
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    for line in said(tmp_path / "log", journal=False):
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 ", line)
        assert before <= datetime.fromisoformat(line.partition(" ")[0]) <= datetime.now(timezone.utc)


def test_for_journald_each_line_has_its_priority(tmp_path: Path) -> None:
    assert said(tmp_path / "log", journal=True) == ["<3>ERROR an error of kazoo's", "<6>INFO watching"]


def test_a_process_without_a_log_of_its_own_warns_as_the_agent_does(tmp_path: Path) -> None:
    assert said(tmp_path / "log", True, WARN) == ["<4>WARNING no room", "<4>at all"]
    first, second = said(tmp_path / "log", False, WARN)
    assert (first.partition(" ")[2], second) == ("WARNING no room", "at all")
    assert datetime.fromisoformat(first.partition(" ")[0]).tzinfo


@pytest.mark.parametrize(
    ("level", "priority"), [("CRITICAL", 2), ("ERROR", 3), ("WARNING", 4), ("INFO", 6), ("DEBUG", 7)]
)
def test_each_line_of_a_record_has_the_priority_of_its_level(level: str, priority: int) -> None:
    record = logging.LogRecord("x", getattr(logging, level), __file__, 1, "one\ntwo", None, None)
    assert JournalFormatter("%(message)s").format(record) == f"<{priority}>one\n<{priority}>two"


def test_a_descriptor_that_is_closed_is_no_journal() -> None:
    assert not is_journal(-1)


def test_a_warning_that_can_not_be_written_is_lost_and_ends_nothing() -> None:
    """The apply process warns where it passes a mirror over, and then has to ask the repository itself."""
    program = f"{WARN}\nprint('gone on')"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", program], check=False, stdout=subprocess.PIPE, stderr=full)
    assert done.stdout == b"gone on\n"
