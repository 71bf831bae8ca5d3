"""A TCP proxy that can misbehave: refuse, swallow, delay or cut connections, and change what is sent."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Callable

from support.ports import free_ports

Edit = Callable[[bytes], bytes]
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with which closing sends a reset."""


class Proxy:
    """Passes connections to `port` of this machine on to `target`, in the manner that was last requested."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.accepted = 0
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flows = threading.Event()
        (self.port,) = free_ports(1)
        self.behave()

    def close(self) -> None:
        """End permanently."""
        self.refuse()
        self._flows.set()

    def behave(self) -> None:
        """Pass everything on without delay, and deliver now what was swallowed."""
        self.delay = 0.0
        self.budget: int | None = None
        self.edit_request: Edit = bytes
        self.edit_answer: Edit = bytes
        self.listen()
        self._flows.set()

    def swallow(self) -> None:
        """Accept connections and bytes, and pass nothing on in either direction, like a black hole."""
        self._flows.clear()

    def cut(self) -> None:
        """End every connection with a reset, and still accept new ones."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for one in sockets:
            _reset(one)

    def refuse(self) -> None:
        """End every connection, and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        self.cut()

    def listen(self) -> None:
        """Accept connections again if they were refused, and change nothing else."""
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                server.settimeout(None)
            except OSError:
                _reset(client)
                continue
            with self._lock:
                late = self._listener is not listener
                if not late:
                    self._sockets |= {client, server}
            if late:
                # Refused meanwhile: a connection that `cut` did not see may pass nothing on.
                _reset(client)
                _reset(server)
                return
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """Pass data on in both directions until both have ended, then close both sockets."""
        answers = threading.Thread(target=self._pass, args=(server, client, False), daemon=True)
        answers.start()
        self._pass(client, server, True)
        answers.join()
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _pass(self, source: socket.socket, sink: socket.socket, request: bool) -> None:
        with contextlib.suppress(OSError):
            for data in _chunks(source):
                self._flows.wait()
                time.sleep(self.delay)
                if request:
                    sink.sendall(self.edit_request(data))
                else:
                    self._answer(sink, data)
            sink.shutdown(socket.SHUT_WR)

    def _answer(self, sink: socket.socket, data: bytes) -> None:
        if self.budget is not None:
            data = data[: self.budget]
            self.budget -= len(data)
        sink.sendall(self.edit_answer(data))
        if self.budget == 0:
            self.cut()


def _chunks(source: socket.socket) -> Iterator[bytes]:
    while data := source.recv(16384):
        yield data


def _reset(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
