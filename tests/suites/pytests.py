"""The suites that pytest runs: one directory under `tests` each, or a part of one."""

from __future__ import annotations

import sys

from suites.outcome import RESULTS, Outcome, read_junit
from suites.tool import run_tool


def run(suite: str, words: list[str], of: str = "", mark: str = "") -> Outcome:
    """Run a suite's directory (`of`, if it has another name) with `words` for pytest, or only its tests with a mark.

    Ending without a report is one failure.
    """
    report = RESULTS / f"{suite}.xml"
    report.unlink(missing_ok=True)
    marked = ["-m", mark] if mark else []
    command = [sys.executable, "-m", "pytest", f"tests/{of or suite}", f"--junitxml={report}", *marked, *words]
    status = run_tool(command)
    outcome = read_junit(report) if report.exists() else Outcome()
    return outcome if status == 0 or outcome.failed else outcome + Outcome(failed=1)
