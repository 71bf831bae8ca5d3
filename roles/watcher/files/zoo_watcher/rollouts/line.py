# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's place in a line of hosts, in which each waits for the one ahead in its lane.

A place is an ephemeral with a sequence number; its lane is that number modulo the number of lanes. So the places ahead
in a lane are known by name, and nobody lists the line: a host looks for the next lower number of its lane and, if there
is none, for the next one, down to the place that left the lane last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable

from zoo_watcher.errors import NoParentError, SessionTroubleError
from zoo_watcher.wire.rollout_writes import CREATE, DELETE, SET, Write
from zoo_watcher.zookeeper.session import Session, Znode, session_trouble

PREFIX = "n-"
NOBODY = -1
"""Stands for the number that left a lane last while none has."""


@dataclass(frozen=True)
class LinePlace:
    """A place in the line: its number, and the host that has it."""

    number: int
    host: str


def number_of(node: str) -> int:
    """The number of the place at a znode."""
    return int(node.rpartition("-")[2])


class Line:
    """One line. `root` has the places, `lanes` a znode for each lane that a host has left: `{"left": number}`."""

    def __init__(
        self,
        session: Session,
        root: str,
        lanes: str,
        width: int,
        host: str,
        changed: Callable[[], None],
        *,
        resumes: bool = False,
    ) -> None:
        self._session = session
        self._root = root
        self._lanes = lanes
        self._width = width
        self._host = host
        self._changed = changed
        self._client_id: Any = None
        self._path: str | None = None
        self._may_have_more = resumes
        self._is_stale = True
        self._is_lane_there = False
        self._is_watched = False
        self.ahead: LinePlace | None = None
        """The place ahead, as far as is known."""
        self.gone: str | None = None
        """The host that was ahead last, and is no longer in the line."""
        self.is_leaving = False
        """Whether this host has asked to leave and has no answer: it may or may not have its place."""

    @property
    def path(self) -> str | None:
        """This host's place; None if it has none. While there is no connection, it stays as it was."""
        return self._path if self._session.client_id in {None, self._client_id} else None

    @property
    def is_at_head(self) -> bool:
        """Whether no host is ahead."""
        return self.path is not None and not self.is_leaving and not self._is_stale and self.ahead is None

    def join(self) -> None:
        """Take a place at the end if there is none yet, and find who is ahead. Raises `SessionTroubleError`."""
        if self.is_leaving:
            self.leave()
        if self.path is None:
            self.forget()
            self.remove_others()
            client_id, self._may_have_more = self._session.client_id, True
            if client_id is None:
                raise SessionTroubleError(f"{self._root}: there is no connection")
            self._client_id = client_id
            self._path = self._take_place()
            self._may_have_more = self._session.client_id != client_id
            self._is_stale = True
        if self._is_stale and self._path is not None:
            self._is_stale = False
            try:
                self._look_ahead(number_of(self._path))
            except SessionTroubleError:
                self._is_stale = True
                raise

    def _take_place(self) -> str | None:
        """A new place. A deleted line is recreated, but not a deleted rollout, which has to start over."""
        place, host = f"{self._root}/{PREFIX}", self._host.encode()
        try:
            return self._session.create(place, host, ephemeral=True, sequence=True, parents=False)
        except NoParentError:
            self._session.create(self._root, b"", parents=False)
        return self._session.create(place, host, ephemeral=True, sequence=True, parents=False)

    def has_lasted(self) -> bool:
        """Whether the place, which somebody may delete, is there; from now on, this host is notified of that.

        If it is not, nobody is ahead of any host whose place was deleted too. Raises `SessionTroubleError`.
        """
        path = self.path
        if path is not None and not self._is_watched:
            self._is_watched = True
            try:
                with session_trouble(path):
                    place = self._session.begin_read(path, self._on_own_event)()
                    if place is None:
                        self._session.catch_up()  # the server of a new client may lag behind
                        place = self._session.begin_read(path, self._on_own_event)()
            except SessionTroubleError:
                self._is_watched = False
                raise
            if not self._is_own(place):
                self.forget()
        return self.path is not None

    def _is_own(self, place: Znode | None) -> bool:
        """Whether a place belongs to this session: in a recreated line, the numbers start over."""
        return place is not None and self._client_id is not None and place.stat.ephemeralOwner == self._client_id[0]

    def remove_others(self) -> None:
        """Delete unknown places of this session, if there may be any. Raises `SessionTroubleError`.

        The answer to a `join` may have been lost, or an earlier process may have had a place: it would block the lane.
        """
        if not self._may_have_more:
            return
        client_id = self._session.client_id
        if client_id is None:
            raise SessionTroubleError(f"{self._root}: there is no connection")
        with session_trouble(self._root):
            self._session.catch_up()
            paths = [f"{self._root}/{name}" for name in self._session.begin_list(self._root)()]
            reads = [(path, self._session.begin_read(path)) for path in paths]
            owners = [(path, read()) for path, read in reads]
        for path, znode in owners:
            if znode and znode.stat.ephemeralOwner == client_id[0]:
                self._session.delete(path)
        self._may_have_more = False

    def _look_ahead(self, own: int) -> None:
        with session_trouble(self._root):
            lane = self._session.begin_read(self._lane(own))()
            self._is_lane_there = lane is not None
            left = _left(lane)
            left = NOBODY if left >= own else left  # from a line that was deleted
            before, self.ahead = self.ahead, self._find(own, left)
        if before is not None and before != self.ahead and before.number != left:
            self.gone = before.host

    def _lane(self, number: int) -> str:
        return f"{self._lanes}/{number % self._width}"

    def _find(self, own: int, left: int) -> LinePlace | None:
        for number in range(own - self._width, left, -self._width):
            znode = self._session.begin_read(f"{self._root}/{PREFIX}{number:010d}", self._on_event)()
            if znode is not None:
                return LinePlace(number, znode.data.decode("utf-8", "replace"))
        return None

    def _on_event(self, _event: Any) -> None:
        self._is_stale = True
        self._changed()

    def _on_own_event(self, _event: Any) -> None:
        self._is_watched = False
        self._changed()

    def exits(self) -> list[Write]:
        """The writes that take this host out of the line in a transaction."""
        if self.path is None:
            return []
        writes = [Write(DELETE, self.path)]
        if self.is_at_head:
            left = json.dumps({"left": number_of(self.path)}).encode()
            lane = self._lane(number_of(self.path))
            writes.append(Write(SET if self._is_lane_there else CREATE, lane, left))
        return writes

    def check(self) -> None:
        """Check the place, and its lane, which the host ahead may have created while this host looked there.

        Raises `SessionTroubleError`.
        """
        if self.path is None:
            return
        with session_trouble(self.path):
            place, lane = (self._session.begin_read(path) for path in (self.path, self._lane(number_of(self.path))))
            self._is_lane_there = lane() is not None
            if not self._is_own(place()):
                self.forget()

    def leave(self) -> None:
        """Give up the place, if there is one. Raises `SessionTroubleError`."""
        if self.path is not None:
            with session_trouble(self.path):
                place = self._session.begin_read(self.path)()
            # If the answer is lost, it may already be another's turn.
            self.is_leaving = True
            # In a recreated line, it may be another's place; a server that lags behind may not know it yet.
            if place is None or self._is_own(place):
                self._session.delete(self.path)
        else:
            self.remove_others()
        self.forget()

    def forget(self) -> None:
        """This host no longer has a place."""
        self._path = self.ahead = self.gone = None
        self.is_leaving = self._is_watched = False


def _left(lane: Znode | None) -> int:
    """The number that left a lane last; `NOBODY` if none has, or that can't be told."""
    try:
        return max(NOBODY, int(json.loads(lane.data)["left"])) if lane else NOBODY
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return NOBODY
