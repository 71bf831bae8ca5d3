"""Measures two sides in turn, and judges the median of their ratios.

Machines differ and are noisy, so no figure counts by itself. A pair is one sample of ours and one of the yardstick,
taken right after each other in alternating order. Both must have the same result in every pair.
"""

from __future__ import annotations

import functools
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from bench.workbench import Workbench

Name = TypeVar("Name")
PAIRS, SHOWN_PAIRS, QUICK_PAIRS = 7, 3, 2
"""Pairs of a comparison that is judged, of one that is only shown, and of each in a quick run."""


class BenchError(Exception):
    """A measurement without meaning: a side failed, or the sides differ. The message says which and how."""


class DifferentError(BenchError):
    """The sides have different results."""


class Sample(NamedTuple):
    """One measurement: the figure, in seconds unless the comparison has another unit, and the result of the work."""

    figure: float
    result: Any = None


Side = Callable[[], Sample]


@dataclass(frozen=True)
class Comparison:
    """One line of the report. The median ratio may be at most `limit`, or is only shown if that is None.

    `same` raises `BenchError` if the two results (ours, the yardstick's) differ.
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
    """The figures of the pairs of a comparison."""

    comparison: Comparison
    ours: list[float]
    yardstick: list[float]

    @property
    def ratios(self) -> list[float]:
        """Ours divided by the yardstick, for each pair."""
        return [ours / yardstick for ours, yardstick in zip(self.ours, self.yardstick)]

    @property
    def median(self) -> float:
        """The median ratio, which is judged."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        """Whether the median is within the limit, or there is none."""
        return self.comparison.limit is None or self.median <= self.comparison.limit


Goal = Callable[["Workbench"], Iterator[Comparison]]
GOALS: dict[str, Goal] = {}
"""All goals by number (`P1`): the functions that yield their comparisons."""


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
    """Warm up with one pair that does not count, then take `pairs` of them. Raises `BenchError`."""
    try:
        ours, yardstick = take_turns([comparison.ours, comparison.yardstick], comparison.same, pairs)
    except DifferentError as exc:
        raise BenchError(f"{comparison.goal} {comparison.work}: {exc}") from exc
    return Outcome(comparison, ours, yardstick)


def take_turns(sides: Sequence[Side], same: Callable[[Any, Any], None], rounds: int) -> list[list[float]]:
    """Run all sides in turn, alternately first to last and last to first, and return the figures of each.

    One more round warms up. Raises `DifferentError` if the result of a side differs from that of the first one.
    """
    figures: list[list[float]] = [[] for _side in sides]
    for number in range(rounds + 1):
        samples = _round(dict(enumerate(sides)), number)
        for place, sample in sorted(samples.items()):
            _compare(same, samples[0], sample)
            if number > 0:
                figures[place].append(sample.figure)
    return figures


class Rounds:
    """Rounds that several comparisons share: each is run once, by whichever comparison asks for it first.

    `run` runs the round of a number, from 0, and returns the samples by their names.
    """

    def __init__(self, run: Callable[[int], Mapping[str, Sample]]) -> None:
        self._run = run
        self._rounds: list[Mapping[str, Sample]] = []

    @classmethod
    def of(cls, sides: Mapping[str, Side]) -> Rounds:
        """In each round, all sides run in turn, first to last and then last to first."""
        return cls(functools.partial(_round, sides))

    def side(self, name: str) -> Side:
        """A side of one comparison: the samples of this name, from the first round on."""
        numbers = itertools.count()

        def side() -> Sample:
            number = next(numbers)
            if number == len(self._rounds):
                self._rounds.append(self._run(number))
            return self._rounds[number][name]

        return side


def _compare(same: Callable[[Any, Any], None], ours: Sample, other: Sample) -> None:
    if other is not ours:
        try:
            same(ours.result, other.result)
        except BenchError as exc:
            raise DifferentError(f"the sides differ: {exc}") from exc


def _round(sides: Mapping[Name, Side], number: int) -> dict[Name, Sample]:
    """The samples of all sides, which run from the first to the last, or in a round with an odd number back."""
    order = list(sides.items())
    return {name: _sample(side) for name, side in (reversed(order) if number % 2 else order)}


def _sample(side: Side) -> Sample:
    gc.collect()
    return side()


HEADING = (
    f"{'goal':5} {'work':58} {'ours':>10} {'yardstick':>10} "
    f"{'median':>7} {'quartiles':>14} {'min..max':>14} {'goal':>6}  met"
)


def report(outcome: Outcome) -> str:
    """The line of a comparison, with the columns of `HEADING`."""
    comparison, ratios = outcome.comparison, outcome.ratios
    low, _unused, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return (
        f"{comparison.goal:5} {comparison.work:58} "
        f"{figure(outcome.ours, comparison.unit):>10} {figure(outcome.yardstick, comparison.unit):>10} "
        f"{outcome.median:7.3f} {f'{low:.3f}-{high:.3f}':>14} {f'{min(ratios):.3f}..{max(ratios):.3f}':>14} "
        f"{_verdict(outcome)}"
    )


def _verdict(outcome: Outcome) -> str:
    limit = outcome.comparison.limit
    return f"{'-':>6}  -" if limit is None else f"{limit:6g}  {'yes' if outcome.met else 'NO'}"


def figure(figures: list[float], unit: str) -> str:
    """The median of figures with its unit, seconds below one as milliseconds."""
    middle = statistics.median(figures)
    return f"{middle * 1000:.1f} ms" if unit == "s" and middle < 1 else f"{middle:.2f} {unit}".rstrip()
