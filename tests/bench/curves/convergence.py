"""The time from a publication until every real agent has proved it, beside the shell script."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.agents import Fleet
from bench.curve import Point, curve, rounds
from bench.goals.deployments import ANY_NUMBER, FILES, agents_side, same_trees, script_side, stores
from bench.harness import take_turns
from bench.site import Site
from bench.workbench import Workbench

SIZES, QUICK = (1, 2, 5, 10, 20, 50, 100, 200), (1, 3)


@curve("convergence", "From a publication until every host has proved it, all on one machine", "hosts")
def convergence(bench: Workbench) -> Iterator[Point]:
    """Deploy commits in which one of 40 files has changed."""
    with Site.served(bench, "convergence", FILES, 1, ANY_NUMBER) as site:
        for size in QUICK if bench.quick else SIZES:
            with Fleet.started(bench, f"convergence-{size}", size) as fleet:
                shell = script_side(site, stores(bench, f"convergence-shell-{size}", size))
                figures = take_turns([agents_side(site, fleet), shell], same_trees, rounds(bench))
            for who, seconds in zip(("agents", "shell script, proves nothing"), figures):
                yield Point("seconds", who, size, statistics.median(seconds))
