"""What came of a suite."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
"""The checkout."""
CACHE = ROOT / ".cache"
"""Where the suites keep what may be thrown away."""


@dataclass(frozen=True)
class Outcome:
    """How many tests passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)


def read_junit(*reports: Path) -> Outcome:
    """The outcome in JUnit XML files; an error in a fixture is a failure."""
    return sum((_read(case) for report in reports for case in ET.parse(report).iter("testcase")), Outcome())


def _read(case: ET.Element) -> Outcome:
    found = {child.tag for child in case}
    if found & {"failure", "error"}:
        return Outcome(failed=1)
    return Outcome(skipped=1) if "skipped" in found else Outcome(passed=1)
