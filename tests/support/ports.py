"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import functools
import itertools
import random
import socket
from collections.abc import Iterator
from pathlib import Path

LOWEST = 10000
BLOCK = 100
"""Suites that run at the same time take ports from separate blocks, so that no other suite takes a port between a
test's check that it is free and its use."""

_claims: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """`count` ports that nothing listens on, each returned only once, outside the kernel's ephemeral range."""
    return list(itertools.islice(filter(_is_free, _never_ephemeral()), count))


@functools.cache
def _never_ephemeral() -> Iterator[int]:
    """The ports outside the ephemeral range, in random order."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    starts = [*range(LOWEST, low - BLOCK, BLOCK), *range(high + 1, 65536 - BLOCK, BLOCK)]
    generator = random.SystemRandom()  # not one that a test may have seeded
    generator.shuffle(starts)
    for start in filter(_claim, starts):
        yield from generator.sample(range(start, start + BLOCK), BLOCK)


def _claim(start: int) -> bool:
    """Claim the block that begins at `start` until this process ends; whether it was unclaimed."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        # An abstract name, without a file: like a port, it exists only in this network namespace.
        claim.bind(f"\0zoo-tests-ports-{start}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
