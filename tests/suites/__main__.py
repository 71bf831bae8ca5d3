"""Run the suites in their order, stop after the first that fails, print one table.

`python -m suites [SUITE [words for its tool]]`
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Callable

from suites import hosts, lint, pytests, sanity
from suites.outcome import Outcome

DIRECTORIES = ("unit", "ensemble", "agent", "integration", "quickstart", "eda", "faults")
SUITES: dict[str, Callable[[list[str]], Outcome]] = {
    "lint": lint.run,
    "sanity": sanity.run,
    **{directory: partial(pytests.run, directory) for directory in DIRECTORIES if pytests.exists(directory)},
    "hosts": hosts.run,
}


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    suite: str
    outcome: Outcome
    seconds: float

    def __str__(self) -> str:
        found = self.outcome
        return f"{self.suite:<12}{found.passed:>8}{found.failed:>8}{found.skipped:>9}{self.seconds:>9.1f}"


def main(words: list[str]) -> int:
    """Run all suites, or the one that `words` names; 0 where nothing failed, 2 where there is no such suite."""
    if words and words[0] not in SUITES:
        print(f"no suite {words[0]!r}; there are: {', '.join(SUITES)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for suite in words[:1] or SUITES:
        rows.append(run(suite, words[1:]))
        if rows[-1].outcome.failed:
            break
    total = sum((row.outcome for row in rows), Outcome())
    print_table(rows)
    print(f"{total.passed} passed, {total.failed} failed", flush=True)
    return 1 if total.failed else 0


def run(suite: str, words: list[str]) -> Row:
    """Run one suite and time it. One that had nothing to run has failed."""
    print(f"=== {suite}", flush=True)
    began = time.monotonic()
    outcome = SUITES[suite](words)
    if outcome == Outcome():
        print(f"{suite}: nothing was run", flush=True)
        outcome = Outcome(failed=1)
    return Row(suite, outcome, time.monotonic() - began)


def print_table(rows: list[Row]) -> None:
    """Print what came of each suite."""
    print(f"\n{'suite':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    print(*rows, sep="\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
