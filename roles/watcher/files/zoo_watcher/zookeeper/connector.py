# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wraps kazoo's `_connect`: knows when a server has really taken the session, and which."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped, KazooException, SessionExpiredError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.serialization import Connect
from kazoo.protocol.states import KeeperState

from zoo_watcher.host.thread import Thread

from .connection import ENDED, forget_transactions, kerberos_trouble
from .session_states import AUTH_FAILED, CONNECTED_READ_ONLY, SYNC_CONNECTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SEEK_PAUSE = 1.0
"""Seconds between two looks for a server that can write, and seconds that one of them has to answer."""
PAUSE_TO_END = 1.5
"""How many session timeouts lie between two tries of credentials that no server has accepted, or while it `holds_off`:
this way, the session ends, and with it registrations that could no longer be withdrawn."""

FRAME_LIMIT = 64 * 2**20
"""The most bytes of one answer: anything that announces more is not a ZooKeeper server, and is not received."""
LONGEST_TIMEOUT = 3600.0
"""The longest session timeout in seconds: a server may grant more than requested, but no more than can be requested."""

quiet = logging.getLogger(f"{__name__}.quiet")
quiet.disabled = True

Server = tuple[str, str, int]
"""A server's name, address and port."""


class Connector:
    """Stands before kazoo's `_connect`: it knows when a server has really taken the session, and which.

    On its own, kazoo gives up for ever if credentials are refused. It asks a read-only server to take its session,
    which such a server never does ("Refusing global session reconnection in RO mode", ZooKeeper 3.8), and it looks for
    a better one only at the first of the hosts. It takes anything that answers at a member's port for a server.
    `timeout` is the negotiated session timeout in seconds.
    """

    def __init__(self, client: KazooClient, timeout: float, enter: Callable[[str, str], None]) -> None:
        self.timeout = timeout
        self._client = client
        self._asked = client._session_timeout
        self._enter = enter
        self._handler = client._connection
        self._kazoo_connect = self._handler._connect
        self._handler._connect = self._connect
        self._kazoo_read = self._handler._read
        self._handler._read = self._read
        self._kazoo_invoke = self._handler._invoke
        self._handler._invoke = self._invoke
        self._missed = 0
        self._missed_since = 0.0
        self._refused = 0
        self.holds_off = False
        """Whether the session is to end: each connection renews it, also one that is too slow for anything else."""
        self._writer: Server | None = None

    @property
    def local_address(self) -> str:
        """This host's end of the current or last connection; empty if that is not known."""
        try:
            return str(self._handler._socket.getsockname()[0])
        except (AttributeError, OSError):
            return ""

    def _connect(self, *server: Any) -> tuple[float, float]:
        """Kazoo's read and connect timeouts in milliseconds, once a server has taken connection and credentials."""
        # One more than there are servers: one that stops while it is asked refuses nothing, but seems to.
        if self._refused > len(self._client.hosts) or self.holds_off:
            self._client._stopped.wait(PAUSE_TO_END * self.timeout)
        better, self._writer = self._writer, None
        host, address, port = better or server
        self._begin_anew_where_ended()
        try:
            self._check_files()
            timeouts = self._try(host, address, port)
        except SessionExpiredError:
            # A new session deserves a try of its own.
            self.holds_off = False
            self._refused = min(self._refused, len(self._client.hosts))
            raise
        except (ConnectionDropped, KazooTimeoutError):
            self._missed_since = self._missed_since if self._missed else time.monotonic()
            self._missed += 1
            raise
        except Exception as exc:
            no_ticket = kerberos_trouble(exc)
            if not no_ticket and not isinstance(exc, KazooException):
                raise
            self._refused += 1
            reason = no_ticket or f"{type(exc).__name__} {exc}".rstrip()
            self._enter(AUTH_FAILED, f"server={host}:{port} ({reason})")
            raise ConnectionDropped(no_ticket or "the credentials were not accepted") from exc
        self._missed = self._refused = 0
        self._note_connected(host, port, timeouts[0])
        return timeouts

    def _read(self, length: int, timeout: float) -> bytes:
        if not 0 <= length <= FRAME_LIMIT:
            raise ConnectionDropped(f"not the answer of a ZooKeeper server: one of {length} bytes")
        return bytes(self._kazoo_read(length, timeout))

    def _invoke(self, timeout: float, request: Any, xid: Any = None) -> Any:
        """The answer to a request of connecting; the session stays as before if it can't come from a server."""
        if isinstance(request, Connect):
            request = request._replace(time_out=self._asked)  # not what was granted last
        answer = self._kazoo_invoke(timeout, request, xid)
        if isinstance(request, Connect):
            version, granted = answer[0].protocol_version, answer[0].time_out / 1000
            if version != 0:
                raise ConnectionDropped(f"not the answer of a ZooKeeper server: protocol version {version}")
            if granted > LONGEST_TIMEOUT:
                raise ConnectionDropped(f"not the answer of a ZooKeeper server: a session timeout of {granted:g} s")
            if granted > 0 and not request.read_only:
                self.timeout = granted  # also if the credentials are refused then
        return answer

    def _check_files(self) -> None:
        """OpenSSL would wait for a writer of a FIFO, and the session would end meanwhile without a reason given."""
        for path in filter(None, (self._client.ca, self._client.certfile, self._client.keyfile)):
            if os.path.exists(path) and not os.path.isfile(path):
                raise ConnectionDropped(f"{path}: not a regular file")

    def _begin_anew_where_ended(self) -> None:
        """Forget the transactions of a session that ended long ago: the ensemble may have been rebuilt since."""
        if self._missed >= len(self._client.hosts) and time.monotonic() - self._missed_since > ENDED * self.timeout:
            forget_transactions(self._client)

    def _try(self, host: str, address: str, port: int) -> tuple[float, float]:
        """Connect for reading and writing or, if no server grants that and this one answers, for reading."""
        try:
            timeouts: tuple[float, float] = self._kazoo_connect(host, address, port)
        except ConnectionDropped:
            if self._missed < len(self._client.hosts) or self._handler._socket is None:
                raise
            self._handler._socket.close()
            return self._connect_read_only(host, address, port)
        return timeouts

    def _connect_read_only(self, host: str, address: str, port: int) -> tuple[float, float]:
        """Connect without the session, which waits for a server that can write."""
        client = self._client
        session, logger = (client._session_id, client._session_passwd), self._handler.logger
        client._reset_session()
        client.read_only = True
        # A server with localSessionsEnabled=false sends an invalid answer: kazoo would log a traceback.
        self._handler.logger = quiet
        try:
            timeouts: tuple[float, float] = self._kazoo_connect(host, address, port)
        finally:
            self._handler.logger = logger
            client.read_only = False
            client._session_id, client._session_passwd = session
        if client.client_state == KeeperState.CONNECTED:
            raise ConnectionDropped("this server can write again")
        return timeouts

    def _note_connected(self, host: str, port: int, read_timeout: float) -> None:
        client = self._client
        if client.client_state == KeeperState.CONNECTED_RO:
            self._enter(CONNECTED_READ_ONLY, f"server={host}:{port}")
            self._handler._ro_mode = None
            Thread(target=self._seek_writer, args=(self._handler._socket,), daemon=True).start()
            return
        # Kazoo's read timeout is two thirds of the negotiated timeout.
        self.timeout = read_timeout * 1.5 / 1000
        client._session_timeout = round(self.timeout * 1000)  # no more is left of the session than was granted
        session = (client._session_id or 0) & 0xFFFFFFFFFFFFFFFF  # as ZooKeeper writes it
        self._enter(SYNC_CONNECTED, f"server={host}:{port} session=0x{session:x} timeout={self.timeout:g} s")

    def _seek_writer(self, connection: Any) -> None:
        """While this `connection` to a read-only server lasts, look for a server that can write, and change to that."""
        while self._handler._socket is connection and not self._client._stopped.wait(SEEK_PAUSE):
            # Whatever fails is tried again: without this thread, the agent would stay with this server.
            with contextlib.suppress(Exception):
                self._writer = self._find_writer()
            if self._writer:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                return

    def _find_writer(self) -> Server | None:
        servers = self._handler._expand_client_hosts()
        return next((server for server in servers if self._can_write(*server)), None)

    def _can_write(self, host: str, address: str, port: int) -> bool:
        """Whether the server itself says so; `isro` is allowed at every server that may be a read-only one."""
        client = self._client
        hostname_check = {"hostname": host, "check_hostname": True} if getattr(client, "check_hostname", False) else {}
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
                **hostname_check,
            ) as connection:
                connection.sendall(b"isro")
                return bool(connection.recv(16) == b"rw")
        except OSError:
            return False
