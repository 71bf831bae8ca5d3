# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is there: services that join and leave, whatever the names of their entries are.

An entry is a child of a registry. A service that registers anew often does so under another child's name, and may do it
before its old entry is gone; so a service is what the inventory takes for one host: the same name at the same address,
with its port.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.registrations import Registration


class Key(NamedTuple):
    """What makes a service the same one."""

    directory: str
    name: str
    address: str
    port: int | None


class Absent(NamedTuple):
    """A service that is away, and may come back until `deadline` (of the monotonic clock)."""

    deadline: float
    last: Registration


class Change(NamedTuple):
    """`joined`, `changed` or `left`, and the service as it is, or was last."""

    change: str
    service: Registration


class Attendance:
    """The services of one registry. One that leaves is told by `overdue`, after it has been away for `settle` seconds.

    Where `settle` is 0 that is still after all has been read: another entry of the same service may be among it.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._entries: dict[str, Registration] = {}
        self._present: dict[Key, set[str]] = {}
        self._absent: dict[Key, Absent] = {}

    def put(self, path: str, service: Registration | None) -> Iterator[Change]:
        """The entry at `path` says this now; None where it is gone, can't be read, or does not serve."""
        before = self._entries.get(path)
        if before is not None and service is not None and _key(before) == _key(service):
            self._entries[path] = service
            if _said(before) != _said(service):
                yield Change("changed", service)
            return
        if before is not None:
            self._leave(path, before)
        if service is not None:
            yield from self._join(path, service)

    def overdue(self) -> Iterator[Change]:
        """The services that have been away for too long; to be asked for only when all has been read."""
        now = time.monotonic()
        for key in [key for key, away in self._absent.items() if away.deadline <= now]:
            yield Change("left", self._absent.pop(key).last)

    def next_deadline(self) -> float | None:
        """When the next service will have been away for too long; None where all are there."""
        return min((away.deadline for away in self._absent.values()), default=None)

    def _join(self, path: str, service: Registration) -> Iterator[Change]:
        key = _key(service)
        self._entries[path] = service
        known = key in self._present
        self._present.setdefault(key, set()).add(path)
        away = self._absent.pop(key, None)
        if away is not None and not self._settle and away.last.variables["zk_path"] == path:
            yield Change("left", away.last)  # deleted and created again, before all was read
            away = None
        if away is not None and _said(away.last) != _said(service):
            yield Change("changed", service)
        elif away is None and not known:
            yield Change("joined", service)

    def _leave(self, path: str, service: Registration) -> None:
        key = _key(service)
        del self._entries[path]
        self._present[key].discard(path)
        if self._present[key]:
            return
        del self._present[key]
        self._absent[key] = Absent(time.monotonic() + self._settle, service)


def _key(service: Registration) -> Key:
    said = service.variables
    return Key(said["zk_path"].rpartition("/")[0], service.name, said["zk_address"], said["zk_port"])


def _said(service: Registration) -> Any:
    return service.variables["zk_service"]
