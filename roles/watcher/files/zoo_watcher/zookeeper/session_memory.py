# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a session across restarts of the agent.

`{"id": ..., "password": "hex", "held": [paths], "chroot": "/path or empty", "place": "boot, device and inode"}`; the
paths are below the chroot. The place tells a file from a copy: of two agents that share a session, each breaks the
other's connection, and what one of them holds outlasts its host.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import uuid
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from zoo_watcher.errors import ConfigError
from zoo_watcher.frozen import dataclass
from zoo_watcher.host.filesystem import load_json, write_durably

from .connection import ConnectError, host_string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BOOT = Path("/proc/sys/kernel/random/boot_id")
"""See random(4): different after each boot and on each host."""
BOOT_VARIABLE = "ZOO_WATCHER_BOOT"
"""The same from systemd, without dashes: a unit with `ProcSubset=pid` can't read the file."""
ClientId = tuple[int, bytes]
"""A session's id and password, in kazoo's form."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remembered:
    """The content of such a file; `chroot` and `place` are None in those of earlier versions."""

    client_id: ClientId | None = None
    paths: frozenset[str] = frozenset()
    chroot: str | None = None
    place: str | None = None


class SessionMemory:
    """A file with the session and the ephemerals that it may hold; only the agent's user can read it.

    `client_id` and `paths` are what the agent had when it last ended without closing its session, or last saved.
    `former` is the session instead if this agent can't delete what it holds: it was below another chroot, or, if there
    are roles (`own_status`), it has a status of another name, or in another application; what is in one of the
    `registries` is not a status. The session in a file that was written in another place, or before the host was
    booted, is left to the agent there.
    """

    def __init__(
        self, file: Path, chroot: str = "", own_status: str | None = None, registries: Collection[str] = ()
    ) -> None:
        self._saved = load_json(file, _from_object, Remembered())
        if self._saved.place not in {None, place_of(file)}:
            log.warning("session not resumed, path=%s: written before a boot, or copied from elsewhere", file)
            self._saved = Remembered()
        statuses = [path for path in self._saved.paths if path.rpartition("/")[0] not in registries]
        is_former = self._saved.chroot not in {None, chroot} or has_other_status(statuses, own_status)
        self.former = self._saved.client_id if is_former else None
        own = Remembered() if is_former else self._saved
        self.client_id, self.paths = own.client_id, own.paths
        self._chroot = chroot
        self._file = file
        self._told: int | None = None

    def save(self, client_id: ClientId, paths: Iterable[str]) -> None:
        """Remember this, if it differs from before."""
        memory = Remembered(client_id, frozenset(paths), self._chroot, place_of(self._file))
        if memory == self._saved:
            return
        identity, password = client_id
        record = {
            "id": identity,
            "password": password.hex(),
            "held": sorted(memory.paths),
            "chroot": self._chroot,
            "place": memory.place,
        }
        try:
            write_durably(self._file, json.dumps(record), mode=0o600)
        except OSError as exc:
            self._tell(exc)
            return
        self._saved = memory
        self.client_id, self.paths = client_id, memory.paths
        self._told = None

    def _tell(self, error: OSError) -> None:
        """Log why the file can't be written, once: the next `save` tries again."""
        if error.errno != self._told:
            log.warning("session not remembered, tried again, path=%s: %s", self._file, error.strerror)
        self._told = error.errno

    def forget(self) -> None:
        """Remember nothing: the session has ended."""
        with contextlib.suppress(OSError):
            self._file.unlink()


def has_other_status(paths: Iterable[str], own: str | None) -> bool:
    """Whether a status is held that is not the agent's `own`; without that, it may delete any."""
    return own is not None and any(path.split("/")[-2:-1] == ["agents"] and path != own for path in paths)


def place_of(file: Path) -> str | None:
    """What no copy of the file shares with it: the boot of its host, and its directory; None if that is unknown."""
    try:
        boot, directory = _boot(), os.stat(file.parent)
    except (OSError, ValueError):
        return None
    return f"{boot} {directory.st_dev} {directory.st_ino}"


def _boot() -> str:
    """The id of this boot. Raises `OSError` or `ValueError` if it is unknown."""
    try:
        return BOOT.read_text(encoding="utf-8").strip()
    except OSError:
        return str(uuid.UUID(os.environ.get(BOOT_VARIABLE, "")))


def chroot_of(hosts: str) -> str:
    """The chroot of the members `hosts`; empty if there is none. Raises `ConfigError` if there are several."""
    try:
        path = host_string(hosts).partition("/")[2].strip("/")
    except ConnectError as exc:
        raise ConfigError([str(exc)]) from exc
    return f"/{path}" if path else ""


def _from_object(record: Mapping[str, Any]) -> Remembered:
    client_id = int(record["id"]), bytes.fromhex(record["password"])
    if not client_id[0] or not -(2**63) <= client_id[0] < 2**63:
        raise ValueError("no session has this id")
    chroot, place = (None if record.get(key) is None else str(record[key]) for key in ("chroot", "place"))
    return Remembered(client_id, frozenset(str(path) for path in record.get("held", [])), chroot, place)


def memory_file(runtime_directory: str | None, fallback: Path) -> Path:
    """Where the session is remembered: in the unit's own directory under /run, if there is one."""
    return Path(os.path.join(runtime_directory, "session.json")) if runtime_directory else fallback
