"""What the agent writes to standard error, for a person and for journald."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
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


def said(path: Path, journal: bool) -> list[str]:
    """What a process writes whose standard error is the file `path`, which may be what JOURNAL_STREAM names."""
    with path.open("wb") as file:
        status = os.fstat(file.fileno())
        stream = f"{status.st_dev}:{status.st_ino}" if journal else "1:1"
        subprocess.run(
            [sys.executable, "-c", SAY], check=True, stderr=file, env={**os.environ, "JOURNAL_STREAM": stream}
        )
    return path.read_text().splitlines()


def test_of_kazoos_lines_only_errors_are_written(tmp_path: Path) -> None:
    assert said(tmp_path / "log", journal=False) == ["ERROR an error of kazoo's", "INFO watching"]


def test_for_journald_each_line_has_its_priority(tmp_path: Path) -> None:
    assert said(tmp_path / "log", journal=True) == ["<3>ERROR an error of kazoo's", "<6>INFO watching"]


@pytest.mark.parametrize(
    ("level", "priority"), [("CRITICAL", 2), ("ERROR", 3), ("WARNING", 4), ("INFO", 6), ("DEBUG", 7)]
)
def test_each_line_of_a_record_has_the_priority_of_its_level(level: str, priority: int) -> None:
    record = logging.LogRecord("x", getattr(logging, level), __file__, 1, "one\ntwo", None, None)
    assert JournalFormatter("%(message)s").format(record) == f"<{priority}>one\n<{priority}>two"


def test_a_descriptor_that_is_closed_is_no_journal() -> None:
    assert not is_journal(-1)
