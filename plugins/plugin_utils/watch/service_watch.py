# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch on a registry: services that join, change and leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import child
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Child, Reading, Registry, levels
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.registrations import Registration, registrations
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.events import service_event
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.presence import Presence, ServiceChange
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.watch import (
    Interest,
    LastSent,
    Observation,
    Position,
    Watch,
)


class ServiceWatch(Watch):
    """The services of a registry: the parents that its path stands for, and their children, the entries."""

    kind = "service"

    def __init__(self, registry: Registry, settle: float, initial: bool, warn: Callable[[str], None]) -> None:
        self._levels: Sequence[tuple[str, Any]] = list(levels(registry.path))
        super().__init__(self._levels[0][0] or "/", initial, warn)
        self._registry = registry
        self._presence = Presence(settle)
        self._has_begun = False

    def interest(self, path: str) -> Interest | None:
        """The children of a parent, which is awaited unless the znode above names it; or the value of an entry."""
        if path not in self._positions:
            return None
        if self._is_entry(path):
            return Interest(value=True, names=False, awaited=False)
        level = self._positions[path].level
        return Interest(value=False, names=True, awaited=level == 0 or bool(self._levels[level][0]))

    def overdue(self) -> Iterator[dict[str, Any]]:
        """The events of services that have changed, or did not return."""
        changes = list(self._presence.overdue())
        # What was read at the beginning is not a change if nothing was reported before.
        told = self._has_begun or self._initial
        self._has_begun = True
        yield from self._events(one for one in changes if told or one.change != "changed")

    def next_deadline(self) -> float | None:
        """When the next absent service will be overdue."""
        return self._presence.next_deadline()

    def _change_events(self, path: str, before: LastSent | None, observed: Observation) -> Iterator[dict[str, Any]]:
        if self._is_entry(path) and (before is None or before.mzxid != observed.stat.mzxid):
            yield from self._events(self._presence.put(path, self._registration(path, observed)))

    def _deletion_events(self, path: str) -> Iterator[dict[str, Any]]:
        if self._is_entry(path):
            yield from self._events(self._presence.put(path, None))

    def _is_entry(self, path: str) -> bool:
        return self._positions[path].level == len(self._levels)

    def _registration(self, path: str, observed: Observation) -> Registration | None:
        """The service, as in the inventory; None if it can't be read, or does not serve."""
        stat, segments = observed.stat, self._positions[path].segments
        entry = Child(path, segments, observed.data, stat.ctime, stat.mtime, stat.ephemeralOwner)
        live, problems = registrations(self._registry, Reading({}, [entry]), time.time())
        for problem in problems:
            self._warn(problem)
        return live[0] if live else None

    def _events(self, changes: Iterable[ServiceChange]) -> Iterator[dict[str, Any]]:
        for change, service in changes:
            if change != "joined" or self.synced:
                yield service_event(change, self._registry.path, service)
            elif self._initial:
                yield service_event("present", self._registry.path, service)

    def _below(self, path: str, name: str) -> tuple[str, Position] | None:
        if self._is_entry(path):
            return None
        position = self._positions[path]
        pattern = self._levels[position.level][1]
        if pattern is None:
            return child(path, name), Position(position.level + 1, path, name, position.segments)
        if not pattern.fullmatch(name):
            return None
        fixed = self._levels[position.level + 1][0]
        return f"{child(path, name)}{fixed}", Position(position.level + 1, path, name, (*position.segments, name))
