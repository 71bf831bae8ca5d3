"""What the options of waiting for a fleet may be."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.zoo.deploy.plugins.doc_fragments.waiting import ModuleDocFragment
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import WAITING_OPTIONS, begun, outage

WAITING: dict[str, Any] = {
    "connect_timeout": 5,
    "wait_timeout": 0.0,
    "retry_timeout": 0.0,
    "min_agents": "0",
    "max_failures": "10%",
    "max_missing": "100%",
}


def test_an_ensemble_may_be_unreachable_for_as_long_as_the_fleet_is_waited_for() -> None:
    assert outage(WAITING, waits=True) == 5
    assert outage({**WAITING, "wait_timeout": 30.0}, waits=True) == 30.0
    assert outage({**WAITING, "wait_timeout": 30.0}, waits=False) == 5


def test_what_a_connection_took_is_part_of_a_wait_that_had_begun() -> None:
    options = {**WAITING, "wait_timeout": 10.0}
    assert begun(options, 4.0) == {**options, "wait_timeout": 6.0}
    assert begun(options, 12.0) == {**options, "wait_timeout": 0.0}


@pytest.mark.parametrize("name", ["wait_timeout", "retry_timeout"])
def test_a_negative_time_is_refused_before_anything_is_asked(name: str) -> None:
    with pytest.raises(ZooKeeperError, match=f"^{name}: expected 0 or more, got -1$"):
        outage({**WAITING, name: -1.0}, waits=False)


@pytest.mark.parametrize("name", ["min_agents", "max_failures", "max_missing"])
def test_an_invalid_number_of_agents_is_refused_before_anything_is_asked(name: str) -> None:
    said = f'^{name}: expected a whole number of agents or a percentage such as "80%", got "-1"$'
    with pytest.raises(ZooKeeperError, match=said):
        outage({**WAITING, name: "-1"}, waits=False)


def test_the_documentation_has_the_options_as_they_are_accepted() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    accepted = {name: (spec["type"], spec["default"]) for name, spec in WAITING_OPTIONS.items()}
    assert {name: (spec["type"], spec["default"]) for name, spec in documented.items()} == accepted
