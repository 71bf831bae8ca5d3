# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's session with the ensemble. It reconnects for ever; requests through it never wait long.

A watch and a change of state only wake the loop, which then reads what counts.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import time
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping

from kazoo import exceptions
from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KeeperState

from zoo_watcher.backoff import LONGEST_PAUSE, Backoff
from zoo_watcher.config.config import Connection
from zoo_watcher.errors import NoAnswerError, NoParentError, RefusedError, SessionTroubleError
from zoo_watcher.host import systemd
from zoo_watcher.host.thread import Thread
from zoo_watcher.wire.access import Acl, closed

from .connection import explain
from .connector import Connector
from .kazoo_client import new_client
from .kazoo_log import KazooLog
from .kazoo_threads import KazooThreads
from .session_memory import ClientId
from .session_states import AUTH_FAILED, DISCONNECTED, EXPIRED, SYNC_CONNECTED, SessionStates

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from zoo_watcher.wire.rollout_writes import Write

ANSWER_TIMEOUT = 10.0
"""Seconds that the loop waits for one answer."""
STOP_TIMEOUT = 5.0
"""Seconds that ending the session may take; after that it is left to expire."""
TAKE_UP_TIMEOUT = 3.0
"""Seconds of those that a connection may take, if there is none: without one, the session can't be closed."""
FIRST_PAUSE = 0.5
"""Seconds before kazoo's client is replaced by a new one, at first."""

ANY_VERSION = -1
OVERTAKEN = (BadVersionError, NodeExistsError, NoNodeError, RolledBackError, RuntimeInconsistency)
"""The errors of a transaction's writes if somebody was quicker. Anything else is a refusal, and so is a missing znode
for a write that checks no version: the one that does comes first, and would have failed instead."""
REFUSALS: tuple[type[Exception], ...] = (NoAuthError, *filter(None, [getattr(exceptions, "QuotaExceededError", None)]))
"""The errors that say that a znode may not be created; kazoo has not always had each."""

log = logging.getLogger(__name__)

NOT_CONNECTED = {
    KeeperState.CONNECTING: DISCONNECTED,
    KeeperState.CLOSED: DISCONNECTED,
    KeeperState.EXPIRED_SESSION: EXPIRED,
    KeeperState.AUTH_FAILED: AUTH_FAILED,
}
"""ZooKeeper's words for kazoo's. `Connector` enters the others: kazoo says CONNECTED before a server has accepted the
credentials."""


def answer_deadline() -> float:
    """Until when the loop waits for the answer to a request made now, by `time.monotonic`."""
    return time.monotonic() + ANSWER_TIMEOUT


class Znode(namedtuple("Znode", ("data", "stat"))):
    """A znode as it was read: its value and its `ZnodeStat`."""

    __slots__ = ()

    data: bytes
    stat: Any


