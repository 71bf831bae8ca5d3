"""Every rule of a linter that is ignored has a reason beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from suites.lint import tracked
from suites.outcome import ROOT

IMPORTED_LATE = "PLC0415"
"""Needs no reason each time: what few runs need is imported only by those, to save all others memory and time."""
NOQA = re.compile(r"#\s*noqa: ([A-Z0-9, ]+?)\s*(?:(?:#|-) (.+))?$")


def unexplained(line: str, before: str = "") -> set[str]:
    """The rules that a line ignores without a reason beside them, or in a comment on the line before."""
    found = NOQA.search(line)
    if found is None or found[2] or before.strip().startswith("#"):
        return set()
    return set(found[1].split(", ")) - {IMPORTED_LATE}


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        ("x = y  # noqa: S311", {"S311"}),
        ("x = y  # noqa: S311, S101", {"S311", "S101"}),
        ("x = y  # noqa: S311  # no secret", set()),
        ("x = y  # noqa: S311 - no secret", set()),
        ("import x  # noqa: PLC0415", set()),
        ("x = y  # no secret", set()),
    ],
)
def test_a_rule_is_ignored_for_a_reason_in_the_same_line(line: str, rules: set[str]) -> None:
    assert unexplained(line) == rules


def test_a_reason_may_stand_on_the_line_before() -> None:
    assert not unexplained("x = y  # noqa: S311", "    # no secret")


@pytest.mark.parametrize("part", ["plugins", "roles", "extensions", "playbooks", "docs", "tests"])
def test_every_rule_that_is_ignored_in_the_code_is_for_a_reason(part: str) -> None:
    files = [path for path in tracked() if path.suffix == ".py" and path.is_relative_to(ROOT / part)]
    here = Path(__file__)
    assert [place for path in files if path != here for place in _unexplained_in(path)] == []


def test_every_rule_that_is_ignored_everywhere_is_for_a_reason() -> None:
    table = (
        (ROOT / "pyproject.toml").read_text().partition("[tool.ruff.lint]")[2].partition("[tool.ruff.lint.pydocstyle]")
    )
    ignored = re.findall(r'^    "[A-Z]+\d*",.*$', table[0], re.MULTILINE)
    assert len(ignored) > 20
    assert [line for line in ignored if not re.search(r" # \S", line)] == []


def _unexplained_in(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    numbered = enumerate(zip(["", *lines], lines), start=1)
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for number, (before, line) in numbered
        if unexplained(line, before)
    ]
