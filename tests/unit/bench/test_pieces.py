"""What the goals of the bench are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.__main__ import parser
from bench.arrivals import Arrivals
from bench.harness import PAIRS, BenchError, Comparison, Rounds, Sample, measure
from bench.site import checksum


def test_a_quick_run_judges_nothing() -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--check", "--quick"])
    assert parser().parse_args(["--quick", "p9"]).goals == ["P9"]


def test_comparisons_that_share_rounds_run_each_of_them_once_and_in_turn() -> None:
    order = list[str]()

    def runs(name: str, figure: float) -> Callable[[], Sample]:
        def side() -> Sample:
            order.append(name)
            return Sample(figure, len(order))

        return side

    rounds = Rounds.of({"ours": runs("ours", 1.0), "a": runs("a", 2.0), "b": runs("b", 4.0)})
    compared = [
        measure(Comparison("P1", name, 1.0, rounds.side("ours"), rounds.side(name), lambda _ours, _other: None))
        for name in ("a", "b")
    ]
    assert [outcome.median for outcome in compared] == [0.5, 0.25]
    assert order == ["ours", "a", "b", "b", "a", "ours"] * ((PAIRS + 1) // 2)


def test_a_release_and_a_work_tree_of_the_same_commit_have_the_same_checksum(tmp_path: Path) -> None:
    for name in ("release", "tree"):
        (tmp_path / name / "files").mkdir(parents=True)
        (tmp_path / name / "files" / "a").write_text("one")
    (tmp_path / "tree" / ".git").write_text("gitdir: /elsewhere")
    (tmp_path / "release" / "files" / "a").chmod(0o444)
    assert checksum(tmp_path / "release") == checksum(tmp_path / "tree")
    (tmp_path / "tree" / "files" / "a").write_text("two")
    assert checksum(tmp_path / "release") != checksum(tmp_path / "tree")


def test_a_file_that_is_renamed_into_place_is_reported_and_one_that_is_written_is_not(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path)
    try:
        (tmp_path / ".new").write_text("one")
        with pytest.raises(BenchError, match="not renamed into place"):
            arrivals.wait("a", 0)
        (tmp_path / ".new").rename(tmp_path / "a")
        arrivals.wait("a", 10)
        (tmp_path / "a").rename(tmp_path / "b")
        with pytest.raises(BenchError, match="b is renamed into place, not a"):
            arrivals.wait("a", 10)
    finally:
        arrivals.close()
