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
import threading
from pathlib import Path
from typing import Any, Callable, NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KeeperState

from .config import Connection
from .errors import ConfigError, SessionTroubleError
from .layout import write_durably

ANSWER_TIMEOUT = 10.0
"""Seconds that the loop waits for one answer."""
LONGEST_PAUSE = 2.0
"""Seconds between two tries to connect, at the most."""
STOP_TIMEOUT = 5.0
"""Seconds that ending the session may take; after that it is left to expire."""

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
        self._known: int | None = None
        handed_over, self.held = _recall(memory)
        if handed_over:
            self.earlier.add(handed_over[0])
        self.client = _client(connection, handed_over)
        self.timeout = connection.session_timeout
        self._hear_of_connections()
        self.client.add_listener(lambda _state: changed())

    def _hear_of_connections(self) -> None:
        """Learn, and log, which server took the session and what timeout it granted: kazoo tells neither."""
        handler = self.client._connection
        connect = handler._connect

        def heard(host: str, address: str, port: int) -> tuple[float, float]:
            read_timeout, connect_timeout = connect(host, address, port)
            # What kazoo calls so is two thirds of the negotiated timeout, in milliseconds.
            self.timeout = read_timeout * 1.5 / 1000
            log.info("connected, server=%s:%s session=0x%x timeout=%g s", host, port, self.id or 0, self.timeout)
            return read_timeout, connect_timeout

        handler._connect = heard

    def start(self) -> None:
        """Begin to connect."""
        self.client.start_async()

    def wake(self) -> None:
        """Let the loop look again."""
        self._changed()

    @property
    def usable(self) -> bool:
        """Whether a server that can write answers now."""
        return bool(self.client.client_state == KeeperState.CONNECTED)

    @property
    def id(self) -> int | None:
        """The session's id while there is one."""
        return self.client.client_id[0] if self.client.client_id else None

    def renewed(self) -> bool:
        """Whether this is another session than at the last call; the new one is remembered for the next start."""
        current = self.id
        if current is None or current == self._known:
            return False
        if self._known is not None:
            self.earlier.add(self._known)
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
        identity, password = self.client.client_id
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

    def round_trip(self, path: str) -> None:
        """Have a server answer. Raises `SessionTroubleError` where none does."""
        with session_trouble(path):
            self.ask(self.client.exists_async, path)

    def stop(self) -> None:
        """End the session, so that its ephemerals go at once."""
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
            check_hostname=connection.tls and connection.tls_verify and connection.tls_check_hostname,
            connection_retry={"max_tries": -1, "delay": 0.1, "max_delay": _longest_pause(connection)},
        )
    except (ValueError, TypeError, KazooException) as exc:
        raise ConfigError([f"hosts: {exc}"]) from exc


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
