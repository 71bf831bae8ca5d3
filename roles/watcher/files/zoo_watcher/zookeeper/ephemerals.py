# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ephemerals that this agent holds: its status, and a registration for each healthy service."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from functools import partial

from kazoo.exceptions import KazooException, NoAuthError, NodeExistsError, NoNodeError
from kazoo.protocol.states import EventType

from zoo_watcher.errors import AgentError, NoAnswerError, SessionTroubleError

from .session import Session, session_trouble
from .session_memory import ClientId, SessionMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class TakenError(AgentError):
    """The path of an ephemeral belongs to somebody else; `owner` is the session that holds it (0: it is persistent)."""

    def __init__(self, path: str, owner: int) -> None:
        held = f"session 0x{owner & 0xFFFFFFFFFFFFFFFF:x} holds it" if owner else "it is a persistent znode"
        super().__init__(f"{path} is taken: {held}")
        self.path = path
        self.owner = owner


class Ephemerals:
    """Holds ephemerals in the current session, and asks the ensemble only if something differs.

    The record of what is held has, by the id of each session of this agent, the values by path; None for one that may
    exist, perhaps with another value: it was held by an earlier process, or a request for it has not been answered.
    """

    def __init__(self, session: Session, memory: SessionMemory) -> None:
        self._session = session
        self._memory = memory
        self._client_id: ClientId | None = None
        self._held: dict[int, dict[str, bytes | None]] = {}
        if memory.client_id:
            self._held[memory.client_id[0]] = dict.fromkeys(memory.paths)
        self._unwatched: set[str] = set()
        """What is held as far as this agent knows, but whose watch is used up or was lost with the connection."""
        self._versions: dict[str, int] = {}
        """The version at which each path had the value that it is held with."""
        self._made: dict[str, int] = {}
        """The `czxid` of each: with another, somebody had deleted it."""
        self._numbers = itertools.count(1)
        self._watches: dict[str, int] = {}
        """The number of the latest watch on each path: an earlier one sees only what this agent has done itself."""
        self._late: dict[str, tuple[int, Any]] = {}
        """The unanswered requests of `withdraw`, by path, with the number of the connection."""
        self._seen: deque[tuple[str, str | None]] = deque()
        """What watches have seen: the type, and the path, None for the loss of the connection."""

    def follow_session(self) -> bool:
        """Whether the session is another than at the last call. It is remembered for the next start."""
        client_id = self._session.client_id
        if client_id is None or client_id == self._client_id:
            return False
        self._client_id = client_id
        self._held.setdefault(client_id[0], {})
        self._save()
        return True

    @property
    def held(self) -> set[str]:
        """The paths of the ephemerals that the current session holds."""
        self._note_seen()
        return {path for path, value in self._present.items() if value is not None}

    def may_hold(self, path: str) -> bool:
        """Whether the current session holds an ephemeral, or may do."""
        return path in self._present

    def made(self, path: str) -> int | None:
        """The `czxid` of an ephemeral; None if it is not held."""
        return self._made.get(path) if path in self.held else None

    def hold(self, path: str, value: bytes) -> None:
        """Make sure that the ephemeral is there with this value. Raises `TakenError`, `SessionTroubleError`."""
        self._note_seen()
        self._save()
        before = None if path in self._unwatched else self._present.get(path)
        if before == value:
            return
        self._present[path] = None
        self._late.pop(path, None)
        self._save()
        number = self._watches[path] = next(self._numbers)
        with session_trouble(path):
            version = self._create(path, value) if before is None else self._set(path, value)
            # Somebody may delete or change it: then it is recreated as it was.
            watch = partial(self._on_event, number=number)
            stat = self._session.ask(self._session.client.exists_async, path, watch=watch)
            if stat is None:
                raise SessionTroubleError(f"{path} has just been deleted")
            if stat.version != version:
                raise SessionTroubleError(f"{path} has just been changed")
            self._forget(path)
            self._present[path] = value
            self._versions[path] = version
            self._made[path] = int(stat.czxid)
            self._unwatched.discard(path)

    def look_again(self) -> None:
        """Find what others have changed or deleted and no watch has reported. Raises `SessionTroubleError`."""
        pending = {path: self._session.client.exists_async(path) for path in self.held}
        for path, request in pending.items():
            with session_trouble(path):
                stat = self._session.answer(request)
            if stat is None:
                self._present[path] = None
            elif stat.version != self._versions.get(path) or stat.ephemeralOwner not in self._held:
                self._unwatched.add(path)

    def withdraw(self, path: str, deadline: float | None = None) -> None:
        """Make sure that the ephemeral, if it is this agent's, is not there. Raises `SessionTroubleError`.

        After a `deadline`, requests are sent, but not waited for.
        """
        if path not in self._paths:
            return
        with session_trouble(path), contextlib.suppress(NoNodeError):
            stat = self._look(path, deadline)
            if stat is not None and stat.ephemeralOwner in self._held:
                self._delete(path, stat.version, deadline)
        self._forget(path)
        self._save()

    def begin_withdrawal(self, path: str) -> None:
        """Ask what is there for `withdraw` to delete, unless that is in progress on this connection."""
        number, _pending = self._late.get(path, (None, None))
        if path in self._paths and number != self._session.connections:
            self._late[path] = self._session.connections, self._session.client.exists_async(path)

    def _look(self, path: str, deadline: float | None) -> Any:
        """What is at a path. A late answer is used the next time: otherwise a slow server would allow no withdrawal."""
        self.begin_withdrawal(path)
        number, pending = self._late.pop(path)
        try:
            return self._session.answer(pending, deadline)
        except NoAnswerError:
            self._late[path] = number, pending
            raise

    def _delete(self, path: str, version: int, deadline: float | None) -> None:
        before = self._present.get(path)
        if path in self._present:
            self._present[path] = None
        try:
            self._session.answer(self._session.client.delete_async(path, version), deadline)
        except NoAuthError:
            # It stays, so it is held.
            if path in self._present:
                self._present[path] = before
            raise

    def withdraw_others(self, configured: set[str]) -> None:
        """Withdraw what an earlier process held and the configuration no longer names.

        What may not be deleted, such as a status of another name in a closed application, blocks nothing else.
        """
        refused: SessionTroubleError | None = None
        for path in sorted(self._paths - configured):
            try:
                self.withdraw(path)
            except NoAnswerError:
                raise
            except SessionTroubleError as exc:
                refused = refused or exc
        if refused:
            raise refused

    @property
    def _present(self) -> dict[str, bytes | None]:
        return self._held[self._client_id[0]] if self._client_id else {}

    @property
    def _paths(self) -> set[str]:
        """The paths that any of the sessions may hold."""
        return {path for paths in self._held.values() for path in paths}

    def _forget(self, path: str) -> None:
        for paths in self._held.values():
            paths.pop(path, None)

    def _save(self) -> None:
        if self._client_id:
            self._memory.save(self._client_id, self._paths)

    def _on_event(self, event: Any, number: int | None = None) -> None:
        """The watch with this `number` has fired. Without a path, the connection is lost, and with it every watch."""
        if event.path is None or number in (None, self._watches.get(event.path)):
            self._seen.append((event.type, event.path))
            self._session.wake()

    def _note_seen(self) -> None:
        """Note what watches have seen: they are called in kazoo's thread, but the record belongs to the loop."""
        while self._seen:
            kind, path = self._seen.popleft()
            if path is None:
                self._unwatched = set(self._present)
            elif path in self._present and kind == EventType.DELETED:
                self._present[path] = None
            elif path in self._present:
                self._unwatched.add(path)

    def _set(self, path: str, value: bytes) -> int:
        """Set the value; returns the version of the znode."""
        try:
            return int(self._session.ask(self._session.client.set_async, path, value).version)
        except NoNodeError:
            return self._create(path, value)

    def _create(self, path: str, value: bytes) -> int:
        """As `_set`; a new znode has version 0."""
        try:
            self._session.ask(self._session.client.create_async, path, value, ephemeral=True, makepath=True)
        except NodeExistsError:
            return self._take_over(path, value)
        return 0

    def _take_over(self, path: str, value: bytes) -> int:
        """Take over what this session or an earlier one has left; anything else stays, and its end wakes the loop."""
        try:
            present, stat = self._session.ask(self._session.client.get_async, path)
        except NoNodeError as exc:
            raise SessionTroubleError(f"{path} has just been deleted") from exc
        if stat.ephemeralOwner not in self._held:
            if self._session.ask(self._session.client.exists_async, path, watch=self._on_event) is None:
                raise SessionTroubleError(f"{path} has just been deleted")
            raise TakenError(path, stat.ephemeralOwner)
        if self._client_id is None or stat.ephemeralOwner != self._client_id[0]:
            return self._replace(path, value, stat.version)
        if present != value:
            return self._set(path, value)
        # After a restart, perhaps nothing has changed: then watchers see no event.
        return int(stat.version)

    def _replace(self, path: str, value: bytes, version: int) -> int:
        """Replace an earlier session's, which is deleted when that expires, by this session's, in one step."""
        transaction = self._session.client.transaction()
        transaction.delete(path, version)
        transaction.create(path, value, ephemeral=True)
        errors = [
            result for result in self._session.answer(transaction.commit_async()) if isinstance(result, KazooException)
        ]
        for error in errors:
            if isinstance(error, NoAuthError):
                raise error  # it is created once the earlier session has ended
        if errors:
            raise SessionTroubleError(f"{path} changed while it was replaced")
        return 0
