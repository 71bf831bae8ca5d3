"""How the data that coverage has recorded is evaluated."""

from __future__ import annotations

import pytest

from suites.measure import Covered, never_loaded, parts, read_report, table, too_little
from suites.outcome import ROOT

MODULE, AGENT = "plugins/modules/zk_znode.py", "roles/watcher/files/zoo_watcher/watcher.py"


def test_lines_and_branches_count_alike() -> None:
    summary = {"covered_lines": 8, "num_statements": 10, "covered_branches": 1, "num_branches": 10}
    assert read_report({MODULE: {"summary": summary}}) == {MODULE: Covered(9, 20)}


@pytest.mark.parametrize(
    ("covered", "percent"), [(Covered(1, 1), 100.0), (Covered(), 100.0), (Covered(9496, 10000), 94.9)]
)
def test_a_percentage_is_never_rounded_up(covered: Covered, percent: float) -> None:
    assert covered.percent == percent


def test_a_file_belongs_to_one_part() -> None:
    files = {
        MODULE: Covered(1, 2),
        "extensions/eda/x.py": Covered(2, 3),
        AGENT: Covered(4, 5),
        "other.py": Covered(6, 7),
    }
    assert parts(files) == {"plugins": Covered(3, 5), "agent": Covered(4, 5)}


def test_a_part_of_which_too_little_was_run_is_named() -> None:
    assert too_little({MODULE: Covered(95, 100), AGENT: Covered(949, 1000)}) == [
        "agent: 94.9 % of lines and branches were run, at least 95 % expected"
    ]


def test_the_table_ends_with_the_files_of_which_most_was_not_run_and_the_parts() -> None:
    lines = table({AGENT: Covered(0, 9), MODULE: Covered(1, 2)}).splitlines()
    assert [line.split()[-1] for line in lines] == [MODULE, AGENT, "plugins", "agent"]
    assert lines[0] == f"  50.0 %      1 of     2 not run  {MODULE}"


def test_a_file_that_no_test_has_loaded_is_named() -> None:
    there = [ROOT / MODULE, ROOT / AGENT, ROOT / "tests/conftest.py", ROOT / "README.md"]
    assert never_loaded({AGENT: Covered()}, there) == [f"{MODULE}: no test has loaded it"]
