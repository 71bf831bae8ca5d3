"""What a promotion with gates warns about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import Release
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_attending import gated, why_ungated
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import begin

STEPS: list[dict[str, Any]] = [{"hosts": 1}, {"hosts": 2, "soak": 60}]


@pytest.mark.parametrize(
    ("plan", "step", "warns"),
    [
        ({"steps": STEPS}, 1, True),
        ({"steps": STEPS}, 2, False),
        (gated({"steps": STEPS}), 1, False),
        ({"steps": [STEPS[0], {"hosts": 2, "gate": True}]}, 1, False),
        ({"steps": [{"hosts": 1, "gate": True}, STEPS[1]]}, 1, True),
        ({"steps": STEPS, "unattended": True}, 1, False),
        (True, 0, False),
    ],
)
def test_a_promotion_warns_that_gates_are_asked_once_if_no_later_step_waits_for_them(
    plan: Any, step: int, warns: bool
) -> None:
    release, stable = (Release("https://git.example.org/shop", letter * 40, "shop") for letter in "ba")
    state = replace(begin(release, plan, stable, 4), step=step)
    warning = why_ungated(state)
    assert bool(warning) == warns
    # If only earlier steps have gates, it was published with some.
    assert (warning or "").startswith("the rollout asks no gates any more: " if warns else "")
