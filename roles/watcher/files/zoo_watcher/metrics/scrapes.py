# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers scrapes over HTTP, a thread each. Whatever a client does or fails to do costs the agent little."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from zoo_watcher.host.thread import Thread

TIMEOUT = 10.0
"""Seconds that a client has for its request and for receiving the answer together."""
REFUSED = 1.0
"""Seconds after which accepting a client is tried again, if that failed for lack of a descriptor or memory."""
MOST = 20
"""How many clients are served at once. Each takes a thread and a descriptor, which checks, hooks and git need too."""


class _Client(socket.socket):
    """The connection of a client, with a `deadline`, a time of `time.monotonic()`."""

    deadline: float

    def _limit(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        self.settimeout(left)

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        """As in `socket`; reading a request calls only this."""
        self._limit()
        return super().recv_into(*arguments, **options)

    def sendall(self, *arguments: Any, **options: Any) -> None:
        """As in `socket`; a client that does not take its answer counts as one that has hung up: no traceback."""
        try:
            self._limit()
            super().sendall(*arguments, **options)
        except socket.timeout as exc:
            raise ConnectionAbortedError(str(exc)) from exc


class _Handler(WSGIRequestHandler):
    """Answers one request, and logs nothing about it."""

    timeout = TIMEOUT

    def log_message(self, *_words: Any) -> None:
        """Log nothing."""


class _Server(ThreadingMixIn, WSGIServer):
    """Serves `MOST` clients at once, and hangs up on any other."""

    def __init__(self, address: Any, family: int) -> None:
        self.address_family = family
        self._places = threading.BoundedSemaphore(MOST)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind; unlike `HTTPServer`, without looking up the name of the address, which may take long."""
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    def serve(self) -> None:
        """Serve for ever; if a shortage of memory interrupts that, start again."""
        while True:
            with contextlib.suppress(Exception):
                self.serve_forever()
            time.sleep(REFUSED)

    def get_request(self) -> Any:
        """Accept a client; if that fails, pause, so that no processor is kept busy."""
        try:
            accepted, address = super().get_request()
        except OSError:
            time.sleep(REFUSED)
            raise
        client = _Client(fileno=accepted.detach())
        client.deadline = time.monotonic() + _Handler.timeout
        return client, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client if a place is left."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            Thread(target=self.process_request_thread, args=(request, client_address), daemon=True).start()
        except BaseException:
            # No thread for it, so nothing else frees the place.
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The same, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Log nothing about a client that has hung up or took too long."""


def serve_scrapes(port: int, address: str, registry: CollectorRegistry) -> None:
    """Answer scrapes at an IP address from now on, with what is in `registry`. Raises `OSError`, `RuntimeError`."""
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    family, _kind, _protocol, _name, place = found[0]
    server = _Server(place, family)
    server.set_app(make_wsgi_app(registry))
    try:
        Thread(target=server.serve, name="metrics", daemon=True).start()
    except RuntimeError:
        server.server_close()
        raise
