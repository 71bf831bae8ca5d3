"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import functools
import itertools
import random
import socket
from collections.abc import Iterator
from pathlib import Path

LOWEST = 10000


def free_ports(count: int) -> list[int]:
    """`count` ports that nothing listens on, each given once: none is one that the kernel may give to somebody else."""
    return list(itertools.islice(filter(_is_free, _never_ephemeral()), count))


@functools.cache
def _never_ephemeral() -> Iterator[int]:
    """The ports that no connection goes out from and no socket without a port of its own is bound to, in any order."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [*range(LOWEST, low), *range(high + 1, 65536)]
    random.SystemRandom().shuffle(ports)  # not a generator that a test may have seeded
    return iter(ports)


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
