# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much disk space a deployment has to leave free: the service writes there too."""

from __future__ import annotations

import contextlib
import json
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, ClassVar

from zoo_watcher.errors import PassingError
from zoo_watcher.host.filesystem import disk_errors, load_json, write_whole

FREE_BYTES = 256 * 2**20
FREE_INODES = 10_000
SHARE = 20
"""What stays free by default: this much, or this part of the file system if that is less."""
MEBIBYTE = 2**20


class NoRoomError(PassingError):
    """A release would leave less disk space free than it has to."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "room")


@dataclass(frozen=True)
class Floor:
    """How many bytes and inodes have to stay free; 0: no limit, None: the default for the file system."""

    bytes: int | None = None
    inodes: int | None = None

    def check(self, path: Path, more_bytes: int = 0, more_inodes: int = 0) -> None:
        """Check whether so much more may be put on the disk of `path`. Raises `NoRoomError`."""
        facts = _facts(path)
        free = facts.f_bavail * facts.f_frsize
        # The last block of each file is not full.
        takes = more_bytes + more_inodes * facts.f_frsize
        _check(path, "min_free_bytes", _mebibytes, free, takes, self._least_bytes(facts))
        # A file system that creates inodes on demand has none to count.
        if facts.f_files:
            _check(path, "min_free_inodes", _inodes, facts.f_favail, more_inodes, self._least_inodes(facts))

    def room(self, path: Path) -> int | None:
        """How many bytes may be put on the disk of `path`; None if there is no floor. Raises `PassingError`."""
        facts = _facts(path)
        floor = self._least_bytes(facts)
        return max(0, facts.f_bavail * facts.f_frsize - floor) if floor else None

    def _least_bytes(self, facts: os.statvfs_result) -> int:
        return min(FREE_BYTES, facts.f_blocks * facts.f_frsize // SHARE) if self.bytes is None else self.bytes

    def _least_inodes(self, facts: os.statvfs_result) -> int:
        return min(FREE_INODES, facts.f_files // SHARE) if self.inodes is None else self.inodes


@dataclass(frozen=True)
class CutOff:
    """A fetch of a commit that was cut off at the time `at`, of `time.time()`, with `room` for so many bytes.

    The next fetch transfers all of them again, so it waits until there is a tenth more room, or for long.
    """

    commit_id: str
    room: int
    at: float

    LASTS: ClassVar[float] = 600.0
    """Seconds after which what was known about a server and a disk no longer counts."""

    @classmethod
    def load(cls, path: Path) -> CutOff | None:
        """The one in a file; None if there is none, or it can't be read."""
        return load_json(
            path, lambda record: cls(str(record["commit"]), int(record["room"]), float(record["at"])), None
        )

    def save(self, path: Path) -> None:
        """Write it, if possible: it is only a memory."""
        with contextlib.suppress(OSError):
            write_whole(path, json.dumps({"commit": self.commit_id, "room": self.room, "at": self.at}))

    def stands(self, commit_id: str, room: int, now: float) -> bool:
        """Whether a fetch would be cut off again, as far as is known."""
        return commit_id == self.commit_id and room * 10 <= self.room * 11 and 0 <= now - self.at < self.LASTS


def _check(path: Path, option: str, said: Callable[[int], str], free: int, more: int, least: int) -> None:
    if least and free - more < least:
        takes = f", this release takes {said(more)}" if more else ""
        raise NoRoomError(f"{said(free)} free at {path}{takes}, {said(least)} to stay free ({option}): make room")


def _mebibytes(amount: int) -> str:
    return f"{amount / MEBIBYTE:.1f} MiB"


def _inodes(amount: int) -> str:
    return f"{amount} inodes"


def _facts(path: Path) -> os.statvfs_result:
    with disk_errors("looking for room"):
        return os.statvfs(path)


@contextlib.contextmanager
def files_up_to(amount: int) -> Iterator[None]:
    """Prevent programs started in the block from writing a file of more than `amount` bytes."""
    before, allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    least = amount if before == resource.RLIM_INFINITY else min(amount, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, (least, allowed))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, allowed))
