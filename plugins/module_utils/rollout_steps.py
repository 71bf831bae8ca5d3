# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a rollout: which hosts the open one takes, which are left, when it is complete, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .rollout_events import Count, Decision, unchanged
from .rollout_phases import DONE, GOING_BACK, GOING_ON, PAUSED, ROLLED_BACK, ROLLING_BACK, RUNNING, SOAKING
from .rollout_plan import Plan, RolloutStep
from .rollout_records import GATES, LOST, RETURNED, RolloutRecord, describe
from .shares import at_least

MOST_NAMED = 5
"""How many hosts a reason names."""


def count(
    plan: Plan,
    state: RolloutRecord,
    live: Mapping[str, Mapping[str, str]],
    entries: Mapping[str, str],
    unable: Mapping[str, str] | None = None,
) -> Count:
    """The count of a fleet: `live` are the labels of the live hosts, `entries` the states in the rollout, by name.

    Hosts that are `unable` are not left: they are held, can't deploy the release, gave up on the way back, or were
    given up; the reasons by name.
    """
    unable = unable or {}
    able = {name: labels for name, labels in live.items() if name not in unable}
    fleet = len({*live, *entries})
    if state.phase in GOING_BACK:
        behind = sorted(name for name, entry in entries.items() if entry != RETURNED)
        return Count(fleet, len([name for name in behind if name in able]), tuple(behind))
    step = plan.steps[state.step]
    left = [name for name in able if entries.get(name) in {None, LOST} and step.takes(name, able[name])]
    return Count(fleet, len(left), passed=tuple(_passed_over(step, live, entries, unable)))


def _passed_over(
    step: RolloutStep,
    live: Mapping[str, Mapping[str, str]],
    entries: Mapping[str, str],
    unable: Mapping[str, str],
) -> list[str]:
    """Why a step by names or labels does not wait for hosts that it takes."""
    if step.hosts is not None:
        return []
    absent = [f"{name} is not live" for name in sorted(step.names.difference(live, entries))]
    without = [name for name in sorted(unable) if entries.get(name) in {None, LOST}]
    return [*absent, *(f"{name} {unable[name]}" for name in without if step.takes(name, live.get(name, {})))]


def is_open(plan: Plan, state: RolloutRecord, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a step up to the open one takes a host without an entry, in addition to those that have one."""
    if plan.is_last(state.step):
        return True
    return any(
        step.takes(name, labels) and (step.hosts is None or state.reached < at_least(step.hosts, state.fleet))
        for step in plan.steps[: state.step + 1]
    )


def on_count(plan: Plan, state: RolloutRecord, event: Count) -> Decision:
    """Complete the open step, or the way back, if no host is left for it."""
    if state.phase == ROLLING_BACK and not state.in_flight and not event.left:
        return Decision(rolled_back(state, event.behind))
    if state.phase not in GOING_ON:
        return unchanged(state, event, describe(plan, state))
    counted = state if state.fleet == event.fleet else state.changed(fleet=event.fleet)
    if state.phase == RUNNING and not state.in_flight and _is_full(plan, counted, event.left):
        return Decision(_without(_completed(plan, counted), state.step, event.passed))
    return unchanged(state, event, describe(plan, state)) if counted is state else Decision(counted)


def rolled_back(state: RolloutRecord, behind: tuple[str, ...]) -> RolloutRecord:
    """The state when no host is left that returns; `behind` did not."""
    left = f"did not return: {few(behind)}" if behind else ""
    return entered(state, ROLLED_BACK, reason="; ".join(filter(None, [state.reason, left])))


def _without(state: RolloutRecord, step: int, passed: tuple[str, ...]) -> RolloutRecord:
    """The state, with a reason that names the hosts that its completed step went without, if any."""
    if not passed:
        return state
    said = f"step {step + 1} went without some of its hosts: {few(passed)}"
    return state.changed(reason="; ".join(filter(None, [state.reason, said])))


def few(names: tuple[str, ...]) -> str:
    """The first of the names, and how many more there are."""
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])


def _is_full(plan: Plan, state: RolloutRecord, left: int) -> bool:
    """Whether the open step has all hosts that it takes."""
    hosts = plan.steps[state.step].hosts
    if left == 0 or hosts is None or plan.is_last(state.step):
        return left == 0
    return state.reached >= at_least(hosts, state.fleet)


def _completed(plan: Plan, state: RolloutRecord) -> RolloutRecord:
    return entered(state, SOAKING) if plan.steps[state.step].soak else soaked(plan, state)


def soaked(plan: Plan, state: RolloutRecord) -> RolloutRecord:
    """The state when the open step has soaked: its gates come next, if it has any."""
    if plan.steps[state.step].gate:
        reason = f"step {state.step + 1} waits for its gates"
        return entered(state, PAUSED, resumes=SOAKING, waits_for=GATES, reason=reason)
    return after_gates(plan, state)


def after_gates(plan: Plan, state: RolloutRecord) -> RolloutRecord:
    """The state when the gates of the open step have passed: a person comes next, if the plan asks for one."""
    if plan.steps[state.step].pause:
        return entered(state, PAUSED, resumes=SOAKING, reason=f"step {state.step + 1} waits for a person")
    return next_step(plan, state)


def next_step(plan: Plan, state: RolloutRecord) -> RolloutRecord:
    """The state when nothing prevents the next step from being opened."""
    if plan.is_last(state.step):
        # Others continue if the plan accepts that; a rollback continues anyway, and has to report it.
        said = f"{state.failures} of {state.fleet} hosts failed or were lost" if state.is_marred else ""
        return entered(state, DONE, reason=said)
    return entered(state, RUNNING, step=state.step + 1)


def entered(state: RolloutRecord, phase: str, reason: str = "", **changes: Any) -> RolloutRecord:
    """The state in another phase, or at another step."""
    fresh: dict[str, Any] = {"phase": phase, "moves": state.moves + 1, "reason": reason}
    return state.changed(**{**fresh, "since": "", "by": "", "waits_for": "", **changes})
