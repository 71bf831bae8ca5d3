"""The suites that pytest runs: one directory under `tests` each."""

from __future__ import annotations

import sys

from suites.outcome import RESULTS, Outcome, read_junit
from suites.tool import run_tool


def run(suite: str, words: list[str]) -> Outcome:
    """Run a suite's directory with `words` for pytest. Ending without a report is one failure."""
    report = RESULTS / f"{suite}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", f"tests/{suite}", f"--junitxml={report}", *words]
    status = run_tool(command)
    outcome = read_junit(report) if report.exists() else Outcome()
    return outcome if status == 0 or outcome.failed else outcome + Outcome(failed=1)
