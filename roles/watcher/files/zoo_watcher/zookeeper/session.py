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
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped, KazooException, NoAuthError, NoNodeError, SessionExpiredError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KeeperState

from zoo_watcher.config.config import Connection
from zoo_watcher.errors import ConfigError, SessionTroubleError
from zoo_watcher.host.layout import write_durably

from .session_states import AUTH_FAILED, CONNECTED_READ_ONLY, DISCONNECTED, EXPIRED, SYNC_CONNECTED, SessionStates

ANSWER_TIMEOUT = 10.0
"""Seconds that the loop waits for one answer."""
LONGEST_PAUSE = 2.0
"""Seconds between two tries to connect, at the most."""
STOP_TIMEOUT = 5.0
"""Seconds that ending the session may take; after that it is left to expire."""
SEEK_PAUSE = 1.0
"""Seconds between two looks for a server that can write, and those that one of them has to answer."""
AUTH_PAUSE = 1.5
"""How many session timeouts lie between two tries of credentials that no server has taken: so the session ends, and
with it registrations that could not be taken back any more."""

NOT_CONNECTED = {
    KeeperState.CONNECTING: DISCONNECTED,
    KeeperState.CLOSED: DISCONNECTED,
    KeeperState.EXPIRED_SESSION: EXPIRED,
    KeeperState.AUTH_FAILED: AUTH_FAILED,
}
"""ZooKeeper's words for kazoo's. `Connector` enters the others: kazoo says CONNECTED before a server has taken the
credentials."""

log = logging.getLogger(__name__)
quiet = logging.getLogger(f"{__name__}.quiet")
quiet.disabled = True


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
        handed_over, self.held = _recall(memory)
        if handed_over:
            self.earlier.add(handed_over[0])
        self.client = _client(connection, handed_over)
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


Server = tuple[str, str, int]
"""A server's name, address and port."""


class Connector:
    """Stands before kazoo's `_connect`: it knows when a server has really taken the session, and which.

    kazoo by itself ends for ever where credentials are refused. It asks a read-only server to take its session, which
    such a server never does ("Refusing global session reconnection in RO mode", ZooKeeper 3.8), and it looks for a
    better one at the first of the hosts only. `timeout` is the negotiated session timeout in seconds.
    """

    def __init__(self, client: KazooClient, timeout: float, enter: Callable[[str, str], None]) -> None:
        self.timeout = timeout
        self._client = client
        self._enter = enter
        self._handler = client._connection
        self._kazoo_connect = self._handler._connect
        self._handler._connect = self._connect
        self._missed = 0
        self._refused = 0
        self._writer: Server | None = None

    def _connect(self, *server: Any) -> tuple[float, float]:
        """Kazoo's read and connect timeouts in milliseconds, once a server has taken connection and credentials."""
        # One more than there are servers: one that ends while it is asked refuses nothing, but seems to.
        if self._refused > len(self._client.hosts):
            self._client._stopped.wait(AUTH_PAUSE * self.timeout)
        better, self._writer = self._writer, None
        host, address, port = better or server
        try:
            timeouts = self._try(host, address, port)
        except SessionExpiredError:
            # A new session is worth a try of its own.
            self._refused = min(self._refused, len(self._client.hosts))
            raise
        except (ConnectionDropped, KazooTimeoutError):
            self._missed += 1
            raise
        except KazooException as exc:
            self._refused += 1
            self._enter(AUTH_FAILED, f"server={host}:{port} ({type(exc).__name__} {exc}".rstrip() + ")")
            raise ConnectionDropped("the credentials were not taken") from exc
        self._missed = self._refused = 0
        self._tell(host, port, timeouts[0])
        return timeouts

    def _try(self, host: str, address: str, port: int) -> tuple[float, float]:
        """Connect for reading and writing; where no server gave that, and this one is there, for reading."""
        try:
            return self._kazoo_connect(host, address, port)
        except ConnectionDropped:
            if self._missed < len(self._client.hosts) or self._handler._socket is None:
                raise
            self._handler._socket.close()
            return self._connect_read_only(host, address, port)

    def _connect_read_only(self, host: str, address: str, port: int) -> tuple[float, float]:
        """Connect without the session, which waits for a server that can write."""
        client = self._client
        session, logger = (client._session_id, client._session_passwd), self._handler.logger
        client._reset_session()
        client.read_only = True
        # A server where localSessionsEnabled is false answers with what is no answer: kazoo would log a traceback.
        self._handler.logger = quiet
        try:
            timeouts = self._kazoo_connect(host, address, port)
        finally:
            self._handler.logger = logger
            client.read_only = False
            client._session_id, client._session_passwd = session
        if client.client_state == KeeperState.CONNECTED:
            raise ConnectionDropped("this server can write again")
        return timeouts

    def _tell(self, host: str, port: int, read_timeout: float) -> None:
        client = self._client
        if client.client_state == KeeperState.CONNECTED_RO:
            self._enter(CONNECTED_READ_ONLY, f"server={host}:{port}")
            self._handler._ro_mode = None
            threading.Thread(target=self._seek_writer, args=(self._handler._socket,), daemon=True).start()
            return
        # What kazoo calls read timeout is two thirds of the negotiated one.
        self.timeout = read_timeout * 1.5 / 1000
        session = client._session_id or 0
        self._enter(SYNC_CONNECTED, f"server={host}:{port} session=0x{session:x} timeout={self.timeout:g} s")

    def _seek_writer(self, connection: Any) -> None:
        """While this `connection`, to a read-only server, lasts: look for a server that can write, and go there."""
        while self._handler._socket is connection and not self._client._stopped.wait(SEEK_PAUSE):
            self._writer = next((one for one in self._handler._expand_client_hosts() if self._can_write(*one)), None)
            if self._writer:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                return

    def _can_write(self, host: str, address: str, port: int) -> bool:
        """What the server itself says; `isro` is open at every server that may be a read-only one."""
        client = self._client
        checked = {"hostname": host, "check_hostname": True} if getattr(client, "check_hostname", False) else {}
        try:
            with client.handler.create_connection(
                address=(address, port),
                timeout=SEEK_PAUSE,
                use_ssl=client.use_ssl,
                keyfile=client.keyfile,
                certfile=client.certfile,
                ca=client.ca,
                keyfile_password=client.keyfile_password,
                verify_certs=client.verify_certs,
                **checked,
            ) as question:
                question.sendall(b"isro")
                return bool(question.recv(16) == b"rw")
        except OSError:
            return False


