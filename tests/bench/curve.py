"""A curve: figures over sizes, of our code and of what it is compared with, as a table and as a drawing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.chart import Panel, Series, draw
from bench.markdown import number, table

if TYPE_CHECKING:
    from bench.workbench import Workbench

ROUNDS, QUICK_ROUNDS = 3, 1
"""Samples of each point, after a warm-up. Their median counts."""


@dataclass(frozen=True)
class Point:
    """One figure: its unit (`seconds`), what was measured (`zk_services`), the size and the value."""

    unit: str
    who: str
    size: int
    value: float


@dataclass(frozen=True)
class Curve:
    """How the points of a curve are measured. `size` names what is counted."""

    name: str
    title: str
    size: str
    measure: Callable[[Workbench], Iterator[Point]]


CURVES: dict[str, Curve] = {}
"""All curves by name."""
Measure = Callable[["Workbench"], Iterator[Point]]


def curve(name: str, title: str, size: str) -> Callable[[Measure], Measure]:
    """Register a function that yields the points of a curve."""

    def register(function: Measure) -> Measure:
        CURVES[name] = Curve(name, title, size, function)
        return function

    return register


def rounds(bench: Workbench) -> int:
    """The number of samples of each point."""
    return bench.sized(ROUNDS, QUICK_ROUNDS)


def to_svg(made: Curve, points: Sequence[Point]) -> str:
    """The drawing: a panel for each unit, a line for each `who`."""
    panels = [
        Panel(unit, [Series(who, _line(points, unit, who)) for who in _unique(_who(points, unit))])
        for unit in _unique(point.unit for point in points)
    ]
    return draw(made.title, made.size, panels)


def to_table(made: Curve, points: Sequence[Point]) -> str:
    """The table: a row for each size, a column for each line, and `-` where a line has no point."""
    columns = [(unit, who) for unit in _unique(point.unit for point in points) for who in _unique(_who(points, unit))]
    cells = {(point.unit, point.who, point.size): number(point.value) for point in points}
    rows = [
        [f"{size:,}", *(cells.get((unit, who, size), "-") for unit, who in columns)]
        for size in sorted({point.size for point in points})
    ]
    return table([made.size, *(f"{who}: {unit}" for unit, who in columns)], rows, left=0)


def _line(points: Iterable[Point], unit: str, who: str) -> list[tuple[float, float]]:
    return sorted((point.size, point.value) for point in points if (point.unit, point.who) == (unit, who))


def _who(points: Iterable[Point], unit: str) -> Iterator[str]:
    return (point.who for point in points if point.unit == unit)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
