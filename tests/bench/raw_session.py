"""What the agent's `Session` offers to its part in a rollout, on a bare socket whose traffic is counted.

A host that waits for an answer lets the others run: each turn is a greenlet, which `Hub` resumes when the answer
arrives.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from greenlet import getcurrent, greenlet

from bench import jute
from bench.harness import BenchError
from bench.jute import EPHEMERAL, INT, MULTI, NO_NODE, NODE_EXISTS, PING_XID, REPLY, SEQUENCE, STAT, WATCH_XID
from zoo_watcher.errors import NoParentError
from zoo_watcher.wire.rollout_writes import CREATE, SET, Write
from zoo_watcher.zookeeper.session import Znode

TYPES = {
    CREATE: jute.CREATE,
    "delete": jute.DELETE,
    "exists": jute.EXISTS,
    "get": jute.GET_DATA,
    SET: jute.SET_DATA,
    "list": jute.GET_CHILDREN,
    "sync": jute.SYNC,
    "ping": jute.PING,
    "multi": jute.MULTIPLE,
}
ERROR = -1
"""The type of an operation in a transaction that was not carried out."""
TIMEOUT = 60_000
"""Milliseconds after which a session expires."""

Watch = Callable[[Any], None]


class Stat(NamedTuple):
    """A znode's stat."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeralOwner: int  # noqa: N815  # as kazoo has it
    dataLength: int  # noqa: N815  # the same
    numChildren: int  # noqa: N815  # the same
    pzxid: int


@dataclass
class Traffic:
    """What a session has sent and received since the count was last reset, without pings."""

    requests: int = 0
    events: int = 0
    sent: int = 0
    received: int = 0
    slowest: float = 0.0
    """The longest wait for an answer, in seconds."""


class Answer:
    """The answer to one request, once it has arrived."""

    def __init__(self) -> None:
        self.asked = time.monotonic()
        self.body: bytes | None = None
        self.error = 0
        self.waiter: greenlet | None = None


