"""A relay to a real server that refuses permitted requests right after a reconnection."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from support.relay import Relay, send

SET_DATA, GET_DATA, GET_ACL, GET_CHILDREN, GET_CHILDREN_2 = 5, 4, 6, 8, 12
REFUSED = frozenset({SET_DATA, GET_DATA, GET_ACL, GET_CHILDREN, GET_CHILDREN_2})
"""Types of requests that it can refuse, those that begin with a path."""


class Refusing(Relay):
    """After `cut(count)`, the next `count` requests are answered as if for `closed`, a znode that nobody may use."""

    def __init__(self, port: int, client: KazooClient, closed: str) -> None:
        client.ensure_path(closed)
        client.set_acls(closed, [make_digest_acl("nobody", "secret", all=True)])
        self._closed = closed.encode()
        self._left = 0
        self.refused = 0
        super().__init__(port)

    def cut(self, count: int) -> None:
        """End every current connection, and refuse the next `count` requests."""
        self._left = count
        self.end_all()

    def close(self) -> None:
        """As in `Relay`; no more requests are refused."""
        self._left = 0
        super().close()

    def hand_on(self, requests: Iterator[bytes], server: socket.socket) -> None:
        """Send the handshake unchanged, and each request, or the same request for the closed znode."""
        send(server, next(requests, b""))
        for request in requests:
            send(server, self._changed(request))

    def _changed(self, request: bytes) -> bytes:
        """The request, or the same request for the closed znode."""
        if not self._left or struct.unpack_from("!i", request, 4)[0] not in REFUSED:
            return request
        self._left -= 1
        self.refused += 1
        (length,) = struct.unpack_from("!i", request, 8)
        return request[:8] + struct.pack("!i", len(self._closed)) + self._closed + request[12 + length :]
