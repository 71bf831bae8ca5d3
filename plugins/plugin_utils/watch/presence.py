# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which services of a registry are present, whatever the names of their entries are.

An entry is a child of a registry. A service that registers again often does so as a child with another name, possibly
before its old entry is deleted. So a service is what the inventory takes for one host: the same name at the same
address, with its port.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.registrations import Registration


class ServiceIdentity(NamedTuple):
    """What makes a service the same one."""

    parent: str
    name: str
    address: str
    port: int | None


class AbsentService(NamedTuple):
    """A service without an entry, which may return until `deadline` (of the monotonic clock)."""

    deadline: float
    last: Registration


class ServiceChange(NamedTuple):
    """`joined`, `changed` or `left`, and the service as it is, or last was."""

    change: str
    service: Registration


class Presence:
    """The services of one registry, and what was reported of each. A service is described by its newest entry.

    That a service has changed, or has been gone for `settle` seconds, is reported by `overdue`. Even with a `settle` of
    0 this is after everything has been read: that may include another entry of the same service.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._entries: dict[str, Registration] = {}
        self._present: dict[ServiceIdentity, set[str]] = {}
        self._absent: dict[ServiceIdentity, AbsentService] = {}
        self._told: dict[ServiceIdentity, Any] = {}
        self._touched: dict[ServiceIdentity, None] = {}

    def put(self, path: str, service: Registration | None) -> Iterator[ServiceChange]:
        """Set the entry at `path` to this service; None if it is deleted, can't be read, or does not serve."""
        before = self._entries.get(path)
        if before is not None and (service is None or _identity(before) != _identity(service)):
            self._remove(path, before)
        if service is not None:
            yield from self._add(path, service)

    def overdue(self) -> Iterator[ServiceChange]:
        """The services that have changed or been absent for too long; to be called only after reading everything."""
        touched, self._touched = self._touched, {}
        for identity in [identity for identity in touched if identity in self._present]:
            newest = self._newest(identity)
            if _data(newest) != self._told[identity]:
                self._told[identity] = _data(newest)
                yield ServiceChange("changed", newest)
        now = time.monotonic()
        for identity in [identity for identity, absent in self._absent.items() if absent.deadline <= now]:
            yield self._leave(identity)

    def next_deadline(self) -> float | None:
        """When the next service will have been absent for too long; None if none is absent."""
        return min((absent.deadline for absent in self._absent.values()), default=None)

    def _add(self, path: str, service: Registration) -> Iterator[ServiceChange]:
        identity = _identity(service)
        absent = self._absent.get(identity)
        if absent is not None and not self._settle and absent.last.variables["zk_path"] == path:
            yield self._leave(identity)  # deleted and created again before everything was read
        self._absent.pop(identity, None)
        self._entries[path] = service
        self._present.setdefault(identity, set()).add(path)
        self._touched[identity] = None
        if identity not in self._told:
            self._told[identity] = _data(service)
            yield ServiceChange("joined", service)

    def _remove(self, path: str, service: Registration) -> None:
        identity = _identity(service)
        del self._entries[path]
        self._present[identity].discard(path)
        self._touched[identity] = None
        if not self._present[identity]:
            del self._present[identity]
            self._absent[identity] = AbsentService(time.monotonic() + self._settle, service)

    def _leave(self, identity: ServiceIdentity) -> ServiceChange:
        del self._told[identity]
        return ServiceChange("left", self._absent.pop(identity).last)

    def _newest(self, identity: ServiceIdentity) -> Registration:
        """The entry that was created last; within one second, the last by name, which may have a sequence number."""
        entries = [self._entries[path] for path in self._present[identity]]
        return max(entries, key=lambda entry: (entry.variables["zk_created"], entry.variables["zk_path"]))


def _identity(service: Registration) -> ServiceIdentity:
    variables = service.variables
    parent = variables["zk_path"].rpartition("/")[0]
    return ServiceIdentity(parent, service.name, variables["zk_address"], variables["zk_port"])


def _data(service: Registration) -> Any:
    return service.variables["zk_service"]
