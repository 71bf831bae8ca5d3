"""Draws lines over logarithmic axes as an SVG that is light or dark, as its reader prefers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 480, 340
"""Pixels of one panel. The panels stand side by side."""
LEFT, RIGHT, BOTTOM = 70, 34, 52
HEADER = 44
"""Pixels above the panels, for the title."""
ROW = 20
"""Pixels of a row in the legend."""
STEPS = (1, 2, 5)
"""The ticks of an axis within each power of ten. Over more than `DECADES` of these there are only the powers."""
DECADES = 2
STYLE = """\
    .paper { fill: #ffffff; }
    .title { fill: #1f2328; font-weight: 600; font-size: 16px; }
    .text { fill: #57606a; }
    .grid { stroke: #d0d7de; }
    .series { fill: none; stroke-width: 2; }
    .s0 { stroke: #0969da; } .m0 { fill: #0969da; }
    .s1 { stroke: #bc4c00; } .m1 { fill: #bc4c00; }
    .s2 { stroke: #1a7f37; } .m2 { fill: #1a7f37; }
    .s3 { stroke: #8250df; } .m3 { fill: #8250df; }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0d1117; }
      .title { fill: #f0f6fc; }
      .text { fill: #9198a1; }
      .grid { stroke: #3d444d; }
      .s0 { stroke: #4493f8; } .m0 { fill: #4493f8; }
      .s1 { stroke: #f0883e; } .m1 { fill: #f0883e; }
      .s2 { stroke: #3fb950; } .m2 { fill: #3fb950; }
      .s3 { stroke: #ab7df8; } .m3 { fill: #ab7df8; }
    }"""
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
MARKS = ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "M-4-4h8v8h-8z", "M0-5 5 4H-5z", "M0-5 5 0 0 5-5 0z")
"""A shape for each series, so that colours are not the only distinction."""


@dataclass(frozen=True)
class Series:
    """A line: its name, and its points in order of size, with two positive numbers each."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """Axes with some series, at most as many as there are `MARKS`. `unit` is that of the vertical axis."""

    unit: str
    series: Sequence[Series]


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis from the first of its ticks, at the pixel `begin`, to the last, at `end`."""

    ticks: Sequence[float]
    begin: float
    end: float

    def place(self, value: float) -> float:
        """The pixel of a value."""
        least, most = math.log(self.ticks[0]), math.log(self.ticks[-1])
        return self.begin + (math.log(value) - least) / (most - least) * (self.end - self.begin)


def ticks(values: Sequence[float]) -> list[float]:
    """Two or more round numbers, the first not above any of the values, the last not below any."""
    least, most = min(values), max(values)
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    # A logarithm is rounded, and may come out as a whole number.
    low -= 10.0**low > least
    high += 10.0**high < most
    few = high - low > DECADES
    # From 1 up they are integers, so that 5,000 is exactly 5,000.
    found = [step * 10**power if power >= 0 else step / 10**-power for power in range(low, high + 2) for step in STEPS]
    if few:
        found = [10**power if power >= 0 else 1 / 10**-power for power in range(low, high + 1)]
    first = max(number for number, value in enumerate(found) if value <= least)
    last = min((number for number, value in enumerate(found) if value >= most), default=len(found) - 1)
    return found[first : max(last, first + 1) + 1]


def draw(title: str, size: str, panels: Sequence[Panel]) -> str:
    """The SVG: panels side by side, whose horizontal axes are named `size`."""
    width = WIDTH * len(panels)
    rows = max(len(panel.series) for panel in panels)
    height = HEADER + rows * ROW + HEIGHT
    description = "; ".join(f"{panel.unit}: {', '.join(series.name for series in panel.series)}" for panel in panels)
    body = [line for number, panel in enumerate(panels) for line in _panel(panel, size, number * WIDTH, rows)]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"',
        f'  role="img" aria-labelledby="title description" font-family="{FONTS}" font-size="12">',
        f'  <title id="title">{escape(title)}</title>',
        f'  <desc id="description">By {escape(size)}: {escape(description)}</desc>',
        f"  <style>\n{STYLE}\n  </style>",
        f'  <rect class="paper" width="{width}" height="{height}" rx="8"/>',
        f'  <text class="title" x="{LEFT}" y="28">{escape(title)}</text>',
        *(f"  {line}" for line in body),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _panel(panel: Panel, size: str, left: int, rows: int) -> Iterator[str]:
    top = HEADER + rows * ROW + 24
    bottom = HEADER + rows * ROW + HEIGHT - BOTTOM
    points = [point for series in panel.series for point in series.points]
    across = Axis(ticks([x for x, _y in points]), left + LEFT, left + WIDTH - RIGHT)
    upward = Axis(ticks([y for _x, y in points]), bottom, top)
    yield from _grid(across, upward)
    yield _text(across.begin, top - 10, "start", panel.unit)
    yield _text((across.begin + across.end) / 2, bottom + 40, "middle", size)
    for number, series in enumerate(panel.series):
        places = [(across.place(x), upward.place(y)) for x, y in series.points]
        yield f'<path class="series s{number}" d="M{" ".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>'
        for x, y in [(left + LEFT + 5, HEADER + number * ROW + 4), *places]:
            yield f'<path class="m{number}" transform="translate({x:.1f} {y:.1f})" d="{MARKS[number]}"/>'
        yield _text(left + LEFT + 16, HEADER + number * ROW + 8, "start", series.name)


def _grid(across: Axis, upward: Axis) -> Iterator[str]:
    for value in across.ticks:
        x = across.place(value)
        yield f'<path class="grid" d="M{x:.1f} {upward.begin:.1f}V{upward.end:.1f}"/>'
        yield _text(x, upward.begin + 18, "middle", f"{value:,g}")
    for value in upward.ticks:
        y = upward.place(value)
        yield f'<path class="grid" d="M{across.begin:.1f} {y:.1f}H{across.end:.1f}"/>'
        yield _text(across.begin - 8, y + 4, "end", f"{value:,g}")


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="text" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
