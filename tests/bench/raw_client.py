"""The least that reads a registry from ZooKeeper: a bare socket without pings, threads or retries."""

from __future__ import annotations

import socket
from itertools import islice
from typing import TYPE_CHECKING, Any

from bench.harness import BenchError
from bench.jute import (
    GET_CHILDREN,
    GET_DATA,
    INT,
    MULTI,
    MULTI_READ,
    REPLY,
    SET_DATA,
    STAT,
    WATCH_XID,
    buffer,
    framed,
    hello,
    string,
    texts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHUNK = 1000
"""Paths in one request."""
SESSION = 40_000
"""Milliseconds, long because hundreds of agents on the same processors may keep a member busy for seconds."""


class RawClient:
    """A session on a socket that expires after `SESSION` without a request. Raises `BenchError` if one fails."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(hello(SESSION))
        self._receive()

    def close(self) -> None:
        """Close the socket, and let the session expire."""
        self._socket.close()

    def children(self, path: str) -> list[str]:
        """The names of a znode's children."""
        return list(texts(self._request(GET_CHILDREN, string(path) + b"\0")))

    def read(self, paths: Sequence[str]) -> list[tuple[bytes, tuple[Any, ...]]]:
        """Value and stat of each znode."""
        found: list[tuple[bytes, tuple[Any, ...]]] = []
        rest = iter(paths)
        while chunk := list(islice(rest, CHUNK)):
            operation = MULTI.pack(GET_DATA, False, -1)
            body = b"".join([operation + string(path) + b"\0" for path in chunk])
            found.extend(_nodes(self._request(MULTI_READ, body + MULTI.pack(-1, True, -1))))
        return found

    def watch(self, path: str) -> tuple[bytes, tuple[Any, ...]]:
        """Value and stat of a znode. `wait_event` waits for its next change."""
        answer = self._request(GET_DATA, string(path) + b"\x01")
        (length,) = INT.unpack_from(answer)
        return answer[INT.size : INT.size + length], STAT.unpack_from(answer, INT.size + length)

    def wait_event(self) -> None:
        """Wait for the change of a watched znode. No other request may be made meanwhile."""
        xid, _unused, _unused = REPLY.unpack_from(self._receive())
        if xid != WATCH_XID:
            raise BenchError(f"ZooKeeper sent the answer {xid}, not an event")

    def begin_set(self, path: str, data: bytes) -> None:
        """Send a new value of a znode. `end_set` receives the answer."""
        self._begin(SET_DATA, string(path) + buffer(data) + INT.pack(-1))

    def end_set(self) -> int:
        """Wait until the value is set, and return its mzxid."""
        return int(STAT.unpack_from(self._end())[1])

    def _request(self, kind: int, body: bytes) -> bytes:
        self._begin(kind, body)
        return self._end()

    def _begin(self, kind: int, body: bytes) -> None:
        self._socket.sendall(framed(INT.pack(1) + INT.pack(kind) + body))

    def _end(self) -> bytes:
        answer = self._receive()
        _unused, _unused, error = REPLY.unpack_from(answer)
        if error:
            raise BenchError(f"ZooKeeper answered with error {error}")
        return answer[REPLY.size :]

    def _receive(self) -> bytes:
        (length,) = INT.unpack(self._exactly(INT.size))
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        packet = bytearray(length)
        view, filled = memoryview(packet), 0
        while filled < length:
            count = self._socket.recv_into(view[filled:])
            if count == 0:
                raise BenchError("ZooKeeper closed the connection")
            filled += count
        return bytes(packet)


def _nodes(answer: bytes) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
    at = 0
    while True:
        kind, done, _unused = MULTI.unpack_from(answer, at)
        at += MULTI.size
        if done:
            return
        if kind != GET_DATA:
            raise BenchError(f"a znode could not be read: error {INT.unpack_from(answer, at)[0]}")
        begin = at + INT.size
        end = begin + INT.unpack_from(answer, at)[0]
        yield answer[begin:end], STAT.unpack_from(answer, end)
        at = end + STAT.size
