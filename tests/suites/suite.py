"""One suite: `python -m suites.suite SUITE [words]` runs it in this process and records its outcome."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from suites import gates, hosts, lint, pytests, sanity
from suites.outcome import RESULTS, Outcome
from suites.tool import end_on_interrupt

SUITES: dict[str, Callable[[list[str]], Outcome]] = {
    "hosts": hosts.run,
    "roles": partial(pytests.run, "roles"),
    **{name: partial(pytests.run, name) for name in ("unit", "integration", "agent")},
    "storm": partial(pytests.run, "storm", of="faults", mark="storm"),
    **{name: partial(pytests.run, name) for name in ("quickstart", "containers", "eda", "ensemble")},
    "faults": partial(pytests.run, "faults", mark="not storm"),
    "sanity": sanity.run,
    "lint": lint.run,
}
"""The function that runs each suite with words for its tool, in the order in which they start: the two longest, then
those that find mistakes soonest, then the longer ones first; last what needs the machine for itself, and what runs
beside that."""
LONG = {"gates": gates.run}
"""What only `--all` runs in addition, at the end."""


def result(name: str) -> Path:
    """Where a suite's outcome is written."""
    return RESULTS / f"{name}.json"


def main(name: str, words: list[str]) -> None:
    """Run a suite and write its outcome. A suite that had nothing to run has failed."""
    end_on_interrupt()
    outcome = {**SUITES, **LONG}[name](words)
    if outcome == Outcome():
        print(f"{name}: nothing was run", flush=True)
        outcome = Outcome(failed=1)
    outcome.write(result(name))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
