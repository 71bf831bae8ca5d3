"""The results of the goals, as a part of the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.harness import Outcome, figure
from bench.markdown import rows_of, table

HEADINGS = ("Goal", "Work; yardstick", "Ours", "Yardstick", "Ratio: median", "quartiles", "goal", "Met", "Measured on")
LEFT = 2
"""The number of leading columns that are text."""
MET = HEADINGS.index("Met")


def to_report(outcomes: Sequence[Outcome], made_on: str, before: str = "", *, quick: bool = False) -> str:
    """A table with a line for each comparison, and the surroundings, `made_on`, which begin with the date.

    Goals that were not measured keep their lines of the report `before`.
    """
    pairs = max(len(outcome.ours) for outcome in outcomes)
    quickly = " A quick run: small sizes, and nothing is judged." if quick else ""
    heading = f"{made_on} {pairs} pairs of each that is judged.{quickly}"
    day = made_on[: len("2026-11-30")]
    measured = {outcome.comparison.goal for outcome in outcomes}
    kept = [row for row in rows_of(before) if len(row) == len(HEADINGS) and row[0] not in measured]
    rows = sorted([*kept, *([*_row(outcome), day] for outcome in outcomes)], key=lambda row: int(row[0][1:]))
    return f"{heading}\n\n{table(HEADINGS, rows, LEFT)}\n\n{_verdict(rows)}".strip()


def _row(outcome: Outcome) -> list[str]:
    comparison = outcome.comparison
    low, _unused, high = statistics.quantiles(outcome.ratios, n=4, method="inclusive")
    return [
        comparison.goal,
        comparison.work,
        figure(outcome.ours, comparison.unit),
        figure(outcome.yardstick, comparison.unit),
        f"{outcome.median:.3f}",
        f"{low:.3f} to {high:.3f}",
        "-" if comparison.limit is None else f"{comparison.limit:g}",
        "-" if comparison.limit is None else "yes" if outcome.met else "**no**",
    ]


def _verdict(rows: Sequence[Sequence[str]]) -> str:
    judged = [row for row in rows if row[MET] != "-"]
    met = sum(row[MET] == "yes" for row in judged)
    return f"{met} of {len(judged)} that are judged are met." if judged else ""
