# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does next in a rollout. Pure: its input is what the host has, and what it sees of the rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Union

from zoo_watcher.wire.records import GAVE_UP
from zoo_watcher.wire.rollout_admission import may_leave
from zoo_watcher.wire.rollout_events import Ask, Event, Has, Outcome, Withdraw
from zoo_watcher.wire.rollout_failures import is_old
from zoo_watcher.wire.rollout_phases import DONE, GOING_BACK, GOING_ON, HALTED, RUNNING
from zoo_watcher.wire.rollout_plan import Plan
from zoo_watcher.wire.rollout_records import (
    ADMITTED,
    FAILED,
    LOST,
    NOT_BACK,
    PROVED,
    RETURNED,
    RETURNING,
    URGENT,
    RolloutRecord,
)
from zoo_watcher.wire.rollout_steps import is_open

Ended = Union["tuple[str, str | None]", None]
"""The outcome of a deployment: its last state, and the message; None if it has none yet."""

CUT_OFF = "the agent died while the release was being activated or checked"


class Wait(Enum):
    """What a host does that changes nothing of a rollout."""

    IN_LINE = "waits in line to be admitted"
    IN_LINE_BACK = "waits in line to return"
    ASIDE = "waits in no line"


@dataclass(frozen=True)
class HostView:
    """What is known about this host.

    `has` is the commit that is live on it, `is_switched` whether that is the release; `ended` is the outcome of the
    deployment of the release, `stable_ended` that of the stable one. `sickness` says which check does not pass,
    `is_healthy` that all do. `awaits_health`: the release is live, and was not healthy within the time of its proof.
    `healthy_for` is for how many seconds the release has been active and the host healthy; None if it is not.
    `is_held`: it is to deploy nothing, `is_drained`: to register nothing; `is_busy`: something that may still go live
    is being deployed or proved. `has_bad`: what is live is known to be bad, or is what the rollout rolls back from;
    `is_given_up`: nobody waits for it to get there, or to return. `is_cut_off`: the release is live, an agent died
    before it was proved, and nothing proves it now. `is_at_head`: nobody is ahead of it in the line.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    has: str | None = None
    is_switched: bool = False
    ended: Ended = None
    stable_ended: Ended = None
    sickness: str | None = None
    is_healthy: bool = True
    awaits_health: bool = False
    healthy_for: float | None = None
    is_held: bool = False
    is_busy: bool = False
    has_bad: bool = False
    is_given_up: bool = False
    is_cut_off: bool = False
    is_drained: bool = False
    is_at_head: bool = False


def next_move(state: RolloutRecord, plan: Plan, entry: str | None, host: HostView) -> Event | Wait:
    """What the host does next: the event that it reports to the rollout, or where it waits."""
    if state.phase == DONE:
        return Wait.IN_LINE if is_owed(state, entry, host) and _may_follow(plan, host) else Wait.ASIDE
    if state.phase in GOING_BACK:
        return _going_back(entry, host)
    if entry == ADMITTED and gives_way(state, host):
        # It was back before anybody noticed that it had disappeared.
        return Outcome(host.name, entry, LOST, CUT_OFF)
    if entry in {ADMITTED, URGENT}:
        return _on_its_way(plan, str(entry), host)
    if entry == RETURNING:
        is_over = host.stable_ended is not None or (host.is_held and not host.is_busy)
        return Withdraw(host.name, entry) if is_over else Wait.IN_LINE_BACK
    return _arrived(state, entry, host) if entry in {PROVED, FAILED} else _newcomer(state, plan, entry, host)


def is_owed(state: RolloutRecord, entry: str | None, host: HostView) -> bool:
    """Whether the rollout was done without the host, which follows in its turn: what held it up may have held up many.

    It was missing, held, given up in a rollback, or has had another release since, whatever its outcome before. A new
    host, and in a rollback one that does not serve, has no time. A host keeps its turn while its service restarts.
    """
    if state.phase != DONE:
        return False
    if state.is_rollback and entry == LOST and host.is_given_up:
        return True
    # A host that already has the release keeps only the turn in which it got it.
    is_behind = host.has is not None and (not host.is_switched or host.is_at_head)
    return is_behind and (host.is_at_head or not (state.is_rollback and host.sickness))


def _may_follow(plan: Plan, host: HostView) -> bool:
    """Whether a host that follows a rollout has no outcome yet, or is healthy, but not yet for long enough."""
    if host.ended and host.ended[0] == "active":
        return host.healthy_for is not None and host.healthy_for < plan.min_healthy
    # While a person holds the host, what is live already is brought to its outcome.
    is_able = not host.is_held or (host.is_switched and host.is_busy)
    return _failure(host) is None and is_able


def gives_way(state: RolloutRecord, host: HostView) -> bool:
    """Whether a lost host gets the stable release instead: it must not start with what may have killed it."""
    stable = state.stable
    is_same_place = stable is not None and stable["relativePath"] == state.release["relativePath"]
    may_go_back = is_same_place and not (state.is_rollback or is_old(state))
    return state.phase == HALTED and may_go_back and host.is_cut_off and not host.is_held


def _arrived(state: RolloutRecord, entry: str | None, host: HostView) -> Event | Wait:
    """What a host that has an outcome does."""
    if entry == PROVED:
        # While the agent still proves what is live, as after a boot, or a person is at the host, that says nothing.
        failure = None if host.is_held or host.is_drained else _failure(host)
        return Outcome(host.name, entry, FAILED, failure) if failure else Wait.ASIDE
    # A person has asked to try it again.
    is_tried = not (host.ended and host.ended[0] in GAVE_UP) and not host.sickness and not host.is_held
    return Ask(host.name, host.labels, entry) if is_tried and state.phase == RUNNING else Wait.ASIDE


def _newcomer(state: RolloutRecord, plan: Plan, entry: str | None, host: HostView) -> Event | Wait:
    """What a host without an entry, or one that was lost, does."""
    if host.healthy_for is not None:
        # A host that was lost had no time to show that it stays healthy.
        is_proved = entry is None or host.healthy_for >= plan.min_healthy
        return Has(host.name, entry) if is_proved else Wait.ASIDE
    if host.is_held or host.is_given_up or state.phase not in GOING_ON:
        return Wait.ASIDE
    needs_it = host.sickness is not None or host.has is None
    if state.is_rollback and needs_it and state.phase == RUNNING:
        return Ask(host.name, host.labels, entry, urgent=True)
    if entry is None and host.is_switched and host.ended is None and not host.awaits_health:
        # It proves what it has without a place, and then reports that it had it.
        return Wait.ASIDE
    if host.has_bad and host.stable_ended is None and may_leave(plan, state):
        return Wait.IN_LINE_BACK
    # A host that the open step does not take waits in no line: it would block those behind it that are taken.
    # A step of a number of hosts takes any; once it is full, all stay where they are, for the next step.
    takes_any = plan.steps[state.step].hosts is not None or entry is not None
    return Wait.IN_LINE if takes_any or is_open(plan, state, host.name, host.labels) else Wait.ASIDE


def _on_its_way(plan: Plan, entry: str, host: HostView) -> Event | Wait:
    """What an admitted host does. It keeps its place in the line until it has an outcome."""
    failure = _failure(host)
    if failure:
        return Outcome(host.name, entry, FAILED, failure)
    if host.healthy_for is not None and host.healthy_for >= plan.min_healthy:
        return Outcome(host.name, entry, PROVED)
    if host.is_held and not host.is_busy and not host.is_switched and host.ended is None:
        return Withdraw(host.name, entry)
    return Wait.IN_LINE


def _going_back(entry: str | None, host: HostView) -> Event | Wait:
    stable, message = host.stable_ended or (None, None)
    if entry in {None, RETURNED}:
        leaves = entry is None and host.has_bad and stable is None and not host.is_held
        return Wait.IN_LINE_BACK if leaves else Wait.ASIDE
    if entry == PROVED:
        return Ask(host.name, host.labels, entry, urgent=True) if host.sickness else Wait.IN_LINE_BACK
    if stable == "active" and not host.is_switched:
        return Outcome(host.name, entry, RETURNED)
    if entry == RETURNING:
        return _on_its_way_back(host, stable, message)
    # A host that gave up on the way back, or was given up, does not set out again; a held one gives up its place.
    is_able = entry in {ADMITTED, URGENT} or not (host.is_held or host.is_given_up)
    # If the stable release has failed here before, it reports that it does not return: nobody has to wait for it.
    is_untold = stable is None or stable in GAVE_UP
    may_return = is_untold and is_able and entry in {ADMITTED, URGENT, FAILED, LOST}
    return Ask(host.name, host.labels, entry) if may_return else Wait.ASIDE


def _on_its_way_back(host: HostView, stable: str | None, message: str | None) -> Event | Wait:
    if host.is_held and not host.is_busy and stable is None:
        return Withdraw(host.name, RETURNING)
    if stable in GAVE_UP:
        return Outcome(host.name, RETURNING, FAILED, f"{NOT_BACK}{message or stable}")
    return Wait.IN_LINE_BACK


def _failure(host: HostView) -> str | None:
    """Why the release has failed on a host that has it, or had deployed it; None if it has not."""
    state, message = host.ended or (None, None)
    if state in GAVE_UP:
        return message or str(state)
    if not host.sickness:
        return None
    if host.awaits_health:
        return f"not healthy in time: {host.sickness}"
    return f"fell ill: {host.sickness}" if state == "active" else None
