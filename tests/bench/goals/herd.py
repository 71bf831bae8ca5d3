"""P12 and P15: many agents at once, at one git daemon, and what one more of them costs."""

from __future__ import annotations

import contextlib
import itertools
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
"""A rate of fetches at which no agent waits for its turn."""
FAILED = "; tried again in "
"""What an agent logs where a fetch has failed."""


@goal("P12")
def herd(bench: Workbench) -> Iterator[Comparison]:
    """Agents that wait a random moment before they fetch, against those that do not; how often each had to fetch."""
    size = SMALL_HERD if bench.quick else HERD
    with (
        Site.served(bench, "p12", FILES) as site,
        Fleet.started(bench, "p12-jitter", size) as spread,
        Fleet.started(bench, "p12-at-once", size, fetch_rate=AT_ONCE) as at_once,
    ):
        yield Comparison(
            "P12", f"{size} agents; without jitter", 0.45, _seconds(site, spread), _seconds(site, at_once), _same
        )
        for how, limit, fleet in ("with jitter", 1.0, spread), ("without jitter", None, at_once):
            work = f"fetches of {size} agents, {how}; one each"
            yield Comparison("P12", work, limit, _fetches(site, fleet), _one_each(size), _same_number, "")


@goal("P15")
def one_more(bench: Workbench) -> Iterator[Comparison]:
    """The seconds until all have proved a release, by the number of agents, in a large fleet and in a small one."""
    large, small = SMALL_SIZES if bench.quick else SIZES
    with Site.served(bench, "p15", FILES, 1, "--max-connections=0") as site, contextlib.ExitStack() as fleets:
        ours, yardstick = (
            _seconds(site, fleets.enter_context(Fleet.started(bench, f"p15-{size}", size)), size)
            for size in (large, small)
        )
        yield Comparison("P15", f"an agent of {large}; of {small}", 1.1, ours, yardstick, _same)


def _seconds(site: Site, fleet: Fleet, shares: int = 1) -> Side:
    """The time in which a fleet proves the next commit, in so many shares of it; the result is what all have."""
    turns = itertools.count()

    def side() -> Sample:
        commit_id = site.commit(next(turns))
        seconds = fleet.deploy(site.url, commit_id)
        _check(site, fleet, commit_id)
        return Sample(seconds / shares, commit_id)

    return side


def _fetches(site: Site, fleet: Fleet) -> Side:
    """How often the agents of a fleet fetch until all of them have the next commit."""
    turns = itertools.count(len(site.commits))

    def side() -> Sample:
        commit_id = site.commit(next(turns))
        before = fleet.count_logged(FAILED)
        fleet.deploy(site.url, commit_id)
        _check(site, fleet, commit_id)
        return Sample(len(fleet.agents) + fleet.count_logged(FAILED) - before, len(fleet.agents))

    return side


def _one_each(size: int) -> Side:
    return lambda: Sample(size, size)


def _check(site: Site, fleet: Fleet, commit_id: str) -> None:
    trees = fleet.trees()
    if trees != {site.checksum(commit_id)}:
        raise BenchError(f"not every host has the tree of {commit_id}: {trees}")


def _same(ours: str, yardstick: str) -> None:
    if ours != yardstick:
        raise BenchError(f"commits {ours} and {yardstick}")


def _same_number(ours: int, yardstick: int) -> None:
    if ours != yardstick:
        raise BenchError(f"{ours} hosts and {yardstick}")
