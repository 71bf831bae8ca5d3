"""P16: the cost of one rollout for each host of a fleet, which must not depend on the number of hosts.

It is compared with the cost if every host watched the list of outcomes: each change would wake every host, and each
would list them all.
"""

from __future__ import annotations

import functools
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from kazoo.client import KazooClient

from bench.harness import BenchError, Comparison, Sample, Side, goal
from bench.raw_session import Traffic
from bench.rollout_fleet import Course, WatchingFleet, roll_out
from bench.workbench import Workbench
from support.ensemble import Ensemble

LIMIT = 1.05
SIZES = ((1_000, 100, None), (10_000, 1_000, LIMIT))
QUICK = ((200, 100, None),)
"""Hosts of the fleet, hosts of the fleet that it is compared with, and the limit."""
SMALL = 100
JVM = ("-Xmx1g",)


@goal("P16")
def rollout_of_ten_thousand(bench: Workbench) -> Iterator[Comparison]:
    """Requests and watch events of the median host: of 10,000 against 1,000, and of 1,000 against 100."""
    rollouts = Rollouts(bench)
    for size, other, limit in QUICK if bench.quick else SIZES:
        for what in "requests", "events":
            ours, yardstick = rollouts.side(size, what), rollouts.side(other, what)
            yield Comparison("P16", f"{what} of a host, of {size:,}; of {other:,}", limit, ours, yardstick, _same, "")
    yield Comparison(
        "P16",
        f"requests of {SMALL} hosts; with a children watch",
        None,
        rollouts.whole(SMALL),
        rollouts.watching(SMALL),
        _same,
        "",
    )


class Rollouts:
    """Runs each fleet once, because a rollout of ten thousand hosts takes minutes, and the counts are hardly noisy."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self.course = functools.cache(self._course)
        self.watching_course = functools.cache(self._watched)

    def side(self, size: int, what: str) -> Side:
        """The figure of the median host of a fleet."""
        return lambda: Sample(statistics.median(values(self.course(size).traffic, what)), "done")

    def whole(self, size: int) -> Side:
        """The requests of all hosts of a fleet."""
        return lambda: Sample(sum(values(self.course(size).traffic, "requests")), "done")

    def watching(self, size: int) -> Side:
        """The requests of all hosts of a fleet that watch each other."""
        return lambda: Sample(sum(values(self.watching_course(size).traffic, "requests")), "done")

    def _course(self, size: int) -> Course:
        return self._told(f"{size:,} hosts", size, roll_out)

    def _watched(self, size: int) -> Course:
        return self._told(f"{size:,} hosts with a children watch", size, WatchingFleet.run)

    def _told(self, who: str, size: int, run: Any) -> Course:
        raise_descriptors(size)
        directory = self._bench.directory / f"fleet-{size}-{time.monotonic_ns()}"
        extra = ("maxSessionTimeout=120000",)
        with Ensemble(directory, tick=2000, extra=extra, jvm=JVM) as ensemble:
            client = KazooClient(hosts=ensemble.hosts, timeout=60)
            client.start(timeout=20)
            try:
                course: Course = run(ensemble, client, size)
            finally:
                client.stop()
                client.close()
        print(f"P16   {who}: {course.seconds:.1f} s", flush=True)
        for what in "requests", "events", "sent", "received":
            print(f"      {what:9} {_spread(values(course.traffic, what))}", flush=True)
        return course


def raise_descriptors(hosts: int) -> None:
    """Let this process and its children have a socket for each host. Raises `BenchError` if the limit is too low."""
    needed = hosts + 200
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"{needed} files must be open at once, and only {hard} may be (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def values(traffic: Sequence[Traffic], what: str) -> list[float]:
    """A figure of each host, such as `requests`, the smallest first."""
    return sorted(getattr(one, what) for one in traffic)


def _spread(values: list[float]) -> str:
    p99 = values[min(len(values) - 1, len(values) * 99 // 100)]
    return (
        f"median {statistics.median(values):9,.0f}   p99 {p99:9,.0f}   max {values[-1]:11,.0f}   "
        f"mean {statistics.fmean(values):9,.0f}"
    )


def _same(ours: Any, yardstick: Any) -> None:
    if ours != yardstick:
        raise BenchError(f"one rollout is {ours}, the other {yardstick}")
