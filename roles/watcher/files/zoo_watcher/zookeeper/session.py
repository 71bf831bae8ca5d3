# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's session with the ensemble. It reconnects for ever; what asks through it never waits long.

A watch and a change of state only wake the loop: it reads anew what counts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple

from kazoo.exceptions import KazooException, NoAuthError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KeeperState

from zoo_watcher.config.config import Connection
from zoo_watcher.errors import SessionTroubleError
from zoo_watcher.host.filesystem import write_durably

from .connection import explain
from .connector import Connector
from .kazoo_client import new_client
from .session_memory import recall
from .session_states import AUTH_FAILED, DISCONNECTED, EXPIRED, SYNC_CONNECTED, SessionStates

ANSWER_TIMEOUT = 10.0
"""Seconds that the loop waits for one answer."""
STOP_TIMEOUT = 5.0
"""Seconds that ending the session may take; after that it is left to expire."""

NOT_CONNECTED = {
    KeeperState.CONNECTING: DISCONNECTED,
    KeeperState.CLOSED: DISCONNECTED,
    KeeperState.EXPIRED_SESSION: EXPIRED,
    KeeperState.AUTH_FAILED: AUTH_FAILED,
}
"""ZooKeeper's words for kazoo's. `Connector` enters the others: kazoo says CONNECTED before a server has taken the
credentials."""

log = logging.getLogger(__name__)


class Node(NamedTuple):
    """A znode as it was read: its value and its `ZnodeStat`."""

    data: bytes
    stat: Any


class Session:
    """One session after another. `changed` is called, from kazoo's threads, when there is something to look at."""

    def __init__(self, connection: Connection, memory: Path, changed: Callable[[], None]) -> None:
        self.memory = memory
        self.earlier: set[int] = set()
        self._changed = changed
        self._known: tuple[int, bytes] | None = None
        handed_over, self.held = recall(memory)
        if handed_over:
            self.earlier.add(handed_over[0])
        self.client = new_client(connection, handed_over)
        self.states = SessionStates()
        self._connector = Connector(self.client, connection.session_timeout, self._enter)
        self.client.add_listener(self._on_kazoo_state)

    def _on_kazoo_state(self, _state: str) -> None:
        word = NOT_CONNECTED.get(self.client.client_state)
        if word:
            self._enter(word)

    def _enter(self, state: str, detail: str = "") -> None:
        if self.states.enter(state, detail):
            self._changed()

    def start(self) -> None:
        """Begin to connect."""
        self.client.start_async()

    def wake(self) -> None:
        """Let the loop look again."""
        self._changed()

    @property
    def usable(self) -> bool:
        """Whether a server that can write answers now."""
        return self.states.current == SYNC_CONNECTED

    @property
    def timeout(self) -> float:
        """Seconds after which the ensemble ends the session of an agent that it does not hear of."""
        return self._connector.timeout

    @property
    def seconds_left(self) -> float:
        """How long the session, and what it holds, lasts, whatever happens; 0 where it may have ended."""
        return self.states.seconds_left(self.timeout)

    @property
    def id(self) -> int | None:
        """The session's id while there is one."""
        return self.client.client_id[0] if self.client.client_id else None

    def renewed(self) -> bool:
        """Whether this is another session than at the last call; the new one is remembered for the next start."""
        current = self.client.client_id
        if current is None or current == self._known:
            return False
        if self._known is not None:
            self.earlier.add(self._known[0])
        self._known = current
        self._remember()
        return True

    def note_held(self, path: str) -> None:
        """Remember, across restarts, that the session may hold the ephemeral `path`."""
        if path not in self.held:
            self.held.add(path)
            self._remember()

    def note_let_go(self, path: str) -> None:
        """Forget an ephemeral that the session holds no more."""
        if path in self.held:
            self.held.remove(path)
            self._remember()

    def _remember(self) -> None:
        if self._known is None:
            return
        identity, password = self._known
        memory = {"id": identity, "password": password.hex(), "held": sorted(self.held)}
        try:
            write_durably(self.memory, json.dumps(memory), mode=0o600)
        except OSError as exc:
            log.warning("session not remembered, path=%s: %s", self.memory, exc.strerror)

    def ask(self, request: Callable[..., Any], *words: Any, **options: Any) -> Any:
        """The answer to one of the client's `..._async` requests. Raises `SessionTroubleError`, or kazoo's own."""
        return self.answer(request(*words, **options))

    @staticmethod
    def answer(pending: Any) -> Any:
        """The answer to a request that is under way."""
        try:
            return pending.get(timeout=ANSWER_TIMEOUT)
        except KazooTimeoutError as exc:
            raise SessionTroubleError(f"no answer within {ANSWER_TIMEOUT:g} s") from exc

    def read(self, path: str, watch: Callable[[Any], None]) -> Node | None:
        """A znode, or None where there is none; `watch` is called once when that has changed."""
        while True:
            try:
                return Node(*self.ask(self.client.get_async, path, watch=watch))
            except NoNodeError:
                if self.ask(self.client.exists_async, path, watch=watch) is None:
                    return None

    def read_all(self, paths: Iterable[str], watch: Callable[[Any], None]) -> dict[str, Any]:
        """Znodes by path, all asked for at once: each a `Node`, or None, or the `SessionTroubleError` that forbids it.

        `watch` is called once when one that there is has changed.
        """
        pending = {path: self.client.get_async(path, watch=watch) for path in paths}
        answers = self._answers(pending)
        return {path: Node(*found) if isinstance(found, tuple) else found for path, found in answers}

    def list_all(self, paths: Iterable[str], watch: Callable[[Any], None]) -> dict[str, Any]:
        """The children of znodes, as `read_all` reads values: the names and the `ZnodeStat` of the moment."""
        pending = {path: self.client.get_children_async(path, watch=watch, include_data=True) for path in paths}
        return dict(self._answers(pending))

    def await_all(self, paths: Iterable[str], watch: Callable[[Any], None]) -> set[str]:
        """Those of `paths` at which there is no znode; `watch` is called once when one is created there."""
        pending = {path: self.client.exists_async(path, watch=watch) for path in paths}
        return {path for path, found in self._answers(pending) if found is None}

    def _answers(self, pending: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for path, request in pending.items():
            try:
                yield path, self.answer(request)
            except NoNodeError:
                yield path, None
            except NoAuthError:
                yield path, SessionTroubleError(f"{path}: its ACL does not let this agent read it")

    def mark(self) -> int:
        """A transaction that every later read of this session reflects."""
        self.ask(self.client.exists_async, "/")
        return int(self.client.last_zxid)

    def catch_up(self) -> int:
        """The same, once the server has come level with its leader: a new session's may lag behind an old one's."""
        self.ask(self.client.sync_async, "/")
        return int(self.client.last_zxid)

    def round_trip(self, path: str) -> None:
        """Have a server answer. Raises `SessionTroubleError` where none does."""
        with session_trouble(path):
            self.ask(self.client.exists_async, path)

    def stop(self) -> None:
        """End the session, so that its ephemerals go at once."""
        self.client.remove_listener(self._on_kazoo_state)
        ender = threading.Thread(target=self._close, daemon=True)
        ender.start()
        ender.join(STOP_TIMEOUT)
        with contextlib.suppress(OSError):
            self.memory.unlink()

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self.client.stop()
            self.client.close()


@contextlib.contextmanager
def session_trouble(path: str) -> Any:
    """Turn kazoo's errors inside the block into a `SessionTroubleError` that names `path`."""
    try:
        yield
    except KazooException as exc:
        raise SessionTroubleError(f"{path}: {explain(exc)}") from exc
