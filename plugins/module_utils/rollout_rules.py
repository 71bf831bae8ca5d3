# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a rollout: what it comes to when something happens. No I/O, no clock: who asks says what it saw pass.

Who acts (a host, a person, a clock that has run down) reads the state, then the entry that it is about, asks `decide`,
and writes the decision by compare-and-set of the state's version; where another was faster, it reads and asks again.
Every change of an entry changes the state too. These are all the rules; `rollout_admission`, `rollout_failures`,
`rollout_steps` and `rollout_verbs` carry them out.

 1. A host is admitted while the rollout is running, a step up to the open one takes it, and fewer than `places` are
    admitted and have come to no outcome. One that was lost, or that tries again after it failed, may be admitted again.
 2. A host that has the release already and is healthy is proved without a place, in every phase but `done`.
 3. An admitted host comes to one outcome: proved, failed, or lost where it has disappeared. A proved one fails where it
    falls ill before the rollout has ended, and is lost where it is gone when a soak is over, and was not taken out of
    the roster. One that can't deploy now withdraws: it gives its place back, and has no
    entry.
 4. A step is complete when nobody is in flight and, by a fresh count of the fleet, no host is left for it, or as many
    have entries as it asks for. Then it soaks for its time, waits for its gates and waits for a person, as far as its
    plan says so; then the next step is open. After the last, which takes every host and is complete only when none is
    left, the rollout is done. A soak and a deadline are over when somebody has seen their seconds pass without a move;
    a failure that is accepted begins a soak anew.
 5. Failed and lost hosts are failures. One more than `maxFailures` of them stops the rollout, whether it is running,
    soaking or paused, and its release is bad. What was accepted stays so when the fleet shrinks. A `progressDeadline`
    within which no host has come further stops it too.
 6. Stopped, it is halted: nobody is admitted, and hosts in flight come to their outcomes. With `onFailure: rollback`,
    and a stable release, it rolls back instead. A release that most of the fleet had before is neither taken back nor
    bad.
 7. Rolling back, hosts with an entry return to the stable release: those that are not proved, or are unhealthy, at
    once; proved ones while fewer than `places` are on their way back. A host that is at the stable release without that
    has returned, unless it was proved. Who is on its way when the deadline runs down is given up, and goes on without a
    place. The rollout is rolled back when, by a fresh count, nobody is in flight or left, or the deadline has run down
    with nobody on the way. A host with an entry that comes later returns at once, and is given up like the others, so
    that its place is free for the next. Who has no entry stays where it is.
 8. The rollout of a rollback is stopped by a person only. Urgent hosts (unhealthy, or without an outcome of what they
    have) need no place. Who is on its way when the deadline runs down is lost, and asks anew; the second time it is
    given up: it is not left, and goes on when the rollout is done.
 9. A host that has no entry and what it has is known to be bad may return to the stable release (`leaves`) while the
    rollout goes on, before its last step: in a place, by an entry that it has no longer than that takes. Whatever comes
    of it is no failure: where the deadline runs down with nobody else on the way, it is given up, and waits for its
    turn with what it has; after two such nobody else leaves before its turn. Going back, it takes turns with the proved
    ones, and so does one that has the release itself: it was missing before.
10. A person may promote (open the next step now, go on after a pause), pause, and halt. Each changes the phase, has
    nothing to do, or is refused with the reason. After a person's pause in a soak, the step's own gates and pause still
    count. Promoting what is halted has to be forced; the failures that there are then are forgiven. Who has asked the
    gates of a step that waits for them has it pass them. With `moves`, all that is so only while phase and step are
    those that the wish is about: an answer for one step opens no other.
11. Done, it answers nobody. Hosts that it was done without, as they were away, held or lost, follow in line, `places`
    of them at a time, each until it has come to an outcome. A new host deploys at once, and so does one that does not
    serve where the rollout is that of a rollback.
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
    """What `event` comes to. Where the state is the one given, there is nothing to write."""
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
