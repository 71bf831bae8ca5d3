"""`python -m bench [OPTIONS] [GOAL ...]`: measure the goals (default: all), or curves, or the ensemble."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import signal
import sys
from collections.abc import Callable, Mapping

from bench.curve import CURVES, Point, to_svg, to_table
from bench.harness import GOALS, HEADING, PAIRS, QUICK_PAIRS, SHOWN_PAIRS, BenchError, measure, report
from bench.markdown import check_part, read_part, write_part
from bench.report import to_report
from bench.sizing.figures import to_table as to_loads_table
from bench.sizing.measure import loads
from bench.surroundings import describe
from bench.workbench import COLLECTIONS, HERE, Workbench

sys.path.insert(0, str(COLLECTIONS))
# Goals and curves register themselves.
for registering in "goals", "curves":
    importlib.import_module(f"bench.{registering}")

DOCS = HERE.parent.parent / "docs"
PERFORMANCE = DOCS / "performance.md"
LARGE = ("-Xmx2g",)
"""JVM options for an ensemble with 100,000 registrations."""


def main() -> int:
    """Return 0 if everything was measured, 1 if a goal is not met with `--check`. Raises `BenchError`."""
    options = arguments()
    met = True
    with Workbench.opened(quick=options.quick, jvm=LARGE if options.curves is not None else ()) as workbench:
        if options.curves is not None:
            for name in options.curves or CURVES:
                _draw_curve(workbench, name, write=options.report)
        elif options.sizing:
            _size_ensemble(workbench, write=options.report)
        else:
            met = _measure_goals(workbench, options)
    return 0 if met or not options.check else 1


def _measure_goals(workbench: Workbench, options: argparse.Namespace) -> bool:
    """Measure the requested goals, and return whether all are met."""
    outcomes = []
    before = read_part(PERFORMANCE, "goals") if options.report and not options.quick else ""
    print(HEADING, flush=True)
    for number in options.goals or sorted(GOALS, key=lambda name: int(name[1:])):
        for comparison in GOALS[number](workbench):
            shown = QUICK_PAIRS if options.quick else SHOWN_PAIRS if comparison.limit is None else PAIRS
            # The limits apply only to the full sizes.
            measured = dataclasses.replace(comparison, limit=None) if options.quick else comparison
            outcome = measure(measured, options.pairs or shown)
            outcomes.append(outcome)
            print(report(outcome), flush=True)
        if options.report:  # the next goal may fail
            made_on = describe(workbench.ensemble.members[0])
            write_part(PERFORMANCE, "goals", to_report(outcomes, made_on, before, quick=options.quick))
    return all(outcome.met for outcome in outcomes)


def _draw_curve(workbench: Workbench, name: str, *, write: bool) -> None:
    """Measure a curve and print its table, and with `write` put table and drawing into the documentation."""
    made, points = CURVES[name], list[Point]()
    if write:
        check_part(PERFORMANCE, f"curve {name}")
    print(f"{name}: {made.title}", flush=True)
    for point in made.measure(workbench):
        print(f"{point.size:>9,} {point.who:40} {point.value:14,.3f} {point.unit}", flush=True)
        points.append(point)
    print(to_table(made, points), flush=True)
    if write:
        text = f"![{made.title}](images/{name}.svg)\n\n{to_table(made, points)}\n\n"
        write_part(PERFORMANCE, f"curve {name}", text + describe(workbench.ensemble.members[0]))
        (DOCS / "images" / f"{name}.svg").write_text(to_svg(made, points), encoding="utf-8")


def _size_ensemble(workbench: Workbench, *, write: bool) -> None:
    """Measure what a fleet takes of an ensemble and print the table, and with `write` put it into the documentation."""
    page = DOCS / "operations.md"
    if write:
        check_part(page, "sizing")
    text = to_loads_table(list(loads(workbench)))
    print(text, flush=True)
    if write:
        write_part(page, "sizing", f"{text}\n\n{describe(workbench.ensemble.members[0])}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="tests/bench/run.sh",
        description="Measure goals beside their yardsticks, or curves, or what a fleet takes of an ensemble.",
    )
    made.add_argument(
        "goals", nargs="*", metavar="GOAL", type=_one_of("goal", GOALS), help="P1, P2, ...; all where none is named"
    )
    made.add_argument(
        "--curves",
        nargs="*",
        metavar="CURVE",
        type=_one_of("curve", CURVES),
        help=f"measure curves instead: {', '.join(CURVES)}; all where none is named",
    )
    made.add_argument(
        "--pairs",
        type=_pairs,
        help=f"pairs of each comparison (default: {PAIRS}, not judged: {SHOWN_PAIRS}, quick: {QUICK_PAIRS})",
    )
    made.add_argument("--sizing", action="store_true", help="measure what a fleet takes of an ensemble instead")
    made.add_argument("--report", action="store_true", help="write what was measured into the documentation")
    kind = made.add_mutually_exclusive_group()
    kind.add_argument("--check", action="store_true", help="end with 1 where a goal is not met")
    kind.add_argument("--quick", action="store_true", help="small sizes and few pairs: nothing is judged")
    return made


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line. Exits if they are contradictory."""
    made = parser()
    options = made.parse_args(words)
    curves = options.curves is not None
    if sum((bool(options.goals or options.check or options.pairs), curves, options.sizing)) > 1:
        made.error("goals (with --check, --pairs), --curves and --sizing are measured in runs of their own")
    return options


def _one_of(what: str, known: Mapping[str, object]) -> Callable[[str], str]:
    names = {name.upper(): name for name in known}

    def find(text: str) -> str:
        if text.upper() not in names:
            raise argparse.ArgumentTypeError(f"no {what} {text!r}; there are {', '.join(sorted(known))}")
        return names[text.upper()]

    return find


def _pairs(text: str) -> int:
    if not text.isdigit() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"expected a number of 2 or more, got {text!r}")
    return int(text)


def _interrupted(number: int, _frame: object) -> None:
    """Exit by way of every `finally`, so that nothing that was started is left behind."""
    sys.exit(128 + number)


if __name__ == "__main__":
    for ending in signal.SIGINT, signal.SIGTERM:
        signal.signal(ending, _interrupted)
    try:
        sys.exit(main())
    except BenchError as exc:
        print(f"tests/bench/run.sh: {exc}", file=sys.stderr)
        sys.exit(2)
