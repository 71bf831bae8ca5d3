"""Which registrations the filters of an inventory let become hosts."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.expressions import FAILS
from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.filters import Filter

CONDITION = Filter.from_option("zk_ephemeral")
INCLUDE = Filter.from_option({"include": "zk_ephemeral"})
EXCLUDE = Filter.from_option({"exclude": "zk_ephemeral"})


@pytest.mark.parametrize("no", [False, None, FAILS])
def test_a_condition_holds_only_where_it_is_true(no: Any) -> None:
    assert CONDITION.judge([True, no], ["/a", "/b"]) == ([None, False], [])
    assert INCLUDE.judge([True, no], ["/a", "/b"]) == ([True, None], [])
    assert EXCLUDE.judge([True, no], ["/a", "/b"]) == ([False, None], [])
    for each in (CONDITION, INCLUDE, EXCLUDE):
        assert each.judge([], []) == ([], [])


@pytest.mark.parametrize("each", [CONDITION, INCLUDE, EXCLUDE])
@pytest.mark.parametrize(("value", "shown"), [("blue", '"blue"'), (1, "1"), ([], "[]"), ("x" * 99, '"xxxx')])
def test_what_is_not_a_boolean_for_all_entries_is_not_a_condition(each: Filter, value: Any, shown: str) -> None:
    with pytest.raises(ZooKeeperError) as caught:
        each.judge([value, value], ["/b", "/c"], iter([value]))
    message = str(caught.value)
    assert message.startswith(f"filters: zk_ephemeral: expected true or false, got {shown}")
    assert message.endswith(" for /b and 1 more; compare it with something")
    assert len(message) < 160


@pytest.mark.parametrize(
    ("each", "decided"),
    [
        (CONDITION, [None, False, False, False]),
        (INCLUDE, [True, False, None, False]),
        (EXCLUDE, [False, False, None, False]),
    ],
)
def test_what_is_not_a_boolean_for_only_some_entries_empties_no_inventory(
    each: Filter, decided: list[bool | None]
) -> None:
    judged, problems = each.judge([True, "yes", False, 1], ["/a", "/b", "/c", "/d"])
    assert judged == decided
    assert problems == ['filters: zk_ephemeral: expected true or false, got "yes" for /b and 1 more; left out']


@pytest.mark.parametrize("each", [CONDITION, INCLUDE, EXCLUDE])
@pytest.mark.parametrize("other", [True, False, FAILS, None])
def test_one_entry_alone_that_an_earlier_filter_has_left_empties_no_inventory(each: Filter, other: Any) -> None:
    said = ['filters: zk_ephemeral: expected true or false, got "yes" for /a; left out']
    assert each.judge(["yes"], ["/a"], iter([1, other])) == ([False], said)


@pytest.mark.parametrize(("each", "decided"), [(CONDITION, False), (INCLUDE, None), (EXCLUDE, None)])
@pytest.mark.parametrize("fails", [FAILS, None])
def test_one_entry_that_has_what_no_other_has_empties_no_inventory(
    each: Filter, decided: bool | None, fails: Any
) -> None:
    judged, problems = each.judge([fails, "yes"], ["/a", "/b"])
    assert judged == [decided, False]
    assert problems == ['filters: zk_ephemeral: expected true or false, got "yes" for /b; left out']


@pytest.mark.parametrize(
    "given",
    [
        7,
        None,
        [],
        {},
        {"include": "a", "exclude": "b"},
        {"only": "a"},
        {"include": 1},
        {"exclude": None},
        {"include": ""},
    ],
)
def test_an_invalid_filter_is_refused(given: Any) -> None:
    with pytest.raises(
        ZooKeeperError, match=r"^filters: expected a condition, or a mapping with include or exclude, got "
    ):
        Filter.from_option(given)
