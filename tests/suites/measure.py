"""`tests/run.sh --coverage`: which lines and branches of plugins and agent the suites run, in whatever process.

Coverage begins in each process of the environment's interpreter that finds `COVERAGE_PROCESS_START`: tests, commands of
Ansible, modules in their zips, agents. A killed process reports nothing, so tests then end agents with SIGTERM.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coverage import CoverageData

from suites.lint import tracked
from suites.outcome import CACHE, ROOT, Outcome

DIRECTORY = CACHE / "coverage"
DATA = DIRECTORY / "data"
SUITES = ("unit", "ensemble", "agent", "integration", "eda")
"""The suites that are measured if none is named."""
PARTS = {"plugins": ("plugins/", "extensions/"), "agent": ("roles/watcher/files/zoo_watcher/",)}
"""What is counted together, by the prefixes of its files' paths."""
LEAST = 95.0
"""The percentage of each part's lines and branches that those suites together must run."""


@dataclass(frozen=True)
class Covered:
    """The number of lines and branches, and how many of them were run."""

    run: int = 0
    of: int = 0

    def __add__(self, other: Covered) -> Covered:
        return Covered(self.run + other.run, self.of + other.of)

    @property
    def percent(self) -> float:
        """The percentage that was run, rounded down to a tenth; 100 if there is nothing."""
        return self.run * 1000 // self.of / 10 if self.of else 100.0


def begin() -> None:
    """Have every process measured that starts from now on."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    os.environ["COVERAGE_PROCESS_START"] = str(ROOT / "pyproject.toml")
    os.environ["COVERAGE_FILE"] = str(DATA)
    os.environ["ZOO_TESTS_MEASURED"] = str(ROOT)


def report(*, whole: bool) -> Outcome:
    """Print what was run; the `whole` of the suites must have run enough of it, and loaded each file."""
    files = _read()
    print(f"\n{table(files)}")
    troubles = [*too_little(files), *never_loaded(files, tracked())] if whole else []
    print(*troubles, sep="\n")
    return Outcome(failed=len(troubles)) if troubles else Outcome(passed=int(whole))


def _read() -> dict[str, Covered]:
    """What was run of each file, by its path in the checkout. Raises `CalledProcessError` if nothing was measured."""
    del os.environ["COVERAGE_PROCESS_START"]
    for notes in DIRECTORY.glob("*.notes"):
        _take(notes)
    path = DIRECTORY / "report.json"
    for words in (["combine", "--quiet"], ["json", "--quiet", "-o", str(path)]):
        # It warns about the file of each process that was killed while writing it.
        subprocess.run([sys.executable, "-W", "ignore", "-m", "coverage", *words], cwd=ROOT, check=True)
    return read_report(json.loads(path.read_text())["files"])


def _take(notes: Path) -> None:
    """Turn the notes of an apply process into a file that coverage combines; a killed one has written none."""
    written = notes.read_bytes()
    if written:
        data = CoverageData(basename=f"{DATA}.{notes.stem}")
        data.loads(written)
        data.write()
    notes.unlink()


def read_report(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Covered]:
    """What was run of each file, from coverage's JSON report."""
    return {path: _covered(report["summary"]) for path, report in files.items()}


def _covered(summary: Mapping[str, int]) -> Covered:
    run = summary["covered_lines"] + summary["covered_branches"]
    return Covered(run, summary["num_statements"] + summary["num_branches"])


def table(files: Mapping[str, Covered]) -> str:
    """A line for each file, those with the most that was not run last, and one for each part."""
    ordered = sorted(files.items(), key=lambda file: (file[1].of - file[1].run, file[0]))
    return "\n".join(_line(*row) for row in [*ordered, *parts(files).items()])


def _line(name: str, covered: Covered) -> str:
    return f"{covered.percent:>6.1f} %  {covered.of - covered.run:>5} of {covered.of:>5} not run  {name}"


def parts(files: Mapping[str, Covered]) -> dict[str, Covered]:
    """What was run of each part."""
    return {
        name: sum((covered for path, covered in files.items() if path.startswith(begins)), Covered())
        for name, begins in PARTS.items()
    }


def too_little(files: Mapping[str, Covered]) -> list[str]:
    """A sentence for each part of which too little was run."""
    return [
        f"{name}: {covered.percent} % of lines and branches were run, at least {LEAST:g} % expected"
        for name, covered in parts(files).items()
        if covered.percent < LEAST
    ]


def never_loaded(files: Mapping[str, Covered], there: Iterable[Path]) -> list[str]:
    """A sentence for each existing file of a part that is not empty and that no test has loaded."""
    paths = [path.relative_to(ROOT) for path in there if path.suffix == ".py" and not path.is_symlink()]
    begins = tuple(begin for part in PARTS.values() for begin in part)
    own = (path for path in paths if str(path).startswith(begins) and (ROOT / path).stat().st_size)
    return [f"{path}: no test has loaded it" for path in own if str(path) not in files]
