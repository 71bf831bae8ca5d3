"""What a run of the bench writes into the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.__main__ import DOCS, PERFORMANCE, arguments
from bench.curve import CURVES, Curve, Point, to_svg, to_table
from bench.harness import BenchError, Comparison, DifferentError, Outcome, Sample, measure, take_turns
from bench.markdown import check_part, number, replaced, rows_of, table, write_part
from bench.report import to_report
from bench.surroundings import describe
from support.ensemble import Member

PAGE = "# Title\n\n<!-- bench: a -->\nold\n<!-- end of bench: a -->\n\nRest.\n"


def _no_points(_bench: object) -> None:
    """Nothing is measured here."""


MADE = Curve("made", "A curve", "hosts", _no_points)  # type: ignore[arg-type]
POINTS = [
    Point("seconds", "ours", 10, 0.1234),
    Point("seconds", "theirs", 10, 2.0),
    Point("MB", "ours", 10, 50.26),
    Point("seconds", "ours", 1000, 12.3456),
]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (7, "7"),
        (0.012345, "0.0123"),
        (1.2, "1.20"),
        (12.3456, "12.3"),
        (9.9999, "10.0"),
        (0.5, "0.500"),
        (123.456, "123"),
        (12345.6, "12,346"),
        (10_000, "10,000"),
    ],
)
def test_a_figure_has_three_digits_or_its_whole_part(value: float, expected: str) -> None:
    assert number(value) == expected


def test_a_table_has_its_numbers_on_the_right() -> None:
    assert table(["Goal", "s"], [["P1", "2.0"]]) == "| Goal | s |\n|---|---:|\n| P1 | 2.0 |"


def test_a_part_of_a_page_is_replaced_each_time_and_nothing_else() -> None:
    once = replaced(PAGE, "a", "new\n")
    assert once == "# Title\n\n<!-- bench: a -->\n\nnew\n\n<!-- end of bench: a -->\n\nRest.\n"
    assert replaced(once, "a", "new") == once


@pytest.mark.parametrize("page", ["", "<!-- bench: a -->\nold\n", "<!-- end of bench: a -->"])
def test_a_page_without_both_markers_is_named(page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(page)
    with pytest.raises(BenchError, match=r"^page.md: the page has no <!-- bench: a --> with <!-- end of bench: a -->"):
        check_part(path, "a")
    with pytest.raises(BenchError, match=r"^page\.md"):
        write_part(path, "a", "new")
    assert path.read_text() == page


def test_the_documentation_has_a_place_for_all_that_is_measured() -> None:
    assert CURVES.keys() == {"inventory", "convergence", "rollout", "files", "status"}
    for part in ("goals", *(f"curve {name}" for name in CURVES)):
        check_part(PERFORMANCE, part)
    check_part(DOCS / "operations.md", "sizing")


def test_a_curve_is_a_table_with_a_row_for_each_size_and_a_column_for_each_line() -> None:
    assert to_table(MADE, POINTS).splitlines() == [
        "| hosts | ours: seconds | theirs: seconds | ours: MB |",
        "|---:|---:|---:|---:|",
        "| 10 | 0.123 | 2 | 50.3 |",
        "| 1,000 | 12.3 | - | - |",
    ]


def test_a_curve_is_drawn_with_a_panel_for_each_unit() -> None:
    drawn = to_svg(MADE, POINTS)
    assert "By hosts: seconds: ours, theirs; MB: ours" in drawn
    assert drawn.count('class="series') == 3


def _outcome(limit: float | None, ratio: float, number: str = "P1") -> Outcome:
    def nothing() -> Sample:
        return Sample(0)

    comparison = Comparison(number, "some work", limit, nothing, nothing, lambda _ours, _other: None)
    return Outcome(comparison, [ratio, ratio], [1.0, 1.0])


def test_the_report_says_which_goals_are_met() -> None:
    report = to_report([_outcome(1.1, 1.05), _outcome(1.1, 1.2), _outcome(None, 3)], "2026-11-30, here.")
    lines = report.splitlines()
    assert lines[0] == "2026-11-30, here. 2 pairs of each that is judged."
    assert lines[4:7] == [
        "| P1 | some work | 1.05 s | 1.00 s | 1.050 | 1.050 to 1.050 | 1.1 | yes | 2026-11-30 |",
        "| P1 | some work | 1.20 s | 1.00 s | 1.200 | 1.200 to 1.200 | 1.1 | **no** | 2026-11-30 |",
        "| P1 | some work | 3.00 s | 1.00 s | 3.000 | 3.000 to 3.000 | - | - | 2026-11-30 |",
    ]
    assert lines[-1] == "1 of 2 that are judged are met."


def test_in_a_report_the_goals_that_were_not_measured_stay_as_they_were() -> None:
    before = to_report([_outcome(1.1, 1.2, "P1"), _outcome(1.1, 1.2, "P10"), _outcome(1.1, 1.2, "P2")], "2026-11-29.")
    report = to_report([_outcome(1.1, 1.05, "P2")], "2026-11-30, here.", before)
    assert [(row[0], row[-2], row[-1]) for row in rows_of(report)] == [
        ("P1", "**no**", "2026-11-29"),
        ("P2", "yes", "2026-11-30"),
        ("P10", "**no**", "2026-11-29"),
    ]
    assert report.splitlines()[-1] == "1 of 3 that are judged are met."


def test_a_report_of_a_quick_run_says_so() -> None:
    assert "A quick run" in to_report([_outcome(None, 1)], "Today.", quick=True)


def test_all_sides_take_turns_in_either_order_and_the_first_round_warms_up() -> None:
    ran: list[str] = []

    def side(name: str) -> Sample:
        ran.append(name)
        return Sample(len(ran), "result")

    figures = take_turns([lambda: side("a"), lambda: side("b"), lambda: side("c")], lambda _one, _other: None, 2)
    assert "".join(ran) == "abccbaabc"
    assert figures == [[6, 7], [5, 8], [4, 9]]


def test_sides_that_have_not_done_the_same_are_not_a_measurement() -> None:
    def compare(ours: str, other: str) -> None:
        if ours != other:
            raise BenchError(f"{ours} and {other}")

    sides = [lambda: Sample(1, "a"), lambda: Sample(1, "a"), lambda: Sample(1, "b")]
    with pytest.raises(DifferentError, match="the sides differ: a and b"):
        take_turns(sides, compare, 1)
    with pytest.raises(BenchError, match="P1 some work: the sides differ: a and b"):
        measure(Comparison("P1", "some work", 1, sides[0], sides[2], compare), 2)


@pytest.mark.parametrize(
    "words", [["P1", "--curves"], ["--curves", "--sizing"], ["--check", "--sizing"], ["--curves", "P1"]]
)
def test_what_needs_a_run_of_its_own_is_refused_beside_others(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(words)


def test_curves_are_all_or_those_that_are_named() -> None:
    assert arguments(["--curves"]).curves == []
    assert arguments(["--report", "--curves", "Files", "status"]).curves == ["files", "status"]
    assert arguments([]).curves is None


def test_a_report_names_the_day_the_machine_and_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Member, "ask", lambda _self, _word: "Zookeeper version: 3.8.0-${mvngit.commit.id}, built on")
    made_on = describe(Member(1, Path("zk1"), 2181))
    assert re.match(r"20\d\d-\d\d-\d\d, on \d+ cores\b.* with \d+ GB, Linux [\w.+]+\. ", made_on)
    assert re.search(
        r"\. ZooKeeper 3\.8\.0, Python 3[\w.+]+, ansible-core [\w.]+, kazoo [\d.]+, git [\d.]+\.$", made_on
    )
