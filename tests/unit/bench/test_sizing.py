"""The figures of a fleet's load on an ensemble."""

from __future__ import annotations

import pytest

from bench.sizing.crowds import shares
from bench.sizing.figures import FIGURES, Load, extrapolate, to_table
from bench.sizing.probe import heap

LOG = """\
[0.1s][info][gc] Using Serial
[1.2s][info][gc] GC(0) Pause Young (Allocation Failure) 4M->2M(15M) 5.250ms
[9.9s][info][gc] GC(7) Pause Full (Allocation Failure) 90M->41M(120M) 120.000ms
[11.0s][info][gc] GC(8) Pause Young (Allocation Failure) 60M->30M(120M) 8.000ms
"""


def _load(hosts: int, value: float, observers: int = 0) -> Load:
    return Load(hosts, observers, dict.fromkeys(FIGURES, value))


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("sessions", (1_000, 10_000), 100_000),
        ("heap", (14, 50), 410),
        ("published", (0.2, 0.1), 0.1),
        ("writes", (5_000, 6_000), 6_000),
    ],
)
def test_a_figure_is_extrapolated_by_a_straight_line_or_stays(
    name: str, values: tuple[float, float], expected: float
) -> None:
    loads = [_load(10_000, values[1]), _load(1_000, values[0])]
    assert extrapolate(name, loads, 100_000) == pytest.approx(expected)


def test_the_table_has_every_figure_and_extrapolates_without_observers() -> None:
    lines = to_table([_load(1_000, 1), _load(1_000, 5, 2), _load(10_000, 10), _load(10_000, 7, 2)]).splitlines()
    measured = "1,000 | 1,000 and 2 observers | 10,000 | 10,000 and 2 observers"
    assert lines[0] == f"| Hosts | {measured} | 100,000, extrapolated |"
    assert lines[2] == "| Sessions | 1 | 5 | 10 | 7 | 100 |"
    assert len(lines) == 2 + len(FIGURES)


def test_a_log_of_garbage_collections_gives_the_heap_in_use_and_the_longest_pause() -> None:
    assert heap(LOG) == (41.0, 0.12)
    assert heap("") == (0.0, 0.0)


@pytest.mark.parametrize(("count", "parts"), [(10_000, 3), (10_000, 5), (2, 3), (30, 3)])
def test_hosts_are_spread_evenly_and_each_has_a_number_of_its_own(count: int, parts: int) -> None:
    found = shares(count, parts)
    assert [number for first, share in found for number in range(first, first + share)] == list(range(count))
    assert max(share for _first, share in found) - min(share for _first, share in found) <= 1
