"""What a run of the goals has measured, as a part of the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.harness import Outcome, figure
from bench.markdown import table

HEADINGS = ("Goal", "Work; yardstick", "Ours", "Yardstick", "Ratio: median", "quartiles", "goal", "Met")
LEFT = 2
"""Of these, the first two are text."""


def to_report(outcomes: Sequence[Outcome], made_on: str, *, quick: bool = False) -> str:
    """A table with a line for each comparison, and what it was `made_on`."""
    pairs = max(len(outcome.ours) for outcome in outcomes)
    heading = f"{made_on} {pairs} pairs of each." + " A quick run: small sizes, and nothing is judged." * quick
    rows = [_row(outcome) for outcome in outcomes]
    return f"{heading}\n\n{table(HEADINGS, rows, LEFT)}\n\n{_verdict(outcomes)}".strip()


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


def _verdict(outcomes: Sequence[Outcome]) -> str:
    judged = [outcome for outcome in outcomes if outcome.comparison.limit is not None]
    met = sum(outcome.met for outcome in judged)
    return f"{met} of {len(judged)} that are judged are met." if judged else ""
