# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a rollout: its next state after an event. No I/O, no clock: actors report the time they saw pass.

An actor (a host, a person, an expired timer) reads the state, then the entry that it is about, asks `decide`, and
writes the decision by compare-and-set of the state's version; if another was faster, it reads and asks again. Every
change of an entry changes the state too. These are all the rules; `rollout_admission`, `rollout_failures`,
`rollout_steps` and `rollout_verbs` carry them out.

 1. A host is admitted while the rollout is running, a step up to the open one takes it, and fewer than `places`
    admitted hosts have no outcome. One that was lost, or that tries again after it failed, may be admitted again.
 2. A host that has the release already and is healthy is proved without a place, in every phase except `done`.
 3. An admitted host has one outcome: proved, failed, or lost if it has disappeared. A proved one fails if it becomes
    unhealthy before the rollout has ended, and is lost if it is gone when a soak is over and was not removed from the
    roster. One that can't deploy now withdraws: it gives its place back, and has no entry.
 4. A step is complete when nobody is in flight and, by a fresh count of the fleet, no host is left for it, or as many
    have entries as it asks for. Then, as its plan asks, it soaks for its time, waits for its gates and waits for a
    person; then the next step opens. After the last, which takes every host and is complete only when none is left,
    the rollout is done. A soak and a deadline are over when an actor has seen their seconds pass without a move; an
    accepted failure restarts a soak.
 5. Failed and lost hosts are failures. One more than `maxFailures` of them stops the rollout, whether it is running,
    soaking or paused, and its release is bad. Accepted failures stay accepted when the fleet shrinks. A
    `progressDeadline` within which no host makes progress stops it too.
 6. A stopped rollout is halted: nobody is admitted, and hosts in flight reach their outcomes. With `onFailure:
    rollback` and a stable release, it rolls back instead. A release that most of the fleet had before is neither
    rolled back nor bad.
 7. While rolling back, hosts with an entry return to the stable release: those that are not proved, or are unhealthy,
    at once; proved ones while fewer than `places` are on their way back. A host that is at the stable release already
    has returned, unless it was proved. A host still on its way at the deadline is given up, and continues without a
    place. The rollout is rolled back when, by a fresh count, nobody is in flight or left, or the deadline has passed
    with nobody on the way. A host with an entry that appears later returns at once, and is given up like the others,
    so that its place is free for the next. A host without an entry stays where it is.
 8. Only a person stops the rollout of a rollback. Urgent hosts (unhealthy, or without an outcome of what they have)
    need no place. A host still on its way at the deadline is lost, and asks again; the second time it is given up:
    it no longer counts as left, and continues when the rollout is done.
 9. A host without an entry, whose release is known to be bad, may return to the stable release (`leaves`) while the
    rollout goes on, before its last step: in a place, with an entry only for as long as that takes. Whatever happens
    to it is not a failure: if the deadline passes with nobody else on the way, it is given up, and waits for its turn
    with what it has; after two such hosts nobody else leaves early. While the rollout is rolling back, it takes turns
    with the proved ones, and so does one that has the release itself: it was missing before.
10. A person may promote (open the next step now, continue after a pause), pause, and halt. Each changes the phase, has
    nothing to do, or is refused with the reason. After a person's pause in a soak, the step's own gates and pause
    still count. Promoting a halted rollout has to be forced; its present failures are then forgiven. Whoever has asked
    the gates of a step that waits for them has it pass them. With `moves`, all that applies only while phase and step
    are those that the command is about: an answer for one step opens no other.
11. Once done, it answers nobody. Hosts that it was done without, because they were not live, held or lost, follow in
    line, `places` of them at a time, each until it has an outcome. A new host deploys at once, and so does one that
    does not serve if the rollout is a rollback's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .rollout_admission import on_ask, on_has, on_withdraw
from .rollout_events import Ask, Command, Count, Decision, Event, Has, Outcome, Tick, Withdraw, unchanged
from .rollout_failures import on_outcome, on_tick
from .rollout_phases import DONE
from .rollout_plan import Plan
from .rollout_records import RolloutRecord
from .rollout_steps import on_count
from .rollout_verbs import on_command


def decide(plan: Plan, state: RolloutRecord, event: Event) -> Decision:
    """The result of `event`. If the state is the one given, there is nothing to write."""
    if state.phase == DONE:
        return unchanged(state, event, "the rollout is done")
    return _RULES[type(event)](plan, state, event)


_RULES: Mapping[type, Callable[[Plan, RolloutRecord, Any], Decision]] = {
    Ask: on_ask,
    Has: on_has,
    Outcome: on_outcome,
    Withdraw: on_withdraw,
    Count: on_count,
    Tick: on_tick,
    Command: on_command,
}
