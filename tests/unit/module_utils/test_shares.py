"""How many agents a number or a percentage stands for."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zoo.deploy.plugins.module_utils.shares import at_least, at_most, parse_share
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import InvalidRecord


@given(st.integers(0, 100), st.integers(0, 100_000))
def test_a_percentage_is_reached_by_no_fewer_and_exceeded_by_no_more(percent: int, fleet: int) -> None:
    exact = Fraction(percent * fleet, 100)
    least, most = at_least(f"{percent}%", fleet), at_most(f"{percent}%", fleet)
    assert exact - 1 < most <= exact <= least < exact + 1 or (least == 1 and exact == 0)
    assert (least == 0) == (percent == 0)
    assert most <= fleet
    assert least <= max(fleet, 1)


@given(st.integers(0, 100_000), st.integers(0, 100_000), st.booleans())
def test_a_number_is_the_same_of_every_fleet(number: int, fleet: int, written: bool) -> None:
    value = str(number) if written else number
    assert at_least(value, fleet) == at_most(value, fleet) == number


@pytest.mark.parametrize(
    "value", ["many", "", "-1", -1, "-5%", "101%", "5 %%", "%", "1.5", True, None, "5% ", "9" * 5000]
)
def test_what_is_neither_a_number_nor_a_percentage_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRecord, match=r'^expected a whole number of agents or a percentage such as "80%", got '):
        parse_share(value)
