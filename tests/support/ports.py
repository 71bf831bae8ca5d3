"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOWEST = 10000
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """`count` ports that nothing listens on, each given once: none is one that the kernel may give to somebody else."""
    found: list[int] = []
    candidates = [port for port in _never_ephemeral() if port not in _given]
    random.SystemRandom().shuffle(candidates)  # not a generator that a test may have seeded
    while len(found) < count:
        port = candidates.pop()
        if _is_free(port):
            found.append(port)
    _given.update(found)
    return found


def _never_ephemeral() -> list[int]:
    """The ports that no connection goes out from and no socket without a port of its own is bound to."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    return [*range(LOWEST, low), *range(high + 1, 65536)]


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
