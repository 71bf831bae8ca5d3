"""P12 and P15: many agents at one git daemon at the same time, and the cost of one more agent."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterator

from bench.agents import Fleet
from bench.harness import BenchError, Comparison, Sample, Side, goal
from bench.site import Site
from bench.workbench import Workbench

FILES = 40
HERD, SMALL_HERD = 50, 10
SIZES, SMALL_SIZES = (200, 50), (40, 10)
"""Agents, and those of a quick run."""
AT_ONCE = 1_000_000
"""A fetch rate at which no agent waits for its turn."""
FAILED = "; tried again in "
"""What an agent logs when a fetch has failed."""


@goal("P12")
def herd(bench: Workbench) -> Iterator[Comparison]:
    """Agents that wait a random time before they fetch against those that do not, and the number of their fetches."""
    size = SMALL_HERD if bench.quick else HERD
    with (
        Site.served(bench, "p12", FILES) as site,
        Fleet.started(bench, "p12-jitter", size) as spread,
        Fleet.started(bench, "p12-at-once", size, fetch_rate=AT_ONCE) as at_once,
    ):
        ours, yardstick = _Counted(site, spread), _Counted(site, at_once)
        yield Comparison("P12", f"{size} agents; without jitter", 0.45, ours.side, yardstick.side, _same)
        for how, limit, fleet in ("with jitter", 1.0, ours), ("without jitter", None, yardstick):
            work = f"fetches of {size} agents, {how}; one each"
            yield Comparison("P12", work, limit, fleet.fetches, lambda: Sample(size, size), _same, "")


@goal("P15")
def one_more(bench: Workbench) -> Iterator[Comparison]:
    """The seconds per agent until all have proved a release, in a large fleet and in a small one."""
    large, small = SMALL_SIZES if bench.quick else SIZES
    with Site.served(bench, "p15", FILES, 1, "--max-connections=0") as site, contextlib.ExitStack() as fleets:
        ours, yardstick = (
            _seconds(site, fleets.enter_context(Fleet.started(bench, f"p15-{size}", size)), size)
            for size in (large, small)
        )
        yield Comparison("P15", f"an agent of {large}; of {small}", 1.1, ours, yardstick, _same)


def _seconds(site: Site, fleet: Fleet, shares: int = 1) -> Side:
    """A side whose figure is the time in which a fleet proves the next commit, divided by `shares`."""
    turns = itertools.count()

    def side() -> Sample:
        commit_id = site.commit(next(turns))
        seconds = fleet.deploy(site.url, commit_id)
        _check(site, fleet, commit_id)
        return Sample(seconds / shares, commit_id)

    return side


class _Counted:
    """Makes a fleet prove commits, and remembers the number of fetches for each."""

    def __init__(self, site: Site, fleet: Fleet) -> None:
        self._size = len(fleet.agents)
        self._fleet = fleet
        self._deploy = _seconds(site, fleet)
        self._fetches: deque[int] = deque()

    def side(self) -> Sample:
        """The time in which the fleet proves the next commit."""
        before = self._fleet.count_logged(FAILED)
        sample = self._deploy()
        self._fetches.append(self._size + self._fleet.count_logged(FAILED) - before)
        return sample

    def fetches(self) -> Sample:
        """The number of fetches of the next recorded deployment, and the number of agents as its result."""
        return Sample(self._fetches.popleft(), self._size)


def _check(site: Site, fleet: Fleet, commit_id: str) -> None:
    trees = fleet.trees()
    if trees != {site.checksum(commit_id)}:
        raise BenchError(f"not every host has the tree of {commit_id}: {trees}")


def _same(ours: object, yardstick: object) -> None:
    if ours != yardstick:
        raise BenchError(f"{ours} and {yardstick}")
