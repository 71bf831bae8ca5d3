# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is watched: which znodes are read for it, what was sent of each, and which events a change makes.

A ZooKeeper watch fires once, and says only that something happened. So a znode is read again after each notice, and
everything after each reconnection; what is read is compared with what was sent last. Whatever happened in between, the
newest state is sent, and nothing if nothing has changed. A znode with another `czxid` was recreated.

Nothing here knows the connection: `WatchLoop` reads `unread`, in that order, and passes each answer to `update`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import quote
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.events import is_template, znode_event


class Interest(NamedTuple):
    """What to read of a znode: its value, the names of its children. `awaited` if it may be created later."""

    value: bool
    names: bool
    awaited: bool


class Observation(NamedTuple):
    """A znode as it was read; `names` is empty if they are of no interest."""

    stat: Any
    data: bytes
    names: set[str]


class Position(NamedTuple):
    """A znode's place in what is watched: how deep, below which, as whose child, and what each `*` above stood for."""

    level: int
    above: str | None
    name: str
    segments: tuple[str, ...]


class LastSent(NamedTuple):
    """The state of a znode that was last sent in events; or last read, if there was nothing to send."""

    czxid: int
    mzxid: int
    pzxid: int
    names: set[str]


class Watch(ABC):
    """One znode, and what of it and below it is watched. `unread` are the paths to be read next, in order.

    Until it is `synced`, what is read is the state at the beginning: `present`, or no event without `initial`.
    """

    kind = ""

    def __init__(self, root: str, initial: bool, warn: Callable[[str], None]) -> None:
        self.root = root
        self.synced = False
        self.unread: dict[str, None] = {root: None}
        self._initial = initial
        self._warn = warn
        self._positions = {root: Position(0, None, "", ())}
        self._last_sent: dict[str, LastSent] = {}
        self._warned: set[str] = set()

    @abstractmethod
    def interest(self, path: str) -> Interest | None:
        """What to read of the znode at `path`; None if it is no longer of interest."""

    def notice(self, path: str) -> None:
        """Note that something happened to the znode at `path`."""
        if path in self._positions:
            self.unread[path] = None

    def reread(self) -> None:
        """Note that anything may have happened."""
        self.unread.update(dict.fromkeys(self._positions))

    def update(self, path: str, observed: Observation | None) -> Iterator[dict[str, Any]]:
        """The events for what was read of the znode at `path`, None if it is missing."""
        if path not in self._positions:
            return
        before = self._last_sent.get(path)
        if before is not None and (observed is None or observed.stat.czxid != before.czxid):
            yield from self._delete(path, observed.stat.czxid if observed else None)
            before = None
        if observed is not None:
            observed = observed._replace(names=self._without_templates(path, observed.names))
            stat = observed.stat
            yield from self._change_events(path, before, observed)
            names = set(before.names) if before else set()
            self._last_sent[path] = LastSent(stat.czxid, stat.mzxid, stat.pzxid, names)
            yield from self._descend(path, observed.names)
        elif not self._is_awaited(path):
            self._forget(path)

    def overdue(self) -> Iterator[dict[str, Any]]:
        """The events that have been held back for long enough. To be called only when everything has been read."""
        yield from ()

    def next_deadline(self) -> float | None:
        """When the next event that is held back is due, by the monotonic clock."""
        return None

    @abstractmethod
    def _change_events(self, path: str, before: LastSent | None, observed: Observation) -> Iterator[dict[str, Any]]:
        """The events for an existing znode. `before` is None if it did not exist."""

    def _deletion_events(self, path: str) -> Iterator[dict[str, Any]]:
        """The events for a znode that no longer exists."""
        yield znode_event(self.kind, "deleted", path)

    def _below(self, _path: str, _name: str) -> tuple[str, Position] | None:
        """The znode that is watched because of the child `name`; None if there is none."""
        return None

    def _creation(self) -> str | None:
        """The change for a znode that did not exist before; None if no event is sent for it."""
        if self.synced:
            return "created"
        return "present" if self._initial else None

    def _is_awaited(self, path: str) -> bool:
        interest = self.interest(path)
        return interest is not None and interest.awaited

    def _without_templates(self, path: str, names: Iterable[str]) -> set[str]:
        """The names that can be in an event; a warning, once for each znode, if some can't."""
        kept = {name for name in names if not is_template(name)}
        refused = set(names) - kept
        if refused and path not in self._warned:
            self._warned.add(path)
            self._warn(f"{path}: {quote(min(refused))} and others like it are left out: their names are templates")
        return kept

    def _descend(self, path: str, names: set[str]) -> Iterator[dict[str, Any]]:
        """Watch what is below new children, and no longer what is below deleted ones."""
        before = self._last_sent[path].names
        for name in sorted(before - names):
            below = self._below(path, name)
            if below:
                yield from self._delete(below[0])
                self._forget(below[0])
        for name in sorted(names - before):
            below = self._below(path, name)
            if below:
                self._positions[below[0]] = below[1]
                self.unread[below[0]] = None
        before.clear()
        before.update(names)

    def _delete(self, path: str, since: int | None = None) -> Iterator[dict[str, Any]]:
        """The events for a deleted znode and everything below it, which was deleted, and so is sent, before it.

        `since` is the transaction that recreated it: what was created since then is below the new one.
        """
        deleted, place = [path], 0
        while place < len(deleted):
            above = deleted[place]
            names = self._last_sent[above].names if above in self._last_sent else ()
            below = (self._below(above, name) for name in sorted(names, reverse=True))
            deleted += [child[0] for child in below if child and not self._is_since(child[0], since)]
            place += 1
        for child in reversed(deleted):
            if self._last_sent.pop(child, None) is not None:
                yield from self._deletion_events(child)
            if child != path:
                self._forget(child)

    def _is_since(self, path: str, transaction: int | None) -> bool:
        last_sent = self._last_sent.get(path)
        return transaction is not None and last_sent is not None and last_sent.czxid >= transaction

    def _forget(self, path: str) -> None:
        """Drop a znode that is of no interest, unless the one above it names it again."""
        self.unread.pop(path, None)
        self._warned.discard(path)
        position = self._positions.pop(path, None)
        above = self._last_sent.get(position.above) if position and position.above else None
        if position and above:
            above.names.discard(position.name)
