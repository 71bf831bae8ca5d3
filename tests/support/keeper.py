"""What ClickHouse Keeper does otherwise than ZooKeeper, put before a real ZooKeeper server."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from support.relay import Relay, send

SHORTEST_SESSION = 10_000
"""Milliseconds of session timeout that a client gets at least."""
MULTI_READ, SASL, ADD_WATCH, WHO_AM_I = 22, 102, 106, 107
UNKNOWN = frozenset({MULTI_READ, SASL, ADD_WATCH, WHO_AM_I})
"""Types of requests at which it hangs up without a word."""


class Keeper(Relay):
    """Each connection has a session of its own, a reconnection too."""

    def __init__(self, port: int) -> None:
        self.hung_up_at: list[int] = []
        super().__init__(port)

    def cut(self) -> None:
        """End every connection that there is."""
        self.end_all()

    def hand_on(self, requests: Iterator[bytes], server: socket.socket) -> None:
        """A handshake asks for a new session of at least the shortest; at what is unknown, the connection ends."""
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
