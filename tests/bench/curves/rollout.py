"""The cost of a rollout for each simulated host, beside a list that every host watches."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from bench.curve import Point, curve
from bench.goals.rollouts import Rollouts, values
from bench.raw_session import Traffic
from bench.workbench import Workbench

SIZES, QUICK = (1, 10, 100, 1_000, 10_000), (1, 10, 100)
WATCHING, QUICK_WATCHING = (1, 10, 100, 300), (1, 10)
"""Hosts that watch the list, few because their requests grow with the square of their number."""
UNITS = {"requests of a host": "requests", "bytes received by a host": "received"}


@curve("rollout", "What a rollout costs a host", "hosts")
def rollout(bench: Workbench) -> Iterator[Point]:
    """One rollout of each size, because the counts are hardly noisy."""
    rollouts = Rollouts(bench)
    for size in QUICK if bench.quick else SIZES:
        traffic = rollouts.course(size).traffic
        for unit, what in UNITS.items():
            found = values(traffic, what)
            yield Point(unit, "rollout, median host", size, statistics.median(found))
            yield Point(unit, "rollout, 99th of 100 hosts", size, found[min(size - 1, size * 99 // 100)])
    for size in QUICK_WATCHING if bench.quick else WATCHING:
        yield from _watching(rollouts.watching_course(size).traffic, size)


def _watching(traffic: Sequence[Traffic], size: int) -> Iterator[Point]:
    for unit, what in UNITS.items():
        yield Point(unit, "a watched list, median host", size, statistics.median(values(traffic, what)))
