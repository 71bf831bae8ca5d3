"""The plans that `zoo_rollout` names."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.zoo.deploy.plugins.module_utils.rollout_plan import check_publishable, read_plan
from support.playbook import ROOT

PLANS = yaml.safe_load((ROOT / "playbooks/vars/rollouts.yml").read_text())["_zoo_built_in_plans"]
GUIDE = (ROOT / "docs/guides/rollouts.md").read_text()


@pytest.mark.parametrize("name", PLANS)
def test_each_is_one_that_hosts_can_follow_and_is_in_the_guide(name: str) -> None:
    check_publishable(PLANS[name])
    assert bool(read_plan(PLANS[name])) == (name != "at_once")
    assert f"\n| `{name}` |" in GUIDE


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one_by_one", ([("100%", 0, False)], 1, 10, "halt")),
        ("canary", ([(1, 0, True), ("100%", 0, False)], "25%", 10, "rollback")),
        (
            "careful",
            ([(1, 300, False), ("10%", 120, False), ("50%", 60, False), ("100%", 0, False)], "10%", 30, "rollback"),
        ),
    ],
)
def test_they_do_what_the_guide_says_about_them(name: str, expected: Any) -> None:
    plan = read_plan(PLANS[name])
    assert plan is not None
    steps = [(step.hosts, step.soak, step.pause) for step in plan.steps]
    assert (steps, plan.max_in_flight, plan.min_healthy, plan.on_failure) == expected
