"""A service of a host as the agent's checks see it: an HTTP server whose port can be closed and reopened."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.ports import free_ports


class Service:
    """Listens on `port` of the loopback interface while it is open; `answer()` returns a status and a body."""

    def __init__(self, answer: Callable[[], tuple[int, str]] = lambda: (200, "fine")) -> None:
        (self.port,) = free_ports(1)
        self.answer = answer
        self.asked: list[str] = []
        self._server: ThreadingHTTPServer | None = None

    def open(self, context: ssl.SSLContext | None = None) -> Service:
        """Begin to listen, for HTTPS if given a context."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            """Answers every request alike and records its path."""

            def do_GET(self) -> None:
                """Answer."""
                service.asked.append(self.path)
                status, body = service.answer()
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_words: Any) -> None:
                """Keep the test's output clean."""

        return Handler
