"""The session of one simulated host: what it keeps in ZooKeeper, and how it reconnects.

It sends what an agent sends, without an agent's waiting: its entries with a watch on each, the watch on the published
release, pings, and its status when ordered to.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from bench import jute
from bench.jute import INT, REPLY, STAT
from zoo_watcher.wire.records import AgentStatus, AppPaths, RosterEntry

APP = AppPaths("/bench/sizing")
REGISTRY = "/service/sizing"
TIMEOUT = 10.0
"""Seconds after which a session expires, an agent's default."""
SINCE = "2026-11-30T12:00:00+00:00"
COMMIT = "b" * 40
Finish = Callable[[bytes, int], None]
"""A function of the body and the error of an answer."""


def _ignore(_body: bytes, _error: int) -> None:
    """Ignore an answer that changes nothing."""


class CrowdSession:
    """A host with a number. It tries the ports in turn, one each time that it has to connect."""

    def __init__(self, number: int, ports: Sequence[int]) -> None:
        self.name = f"web-{number:05}"
        self._number = number
        self._ports = ports
        self._turn = 0
        self._session, self._password = 0, bytes(16)
        self._buffer = bytearray()
        self._pending: deque[Finish] = deque()
        self._socket: socket.socket | None = None
        self._has_answer = False
        self.is_ready = False
        """Whether it has a session, its entries and its watches."""
        self.ready_at = 0.0
        self.generation = 0
        """The generation of the release that it has read last, at the moment `read_at`."""
        self.read_at = 0.0
        self.writes = 0
        """The number of statuses still to be written. `written_at` is the moment of the last one."""
        self.written_at = 0.0
        self.expired = 0

    @property
    def descriptor(self) -> int:
        """The descriptor of its socket, -1 if there is none."""
        return self._socket.fileno() if self._socket else -1

    def connect(self) -> None:
        """Begin to connect."""
        port = self._ports[self._turn % len(self._ports)]
        self._turn += 1
        self._buffer.clear()
        self._pending.clear()
        self._has_answer = False
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            self._socket.connect(("127.0.0.1", port))

    def greet(self) -> None:
        """Send the handshake of its session. Raises `OSError` if there is no connection."""
        assert self._socket is not None
        failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, errno.errorcode[failed])
        self._socket.sendall(jute.hello(int(TIMEOUT * 1000), self._session, self._password))

    def disconnect(self) -> None:
        """Drop the connection."""
        self.is_ready = self._has_answer = False
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def receive(self) -> None:
        """Receive what was sent. Raises `OSError` if the connection is lost."""
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise ConnectionResetError(errno.ECONNRESET, "closed by the server")
            self._buffer += chunk
        for packet in jute.packets(self._buffer):
            if not self._has_answer:
                self._begin(packet)
                continue
            xid, _zxid, error = REPLY.unpack_from(packet)
            if xid == jute.WATCH_XID:
                if jute.text_at(packet, REPLY.size + 2 * INT.size) == APP.config:
                    self._read_release()
            elif xid != jute.PING_XID:
                self._pending.popleft()(packet[REPLY.size :], error)

    def _begin(self, packet: bytes) -> None:
        """Handle the handshake's answer: a session, or 0 if it has expired and the server closes the connection."""
        self._has_answer = True
        session = int.from_bytes(packet[8:16], "big", signed=True)
        if session == 0:
            self.expired += 1
            self._session, self._password = 0, bytes(16)
            return
        is_new = session != self._session
        if is_new:
            self._session, self._password = session, packet[20:36]
            entry = RosterEntry(self.name, SINCE, {"zone": "a"}, "0.0.0").to_node()
            self._ask(jute.CREATE, jute.creation(APP.roster_entry(self.name), entry, 0), _ignore)
        for path, value in (APP.agent(self.name), self._status("idle")), (self._service, self._registration()):
            self._ask(jute.CREATE, jute.creation(path, value, jute.EPHEMERAL), _ignore)
            if not is_new:
                self._ask(jute.GET_DATA, jute.string(path) + b"\0", _ignore)
            self._watch(path)
        self._read_release()

    def _watch(self, path: str) -> None:
        """Watch a znode of its own, as an agent does, because others may delete it."""
        self._ask(jute.EXISTS, jute.string(path) + b"\x01", _ignore)

    @property
    def _service(self) -> str:
        return f"{REGISTRY}/{self.name}"

    def _registration(self) -> bytes:
        number = self._number
        return b'["10.%d.%d.%d", "8080"]' % (number >> 16, number >> 8 & 255, number & 255)

    def _status(self, state: str) -> bytes:
        timings = {"fetching": 0.0512, "staging": 0.0211, "activating": 0.0032, "checking": 0.0121}
        status = AgentStatus(self.name, state, self.generation, COMMIT, "a" * 40, None, SINCE, timings, version="0.0.0")
        return bytes(status.to_node())

    def _read_release(self) -> None:
        """Read what is published, and watch for the next release."""
        self._ask(jute.GET_DATA, jute.string(APP.config) + b"\x01", self._has_read)

    def _has_read(self, body: bytes, error: int) -> None:
        if error:
            raise OSError(error, "the release can't be read")
        end = INT.size + INT.unpack_from(body)[0]
        generation = STAT.unpack_from(body, end)[1]
        now = time.monotonic()
        if generation != self.generation:
            self.generation, self.read_at = generation, now
        if not self.is_ready:
            self.is_ready, self.ready_at = True, now
            if self.writes:  # it was without a connection in between
                self._write_status(b"", 0)

    def write_statuses(self, count: int) -> None:
        """Write the status `count` times, one after the other."""
        self.writes = count
        if self.is_ready:
            self._write_status(b"", 0)

    def _write_status(self, _body: bytes, error: int) -> None:
        if error:
            raise OSError(error, "the status can't be written")
        path, value = jute.string(APP.agent(self.name)), jute.buffer(self._status("active"))
        self._ask(jute.SET_DATA, path + value + INT.pack(-1), self._has_written)

    def _has_written(self, body: bytes, error: int) -> None:
        self._watch(APP.agent(self.name))
        self.writes -= 1
        self.written_at = time.monotonic()
        if self.writes > 0:
            self._write_status(body, error)

    def ping(self) -> None:
        """Keep the session alive."""
        if self._has_answer:
            self._send(INT.pack(jute.PING_XID) + INT.pack(jute.PING))

    def _ask(self, kind: int, body: bytes, finish: Finish) -> None:
        self._pending.append(finish)
        self._send(INT.pack(1) + INT.pack(kind) + body)

    def _send(self, packet: bytes) -> None:
        if self._socket is not None:
            self._socket.sendall(jute.framed(packet))
