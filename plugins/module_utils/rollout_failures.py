# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The failures of a rollout: the outcomes of hosts on their way, which are given up, and what stops the rollout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .rollout_events import Decision, Outcome, Tick, moved, unchanged
from .rollout_phases import GOING_BACK, GOING_ON, HALTED, ROLLED_BACK, ROLLING_BACK, RUNNING, SOAKING
from .rollout_plan import Plan
from .rollout_records import (
    ADMITTED,
    FAILED,
    FAILURES,
    GIVEN_UP,
    LOST,
    NOT_BACK,
    PROVED,
    RETURNED,
    RETURNING,
    TOO_SLOW,
    URGENT,
    HostEntry,
    RolloutRecord,
    describe,
)
from .rollout_steps import entered, few, rolled_back, soaked

LONGEST_REASON = 500
"""The most characters of a reason, which every host of the rollout reads: only its first line is kept."""
_OUTCOMES: Mapping[str | None, frozenset[str]] = {
    ADMITTED: frozenset({PROVED, FAILED, LOST}),
    URGENT: frozenset({PROVED, FAILED, LOST}),
    PROVED: frozenset({FAILED, LOST}),
    RETURNING: frozenset({RETURNED, FAILED, LOST}),
}
"""The outcomes that a host may have, by its entry."""
_RETURNED_FROM = frozenset({ADMITTED, URGENT, FAILED, LOST})
"""The entries of hosts that may be at the stable release without a place on the way back."""


class Timer(NamedTuple):
    """Seconds after which a `Tick` moves the rollout. The wait restarts whenever `of` changes."""

    seconds: float
    of: tuple[int, ...]


def timer(plan: Plan, state: RolloutRecord) -> Timer | None:
    """What the passing of time alone does next; None for nothing."""
    if state.phase == SOAKING:
        return Timer(plan.steps[state.step].soak, (state.moves,))
    is_back = state.phase == ROLLING_BACK or (state.phase == ROLLED_BACK and state.in_flight)
    if is_back or (state.phase == RUNNING and (state.in_flight or not state.is_rollback)):
        return Timer(plan.progress_deadline, (state.moves, state.given_up, state.departed, *state.counts.values()))
    return None


def gives_up(state: RolloutRecord) -> bool:
    """Whether hosts on their way are given up one by one after the deadline, so that others continue."""
    only_leave = state.in_flight == state.counts[RETURNING]
    may_go_on = state.phase == RUNNING and (state.is_rollback or only_leave)
    return state.in_flight > 0 and (state.phase in GOING_BACK or may_go_on)


def overdue(plan: Plan, state: RolloutRecord, name: str, entry: HostEntry) -> Outcome:
    """The outcome of a host whose place another needs: it has a second try, unless it is on its way back."""
    why = f"{TOO_SLOW}{plan.progress_deadline:g} s"
    is_back = entry.state == RETURNING and state.phase in GOING_BACK
    if is_back:
        return Outcome(name, entry.state, FAILED, f"{NOT_BACK}{why}", is_given_up=True)
    told = f"{GIVEN_UP}{why}, twice" if entry.has_second_try else why
    return Outcome(name, entry.state, LOST, told, is_given_up=True)


def on_outcome(plan: Plan, before: RolloutRecord, event: Outcome) -> Decision:
    """Record a host's outcome; one failure too many stops the rollout."""
    state = before.changed(given_up=before.given_up + 1) if event.is_given_up else before
    if event.having:
        had = state.changed(had=state.had + event.having)
        # Each of them reports that itself later, and then counts again: used only if that makes no difference.
        state = had if is_old(had) else state
    if event.entry == RETURNING and state.phase not in GOING_BACK:
        return moved(state, event, None)
    is_back = event.outcome == RETURNED and event.entry in _RETURNED_FROM and state.phase in GOING_BACK
    if not is_back and event.outcome not in _OUTCOMES.get(event.entry, frozenset()):
        return unchanged(before, event, f"{event.name} is {event.entry}, which does not become {event.outcome}")
    told = event.message.partition("\n")[0][:LONGEST_REASON]
    reason = f"{event.name} {event.outcome}" + (f": {told}" if told else "")
    decision = moved(state, event, event.outcome)
    return _judged(plan, decision, reason) if event.outcome in FAILURES else decision


def on_tick(plan: Plan, state: RolloutRecord, event: Tick) -> Decision:
    """Continue, or stop, if enough time has passed."""
    due = timer(plan, state)
    if due is None or event.of != due.of or event.waited < due.seconds:
        return unchanged(state, event, describe(plan, state))
    if state.phase == SOAKING:
        return Decision(soaked(plan, state))
    if gives_up(state):
        return unchanged(state, event, f"{state.in_flight} on their way have to be given up first")
    if state.phase == ROLLING_BACK:
        return Decision(rolled_back(state, event.behind))
    slow = f"; on their way: {few(event.behind)}" if event.behind else ""
    return Decision(stopped(plan, state, f"no host has made progress for {due.seconds:g} s{slow}"))


def _judged(plan: Plan, decision: Decision, reason: str) -> Decision:
    """The decision, or what it becomes if there are more failures than are accepted."""
    state = decision.state
    # What a rollback returns to has worked before: the hosts are at fault, and no other should wait.
    if state.phase not in GOING_ON or state.is_rollback:
        return decision
    if plan.accepts(state.failures, state.fleet):
        # In a soak, the seconds without a failure start over.
        return decision._replace(state=entered(state, SOAKING, state.reason)) if state.phase == SOAKING else decision
    return decision._replace(state=stopped(plan, state, reason), is_bad=not is_old(state))


def is_old(state: RolloutRecord) -> bool:
    """Whether most of the fleet had the release before: it was republished."""
    return 2 * state.had > state.fleet


def stopped(plan: Plan, state: RolloutRecord, reason: str) -> RolloutRecord:
    """The state after too many failures."""
    goes_back = plan.on_failure == "rollback" and state.stable is not None and not is_old(state)
    return entered(state, ROLLING_BACK if goes_back else HALTED, reason=reason)
