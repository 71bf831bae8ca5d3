"""What the agent writes to standard error, for a person and for journald."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
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
SAY_MUCH = """
import logging, sys
from zoo_watcher.logs import set_up_log
set_up_log("info")
log = logging.getLogger("zoo_watcher.x")
for number in range(2000):
    log.info("line %04d %s", number, "x" * 60)
print("gone on", flush=True)
sys.stdin.readline()
log.info("the last")
"""
ON_A_FULL_DISK = """
import logging, resource
from zoo_watcher.logs import set_up_log
set_up_log("info")
log = logging.getLogger("zoo_watcher.x")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
for number in range(100):
    log.info("line %04d %s", number, "x" * 60)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.info("the last")
"""
WARN = """
from zoo_watcher.logs import print_warning
print_warning("no room\\nat all")
"""


def said(path: Path, journal: bool, program: str = SAY) -> list[str]:
    """The lines that a process writes to its standard error, the file `path`; if `journal`, JOURNAL_STREAM names it."""
    with path.open("wb") as file:
        status = os.fstat(file.fileno())
        stream = f"{status.st_dev}:{status.st_ino}" if journal else "1:1"
        subprocess.run(
            [sys.executable, "-c", program], check=True, stderr=file, env={**os.environ, "JOURNAL_STREAM": stream}
        )
    return path.read_text().splitlines()


def test_only_errors_of_kazoo_are_written(tmp_path: Path) -> None:
    lines = said(tmp_path / "log", journal=False)
    assert [line.partition(" ")[2] for line in lines] == ["ERROR an error of kazoo's", "INFO watching"]


def test_without_a_journal_each_line_has_its_time(tmp_path: Path) -> None:
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    for line in said(tmp_path / "log", journal=False):
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 ", line)
        assert before <= datetime.fromisoformat(line.partition(" ")[0]) <= datetime.now(timezone.utc)


def test_for_journald_each_line_has_its_priority(tmp_path: Path) -> None:
    assert said(tmp_path / "log", journal=True) == ["<3>ERROR an error of kazoo's", "<6>INFO watching"]


def test_a_process_without_a_log_of_its_own_warns_like_the_agent(tmp_path: Path) -> None:
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


def test_a_closed_descriptor_is_not_a_journal() -> None:
    assert not is_journal(-1)


def test_a_warning_that_cannot_be_written_is_lost_and_ends_nothing() -> None:
    """The apply process warns when it skips a mirror, and then still has to fetch from the repository itself."""
    program = f"{WARN}\nprint('gone on')"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", program], check=False, stdout=subprocess.PIPE, stderr=full)
    assert done.stdout == b"gone on\n"


@pytest.mark.parametrize("ends", [os.pipe, lambda: [end.detach() for end in socket.socketpair()][::-1]])
def test_a_log_reader_that_stands_still_stops_nothing_and_is_told_how_much_is_lost(
    ends: Callable[[], Sequence[int]],
) -> None:
    """For example journald that hangs, or the reader of a container's log."""
    reader, writer = ends()
    with (
        subprocess.Popen(
            [sys.executable, "-c", SAY_MUCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=writer
        ) as process,
        os.fdopen(reader, "rb", buffering=0) as log,
    ):
        os.close(writer)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], 30)[0], "it waits for its reader"
            os.set_blocking(reader, False)
            text = b"".join(iter(lambda: log.read(65536) or b"", b""))
            os.set_blocking(reader, True)
            process.stdin.write(b"\n")
            process.stdin.close()
            for more in iter(lambda: log.read(65536), b""):
                text += more
        finally:
            process.kill()
    lines = [line.partition(" ")[2] for line in text.decode().splitlines()]
    told = re.fullmatch(r"WARNING (\d+) records before this one are lost: .+", lines[-2])
    assert told, lines[-3:]
    assert lines[-1] == "INFO the last"
    assert int(told.group(1)) + sum(line.endswith("x" * 60) for line in lines) == 2000


def test_records_that_a_full_disk_does_not_take_are_lost_and_counted(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    log = tmp_path / "log"
    with log.open("wb") as file:
        subprocess.run([sys.executable, "-c", ON_A_FULL_DISK], check=True, stderr=file)
    lines = [line.partition(" ")[2] for line in log.read_text().splitlines()]
    told = re.fullmatch(r"WARNING (\d+) records before this one are lost: .+", lines[-2])
    assert told, lines[-3:]
    assert lines[-1] == "INFO the last"
    assert int(told.group(1)) + sum(line.endswith("x" * 60) for line in lines) == 100


def test_a_terminal_that_nobody_reads_stops_nothing() -> None:
    """As with a container whose log reader hangs. Unlike a pipe, a terminal is ready for less than a line."""
    master, terminal = os.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", SAY_MUCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=terminal
        ) as process:
            assert process.stdout is not None
            try:
                assert select.select([process.stdout], [], [], 30)[0], "it waits for its reader"
            finally:
                process.kill()
        assert os.get_blocking(terminal)
    finally:
        os.close(master)
        os.close(terminal)


def test_a_warning_that_nobody_reads_is_lost_and_stops_nothing() -> None:
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        program = f"{WARN}\nprint('gone on')"
        done = subprocess.run(
            [sys.executable, "-c", program], check=False, stdout=subprocess.PIPE, stderr=writer, timeout=30
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stdout == b"gone on\n"
