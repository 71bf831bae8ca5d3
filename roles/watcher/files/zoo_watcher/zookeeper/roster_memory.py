# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which entry of the roster belongs to this base, remembered across restarts: `{"path", "mzxid", "chroot", "place"}`.

The path is below the chroot; `mzxid` is that of the entry as this agent has left it. The place tells the file from a
copy, as in `session_memory.py`: the host that a base was copied from stays in the roster.
"""

from __future__ import annotations

import json
import logging
from collections import namedtuple
from pathlib import Path

from zoo_watcher.host.filesystem import load_json, write_durably
from zoo_watcher.wire.records import check_path

from .session_memory import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

log = logging.getLogger(__name__)


class OwnEntry(namedtuple("OwnEntry", ("path", "mzxid"))):
    """An entry that belongs to this base while its znode has this `mzxid`; None in files of earlier versions."""

    __slots__ = ()

    path: str
    mzxid: int | None


class RosterMemory:
    """A file with the entry."""

    def __init__(self, file: Path, chroot: str) -> None:
        self._file = file
        self._chroot = chroot
        self._saved: tuple[OwnEntry, str, str | None] | None = load_json(file, _from_object, None)

    @property
    def former(self) -> OwnEntry | None:
        """The entry that an agent of this base had; None if it is unknown, out of reach, or another host's."""
        if self._saved is None or self._saved[1:] != self._here or self._saved[2] is None:
            return None
        return self._saved[0]

    def save(self, entry: OwnEntry) -> None:
        """Remember this entry, if it is another one than before."""
        chroot, place = self._here
        if (entry, chroot, place) == self._saved:
            return
        record = {"path": entry.path, "mzxid": entry.mzxid, "chroot": chroot, "place": place}
        try:
            write_durably(self._file, json.dumps(record))
        except OSError as exc:
            log.warning("roster entry not remembered, path=%s: %s", self._file, exc.strerror)
            return
        self._saved = (entry, chroot, place)

    @property
    def _here(self) -> tuple[str, str | None]:
        return self._chroot, place_of(self._file)


def _from_object(record: Any) -> tuple[OwnEntry, str, str | None]:
    path, mzxid, chroot, place = record["path"], record.get("mzxid"), str(record["chroot"]), record["place"]
    if len(check_path(path).split("/")) < 4:
        raise ValueError("no entry of a roster has this path")
    entry = OwnEntry(path, None if mzxid is None else int(mzxid))
    return entry, chroot, None if place is None else str(place)
