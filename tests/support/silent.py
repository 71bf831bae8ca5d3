"""A member of an ensemble whose host is off: packets to it are dropped without a response."""

from __future__ import annotations

import socket


class SilentMember:
    """A port whose queue of connections is full, so that Linux drops every further SYN."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port = int(self._listener.getsockname()[1])
        self._queued = [self._queue() for _unused in range(4)]

    def _queue(self) -> socket.socket:
        waiting = socket.socket()
        waiting.setblocking(False)
        waiting.connect_ex(("127.0.0.1", self.port))
        return waiting

    def close(self) -> None:
        """End it."""
        for one in (*self._queued, self._listener):
            one.close()
