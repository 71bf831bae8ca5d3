"""Simulated hosts in their own process: `python -m bench.sizing.crowd FIRST COUNT PORT ...`.

The hosts are numbered from FIRST on. All of them begin with the first port, and try the next one if a server does not
accept them. Orders come as lines of JSON on standard input, and each is answered with a line when it is done. Moments
are those of the machine's monotonic clock.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bench.sizing.crowd_session import TIMEOUT, CrowdSession

AT_ONCE = 40
"""Connections that are begun and not answered, as many as a server lets wait at the same time."""
PING = TIMEOUT / 3
"""Seconds between two pings of a session."""
TURN = 0.02
"""Seconds that the loop waits at most."""
RETRY = 0.5
"""Seconds until a host tries the next server, at most."""

Answer = dict[str, Any]


class Crowd:
    """The hosts, and the loop that serves them and takes orders."""

    def __init__(self, first: int, count: int, ports: list[int]) -> None:
        self._hosts = [CrowdSession(number, ports) for number in range(first, first + count)]
        self._poll = select.epoll()
        self._poll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._connected: dict[int, int] = {}
        """The hosts with a connection, by descriptor."""
        self._connecting: set[int] = set()
        self._waiting: list[tuple[float, int]] = []
        """The hosts without a connection, by the moment of their next try."""
        self._pings = deque[tuple[float, int]]()
        self._orders = b""
        self._look_at = 0.0
        self._condition: Callable[[], Answer | None] = lambda: None

    def run(self) -> None:
        """Serve until there are no more orders."""
        while True:
            self._connect_some()
            for descriptor, events in self._poll.poll(TURN):
                if descriptor == sys.stdin.fileno():
                    if not self._take_orders():
                        return
                else:
                    self._serve(descriptor, events)
            self._ping_some()
            self._look()

    def _look(self) -> None:
        """Answer the order if it is done, but not at every turn, because checking all hosts takes time."""
        if time.monotonic() >= self._look_at:
            answer = self._condition()
            self._look_at = time.monotonic() + TURN
            if answer is not None:
                self._condition = lambda: None
                print(json.dumps(answer), flush=True)

    def _connect_some(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now and len(self._connecting) < AT_ONCE:
            _moment, index = heapq.heappop(self._waiting)
            host = self._hosts[index]
            host.connect()
            self._connected[host.descriptor] = index
            self._connecting.add(host.descriptor)
            self._poll.register(host.descriptor, select.EPOLLOUT)

    def _serve(self, descriptor: int, events: int) -> None:
        host = self._hosts[self._connected[descriptor]]
        try:
            if events & select.EPOLLOUT:
                host.greet()
                self._poll.modify(descriptor, select.EPOLLIN)
            else:
                host.receive()
                if host.is_ready and descriptor in self._connecting:
                    self._connecting.discard(descriptor)
        except OSError:
            self._lose(descriptor)

    def _lose(self, descriptor: int) -> None:
        """Drop the connection of a host, which tries the next server a little later."""
        index = self._connected.pop(descriptor)
        self._connecting.discard(descriptor)
        self._poll.unregister(descriptor)
        self._hosts[index].disconnect()
        heapq.heappush(self._waiting, (time.monotonic() + random.uniform(0, RETRY), index))

    def _ping_some(self) -> None:
        now = time.monotonic()
        while self._pings and self._pings[0][0] <= now:
            _moment, index = self._pings.popleft()
            self._pings.append((now + PING, index))
            host = self._hosts[index]
            try:
                host.ping()
            except OSError:
                self._lose(host.descriptor)

    def _take_orders(self) -> bool:
        """Begin the received orders. Returns False if no more will come."""
        chunk = os.read(sys.stdin.fileno(), 65536)
        self._orders += chunk
        while b"\n" in self._orders:
            line, _newline, self._orders = self._orders.partition(b"\n")
            order = json.loads(line)
            getattr(self, f"do_{order.pop('do')}")(**order)
        return bool(chunk)

    def do_begin(self) -> None:
        """Make all hosts connect."""
        now = time.monotonic()
        self._waiting = [(now, index) for index in range(len(self._hosts))]
        self._pings.extend((now + PING * index / len(self._hosts), index) for index in range(len(self._hosts)))
        self.do_gather(now)

    def do_gather(self, after: float) -> None:
        """Wait until all hosts are ready, not before `after`. The answer has the last moment and expired sessions."""

        def gathered() -> Answer | None:
            if time.monotonic() < after or not all(host.is_ready for host in self._hosts):
                return None
            expired = sum(host.expired for host in self._hosts)
            return {"last": max(host.ready_at for host in self._hosts), "expired": expired}

        self._condition = gathered

    def do_read(self, generation: int) -> None:
        """Wait until all hosts have read a release: the median and the last of their moments."""

        def read() -> Answer | None:
            if not all(host.generation == generation for host in self._hosts):
                return None
            moments = [host.read_at for host in self._hosts]
            return {"median": statistics.median(moments), "last": max(moments)}

        self._condition = read

    def do_write(self, count: int) -> None:
        """Make each host write its status `count` times, one after the other, and wait until all have done so."""
        for host in self._hosts:
            host.write_statuses(count)

        def written() -> Answer | None:
            if any(host.writes for host in self._hosts):
                return None
            return {"last": max(host.written_at for host in self._hosts)}

        self._condition = written


def main() -> None:
    """Run the hosts of the command line."""
    first, count, *ports = map(int, sys.argv[1:])
    Crowd(first, count, ports).run()


if __name__ == "__main__":
    main()
