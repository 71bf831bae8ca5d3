# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's log: lines on standard error. If journald reads them, it keeps their times and gets a priority."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
from collections.abc import Iterator
from time import gmtime, monotonic, sleep, strftime

PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
"""The priorities of sd-daemon(3), by the lowest level that has each."""
PATIENCE = 0.5
"""Seconds that a line waits for whom standard error goes to: journald, or what a container's log goes to, may hang."""
AGAIN = 0.01
"""Seconds after which a terminal that has no room for a line's end is tried again."""


class JournalFormatter(logging.Formatter):
    """Puts `<priority>` before each line: to journald, each line is an entry."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines for a record."""
        priority = next(number for level, number in PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class TimeFormatter(logging.Formatter):
    """Puts the time before each record, as in RFC 3339, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """The text for a record."""
        # Each deployment waits for a process that would import datetime only for this.
        seconds = strftime("%Y-%m-%dT%H:%M:%S", gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03}+00:00 {super().format(record)}"


class LogHandler(logging.Handler):
    """Writes to standard error, and never waits for long: what nobody reads is lost."""

    _lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, preceded by how many were lost."""
        try:
            text = f"{self.format(record)}\n"
            if self._lost:
                lost = _warning(f"{self._lost} records before this one are lost: they could not be written")
                text = f"\n{self.format(lost)}\n{text}"
            self._lost = 0 if write(text, 0.0 if self._lost else PATIENCE) else self._lost + 1
        except Exception:  # noqa: BLE001  # as every handler of logging does
            self.handleError(record)


def write(text: str, patience: float = PATIENCE) -> bool:
    """Write to standard error; returns whether all of it was taken in time."""
    data, deadline = text.encode(sys.stderr.encoding, "backslashreplace"), monotonic() + patience
    # For instance on a full disk.
    with contextlib.suppress(OSError), _never_waiting(sys.stderr.fileno()) as descriptor:
        return _write(descriptor, data, deadline)
    return False


def _write(descriptor: int, data: bytes, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    while data:
        if not poll.poll(max(0.0, deadline - monotonic()) * 1000):
            return False
        try:
            # A descriptor that is ready takes this much at once.
            data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]
        except BlockingIOError:
            if monotonic() >= deadline:
                return False
            sleep(AGAIN)
    return True


@contextlib.contextmanager
def _never_waiting(descriptor: int) -> Iterator[int]:
    """A terminal is reopened: it is ready for less than a line, and others share this descriptor's settings."""
    own = None
    if os.isatty(descriptor):
        with contextlib.suppress(OSError):  # as where it is another user's
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        yield descriptor if own is None else own
    finally:
        if own is not None:
            os.close(own)


def _warning(text: str) -> logging.LogRecord:
    return logging.LogRecord("", logging.WARNING, "", 0, text, None, None)


def _formatter() -> logging.Formatter:
    formatter = JournalFormatter if is_journal(sys.stderr.fileno()) else TimeFormatter
    return formatter("%(levelname)s %(message)s")


def set_up_log(level: str) -> None:
    """Log to standard error from `level` on; of kazoo only errors, except at `debug`: `Session` reports the rest."""
    handler = LogHandler()
    handler.setFormatter(_formatter())
    handler.setLevel(level.upper())
    if level != "debug":
        handler.addFilter(_is_worth_a_line)
    logging.basicConfig(level=level.upper(), handlers=[handler])


def print_warning(text: str) -> None:
    """Warn on standard error, as a line of the log, in a process without a log of its own; lost if nobody reads it."""
    write(f"{_formatter().format(_warning(text))}\n")


def print_error(line: str) -> None:
    """Print a line on standard error, when there may be no log yet; for journald, as an error."""
    prefix = "<3>" if is_journal(sys.stderr.fileno()) else ""
    print(f"{prefix}{line}", file=sys.stderr)  # noqa: T201  # the log


def print_line(line: str) -> None:
    """Print a line for a person. A character that the terminal's encoding lacks is escaped, as on standard error."""
    encoding = sys.stdout.encoding
    print(line.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201  # an answer


def is_journal(descriptor: int) -> bool:
    """Whether journald reads this descriptor: JOURNAL_STREAM names it, see systemd.exec(5)."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or record.name.partition(".")[0] != "kazoo"
