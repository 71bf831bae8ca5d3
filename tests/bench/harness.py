"""Measures one side against the other, in turn, and judges the median of the ratios.

Machines differ and are noisy, so no figure counts by itself: a pair is one sample of ours and one of the yardstick,
taken right after each other, in alternating order. The two must have the same result, in every pair.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bench.workbench import Workbench

PAIRS, QUICK_PAIRS = 7, 2
"""Of each comparison, and of a run that is quick."""


class BenchError(Exception):
    """A measurement that means nothing: a side failed, or the sides differ. The text says which and how."""


class Sample(NamedTuple):
    """One measurement: the figure (seconds, where the unit says nothing else) and what the work came to."""

    figure: float
    result: Any = None


Side = Callable[[], Sample]


@dataclass(frozen=True)
class Comparison:
    """One line of the report: the median ratio may be `limit` at most, or is only shown where that is None.

    `same` raises `BenchError` where the two results (ours, yardstick's) differ.
    """

    goal: str
    work: str
    limit: float | None
    ours: Side
    yardstick: Side
    same: Callable[[Any, Any], None]
    unit: str = "s"


@dataclass(frozen=True)
class Outcome:
    """What the pairs of a comparison gave."""

    comparison: Comparison
    ours: list[float]
    yardstick: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours by the yardstick, of each pair."""
        return [ours / yardstick for ours, yardstick in zip(self.ours, self.yardstick)]

    @property
    def median(self) -> float:
        """The figure that is judged."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        """Whether the median is within the goal; so it is where there is none."""
        return self.comparison.limit is None or self.median <= self.comparison.limit


Goal = Callable[["Workbench"], Iterator[Comparison]]
GOALS: dict[str, Goal] = {}
"""Every goal by its number, `P1`: what makes its comparisons."""


def goal(number: str) -> Callable[[Goal], Goal]:
    """Register a function that yields the comparisons of goal `number`."""

    def register(function: Goal) -> Goal:
        GOALS[number] = function
        return function

    return register


def timed(work: Callable[[], Any]) -> Side:
    """A side whose figure is the wall time of `work`, in seconds."""

    def side() -> Sample:
        begun = time.perf_counter()
        result = work()
        return Sample(time.perf_counter() - begun, result)

    return side


def measure(comparison: Comparison, pairs: int = PAIRS) -> Outcome:
    """Warm up with one pair that is not counted, then take `pairs` of them. Raises `BenchError`."""
    outcome = Outcome(comparison, [], [])
    for number in range(pairs + 1):
        ours, yardstick = _pair(comparison, ours_first=number % 2 == 0)
        if number > 0:
            outcome.ours.append(ours)
            outcome.yardstick.append(yardstick)
    return outcome


def _pair(comparison: Comparison, *, ours_first: bool) -> tuple[float, float]:
    sides = [comparison.ours, comparison.yardstick]
    samples = {side: _sample(side) for side in (sides if ours_first else reversed(sides))}
    ours, yardstick = (samples[side] for side in sides)
    try:
        comparison.same(ours.result, yardstick.result)
    except BenchError as exc:
        raise BenchError(f"{comparison.goal} {comparison.work}: the sides differ: {exc}") from exc
    return ours.figure, yardstick.figure


def _sample(side: Side) -> Sample:
    gc.collect()
    return side()


HEADING = (
    f"{'goal':5} {'work':58} {'ours':>10} {'yardstick':>10} "
    f"{'median':>7} {'quartiles':>14} {'min..max':>14} {'goal':>6}  met"
)


def report(outcome: Outcome) -> str:
    """The line of a comparison; its columns are those of `HEADING`."""
    comparison, ratios = outcome.comparison, outcome.ratios
    low, _unused, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return (
        f"{comparison.goal:5} {comparison.work:58} "
        f"{_figure(outcome.ours, comparison.unit):>10} {_figure(outcome.yardstick, comparison.unit):>10} "
        f"{outcome.median:7.3f} {f'{low:.3f}-{high:.3f}':>14} {f'{min(ratios):.3f}..{max(ratios):.3f}':>14} "
        f"{_verdict(outcome)}"
    )


def _verdict(outcome: Outcome) -> str:
    limit = outcome.comparison.limit
    return f"{'-':>6}  -" if limit is None else f"{limit:6g}  {'yes' if outcome.met else 'NO'}"


def _figure(figures: list[float], unit: str) -> str:
    middle = statistics.median(figures)
    return f"{middle * 1000:.1f} ms" if unit == "s" and middle < 1 else f"{middle:.2f} {unit}"
