# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is watched: which znodes are read for it, what is known of them, and what has changed since.

A watch of ZooKeeper's tells once, and only that something happened. So a znode is read again after each notice, and
everything after each reconnection; what is read is compared with what was told last. Whatever happened in between, the
newest state is told, and nothing where nothing has changed. `czxid` tells that a znode is another one than before.

Nothing here knows the connection: `WatchLoop` reads `unread`, in that order, and hands each answer to `update`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import quote
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import stat_fields
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Child, Reading, Registry, levels
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.registrations import Registration, registrations
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.events import (
    is_template,
    service_event,
    told_value,
    znode_event,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.presence import Attendance, Change


class Want(NamedTuple):
    """What of a znode is to be read: its value, the names of its children. `awaited` where it may come later."""

    value: bool
    names: bool
    awaited: bool


class Found(NamedTuple):
    """A znode as it was read; `names` is empty where they were not asked for."""

    stat: Any
    data: bytes
    names: set[str]


class Spot(NamedTuple):
    """Where a znode stands in what is watched: how deep, below which, and what each `*` above it stood for."""

    level: int
    above: str | None
    name: str
    segments: tuple[str, ...]


class Known(NamedTuple):
    """What was told of a znode last."""

    czxid: int
    mzxid: int
    pzxid: int
    names: set[str]


class Watch(ABC):
    """One znode, and what of it and below it is watched. `unread` are the paths to be read next, the first first.

    While it is not `synced` what is read is the state at the beginning: `present` where that is wanted, else untold.
    """

    kind = ""

    def __init__(self, root: str, initial: bool, warn: Callable[[str], None]) -> None:
        self.root = root
        self.synced = False
        self.unread: dict[str, None] = {root: None}
        self._initial = initial
        self._warn = warn
        self._spots = {root: Spot(0, None, "", ())}
        self._known: dict[str, Known] = {}
        self._warned: set[str] = set()

    @abstractmethod
    def want(self, path: str) -> Want | None:
        """What is to be read of the znode at `path`; None where it is of no interest any more."""

    def notice(self, path: str) -> None:
        """Something happened to the znode at `path`."""
        if path in self._spots:
            self.unread[path] = None

    def reread(self) -> None:
        """Anything may have happened."""
        self.unread.update(dict.fromkeys(self._spots))

    def update(self, path: str, found: Found | None) -> Iterator[dict[str, Any]]:
        """The events of what was read of the znode at `path`, None where it is not there."""
        if path not in self._spots:
            return
        before = self._known.get(path)
        if before is not None and (found is None or found.stat.czxid != before.czxid):
            yield from self._gone(path, found.stat.czxid if found else None)
            before = None
        if found is not None:
            found = found._replace(names=self._harmless(path, found.names))
            stat = found.stat
            yield from self._told(path, before, found)
            self._known[path] = Known(stat.czxid, stat.mzxid, stat.pzxid, set(before.names if before else ()))
            yield from self._descend(path, found.names)
        elif not self._is_awaited(path):
            self._forget(path)

    def overdue(self) -> Iterator[dict[str, Any]]:
        """The events that have been held back for long enough. To be asked for only when all has been read."""
        yield from ()

    def next_deadline(self) -> float | None:
        """When the next event that is held back is due, by the monotonic clock."""
        return None

    @abstractmethod
    def _told(self, path: str, before: Known | None, found: Found) -> Iterator[dict[str, Any]]:
        """The events of a znode that is there. `before` is None where it was not."""

    def _untold(self, path: str) -> Iterator[dict[str, Any]]:
        """The events of a znode that was there, and is not any more."""
        yield znode_event(self.kind, "deleted", path)

    def _below(self, _path: str, _name: str) -> tuple[str, Spot] | None:
        """The znode that is watched for the sake of the child `name`; None where there is none."""
        return None

    def _arrival(self) -> str | None:
        """What is said of a znode that was not there before; None where nothing is."""
        if self.synced:
            return "created"
        return "present" if self._initial else None

    def _is_awaited(self, path: str) -> bool:
        want = self.want(path)
        return want is not None and want.awaited

    def _harmless(self, path: str, names: Iterable[str]) -> set[str]:
        """The names that can be in an event; a warning, once for each znode, where some can't."""
        kept = {name for name in names if not is_template(name)}
        refused = set(names) - kept
        if refused and path not in self._warned:
            self._warned.add(path)
            self._warn(f"{path}: {quote(min(refused))} and others like it are left out: their names are templates")
        return kept

    def _descend(self, path: str, names: set[str]) -> Iterator[dict[str, Any]]:
        """Watch what is below the children that are new, no more what is below those that are gone."""
        known = self._known[path].names
        for name in sorted(known - names):
            below = self._below(path, name)
            if below:
                yield from self._gone(below[0])
                self._forget(below[0])
        for name in sorted(names - known):
            below = self._below(path, name)
            if below:
                self._spots[below[0]] = below[1]
                self.unread[below[0]] = None
        known.clear()
        known.update(names)

    def _gone(self, path: str, again: int | None = None) -> Iterator[dict[str, Any]]:
        """The znode is not there any more, and so is none below it: they went first, and are told first.

        `again` is the transaction that created it anew: what was created since then is below the new one.
        """
        line, place = [path], 0
        while place < len(line):
            known = self._known.get(line[place])
            below = (self._below(line[place], name) for name in sorted(known.names if known else (), reverse=True))
            line += [one[0] for one in below if one and not self._is_since(one[0], again)]
            place += 1
        for one in reversed(line):
            if self._known.pop(one, None) is not None:
                yield from self._untold(one)
            if one != path:
                self._forget(one)

    def _is_since(self, path: str, transaction: int | None) -> bool:
        known = self._known.get(path)
        return transaction is not None and known is not None and known.czxid >= transaction

    def _forget(self, path: str) -> None:
        """The znode is of no interest, unless the one above it names it again."""
        self.unread.pop(path, None)
        self._warned.discard(path)
        spot = self._spots.pop(path, None)
        above = self._known.get(spot.above) if spot and spot.above else None
        if spot and above:
            above.names.discard(spot.name)


class DataWatch(Watch):
    """A znode's value."""

    kind = "data"

    def want(self, path: str) -> Want | None:
        """Its value, whenever it comes."""
        return Want(value=True, names=False, awaited=True) if path in self._spots else None

    def _told(self, path: str, before: Known | None, found: Found) -> Iterator[dict[str, Any]]:
        change = self._arrival() if before is None else "changed" if before.mzxid != found.stat.mzxid else None
        if change:
            yield znode_event(
                self.kind, change, path, **told_value(found.data), stat=stat_fields(found.stat), **self._place(path)
            )

    def _untold(self, path: str) -> Iterator[dict[str, Any]]:
        yield znode_event(self.kind, "deleted", path, **self._place(path))

    def _place(self, _path: str) -> dict[str, Any]:
        return {}


class SubtreeWatch(DataWatch):
    """The values of a znode and of all below it."""

    kind = "subtree"

    def want(self, path: str) -> Want | None:
        """Its value and its children; only the first is waited for, the others are told by the one above."""
        return Want(value=True, names=True, awaited=path == self.root) if path in self._spots else None

    def _place(self, path: str) -> dict[str, Any]:
        return {"root": self.root, "relative": path[len(self.root) :].lstrip("/")}

    def _below(self, path: str, name: str) -> tuple[str, Spot] | None:
        spot = self._spots[path]
        return f"{path.rstrip('/')}/{name}", Spot(spot.level + 1, path, name, ())


class ChildrenWatch(Watch):
    """The names of a znode's children."""

    kind = "children"

    def want(self, path: str) -> Want | None:
        """Its children, whenever it comes."""
        return Want(value=False, names=True, awaited=True) if path in self._spots else None

    def _told(self, path: str, before: Known | None, found: Found) -> Iterator[dict[str, Any]]:
        if before is None:
            change, had = self._arrival(), set()
        else:
            change, had = "changed" if before.pzxid != found.stat.pzxid else None, before.names
        if change:
            yield znode_event(
                self.kind,
                change,
                path,
                children=sorted(found.names),
                added=sorted(found.names - had),
                removed=sorted(had - found.names),
                stat=stat_fields(found.stat),
            )


class ServiceWatch(Watch):
    """The services of a registry: the directories that its path stands for, and their children."""

    kind = "service"

    def __init__(self, registry: Registry, settle: float, initial: bool, warn: Callable[[str], None]) -> None:
        self._levels: Sequence[tuple[str, Any]] = list(levels(registry.path))
        super().__init__(self._levels[0][0] or "/", initial, warn)
        self._registry = registry
        self._attendance = Attendance(settle)

    def want(self, path: str) -> Want | None:
        """The children of a directory, which is waited for unless the one above names it; the value of an entry."""
        spot = self._spots.get(path)
        if spot is None:
            return None
        if spot.level == len(self._levels):
            return Want(value=True, names=False, awaited=False)
        return Want(value=False, names=True, awaited=spot.level == 0 or bool(self._levels[spot.level][0]))

    def overdue(self) -> Iterator[dict[str, Any]]:
        """Services that did not come back."""
        yield from self._events(self._attendance.overdue())

    def next_deadline(self) -> float | None:
        """When the next service will not have come back."""
        return self._attendance.next_deadline()

    def _told(self, path: str, before: Known | None, found: Found) -> Iterator[dict[str, Any]]:
        if self._is_entry(path) and (before is None or before.mzxid != found.stat.mzxid):
            yield from self._events(self._attendance.put(path, self._decoded(path, found)))

    def _untold(self, path: str) -> Iterator[dict[str, Any]]:
        if self._is_entry(path):
            yield from self._events(self._attendance.put(path, None))

    def _is_entry(self, path: str) -> bool:
        return self._spots[path].level == len(self._levels)

    def _decoded(self, path: str, found: Found) -> Registration | None:
        """The service, as the inventory has it; None where it can't be read, or does not serve."""
        stat = found.stat
        child = Child(path, self._spots[path].segments, found.data, stat.ctime, stat.mtime, stat.ephemeralOwner)
        services, problems = registrations(self._registry, Reading({}, [child]), time.time())
        for problem in problems:
            self._warn(problem)
        return services[0] if services else None

    def _events(self, changes: Iterable[Change]) -> Iterator[dict[str, Any]]:
        for change, service in changes:
            said = self._arrival() if change == "joined" else change
            if said:
                yield service_event("joined" if said == "created" else said, self._registry.path, service)

    def _below(self, path: str, name: str) -> tuple[str, Spot] | None:
        spot = self._spots[path]
        if spot.level == len(self._levels):
            return None
        pattern = self._levels[spot.level][1]
        child = f"{path.rstrip('/')}/{name}"
        if pattern is None:
            return child, Spot(spot.level + 1, path, name, spot.segments)
        if not pattern.fullmatch(name):
            return None
        fixed = self._levels[spot.level + 1][0]
        return f"{child}{fixed}", Spot(spot.level + 1, path, name, (*spot.segments, name))
