"""A server that refuses what it allows, right after a reconnection, put before a real one."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from support.keeper import answers, frames, send

SET_DATA, GET_DATA, GET_ACL, GET_CHILDREN, GET_CHILDREN_2 = 5, 4, 6, 8, 12
REFUSED = frozenset({SET_DATA, GET_DATA, GET_ACL, GET_CHILDREN, GET_CHILDREN_2})
"""Types of requests that it can refuse: they begin with a path."""


class Refusing:
    """Takes connections at `hosts` for the server at `port`.

    After `cut(count)` the next `count` requests get the answer that `closed` has: a znode that nobody may use.
    """

    def __init__(self, port: int, client: KazooClient, closed: str) -> None:
        client.ensure_path(closed)
        client.set_acls(closed, [make_digest_acl("nobody", "secret", all=True)])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = port
        self._closed = closed.encode()
        self._connections: list[socket.socket] = []
        self._left = 0
        self.hosts = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, count: int) -> None:
        """End every connection that there is; of those that follow, `count` requests are refused."""
        self._left = count
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        self._listener.close()
        self.cut(0)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._connections += client, server
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=answers, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), client, server:
            stream = frames(client)
            send(server, next(stream, b""))  # the handshake
            for request in stream:
                send(server, self._changed(request))

    def _changed(self, request: bytes) -> bytes:
        """The request, or the same of the closed znode."""
        if not self._left or struct.unpack_from("!i", request, 4)[0] not in REFUSED:
            return request
        self._left -= 1
        self.refused += 1
        (length,) = struct.unpack_from("!i", request, 8)
        return request[:8] + struct.pack("!i", len(self._closed)) + self._closed + request[12 + length :]
