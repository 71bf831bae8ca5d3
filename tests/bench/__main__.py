"""`python -m bench [--check | --quick] [--pairs N] [GOAL ...]`: measure the goals, all where none is named."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import signal
import sys

from bench.harness import GOALS, HEADING, PAIRS, QUICK_PAIRS, BenchError, measure, report
from bench.workbench import COLLECTIONS, Workbench

sys.path.insert(0, str(COLLECTIONS))
# The goals register themselves.
importlib.import_module("bench.goals")


def main() -> int:
    """0 when all was measured; 1 when a goal is not met and `--check` was given. Raises `BenchError`."""
    options = parser().parse_args()
    met, pairs = True, options.pairs or (QUICK_PAIRS if options.quick else PAIRS)
    print(HEADING, flush=True)
    with Workbench.opened(quick=options.quick) as workbench:
        for number in options.goals or sorted(GOALS, key=lambda name: int(name[1:])):
            for comparison in GOALS[number](workbench):
                # Of another size, a goal is another.
                outcome = measure(dataclasses.replace(comparison, limit=None) if options.quick else comparison, pairs)
                met = met and outcome.met
                print(report(outcome), flush=True)
    return 0 if met or not options.check else 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="tests/bench/run.sh", description="Measure goals side by side with their yardsticks."
    )
    made.add_argument(
        "goals", nargs="*", metavar="GOAL", type=_goal, help="P1, P2, ...; all of them where none is named"
    )
    made.add_argument(
        "--pairs", type=_pairs, help=f"pairs of samples for each comparison (default: {PAIRS}, quick: {QUICK_PAIRS})"
    )
    kind = made.add_mutually_exclusive_group()
    kind.add_argument("--check", action="store_true", help="end with 1 where a goal is not met")
    kind.add_argument("--quick", action="store_true", help="small sizes and few pairs: nothing is judged")
    return made


def _goal(text: str) -> str:
    if text.upper() not in GOALS:
        raise argparse.ArgumentTypeError(f"no goal {text!r}; there are {', '.join(sorted(GOALS))}")
    return text.upper()


def _pairs(text: str) -> int:
    if not text.isdigit() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected a number of 2 or more, got {text!r}")
    return int(text)


def _interrupted(number: int, _frame: object) -> None:
    """End by way of every `finally`: nothing that was started is left behind."""
    sys.exit(128 + number)


if __name__ == "__main__":
    for ending in signal.SIGINT, signal.SIGTERM:
        signal.signal(ending, _interrupted)
    try:
        sys.exit(main())
    except BenchError as exc:
        print(f"tests/bench/run.sh: {exc}", file=sys.stderr)
        sys.exit(2)
