# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts are admitted to a rollout, on the way there or back, and which give their place back."""

from __future__ import annotations

from .rollout_events import Ask, Decision, Has, Withdraw, moved, unchanged
from .rollout_phases import GOING_BACK, GOING_ON, ROLLING_BACK, RUNNING
from .rollout_plan import Plan
from .rollout_records import (
    ADMITTED,
    FAILED,
    FAILURES,
    LOST,
    PROVED,
    RETURNED,
    RETURNING,
    URGENT,
    RolloutRecord,
    describe,
)
from .rollout_steps import is_open

MOST_GIVEN_UP = 2
"""How many hosts that leave a bad release early may be given up before no other may: each costs a deadline."""


def on_ask(plan: Plan, state: RolloutRecord, event: Ask) -> Decision:
    """Admit a host, on the way there or back, or say why not."""
    if state.phase in GOING_BACK:
        return _ask_to_return(plan, state, event)
    if event.leaves:
        entry, obstacle = RETURNING, _obstacle_to_leaving(plan, state, event)
    else:
        entry = URGENT if event.urgent and state.is_rollback else ADMITTED
        obstacle = _obstacle(plan, state, event, entry)
    return unchanged(state, event, obstacle) if obstacle else moved(state, event, entry)


def may_leave(plan: Plan, state: RolloutRecord) -> bool:
    """Whether hosts with a bad release return to the stable one before their turn."""
    is_hopeful = state.given_up < MOST_GIVEN_UP and not plan.is_last(state.step)
    return state.phase in GOING_ON and state.stable is not None and is_hopeful


def _obstacle_to_leaving(plan: Plan, state: RolloutRecord, event: Ask) -> str | None:
    """Why a host with a bad release can't return now."""
    if event.entry is not None:
        return f"{event.name} is {event.entry} already"
    if not may_leave(plan, state):
        return describe(plan, state)
    return _no_place(state)


def _no_place(state: RolloutRecord) -> str | None:
    is_full = state.counts[ADMITTED] + state.counts[RETURNING] >= state.places
    return f"all places are taken ({state.places})" if is_full else None


def _obstacle(plan: Plan, state: RolloutRecord, event: Ask, entry: str) -> str | None:
    """Why a host can't be admitted now."""
    if event.entry not in {None, *FAILURES}:
        return f"{event.name} is {event.entry} already"
    if state.phase != RUNNING:
        return describe(plan, state)
    if event.entry is None and not is_open(plan, state, event.name, event.labels):
        return f"step {state.step + 1} of {len(plan.steps)} does not take {event.name}"
    return _no_place(state) if entry == ADMITTED else None


def _ask_to_return(plan: Plan, state: RolloutRecord, event: Ask) -> Decision:
    if event.entry in {RETURNING, RETURNED} or (event.entry is None and not event.leaves):
        return unchanged(state, event, describe(plan, state))
    in_turn = event.leaves or (state.phase == ROLLING_BACK and event.entry == PROVED and not event.urgent)
    if in_turn and state.counts[RETURNING] >= state.places:
        return unchanged(state, event, f"all places on the way back are taken ({state.places})")
    return moved(state, event, RETURNING)


def on_has(_plan: Plan, state: RolloutRecord, event: Has) -> Decision:
    """Note a host that has the release already."""
    if event.entry in {None, LOST}:
        had = state.had + (1 if event.entry is None else 0)
        return moved(state.changed(had=had), event, PROVED)
    return unchanged(state, event, f"{event.name} is {event.entry} already")


def on_withdraw(_plan: Plan, state: RolloutRecord, event: Withdraw) -> Decision:
    """Take back the place of a host that can't continue."""
    if event.entry in {ADMITTED, URGENT} or (event.entry == RETURNING and state.phase not in GOING_BACK):
        return moved(state, event, None)
    if event.entry == RETURNING:
        # It still has the release: it must keep an entry, by which it returns later.
        return moved(state, event, FAILED)
    return unchanged(state, event, f"{event.name} is not on its way")
