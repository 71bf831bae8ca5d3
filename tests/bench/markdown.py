"""What a run writes into a page of the documentation: tables, between the markers of a part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.harness import BenchError

DIGITS = 3
"""Significant digits of a figure in a table, more if its integer part has more."""


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are text and the others numbers."""
    marks = ["---"] * left + ["---:"] * (len(heading) - left)
    lines = [f"| {' | '.join(heading)} |", f"|{'|'.join(marks)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def rows_of(text: str) -> list[list[str]]:
    """The rows of all tables in a text, without their headings."""
    lines = text.splitlines()
    marks = {number for number, line in enumerate(lines) if line.startswith("|---")}
    rows = [line for number, line in enumerate(lines) if line.startswith("| ") and number + 1 not in marks]
    return [line.strip("| ").split(" | ") for line in rows]


def number(value: float) -> str:
    """A figure with three digits, or as many as its integer part has: 0.0123, 1.20, 12,345. Integers stay integers."""
    if value == int(value) or abs(value) >= 10 ** (DIGITS - 1):
        return f"{value:,.0f}"
    return f"{value:#.{DIGITS}g}"


def replaced(page: str, part: str, text: str) -> str:
    """A page with this text as a part. Raises `BenchError` as `_split` does."""
    before, _present, after = _split(page, part)
    return f"{before}\n{text.strip()}\n\n{after}"


def read_part(path: Path, part: str) -> str:
    """The present text of a part of a page. Raises `BenchError` if the page has no markers of it."""
    try:
        return _split(path.read_text(encoding="utf-8"), part)[1]
    except BenchError as exc:
        raise BenchError(f"{path.name}: {exc}") from exc


def check_part(path: Path, part: str) -> None:
    """Raise `BenchError` if a page has no markers of a part, before anything is measured for it."""
    read_part(path, part)


def write_part(path: Path, part: str, text: str) -> None:
    """Write a part of a page. Raises `BenchError` if the page has no markers of it."""
    check_part(path, part)
    path.write_text(replaced(path.read_text(encoding="utf-8"), part, text), encoding="utf-8")


def _split(page: str, part: str) -> tuple[str, str, str]:
    """A page up to a part, the part, and the rest. Raises `BenchError` if the page has no such part.

    The markers are comments, `<!-- bench: PART -->` and `<!-- end of bench: PART -->`.
    """
    begin, end = f"<!-- bench: {part} -->\n", f"<!-- end of bench: {part} -->"
    before, first, rest = page.partition(begin)
    present, last, after = rest.partition(end)
    if not (first and last):
        raise BenchError(f"the page has no {begin.strip()} with {end} after it")
    return before + first, present, last + after
