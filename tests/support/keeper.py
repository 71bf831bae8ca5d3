"""What ClickHouse Keeper does otherwise than ZooKeeper, put before a real ZooKeeper server."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

SHORTEST_SESSION = 10_000
"""Milliseconds of session timeout that a client gets at least."""
MULTI_READ, SASL, ADD_WATCH, WHO_AM_I = 22, 102, 106, 107
UNKNOWN = frozenset({MULTI_READ, SASL, ADD_WATCH, WHO_AM_I})
"""Types of requests at which it hangs up without a word."""


class Keeper:
    """Takes connections at `hosts` for the server at `port`: each has a session of its own, a reconnection too."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = port
        self._connections: list[socket.socket] = []
        self.hosts = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.hung_up_at: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection that there is."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        self._listener.close()
        self.cut()

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
            requests = frames(client)
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


def answers(server: socket.socket, client: socket.socket) -> None:
    """Pass on what a server answers."""
    with contextlib.suppress(OSError), client, server:
        while chunk := server.recv(65536):
            client.sendall(chunk)


def frames(connection: socket.socket) -> Iterator[bytes]:
    """What a client sends, one request after the other."""
    with connection.makefile("rb") as stream:
        while len(size := stream.read(4)) == 4:
            yield stream.read(struct.unpack("!i", size)[0])


def send(connection: socket.socket, frame: bytes) -> None:
    """Send a request, or an answer."""
    connection.sendall(struct.pack("!i", len(frame)) + frame)
