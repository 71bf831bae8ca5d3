# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The watches on paths: a znode's value, the names of its children, or a whole subtree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import child
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import stat_fields
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.events import event_value, znode_event
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.watch import (
    Interest,
    LastSent,
    Observation,
    Position,
    Watch,
)


class DataWatch(Watch):
    """A znode's value."""

    kind = "data"

    def interest(self, path: str) -> Interest | None:
        """Its value, whenever it is created."""
        return Interest(value=True, names=False, awaited=True) if path in self._positions else None

    def _change_events(self, path: str, before: LastSent | None, observed: Observation) -> Iterator[dict[str, Any]]:
        stat = observed.stat
        change = self._creation() if before is None else "changed" if before.mzxid != stat.mzxid else None
        if change:
            value = event_value(observed.data)
            yield znode_event(self.kind, change, path, **value, stat=stat_fields(stat), **self._place(path))

    def _deletion_events(self, path: str) -> Iterator[dict[str, Any]]:
        yield znode_event(self.kind, "deleted", path, **self._place(path))

    def _place(self, _path: str) -> dict[str, Any]:
        return {}


class SubtreeWatch(DataWatch):
    """The values of a znode and of everything below it."""

    kind = "subtree"

    def interest(self, path: str) -> Interest | None:
        """Its value and its children; only the root is awaited, any other is a name among its parent's children."""
        return Interest(value=True, names=True, awaited=path == self.root) if path in self._positions else None

    def _place(self, path: str) -> dict[str, Any]:
        return {"root": self.root, "relative": path[len(self.root) :].lstrip("/")}

    def _below(self, path: str, name: str) -> tuple[str, Position] | None:
        return child(path, name), Position(self._positions[path].level + 1, path, name, ())


class ChildrenWatch(Watch):
    """The names of a znode's children."""

    kind = "children"

    def interest(self, path: str) -> Interest | None:
        """Its children, whenever it is created."""
        return Interest(value=False, names=True, awaited=True) if path in self._positions else None

    def _change_events(self, path: str, before: LastSent | None, observed: Observation) -> Iterator[dict[str, Any]]:
        names = before.names if before else set()
        stat = observed.stat
        change = self._creation() if before is None else "changed" if before.pzxid != stat.pzxid else None
        if change:
            yield znode_event(
                self.kind,
                change,
                path,
                children=sorted(observed.names),
                added=sorted(observed.names - names),
                removed=sorted(names - observed.names),
                stat=stat_fields(stat),
            )
