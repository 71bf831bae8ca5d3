"""`ansible-inventory --list` by registrations, beside the same hosts in a file and from a script."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.curve import Point, curve, rounds
from bench.goals.inventory import host_variables, ours_source, same_hosts, script_source, static_source
from bench.harness import Sample, take_turns
from bench.workbench import HERE, Workbench

SIZES, QUICK = (10, 100, 1_000, 10_000, 100_000), (10, 100)
LONG = 100_000
"""Registrations from which on a list takes about a minute, and is made once after the warm-up."""


@curve("inventory", "An inventory from a registry", "registrations")
def inventory(bench: Workbench) -> Iterator[Point]:
    """The time and the peak memory of each source."""
    for size in QUICK if bench.quick else SIZES:
        registry = bench.registry(size)
        hosts = host_variables(bench, registry)
        sources = {
            "zk_services": ours_source(bench, registry),
            "static JSON": static_source(bench, hosts),
            "script": script_source(bench, hosts),
        }
        sides = [_Listing(bench, source) for source in sources.values()]
        figures = take_turns([side.run for side in sides], same_hosts, 1 if size >= LONG else rounds(bench))
        for who, seconds, side in zip(sources, figures, sides):
            yield Point("seconds", who, size, statistics.median(seconds))
            yield Point("MB of memory at most", who, size, statistics.median(side.peaks))


class _Listing:
    """Lists the hosts of a source, and records the peak memory of each run in MB."""

    def __init__(self, bench: Workbench, source: Path) -> None:
        self._bench = bench
        self._source = source
        self.peaks: list[float] = []

    def run(self) -> Sample:
        """The seconds of the command, and its output."""
        notes = self._bench.directory / f"peak-{time.monotonic_ns()}"
        command = [Path(sys.executable).parent / "ansible-inventory", "-i", self._source, "--list"]
        printed = self._bench.run(Path(sys.executable), HERE / "peak.py", notes, *command)
        seconds, kilobytes = map(float, notes.read_text().split())
        self.peaks.append(kilobytes / 1024)
        return Sample(seconds, printed)
