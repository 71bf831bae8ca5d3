"""The differences of ClickHouse Keeper from ZooKeeper, emulated in front of a real ZooKeeper server."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from support.relay import Relay, send

SHORTEST_SESSION = 10_000
"""The shortest session timeout that a client gets, in milliseconds."""
MULTI_READ, SASL, ADD_WATCH, WHO_AM_I = 22, 102, 106, 107
UNKNOWN = frozenset({MULTI_READ, SASL, ADD_WATCH, WHO_AM_I})
"""Types of requests at which it closes the connection without an answer."""


class Keeper(Relay):
    """A server where each connection has a session of its own, even a reconnection."""

    def __init__(self, port: int) -> None:
        self.hung_up_at: list[int] = []
        super().__init__(port)

    def cut(self) -> None:
        """End every current connection."""
        self.end_all()

    def hand_on(self, requests: Iterator[bytes], server: socket.socket) -> None:
        """Make the handshake ask for a new session of at least the shortest timeout; end at an unknown request."""
        for handshake in requests:
            version, zxid, timeout, _session = struct.unpack_from("!iqiq", handshake)
            fields = struct.pack("!iqiq", version, zxid, max(timeout, SHORTEST_SESSION), 0)
            password = struct.pack("!i16x", 16)
            send(server, fields + password + handshake[len(fields + password) :])
            break
        for request in requests:
            kind = struct.unpack_from("!i", request, 4)[0]
            if kind in UNKNOWN:
                self.hung_up_at.append(kind)
                return
            send(server, request)
