"""A relay in front of a real ZooKeeper server, which passes on requests and answers."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator


class Relay:
    """Accepts connections at `hosts` for the server at `port`; a client's requests go through `hand_on`.

    `hosts` is a port at this machine's `address`. Each chunk of the server's answers is passed on `delay` seconds after
    it is read, and the next one is read only then.
    """

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self.delay = 0.0
        self._end = threading.Event()
        self._listener = socket.create_server((address, 0))
        self._port = port
        self._connections: list[socket.socket] = []
        self.hosts = f"{address}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hand_on(self, requests: Iterator[bytes], server: socket.socket) -> None:
        """Send a client's handshake and requests to the server; the connection ends when this returns."""
        for request in requests:
            send(server, request)

    def end_all(self) -> None:
        """End every current connection."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Accept no more connections, and end the current ones."""
        self._end.set()
        self._listener.close()
        self.end_all()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._connections += client, server
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._hand_back, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError), client, server:
            self.hand_on(_frames(client), server)

    def _hand_back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, server:
            while chunk := server.recv(65536):
                self._end.wait(self.delay)
                client.sendall(chunk)


def _frames(connection: socket.socket) -> Iterator[bytes]:
    """A client's requests, one after the other, without their lengths."""
    with connection.makefile("rb") as stream:
        while len(size := stream.read(4)) == 4:
            yield stream.read(struct.unpack("!i", size)[0])


def send(connection: socket.socket, frame: bytes) -> None:
    """Send a request, or an answer."""
    connection.sendall(struct.pack("!i", len(frame)) + frame)
