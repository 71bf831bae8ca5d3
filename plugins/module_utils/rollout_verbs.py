# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do to a rollout: promote, pause and halt it; and the answer of its gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .rollout_events import Command, Decision, unchanged
from .rollout_phases import GOING_BACK, HALTED, PAUSED, RUNNING, SOAKING
from .rollout_plan import Plan
from .rollout_records import FAILED, GATES, LOST, RolloutRecord, describe
from .rollout_steps import after_gates, entered, next_step, soaked

REFUSED = "refused: "
"""The prefix of the reason why a command is refused."""


def on_command(plan: Plan, state: RolloutRecord, event: Command) -> Decision:
    """Carry out a person's command, or say why not."""
    if state.phase in GOING_BACK:
        return unchanged(state, event, f"{REFUSED}{describe(plan, state)}")
    if event.moves not in {None, state.moves}:
        return unchanged(state, event, f"{REFUSED}it has moved on meanwhile: {describe(plan, state)}")
    after = _VERBS[event.verb](plan, state, event)
    if isinstance(after, str):
        return unchanged(state, event, after)
    if after.phase == PAUSED and event.verb != "pause":
        # The plan makes it wait, not the person.
        return Decision(after)
    return Decision(after.changed(by=event.by, reason=event.reason or after.reason))


def _promote(plan: Plan, state: RolloutRecord, event: Command) -> RolloutRecord | str:
    if state.phase == HALTED:
        if not event.force:
            return f"{REFUSED}{describe(plan, state)}"
        forgiven = state.counts[FAILED] + state.counts[LOST]
        return entered(state, RUNNING, forgiven=forgiven, forgives=state.moves + 1)
    if state.phase == PAUSED and state.resumes == RUNNING:
        return entered(state, RUNNING)
    if state.phase == PAUSED and state.by and state.resumes == SOAKING:
        # A person paused it in the soak; the plan has asked for nothing yet.
        return soaked(plan, state)
    if state.phase == RUNNING and plan.is_last(state.step):
        return "the last step is open already"
    return next_step(plan, state)


def _pass(plan: Plan, state: RolloutRecord, _event: Command) -> RolloutRecord | str:
    if state.waits_for != GATES:
        return f"{REFUSED}it does not wait for its gates: {describe(plan, state)}"
    return after_gates(plan, state)


def _pause(plan: Plan, state: RolloutRecord, _event: Command) -> RolloutRecord | str:
    if state.waits_for == GATES:
        return entered(state, PAUSED, resumes=PAUSED)
    if state.phase == PAUSED:
        return "it is paused already"
    if state.phase == HALTED:
        return f"{REFUSED}{describe(plan, state)}"
    return entered(state, PAUSED, resumes=state.phase)


def _halt(_plan: Plan, state: RolloutRecord, _event: Command) -> RolloutRecord | str:
    return "it is halted already" if state.phase == HALTED else entered(state, HALTED)


_VERBS: Mapping[str, Callable[[Plan, RolloutRecord, Command], RolloutRecord | str]] = {
    "promote": _promote,
    "pass": _pass,
    "pause": _pause,
    "halt": _halt,
}
