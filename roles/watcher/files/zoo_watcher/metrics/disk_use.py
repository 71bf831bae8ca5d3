# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk usage: measured rarely, by a process of the lowest priority, and never while somebody waits for it."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from zoo_watcher.host.command import run
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.thread import Thread

LEAST = 60.0
SHARE = 100
"""Seconds between two measurements at the least, and how many times as long as one takes: a hundredth of the time at
the most is spent on them."""
LONGEST = 3600.0
"""Seconds after which is measured again, whatever has happened."""
TIMEOUT = 1800.0
"""Seconds that one may take."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiskUse:
    """Bytes on the disk, a hard-linked file counted once, as of `at`, a time of `time.time()`."""

    at: float
    object_store: int
    releases: int


@dataclass(frozen=True)
class FileSystem:
    """The file system of a directory; free means free for the agent's user. No inodes if it does not count them."""

    size: int
    free: int
    inodes: int
    free_inodes: int

    @classmethod
    def of(cls, path: Path) -> FileSystem | None:
        """That of the directory `path`; None if it can't be read."""
        try:
            told = os.statvfs(path)
        except OSError:
            return None
        return cls(told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize, told.f_files, told.f_favail)


class DiskMeter(Thread):
    """Measures at the start, after each `note_change` and once an hour; `latest` is what it has found."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(name="disk-use", daemon=True)
        self.latest: DiskUse | None = None
        self._layout = layout
        self._changed = threading.Event()

    def note_change(self) -> None:
        """A deployment has ended: disk usage may have changed."""
        self._changed.set()

    def run(self) -> None:
        """Measure for ever; the thread ends with the process."""
        while True:
            self._changed.clear()
            begin = time.monotonic()
            try:
                self.latest = measure(self._layout) or self.latest
            except Exception as exc:  # noqa: BLE001  # measured again later
                log.warning("disk use not measured: %r", exc)
            rest = rest_after(time.monotonic() - begin)
            time.sleep(rest)
            self._changed.wait(max(LONGEST - rest, 0))


def rest_after(seconds: float) -> float:
    """Seconds without a measurement after one that took `seconds`."""
    return max(LEAST, SHARE * seconds)


def measure(layout: Layout) -> DiskUse | None:
    """What is on the disk now; None if that can't be measured. Files may be deleted meanwhile."""
    names = [path.name for path in (layout.repository, layout.releases) if path.is_dir()]
    if not names:
        return DiskUse(time.time(), 0, 0)
    words = ["nice", "-n", "19", "du", "-s", "-x", "--block-size=1", "--", *names]
    # In that directory, because the base may have any name, even one with two lines.
    ended = run(words, TIMEOUT, directory=str(layout.own))
    sizes = _sizes(ended.output)
    # It also fails if a file was deleted while it ran, and has a result anyway.
    if any(name not in sizes for name in names):
        log.warning("disk use not measured: du %s: %s", ended.problem or "gave no sizes", ended.tail)
        return None
    return DiskUse(time.time(), sizes.get(layout.repository.name, 0), sizes.get(layout.releases.name, 0))


def _sizes(output: str) -> dict[str, int]:
    """What du has printed: bytes by name."""
    lines = (line.partition("\t") for line in output.splitlines())
    return {name: int(size) for size, _tab, name in lines if size.isdigit()}
