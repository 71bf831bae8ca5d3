# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a whole divides into parts, as bars in which even the smallest part is visible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

WIDTH = 1000.0
"""The width of a whole bar, in units of its drawing."""
LEAST = 15.0
"""The width of the smallest part: even one host of ten thousand is visible."""


class Segment(NamedTuple):
    """A part of a bar: its kind, its count, its start and its width."""

    kind: Any
    size: int
    begin: float
    width: float


def segments(parts: Iterable[tuple[Any, int]]) -> list[Segment]:
    """The parts that are not empty, side by side, as wide as they are large, but none narrower than `LEAST`."""
    there = [(kind, count) for kind, count in parts if count > 0]
    widths = _widths([count for _kind, count in there])
    begins = [round(sum(widths[:number]), 2) for number in range(len(widths))]
    return [Segment(*part, begin, round(width, 2)) for part, begin, width in zip(there, begins, widths)]


def _widths(counts: Sequence[int]) -> list[float]:
    """The larger parts give up what the smallest ones need beyond their share."""
    small: set[int] = set()
    while True:
        left = WIDTH - LEAST * len(small)
        whole = sum(count for number, count in enumerate(counts) if number not in small)
        narrow = {n for n, count in enumerate(counts) if n not in small and count * left < LEAST * whole}
        if not narrow:
            return [LEAST if n in small else count * left / whole for n, count in enumerate(counts)]
        small |= narrow


def percent(count: int, whole: int) -> str:
    """A share of a whole, for a person: never shown as nothing or all if it is neither."""
    share = 100 * count / whole if whole else 0
    if 0 < share < 1:
        return "< 1 %"
    return "> 99 %" if 99 < share < 100 else f"{share:.0f} %"
