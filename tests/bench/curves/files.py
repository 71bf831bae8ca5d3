"""The time from the change of a znode until its file is in place, by files of one agent, beside a bare socket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.curve import Point, curve
from bench.goals.files import Host, file_each, one_directory, same_turn
from bench.harness import take_turns
from bench.workbench import Workbench

SIZES, QUICK = (1, 10, 100, 1_000, 5_000), (1, 10)
ROUNDS = 1
"""A sample is already the median of several changes."""
MOST = 1_000
"""The most files that are configured one by one. A directory may have more."""


@curve("files", "From the change of a value until its file is in place, on the disk", "files of an agent")
def files(bench: Workbench) -> Iterator[Point]:
    """The median of several changes, with files that are configured one by one and with one directory."""
    for size in QUICK if bench.quick else SIZES:
        for who, entries in ("a file for each znode", file_each), ("one directory", one_directory):
            if entries is one_directory or size <= MOST:
                with (
                    tempfile.TemporaryDirectory(prefix="zoo-bench-", dir=bench.directory) as place,
                    Host(bench, Path(place), size, entries) as host,
                ):
                    sides = [host.sample(host.change), host.sample(host.change_bare)]
                    ours, bare = take_turns(sides, same_turn, ROUNDS)
                yield Point("milliseconds", who, size, ours[0] * 1000)
        yield Point("milliseconds", "bare socket and one file", size, bare[0] * 1000)
