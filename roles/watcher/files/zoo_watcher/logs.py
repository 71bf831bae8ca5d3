# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's log: lines on standard error. Journald, where it reads them, has their times and gets a priority."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from datetime import datetime, timezone

PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
"""The priorities of sd-daemon(3), by the lowest level that has each."""


class JournalFormatter(logging.Formatter):
    """Puts `<priority>` before each line: journald takes a line for an entry."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record."""
        priority = next(number for level, number in PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class TimeFormatter(logging.Formatter):
    """Puts the time before each record, as in RFC 3339, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """A record."""
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        return f"{time} {super().format(record)}"


def _formatter() -> logging.Formatter:
    formatter = JournalFormatter if is_journal(sys.stderr.fileno()) else TimeFormatter
    return formatter("%(levelname)s %(message)s")


def set_up_log(level: str) -> None:
    """Log to standard error from `level` on; of kazoo only errors, but at `debug`: `Session` tells the rest."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter())
    handler.setLevel(level.upper())
    if level != "debug":
        handler.addFilter(_is_worth_a_line)
    logging.basicConfig(level=level.upper(), handlers=[handler])


def print_warning(text: str) -> None:
    """Warn on standard error, as a line of the log, in a process that has none of its own; lost on a full disk."""
    record = logging.LogRecord("", logging.WARNING, "", 0, text, None, None)
    with contextlib.suppress(OSError):
        print(_formatter().format(record), file=sys.stderr)  # noqa: T201


def print_error(line: str) -> None:
    """Print a line on standard error, where there may be no log yet; for journald, as an error."""
    prefix = "<3>" if is_journal(sys.stderr.fileno()) else ""
    print(f"{prefix}{line}", file=sys.stderr)  # noqa: T201


def print_line(line: str) -> None:
    """Print a line for a person. A character that the terminal's encoding lacks is an escape, as on standard error."""
    encoding = sys.stdout.encoding
    print(line.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201


def is_journal(descriptor: int) -> bool:
    """Whether journald reads this descriptor: JOURNAL_STREAM names it, see systemd.exec(5)."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or record.name.partition(".")[0] != "kazoo"
