"""Which suites run beside each other."""

from __future__ import annotations

import pytest

from suites import measure
from suites.__main__ import ALONE, PRIORITIES, YIELDING, chosen, may_begin
from suites.suite import LONG, SUITES


@pytest.mark.parametrize(
    ("suite", "beside", "may"),
    [
        ("integration", set(), True),
        ("hosts", {"integration"}, True),
        ("faults", {"integration"}, False),
        ("faults", set(), True),
        ("faults", {"sanity"}, True),
        ("faults", {"sanity", "lint"}, True),
        ("sanity", {"faults"}, True),
        ("lint", {"faults", "sanity"}, True),
        ("sanity", {"integration"}, True),
        ("agent", {"faults"}, False),
        ("agent", {"sanity"}, True),
        ("storm", {"integration", "hosts"}, True),
        ("storm", {"faults"}, False),
        ("gates", {"faults"}, False),
        ("gates", {"lint"}, True),
    ],
)
def test_what_has_the_machine_for_itself_shares_it_only_with_what_yields(
    suite: str, beside: set[str], may: bool
) -> None:
    assert may_begin(suite, beside) is may


def test_every_suite_may_begin_at_some_time() -> None:
    assert set({**SUITES, **LONG}) >= ALONE | YIELDING | set(PRIORITIES)
    assert all(may_begin(suite, set()) for suite in {**SUITES, **LONG})


def test_the_gates_come_last_and_only_with_all_or_by_name() -> None:
    assert list(chosen(["--all"]) or {}) == [*SUITES, "gates"]
    assert chosen(["gates", "sanity"]) == {"gates": ["sanity"]}
    assert "gates" not in (chosen([]) or {})


def test_what_is_measured_are_suites() -> None:
    assert set(measure.SUITES) <= set(SUITES)
