"""The outcome of a suite."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
"""The checkout."""
CACHE = ROOT / ".cache"
"""Where the suites keep what may be deleted."""
RESULTS = CACHE / "results"
"""Reports and logs of the last run."""


@dataclass(frozen=True)
class Outcome:
    """How many tests passed, failed and were skipped."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def write(self, path: Path) -> None:
        """Write it for another process, which reads it with `read`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Outcome:
        """Read the outcome; one failure if none was written, because the suite was killed or crashed."""
        return cls(**json.loads(path.read_text())) if path.exists() else cls(failed=1)


def read_junit(*reports: Path) -> Outcome:
    """The outcome in JUnit XML files; an error in a fixture is a failure."""
    return sum((_read(case) for report in reports for case in ET.parse(report).iter("testcase")), Outcome())


def _read(case: ET.Element) -> Outcome:
    tags = {child.tag for child in case}
    if tags & {"failure", "error"}:
        return Outcome(failed=1)
    return Outcome(skipped=1) if "skipped" in tags else Outcome(passed=1)
