"""Which suites run beside each other."""

from __future__ import annotations

import pytest

from suites.__main__ import ALONE, PRIORITIES, YIELDING, may_begin
from suites.suite import SUITES


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
    ],
)
def test_what_has_the_machine_for_itself_shares_it_only_with_what_yields(
    suite: str, beside: set[str], may: bool
) -> None:
    assert may_begin(suite, beside) is may


def test_every_suite_may_begin_at_some_time() -> None:
    assert set(SUITES) >= ALONE | YIELDING | set(PRIORITIES)
    assert all(may_begin(suite, set()) for suite in SUITES)
