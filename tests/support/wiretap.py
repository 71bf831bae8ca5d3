"""An eavesdropper on the network between a client and an ensemble, who reads what the client sends."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading


class Wiretap:
    """Accepts connections at `hosts`, records what clients send, and passes it on to the server at `port`, if given.

    With a `context`, it terminates their TLS and records the plaintext.
    """

    def __init__(self, port: int | None = None, context: ssl.SSLContext | None = None) -> None:
        self._port, self._context = port, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.hosts = f"localhost:{self._listener.getsockname()[1]}"
        self.recorded: list[bytes] = []
        """The bytes that each connection sent."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                self.recorded.append(b"")
                threading.Thread(target=self._serve, args=(client, len(self.recorded) - 1), daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), client, contextlib.ExitStack() as opened:
            if self._context is not None:
                client = opened.enter_context(self._context.wrap_socket(client, server_side=True))
            server = None
            if self._port is not None:
                server = opened.enter_context(socket.create_connection(("127.0.0.1", self._port)))
                threading.Thread(target=_hand_back, args=(server, client), daemon=True).start()
            while chunk := client.recv(65536):
                self.recorded[number] += chunk
                if server is not None:
                    server.sendall(chunk)


def _hand_back(server: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := server.recv(65536):
            client.sendall(chunk)
        client.shutdown(socket.SHUT_RDWR)
