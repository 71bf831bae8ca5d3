# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ephemerals that this agent holds: its status, and a registration for each healthy service."""

from __future__ import annotations

import contextlib
from typing import Any

from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
from kazoo.protocol.states import EventType

from zoo_watcher.errors import AgentError, SessionTroubleError

from .session import Session, session_trouble


class TakenError(AgentError):
    """The path of an ephemeral is somebody else's; `owner` is the session that holds it (0: it is persistent)."""

    def __init__(self, path: str, owner: int) -> None:
        held = f"session 0x{owner & 0xFFFFFFFFFFFFFFFF:x} holds it" if owner else "it is a persistent znode"
        super().__init__(f"{path} is taken: {held}")
        self.path = path
        self.owner = owner


class Ephemerals:
    """Holds ephemerals in the session of the moment, and asks the ensemble only where something differs."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._held: dict[str, tuple[int | None, bytes]] = {}

    def hold(self, path: str, value: bytes) -> None:
        """See to it that the ephemeral is there with this value. Raises `TakenError`, `SessionTroubleError`."""
        mine = (self.session.id, value)
        if self._held.get(path) == mine:
            return
        self.session.note_held(path)
        with session_trouble(path):
            if self._held.pop(path, (None, b""))[0] == self.session.id:
                self._set(path, value)
            else:
                self._create(path, value)
            self._held[path] = mine
            # Somebody may delete it: then it is made again.
            self.session.ask(self.session.client.exists_async, path, watch=self._on_event)

    def let_go(self, path: str) -> None:
        """See to it that the ephemeral is not there, where it is this agent's. Raises `SessionTroubleError`."""
        if path not in self.session.held:
            return
        with session_trouble(path), contextlib.suppress(NoNodeError):
            if path in self._held or self._left_by_earlier(path):
                self.session.ask(self.session.client.delete_async, path)
        self._held.pop(path, None)
        self.session.note_let_go(path)

    def let_go_of_others(self, wanted: set[str]) -> None:
        """Take back what an earlier process held and the configuration does not name any more."""
        for path in sorted(self.session.held - wanted):
            self.let_go(path)

    def _left_by_earlier(self, path: str) -> bool:
        stat = self.session.ask(self.session.client.exists_async, path)
        return stat is not None and stat.ephemeralOwner in {self.session.id, *self.session.earlier}

    def _on_event(self, event: Any) -> None:
        if event.type == EventType.DELETED and self._held.pop(event.path, None):
            self.session.wake()

    def _set(self, path: str, value: bytes) -> None:
        try:
            self.session.ask(self.session.client.set_async, path, value)
        except NoNodeError:
            self._create(path, value)

    def _create(self, path: str, value: bytes) -> None:
        try:
            self.session.ask(self.session.client.create_async, path, value, ephemeral=True, makepath=True)
        except NodeExistsError:
            self._take_over(path, value)

    def _take_over(self, path: str, value: bytes) -> None:
        """What is there is ours, of this session or of an earlier one, or it stays."""
        try:
            found, stat = self.session.ask(self.session.client.get_async, path)
        except NoNodeError as exc:
            raise SessionTroubleError(f"{path} has just gone") from exc
        if stat.ephemeralOwner == self.session.id:
            # After a restart nothing need have changed: whoever watches it then sees no event.
            if found != value:
                self.session.ask(self.session.client.set_async, path, value)
        elif stat.ephemeralOwner in self.session.earlier:
            self._replace(path, value, stat.version)
        else:
            raise TakenError(path, stat.ephemeralOwner)

    def _replace(self, path: str, value: bytes, version: int) -> None:
        """An ephemeral of an earlier session would go when that expires: this session's takes its place in one step."""
        transaction = self.session.client.transaction()
        transaction.delete(path, version)
        transaction.create(path, value, ephemeral=True)
        for result in self.session.answer(transaction.commit_async()):
            if isinstance(result, KazooException):
                raise SessionTroubleError(f"{path} changed while it was replaced")