class Hub:
    """Waits for all sockets at the same time, and resumes the hosts whose answers arrive."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._sessions: dict[int, RawSession] = {}
        self.main = getcurrent()

    def add(self, session: RawSession, descriptor: int) -> None:
        """Serve a session from now on."""
        self._sessions[descriptor] = session
        self._poll.register(descriptor, select.EPOLLIN)

    def serve(self, seconds: float) -> None:
        """Wait at most so many seconds for answers and events, and deliver those that have arrived."""
        for descriptor, _events in self._poll.poll(max(0.0, seconds)):
            self._sessions[descriptor].receive()

    def ping(self) -> None:
        """Keep every session alive."""
        for session in self._sessions.values():
            session.ping()

    def close(self) -> None:
        """Close every socket, and let the sessions expire."""
        for session in self._sessions.values():
            session.close()
        self._poll.close()


class RawSession:
    """A session with one server. Raises `BenchError` for an unexpected answer."""

    connections = 1
    lost_at: float | None = None
    timeout = TIMEOUT / 1000
    is_closed = False

    def __init__(self, hub: Hub, port: int) -> None:
        self._hub = hub
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._pending: deque[Answer] = deque()
        self._watches: dict[str, set[Watch]] = {}
        self.traffic = Traffic()
        self.client_id: tuple[int, bytes] = (self._connect(), b"")
        self._socket.setblocking(False)
        hub.add(self, self._socket.fileno())

    def _connect(self) -> int:
        self._socket.sendall(jute.hello(TIMEOUT))
        reply = b""
        while len(reply) < INT.size or len(reply) < INT.size + INT.unpack_from(reply)[0]:
            chunk = self._socket.recv(4096)
            if not chunk:
                raise BenchError("ZooKeeper closed a new connection")
            reply += chunk
        return int.from_bytes(reply[12:20], "big", signed=True)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ping(self) -> None:
        """Show that this session is alive."""
        self._send(INT.pack(PING_XID) + INT.pack(TYPES["ping"]))

    def _send(self, packet: bytes) -> None:
        view = memoryview(jute.framed(packet))
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                select.select([], [self._socket], [], 60)

    def _ask(self, kind: str, body: bytes) -> Answer:
        answer = Answer()
        self._pending.append(answer)
        self.traffic.requests += 1
        self.traffic.sent += len(body) + 3 * INT.size
        self._send(INT.pack(self.traffic.requests) + INT.pack(TYPES[kind]) + body)
        return answer

    def _answer(self, answer: Answer, *expected: int) -> bytes | None:
        """The body of an answer, None for an error that is `expected`."""
        while answer.body is None:
            answer.waiter = getcurrent()
            self._hub.main.switch()
        if answer.error and answer.error not in expected:
            raise BenchError(f"ZooKeeper answered with error {answer.error}")
        return None if answer.error else answer.body

    def receive(self) -> None:
        """Receive what the server has sent, and deliver answers to waiting hosts and events to watches."""
        with contextlib.suppress(BlockingIOError):
            chunk = self._socket.recv(1 << 20)
            if not chunk:
                raise BenchError("ZooKeeper closed a connection")
            self._buffer += chunk
        for packet in jute.packets(self._buffer):
            xid, _zxid, error = REPLY.unpack_from(packet)
            if xid == WATCH_XID:
                self._notice(packet)
            elif xid != PING_XID:
                self._deliver(packet, error)

    def _notice(self, packet: bytes) -> None:
        self.traffic.events += 1
        self.traffic.received += len(packet) + INT.size
        path = jute.text_at(packet, REPLY.size + 2 * INT.size)
        for watch in self._watches.pop(path, set()):
            watch(path)

    def _deliver(self, packet: bytes, error: int) -> None:
        answer = self._pending.popleft()
        answer.body, answer.error = packet[REPLY.size :], error
        self.traffic.received += len(packet) + INT.size
        self.traffic.slowest = max(self.traffic.slowest, time.monotonic() - answer.asked)
        if answer.waiter:
            waiter, answer.waiter = answer.waiter, None
            waiter.switch()

    def begin_read(self, path: str, watch: Watch | None = None) -> Callable[[], Znode | None]:
        """As in `Session`."""
        pending = self._ask("get", jute.string(path) + bytes([watch is not None]))
        if watch is not None:
            self._watches.setdefault(path, set()).add(watch)

        def finish() -> Znode | None:
            body = self._answer(pending, NO_NODE)
            if body is None:
                return None
            end = INT.size + max(0, INT.unpack_from(body)[0])
            return Znode(body[INT.size : end], Stat(*STAT.unpack_from(body, end)))

        return finish

    def begin_look(self, path: str) -> Callable[[], Znode | None]:
        """As in `Session`, but everybody may read everything."""
        return self.begin_read(path)

    def read_all(self, paths: Iterable[str]) -> dict[str, Znode | None]:
        """As in `Session`."""
        pending = {path: self.begin_read(path) for path in paths}
        return {path: finish() for path, finish in pending.items()}

    def catch_up(self) -> None:
        """As in `Session`, but without the transaction ID, which nobody needs."""
        self._answer(self._ask("sync", jute.string("/")))

    def begin_list(self, path: str, watch: Watch | None = None) -> Callable[[], list[str]]:
        """As in `Session`, with a watch, though the agent never watches children."""
        pending = self._ask("list", jute.string(path) + bytes([watch is not None]))
        if watch is not None:
            self._watches.setdefault(path, set()).add(watch)

        def finish() -> list[str]:
            body = self._answer(pending, NO_NODE)
            return list(jute.texts(body)) if body is not None else []

        return finish

    def exists(self, path: str, watch: Watch | None = None) -> bool:
        """Whether a znode exists."""
        pending = self._ask("exists", jute.string(path) + bytes([watch is not None]))
        if watch is not None:
            self._watches.setdefault(path, set()).add(watch)
        return self._answer(pending, NO_NODE) is not None

    def read(self, path: str, watch: Watch) -> Znode | None:
        """As in `Session`."""
        while True:
            znode = self.begin_read(path, watch)()
            if znode is not None or not self.exists(path, watch):
                return znode

    def create(
        self, path: str, value: bytes, *, ephemeral: bool = False, sequence: bool = False, parents: bool = True
    ) -> str | None:
        """As in `Session`, but it creates no parents."""
        flags = EPHEMERAL * ephemeral | SEQUENCE * sequence
        pending = self._ask(CREATE, jute.creation(path, value, flags))
        body = self._answer(pending, NODE_EXISTS, *([] if parents else [NO_NODE]))
        if pending.error == NO_NODE:
            raise NoParentError(f"{path.rpartition('/')[0]} is not there")
        return None if body is None else jute.text_at(body, 0)

    def delete(self, path: str) -> None:
        """As in `Session`."""
        self._answer(self._ask("delete", jute.string(path) + INT.pack(-1)), NO_NODE)

    def commit(self, writes: Iterable[Write]) -> bool:
        """As in `Session`."""
        body = b"".join(MULTI.pack(TYPES[write.kind], False, -1) + _operation(write) for write in writes)
        answer = self._answer(self._ask("multi", body + MULTI.pack(-1, True, -1)))
        assert answer is not None
        return bool(MULTI.unpack_from(answer)[0] != ERROR)


def _operation(write: Write) -> bytes:
    if write.kind == CREATE:
        return jute.creation(write.path, write.value, 0)
    value = jute.buffer(write.value) if write.kind == SET else b""
    return jute.string(write.path) + value + INT.pack(write.version)