@contextlib.contextmanager
def session_trouble(path: str) -> Any:
    """Turn kazoo's errors inside the block into a `SessionTroubleError` that names `path`."""
    try:
        yield
    except KazooException as exc:
        raise SessionTroubleError(f"{path}: {type(exc).__name__} {exc}".rstrip()) from exc


def _client(connection: Connection, client_id: tuple[int, bytes] | None) -> KazooClient:
    try:
        return KazooClient(
            hosts=connection.hosts,
            timeout=connection.session_timeout,
            client_id=client_id,
            auth_data=_auth_data(connection),
            sasl_options=_sasl_options(connection),
            use_ssl=connection.tls,
            ca=connection.tls_ca,
            certfile=connection.tls_cert,
            keyfile=connection.tls_key,
            keyfile_password=connection.tls_key_password,
            verify_certs=connection.tls_verify,
            **_hostname_check(connection),
            connection_retry={"max_tries": -1, "delay": 0.1, "max_delay": _longest_pause(connection)},
        )
    except (ValueError, TypeError, KazooException) as exc:
        raise ConfigError([f"hosts: {exc}"]) from exc


def _hostname_check(connection: Connection) -> dict[str, bool]:
    """Asked for only where it is wanted: kazoo knows it from 2.11 on. Raises `ConfigError` for an older one."""
    if not (connection.tls and connection.tls_verify and connection.tls_check_hostname):
        return {}
    if "check_hostname" not in KazooClient.__init__.__code__.co_varnames:
        raise ConfigError(["tls_check_hostname: this kazoo can't do it; install 2.11 or later, or set it to false"])
    return {"check_hostname": True}


def _longest_pause(connection: Connection) -> float:
    """Seconds between two tries to connect. A new leader gives each session one more timeout to come back in."""
    return min(LONGEST_PAUSE, connection.session_timeout / 10)


def _auth_data(connection: Connection) -> list[tuple[str, str]]:
    if not connection.digest_username:
        return []
    return [("digest", f"{connection.digest_username}:{connection.digest_password}")]


def _sasl_options(connection: Connection) -> dict[str, str] | None:
    if not connection.sasl_mechanism:
        return None
    wanted = {
        "mechanism": connection.sasl_mechanism,
        "service": connection.sasl_service,
        "username": connection.sasl_username,
        "password": connection.sasl_password,
        "principal": connection.sasl_principal,
    }
    return {key: value for key, value in wanted.items() if value}


def _recall(memory: Path) -> tuple[tuple[int, bytes] | None, set[str]]:
    """The session that the agent had when it last ended without closing it, and the ephemerals that it held."""
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
        return (int(found["id"]), bytes.fromhex(found["password"])), {str(path) for path in found.get("held", [])}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None, set()


def session_memory(runtime_directory: str | None, fallback: Path) -> Path:
    """Where the session is remembered: a file that only the agent's user can read."""
    return Path(os.path.join(runtime_directory, "session.json")) if runtime_directory else fallback
