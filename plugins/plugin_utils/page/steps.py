# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a rollout as a page shows them: which are done, which is open, what each takes and waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import (
    DONE,
    GOING_BACK,
    HALTED,
    PAUSED,
    ROLLED_BACK,
    ROLLING_BACK,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_plan import RolloutStep
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import ENTRIES
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.rollout_line import described, steps_of

from .plain_data import mapping

PAST, OPEN, AHEAD, STOPPED_HERE = "past", "open", "ahead", "stopped"
"""Where a rollout is, relative to a step."""
WORDS = {PAUSED: "paused", HALTED: "halted", ROLLING_BACK: "rolling back", ROLLED_BACK: "rolled back"}
"""The words for a step at which a rollout has stopped."""


class StepView(NamedTuple):
    """A step: its number, the hosts that it takes, what it then waits for, its state, and its hosts' states.

    `place` is one of the above, `state` the same in words. A `canary` is the first of several.
    """

    number: int
    takes: str
    then: str
    place: str
    state: str
    came_to: str
    canary: bool


def step_views(rollout: Mapping[str, Any]) -> list[StepView]:
    """The steps of a rollout; only their numbers if the plan can't be read."""
    known = steps_of(rollout)
    entries = [mapping(entry) for entry in mapping(rollout.get("hosts")).values()]
    return [
        StepView(
            number,
            described(known[number - 1]) if known else "",
            _then(known[number - 1]) if known else "",
            (place := _place(rollout, number)),
            {PAST: "done", OPEN: "open", AHEAD: "to come"}.get(place) or WORDS[rollout["phase"]],
            _came_to(entry["state"] for entry in entries if entry.get("step") == number),
            is_canary_step(number, rollout),
        )
        for number in range(1, rollout["steps"] + 1)
    ]


def is_canary_step(number: Any, rollout: Mapping[str, Any]) -> bool:
    """Whether the hosts admitted in this step try the release for all others."""
    return bool(number == 1 and rollout.get("steps", 1) > 1)


def _then(step: RolloutStep) -> str:
    """What has to pass before the next step is opened."""
    soak = f"soak {step.soak:g} s" if step.soak else ""
    return ", ".join(filter(None, [soak, "gates" if step.gate else "", "a person" if step.pause else ""]))


def _place(rollout: Mapping[str, Any], number: int) -> str:
    phase, current = rollout["phase"], rollout["step"]
    if phase == DONE or (number < current and phase not in GOING_BACK):
        return PAST
    if number > current:
        return AHEAD
    return STOPPED_HERE if phase in WORDS else OPEN


def _came_to(states: Any) -> str:
    counts = Counter(states)
    return ", ".join(f"{counts[state]:,} {state}" for state in ENTRIES if counts[state])


def rules(rollout: Mapping[str, Any]) -> str:
    """The plan's other rules, for a person."""
    plan = mapping(rollout.get("plan"))
    words = {
        "maxFailures": "failures accepted",
        "minHealthy": "s healthy before the next",
        "progressDeadline": "s without progress at most",
    }
    if plan.get("maxFailures") == 1:
        words["maxFailures"] = "failure accepted"
    said = [f"{plan[key]} {text}" for key, text in words.items() if isinstance(plan.get(key), (int, float, str))]
    then = "rolls all back" if plan.get("onFailure") == "rollback" else "halts it"
    return ", ".join([*said, f"one failure too many {then}"])