class Session:
    """One session after another. `changed` is called, from kazoo's threads, when there is something to look at."""

    def __init__(self, connection: Connection, client_id: ClientId | None, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._connection = connection
        self._known = client_id
        self.states = SessionStates()
        self._log = KazooLog(changed)
        self._backoff = Backoff(FIRST_PAUSE)
        self._renew_at: float | None = None
        self._told = ""
        self.acl_of: Callable[[str, bool], Acl | None] = lambda _path, _ephemeral: None
        """The ACL of a new znode at a path, which may be an ephemeral; None for everybody."""
        self.is_closed = True
        """Whether only publishers may publish, by roles or by ACLs set by hand; True until that is known."""
        self._make_client(connection.session_timeout)

    def _make_client(self, timeout: float) -> None:
        """Set up a client that is not started yet. Raises `ConfigError`; then the previous one stays."""
        threads = KazooThreads(self._changed)
        client = new_client(self._connection, self._known, threads)
        ask = client._call

        def call(request: Any, answer: Any) -> Any:
            return ask(closed(request, client.chroot, self.acl_of), answer)

        client._call = call
        self._threads, self.client = threads, client
        self._connector = Connector(client, timeout, functools.partial(self._enter, client))
        client.add_listener(self._on_kazoo_state)

    def _on_kazoo_state(self, _state: str) -> None:
        state = NOT_CONNECTED.get(self.client.client_state)
        if state:
            self._enter(self.client, state)

    def _enter(self, client: Any, state: str, detail: str = "") -> None:
        if client is not self.client:
            return  # one that has been replaced
        if state == SYNC_CONNECTED:
            self._known = client.client_id
            self._backoff.reset()
            self._told = ""
        elif state == EXPIRED:
            self._known = None
        if self.states.enter(state, detail):
            self._changed()

    def start(self) -> None:
        """Start to connect."""
        self._log.listen()
        self._start_client()

    def _start_client(self) -> None:
        try:
            self.client.start_async()
        except Exception as exc:  # noqa: BLE001  # no descriptor, no thread, or what kazoo makes of it
            self._threads.note_end(exc)

    def look_after(self) -> float:
        """Replace a client whose threads have ended, and report that there has long been no session.

        To be called while it is not `usable`; returns the seconds after which to call it again.
        """
        return min(self._replace_broken(), self.states.remind(self._log.last))

    def look_at_losses(self) -> float:
        """Report that a session lasts again. To be called while `usable`; returns the seconds until the next call."""
        return self.states.remind(self._log.last)

    def _replace_broken(self) -> float:
        """Replace the client. The new one resumes the session, which lasts; every watch is told that it is lost."""
        now = time.monotonic()
        if not self._threads.broken:
            return LONGEST_PAUSE
        if self._renew_at is None:
            self._enter(self.client, DISCONNECTED)
            self._tell(self._threads.reason)
            self._renew_at = now + next(self._backoff)
        elif now >= self._renew_at:
            self._renew_at = None
            self._replace()
            return 0.0
        return max(0.0, self._renew_at - now)

    def _tell(self, reason: str) -> None:
        if self._told != (reason or "unknown"):
            self._told = reason or "unknown"
            log.warning("the ZooKeeper client has ended unexpectedly (%s); a new one resumes the session", self._told)

    def _replace(self) -> None:
        try:
            self._retire()
            self._make_client(self.timeout)
        except Exception as exc:  # noqa: BLE001  # tried again: whatever it is, an agent without a client is of no use
            self._threads.reason = f"{type(exc).__name__}: {exc}"
            return
        self._start_client()

    def _retire(self) -> None:
        """End what is left of the client, but not the session: kazoo's own `stop` would close it."""
        self.client.remove_listener(self._on_kazoo_state)
        connection = self.client._connection
        self.client._stopped.set()
        with contextlib.suppress(AttributeError, OSError):
            connection._socket.shutdown(socket.SHUT_RDWR)
        connection.connection_stopped.wait(STOP_TIMEOUT)
        self._threads.end()
        with contextlib.suppress(Exception):
            self.client.close()

    def hold_off(self, *, holds_off: bool) -> None:
        """After a lost connection, wait (or not) until the session has ended before connecting again."""
        self._connector.holds_off = holds_off

    def wake(self) -> None:
        """Make the loop look again."""
        self._changed()

    @property
    def usable(self) -> bool:
        """Whether a server that can write answers now."""
        return self.states.current == SYNC_CONNECTED and not self._threads.broken

    @property
    def has_ended(self) -> bool:
        """Whether the ensemble has ended the session, and there is no other yet."""
        return self.states.current == EXPIRED

    @property
    def trying(self) -> dict[str, Any] | None:
        """While no server that can write has the session: the `members` that it tries, and the last `error`."""
        if self.usable:
            return None
        members = [f"{host}:{port}" for host, port in self.client.hosts]
        return {"members": members, **({"error": self._log.last} if self._log.last else {})}

    @property
    def timeout(self) -> float:
        """Seconds after which the ensemble ends the session of an agent that it does not hear from."""
        return self._connector.timeout

    @property
    def seconds_left(self) -> float:
        """Seconds that the session, and what it holds, lasts whatever happens; 0 if it may have ended."""
        return self.states.seconds_left(self.timeout)

    @property
    def client_id(self) -> ClientId | None:
        """The session's id and password while there is a connection."""
        known: ClientId | None = self.client.client_id
        return known

    @property
    def connections(self) -> int:
        """The number of times that a server that can write has taken the session."""
        return self.states.counts[SYNC_CONNECTED]

    @property
    def lost_at(self) -> float | None:
        """When the last of these connections was lost, by `time.monotonic()`; None if none was."""
        return self.states.lost_at

    @property
    def local_address(self) -> str:
        """The address of this host's end of the connection; empty if there is none."""
        return self._connector.local_address

    def ask(self, request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The answer to one of the client's `..._async` requests. Raises `SessionTroubleError`, or kazoo's own."""
        return self.answer(request(*arguments, **options))

    @staticmethod
    def answer(pending: Any, deadline: float | None = None) -> Any:
        """The answer to a pending request. Raises `NoAnswerError`, or kazoo's own.

        A `deadline` for several requests comes from `answer_deadline`, called before the first.
        """
        seconds = (answer_deadline() if deadline is None else deadline) - time.monotonic()
        if not pending.ready():
            # An ensemble that is slow with each of many answers is not a reason to have this agent killed.
            systemd.live_on()
        try:
            return pending.get(timeout=max(0.0, seconds))
        except KazooTimeoutError as exc:
            raise NoAnswerError(f"no answer within {ANSWER_TIMEOUT:g} s") from exc

    def read(self, path: str, watch: Callable[[Any], None]) -> Znode | None:
        """A znode, or None if there is none; `watch` is called once when that has changed."""
        while True:
            znode = self.begin_read(path, watch)()
            if znode is not None or self.ask(self.client.exists_async, path, watch=watch) is None:
                return znode

    def begin_read(self, path: str, watch: Callable[[Any], None] | None = None) -> Callable[[], Znode | None]:
        """Request a znode; the returned function waits for it: None if there is none, then without a `watch`."""
        pending = self.client.get_async(path, watch=watch)

        def finish() -> Znode | None:
            try:
                return Znode(*self.answer(pending))
            except NoNodeError:
                return None

        return finish

    def begin_look(self, path: str) -> Callable[[], Znode | None]:
        """As `begin_read`, where any agent may create znodes: None also for one that an agent keeps to itself."""
        read = self.begin_read(path)

        def finish() -> Znode | None:
            with contextlib.suppress(NoAuthError):
                return read()
            return None

        return finish

    def read_acl(self, path: str) -> list[Any]:
        """The ACL of a znode, empty if it does not exist or may not be read. Raises `SessionTroubleError`."""
        with session_trouble(path), contextlib.suppress(NoAuthError, NoNodeError):
            return list(self.ask(self.client.get_acls_async, path)[0])
        return []

    def begin_list(self, path: str) -> Callable[[], list[str]]:
        """Request the names of a znode's children; the returned function waits for them, none if it does not exist."""
        pending = self.client.get_children_async(path)

        def finish() -> list[str]:
            try:
                return list(self.answer(pending))
            except NoNodeError:
                return []

        return finish

    def create(
        self, path: str, value: bytes, *, ephemeral: bool = False, sequence: bool = False, parents: bool = True
    ) -> str | None:
        """Create a znode, and its `parents`; returns its path, None if there was one.

        Raises `SessionTroubleError`, `RefusedError`, and without its `parents` `NoParentError`.
        """
        with session_trouble(path):
            try:
                options = {"ephemeral": ephemeral, "sequence": sequence, "makepath": parents}
                return str(self.ask(self.client.create_async, path, value, **options))
            except NodeExistsError:
                return None
            except NoAuthError as exc:
                # A server checks the parent's ACL first: a client that may not create it need not, if it is there.
                if self.ask(self.client.exists_async, path) is None:
                    raise RefusedError(path, f"{path}: {explain(exc)}") from exc
                return None
            except NoNodeError as exc:
                raise NoParentError(f"{path}: {explain(exc)}") from exc
            except REFUSALS as exc:
                raise RefusedError(path, f"{path}: {explain(exc)}") from exc

    def delete(self, path: str) -> None:
        """Delete a znode, if there is one. Raises `SessionTroubleError`."""
        with session_trouble(path), contextlib.suppress(NoNodeError):
            self.ask(self.client.delete_async, path)

    def delete_below(self, path: str) -> None:
        """Delete a znode and all that is below it. Raises `SessionTroubleError`."""
        levels = [[path]]
        with session_trouble(path):
            while levels[-1]:
                lists = [(parent, self.begin_list(parent)) for parent in levels[-1]]
                levels.append([f"{parent}/{name}" for parent, names in lists for name in names()])
        for level in reversed(levels):
            for one in level:
                self.delete(one)

    def commit(self, writes: Iterable[Write]) -> bool:
        """Carry out all of the writes, or none; returns whether all. Raises `SessionTroubleError`, `RefusedError`."""
        # Imported here: an agent without rollouts does not keep them in memory.
        from zoo_watcher.wire.rollout_writes import CREATE, SET  # noqa: PLC0415

        transaction = self.client.transaction()
        writes = list(writes)
        for write in writes:
            if write.kind == CREATE:
                transaction.create(write.path, write.value)
            elif write.kind == SET:
                transaction.set_data(write.path, write.value, write.version)
            else:
                transaction.delete(write.path)
        with session_trouble(writes[0].path):
            results = self.answer(transaction.commit_async())
        for write, result in zip(writes, results):
            if isinstance(result, KazooException):
                _check_overtaken(write, result)
        return not any(isinstance(result, KazooException) for result in results)

    def read_all(self, paths: Iterable[str], watch: Callable[[Any], None] | None = None) -> dict[str, Any]:
        """Znodes by path, all requested at once: each a `Znode`, None, or the `SessionTroubleError` that forbids it.

        A `watch` is called once when an existing one has changed.
        """
        pending = {path: self.client.get_async(path, watch=watch) for path in paths}
        answers = self._answers(pending)
        return {path: Znode(*answer) if isinstance(answer, tuple) else answer for path, answer in answers}

    def list_all(self, paths: Iterable[str], watch: Callable[[Any], None]) -> dict[str, Any]:
        """The children of znodes, as `read_all` reads values: their names and the current `ZnodeStat`."""
        pending = {path: self.client.get_children_async(path, watch=watch, include_data=True) for path in paths}
        return dict(self._answers(pending))

    def await_all(self, paths: Iterable[str], watch: Callable[[Any], None]) -> set[str]:
        """Those of `paths` at which there is no znode; `watch` is called once when one is created there."""
        pending = {path: self.client.exists_async(path, watch=watch) for path in paths}
        return {path for path, stat in self._answers(pending) if stat is None}

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
        """The same, once the server has caught up with its leader: a new session's may lag behind an old one's."""
        self.ask(self.client.sync_async, "/")
        return int(self.client.last_zxid)

    def round_trip(self, path: str) -> None:
        """Wait for an answer of a server. Raises `SessionTroubleError` if none comes."""
        with session_trouble(path):
            self.ask(self.client.exists_async, path)

    def stop(self) -> None:
        """End the session, so that its ephemerals are deleted at once."""
        self.client.remove_listener(self._on_kazoo_state)
        ender = Thread(target=self._close, daemon=True)
        try:
            ender.start()
        except RuntimeError as exc:
            log.warning("session not closed, it expires after %g s: %s", self.timeout, exc)
        else:
            ender.join(STOP_TIMEOUT)

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self._await_connection()
            self.client.stop()
            self.client.close()

    def _await_connection(self) -> None:
        """Give a session that has no connection now a moment to get one: otherwise it can't be closed."""
        deadline = time.monotonic() + TAKE_UP_TIMEOUT
        while self._known and not self.client.connected and time.monotonic() < deadline:
            time.sleep(0.02)


def _check_overtaken(write: Write, error: KazooException) -> None:
    """Raises `RefusedError` for a write that is refused however often it is tried."""
    from zoo_watcher.wire.rollout_writes import CREATE, DELETE  # noqa: PLC0415

    if isinstance(error, NoNodeError) and write.kind != DELETE and write.version == ANY_VERSION:
        missing = write.path.rpartition("/")[0] if write.kind == CREATE else write.path
        what = f"{write.path} not written: {missing} is not there; has somebody deleted it?"
        raise RefusedError(write.path, what) from error
    if not isinstance(error, OVERTAKEN):
        raise RefusedError(write.path, f"{write.path}: {explain(error)}") from error


@contextlib.contextmanager
def session_trouble(path: str) -> Any:
    """Turn kazoo's errors inside the block into a `SessionTroubleError` that names `path`."""
    try:
        yield
    except KazooException as exc:
        raise SessionTroubleError(f"{path}: {explain(exc)}") from exc
