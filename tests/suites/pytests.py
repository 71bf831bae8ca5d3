"""The suites that pytest runs: one directory under `tests` each."""

from __future__ import annotations

import subprocess
import sys

from suites.outcome import CACHE, ROOT, Outcome, read_junit


def exists(suite: str) -> bool:
    """Whether the suite's directory holds a test."""
    return any((ROOT / "tests" / suite).rglob("test_*.py"))


def run(suite: str, words: list[str]) -> Outcome:
    """Run a suite's directory with `words` for pytest. Ending without a report is one failure."""
    report = CACHE / "results" / f"{suite}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", f"tests/{suite}", f"--junitxml={report}", *words]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    found = read_junit(report) if report.exists() else Outcome()
    return found if done.returncode == 0 or found.failed else found + Outcome(failed=1)
