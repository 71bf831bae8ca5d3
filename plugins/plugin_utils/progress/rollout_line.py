# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress of a rollout on one line: its step, its phase, a bar. Pure: `rollout` is from a module's result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import describe_proving, listed
from ansible_collections.zoo.deploy.plugins.module_utils.records import InvalidRecord
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import (
    DONE,
    HALTED,
    PAUSED,
    ROLLED_BACK,
    ROLLING_BACK,
    SOAKING,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_plan import RolloutStep, read_plan
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import GATES, IN_FLIGHT

from .plain_text import plain

BAR = 14
"""The width of the bar."""
FEW = 3
"""How many names describe a step."""
NEXT = {
    PAUSED: "promote.yml to go on, abort.yml to stop",
    HALTED: "rollback.yml, or deploy a fix; promote.yml with zoo_force=true goes on in spite of it",
    ROLLED_BACK: "deploy a fix, or rollback.yml",
    ROLLING_BACK: "it is rolling back by itself; status.yml shows it",
}
AT_GATES = (
    "whoever waits for it with gates asks them; where nobody does, promote.yml with zoo_gates asks them and goes on; "
    "abort.yml stops it"
)
GOES_ON = "it goes on by itself; status.yml shows it, pause.yml or abort.yml stops it"


def standing(rollout: Mapping[str, Any], now: datetime) -> str:
    """Which step is open, and the phase; for a soak, the time left, and the hosts that the next step waits for."""
    phase, step = rollout["phase"], _step_of(rollout)
    number = f"step {rollout['step']} of {rollout['steps']}"
    where = f"{number} ({described(step)})" if step else number
    by = f" by {plain(rollout['by'])}" if rollout.get("by") else ""
    said = {
        SOAKING: f"{where}  soaks{_left(rollout, step, now)}{_waits_for(rollout)}",
        PAUSED: f"{where}  paused{by}{_waits_for(rollout)}",
        HALTED: f"{where}  halted{by}",
        ROLLING_BACK: f"{where}  rolling back",
        ROLLED_BACK: f"{where}  rolled back",
        DONE: "done",
    }
    return said.get(phase, where)


def described(step: RolloutStep) -> str:
    """The hosts that a step takes, in a few words."""
    if step.labels:
        return plain(", ".join(f"{key}={value}" for key, value in step.labels))
    if step.names:
        return plain(listed(sorted(step.names), FEW))
    if str(step.hosts) == "100%":
        return "all servers"
    if isinstance(step.hosts, int):
        return "1 server" if step.hosts == 1 else f"{step.hosts} servers"
    return str(step.hosts).replace("%", " %")


def progress_bar(done: int, whole: int) -> str:
    """How many of a fleet have it, as `[####......]`."""
    full = BAR * min(done, whole) // whole if whole else 0
    return f"[{'#' * full}{'.' * (BAR - full)}]"


def on_their_way(rollout: Mapping[str, Any]) -> list[str]:
    """The hosts that occupy a place now."""
    return [name for name, host in rollout["hosts"].items() if host["state"] in IN_FLIGHT]


def next_step(rollout: Mapping[str, Any]) -> str:
    """What a person can do; empty if nothing is left to do."""
    phase = rollout["phase"]
    if phase == PAUSED and rollout.get("waits_for") == GATES:
        return AT_GATES
    return "" if phase == DONE else NEXT.get(phase, GOES_ON)


def steps_of(rollout: Mapping[str, Any]) -> Sequence[RolloutStep]:
    """The steps of a rollout; none if the plan does not tell, since another version may have written it."""
    try:
        plan = read_plan(rollout.get("plan"))
    except InvalidRecord:
        return ()
    # Without an earlier release for hosts to wait on, there are no steps.
    plans = [plan, plan.without_steps()] if plan else []
    return next((one.steps for one in plans if len(one.steps) == rollout["steps"]), ())


def _step_of(rollout: Mapping[str, Any]) -> RolloutStep | None:
    """The step that is open; None if the plan does not tell."""
    steps = steps_of(rollout)
    return steps[rollout["step"] - 1] if rollout["step"] <= len(steps) else None


def _waits_for(rollout: Mapping[str, Any]) -> str:
    """The hosts that have to prove the release once more before another step is opened."""
    proving = rollout.get("proving")
    return f", {plain(describe_proving(proving))}" if proving else ""


def _left(rollout: Mapping[str, Any], step: RolloutStep | None, now: datetime) -> str:
    """The time left of a soak; only its length if the clocks here and there differ by more than that."""
    if step is None:
        return ""
    try:
        passed = (now - datetime.fromisoformat(rollout["since"])).total_seconds()
    except (TypeError, ValueError):
        passed = -1.0
    known = 0 <= passed <= step.soak
    return f", {step.soak - passed:.0f} s of {step.soak:g} s left" if known else f" for {step.soak:g} s"
