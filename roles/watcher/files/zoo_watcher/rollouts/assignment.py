# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout has this host deploy, and what its status says if that is not the desired release."""

from __future__ import annotations

from dataclasses import replace

from zoo_watcher.desired import Assignment, Desired, Standstill
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.rollout_phases import DONE, GOING_BACK, HALTED, ROLLING_BACK
from zoo_watcher.wire.rollout_plan import Plan
from zoo_watcher.wire.rollout_records import (
    ADMITTED,
    FAILED,
    FAILURES,
    LOST,
    PROVED,
    RETURNING,
    RolloutRecord,
    describe,
)

from .turn import CUT_OFF, HostView, gives_way, is_owed


def assign(desired: Desired, state: RolloutRecord, plan: Plan, entry: str | None, host: HostView) -> Assignment:
    """What a host with this `entry` is to do."""
    if entry in {ADMITTED, RETURNING} or is_owed(state, entry, host):
        # It shares a git server, or what a switch interrupts, with the hosts that have a place, not with the fleet.
        desired = replace(desired, fleet=min(desired.fleet, state.places))
    if entry in {ADMITTED, *FAILURES} and gives_way(state, host):
        message = f"{CUT_OFF}; {describe(plan, state)}"
        return Assignment(stable_of(desired, state), Standstill(desired.generation, "halted", message))
    if has_turn(state, entry, host):
        return Assignment(desired, retry_waits=_retry_waits(state, plan, entry, host))
    stable = stable_of(desired, state)
    goes_back = state.phase in GOING_BACK and entry is not None
    if goes_back:
        commit_id = state.release["commitId"]
        message = f"the rollout of {commit_id} was rolled back: {state.reason}"
        return Assignment(stable, Standstill(desired.generation, "rolled_back", message))
    was_lost = entry == LOST and host.has is not None
    stays = Standstill(desired.generation, *_reason(state, plan, was_lost=was_lost, is_given_up=host.is_given_up))
    # Meanwhile, a new host serves what the others do, and so does one that has left a bad release.
    return Assignment(stable if host.has is None or entry == RETURNING else None, stays)


def has_turn(state: RolloutRecord, entry: str | None, host: HostView) -> bool:
    """Whether the host may have the release now, or has it and may keep it."""
    if state.phase == DONE:
        return not is_owed(state, entry, host) or host.is_at_head or host.is_switched or host.ended is not None
    if state.phase in GOING_BACK:
        # A proved host keeps it until it is its turn to return.
        return state.phase == ROLLING_BACK and entry == PROVED
    if entry == FAILED:
        # It reports that; if it is to try again, or nothing is known about it on this host, it is its turn once more.
        return host.is_switched or host.ended is not None
    return entry not in {None, LOST, RETURNING} or host.is_switched


def _retry_waits(state: RolloutRecord, plan: Plan, entry: str | None, host: HostView) -> str | None:
    """What a retry of the release waits for on a host where it has failed; None if for nothing."""
    if state.phase == DONE:
        is_next = host.is_at_head or not is_owed(state, entry, host)
        return None if is_next else "it is done without it, which waits for its turn"
    return describe(plan, state) if entry == FAILED else None


def stable_of(desired: Desired, state: RolloutRecord) -> Desired | None:
    """The stable release, to be deployed like a desired one.

    Its generation is the negative of the rollout's: what failed to go live in an earlier rollout is tried again.
    """
    return Desired(-desired.generation, desired.fleet, Release.from_object(state.stable)) if state.stable else None


def _reason(state: RolloutRecord, plan: Plan, *, was_lost: bool, is_given_up: bool) -> tuple[str, str]:
    """The state and the message of a host that keeps what it has."""
    if state.phase in {HALTED, *GOING_BACK}:
        lost = "this host was lost on its way, and has what it had before; " if was_lost else ""
        return "halted", f"{lost}{describe(plan, state)}"
    if is_given_up and state.phase == DONE:
        return "waiting", "did not finish in time, twice: waits for its turn"
    if state.phase == DONE:
        return "waiting", "the rollout is done without this host: waits for its turn"
    if is_given_up:
        return "waiting", "did not finish in time, twice: waits until the rollout is done"
    return "waiting", "waits for its turn in the rollout"
