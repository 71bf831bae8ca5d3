"""Run the suites side by side, start none after one has failed, print one table.

`python -m suites [--quick | --all | SUITE [words for its tool]]`, each optionally with `--coverage` before it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from suites import measure
from suites.outcome import RESULTS, Outcome
from suites.suite import LONG, SUITES, result

LIMIT = 50 * 60
"""Seconds after which a suite that hangs is interrupted and has failed. The gates may take as long as they need."""
LANES = 4
"""How many suites run at once on two cores: each spends half of its time waiting."""
ALONE = {"faults", "gates"}
"""Suites that have the machine to themselves: they check what happens within seconds to agents whose sessions last
four, or have enough work for two cores."""
YIELDING = {"sanity", "lint"}
"""Suites that may run beside those, at the lowest priority: nothing in them has to happen in time."""
PRIORITIES = {
    **dict.fromkeys(("hosts", "roles", "integration", "quickstart", "containers", "storm"), 5),
    **dict.fromkeys(YIELDING, 19),
}
"""For nice(1): suites that compute a lot leave the processor to those in which something has to happen in time."""
SMOKE = ["-m", "smoke"]
QUICK = {"quickstart": SMOKE, "lint": [], "unit": [], "agent": SMOKE}
"""The suites that `--quick` runs, with the words for the tool of each."""


@dataclass(frozen=True)
class Row:
    """A line of the table: a suite, its outcome, its duration, and its time on all processors."""

    suite: str
    outcome: Outcome
    seconds: float
    cpu: float

    def __str__(self) -> str:
        outcome = self.outcome
        counts = f"{outcome.passed:>8}{outcome.failed:>8}{outcome.skipped:>9}"
        return f"{self.suite:<12}{counts}{self.seconds:>9.1f}{self.cpu:>9.1f}"


class Job:
    """A running suite. Its output goes to `log`, or to where this process writes."""

    def __init__(self, suite: str, words: list[str], log: Path | None = None) -> None:
        self.suite = suite
        self.log = log
        self._began = time.monotonic()
        result(suite).unlink(missing_ok=True)
        output = log.open("wb") if log else None
        priority = ["nice", "-n", str(PRIORITIES.get(suite, 0))]
        guard = [sys.executable, "-m", "suites.guard", str(0 if suite in LONG else LIMIT)]
        self.process = subprocess.Popen(
            [*priority, *guard, sys.executable, "-m", "suites.suite", suite, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches this process, which passes it on
        )

    def row(self, status: int, cpu: float) -> Row:
        """Its line of the table, once it has ended with this status."""
        self.process.returncode = os.waitstatus_to_exitcode(status)
        outcome = Outcome.read(result(self.suite))
        if self.process.returncode != 0 and not outcome.failed:
            outcome += Outcome(failed=1)
        return Row(self.suite, outcome, time.monotonic() - self._began, cpu)


class Run:
    """Suites in lanes. After a failure or a signal nothing more is started."""

    def __init__(self, suites: dict[str, list[str]]) -> None:
        self._pending = dict(suites)
        self._running: dict[int, Job] = {}
        self._logged = len(suites) > 1
        self._stopped = False
        self.rows: list[Row] = []

    def stop(self, *_signal: object) -> None:
        """Interrupt the running suites, and start no others."""
        self._stopped = True
        for job in self._running.values():
            job.process.send_signal(signal.SIGTERM)

    def finish(self) -> None:
        """Run everything, and print the output of each suite as it ends."""
        self._fill()
        while self._running:
            pid, status, usage = os.wait4(-1, 0)
            job = self._running.pop(pid)
            row = job.row(status, usage.ru_utime + usage.ru_stime)
            self.rows.append(row)
            self._stopped |= bool(row.outcome.failed)
            if job.log:
                print(f"=== {row.suite}\n{job.log.read_text(errors='replace')}", flush=True)
            self._fill()

    def _fill(self) -> None:
        while len(self._running) < LANES and not self._stopped and (suite := self._next()):
            print(f"--- {suite} begins", flush=True)
            job = Job(suite, self._pending.pop(suite), RESULTS / f"{suite}.log" if self._logged else None)
            self._running[job.process.pid] = job
            if self._stopped:
                # A signal came in between.
                job.process.send_signal(signal.SIGTERM)

    def _next(self) -> str | None:
        beside = {job.suite for job in self._running.values()}
        return next((suite for suite in self._pending if may_begin(suite, beside)), None)


def may_begin(suite: str, beside: set[str]) -> bool:
    """Whether a suite may run beside those that are running."""
    others = beside - YIELDING
    if suite in ALONE:
        return not others
    return suite in YIELDING or not others & ALONE


def chosen(words: list[str]) -> dict[str, list[str]] | None:
    """The suites to run, with the words for the tool of each; None if there is no such suite."""
    if words == ["--quick"]:
        return QUICK
    if words == ["--all"]:
        return {suite: [] for suite in {**SUITES, **LONG}}
    if words:
        return {words[0]: words[1:]} if words[0] in {**SUITES, **LONG} else None
    return {suite: [] for suite in SUITES}


def main(words: list[str]) -> int:
    """Run all suites, or those that `words` name; return 0 if nothing failed, else 1, and 2 for an unknown suite."""
    measured = words[:1] == ["--coverage"]
    words = words[measured:]
    suites = {suite: [] for suite in measure.SUITES} if measured and not words else chosen(words)
    if suites is None:
        print(f"no suite {words[0]!r}; there are: {', '.join({**SUITES, **LONG})}", file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    if measured:
        measure.begin()
    run = Run(suites)
    signal.signal(signal.SIGTERM, run.stop)
    signal.signal(signal.SIGINT, run.stop)
    run.finish()
    total = sum((row.outcome for row in run.rows), Outcome())
    if measured:
        total += measure.report(whole=not words)
    print(f"\n{'suite':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}{'of cpu':>9}")
    print(*run.rows, sep="\n")
    print(f"{total.passed} passed, {total.failed} failed", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
