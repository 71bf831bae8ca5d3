# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does for the others in a rollout: it notices lost hosts and elapsed timers, and counts the fleet.

Every host does so now and then, so that one always does, whichever hosts and publishers are gone.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Callable

from zoo_watcher.errors import SessionTroubleError
from zoo_watcher.wire.rollout_events import Count, Event, Outcome, Tick
from zoo_watcher.wire.rollout_failures import Timer, gives_up, overdue, timer
from zoo_watcher.wire.rollout_phases import DONE, ROLLED_BACK, ROLLING_BACK, RUNNING, SOAKING
from zoo_watcher.wire.rollout_records import IN_FLIGHT, LOST, PROVED, HostEntry, RolloutRecord
from zoo_watcher.wire.rollout_rules import decide

from .sight import Sight
from .timers import Timers, some
from .znodes import View

PAUSE = 0.2
"""Seconds, about, before a fleet without progress is counted, or before another try if another host was quicker."""
MOST = 20
"""How many lost or given-up hosts are noted in one turn: the loop has a host of its own to look after."""
COUNTED = frozenset({RUNNING, ROLLING_BACK})
"""The phases that a count of the fleet may end."""

log = logging.getLogger(__name__)


def mark_of(state: RolloutRecord) -> tuple[int, ...]:
    """A mark that changes whenever a host has made progress, or the phase has changed."""
    return (state.moves, *state.counts.values())


def _is_over(state: RolloutRecord) -> bool:
    """Whether there is nothing left to look after: late hosts may be on their way even when all is rolled back."""
    return state.phase == DONE or (state.phase == ROLLED_BACK and not state.in_flight)


class Lookout:
    """This host's watch over the others, of which so many were `live`. Used only by the loop, once a turn."""

    def __init__(self, sight: Sight, timers: Timers, live: int) -> None:
        self._sight = sight
        self._timers = timers
        self._live = live
        self._owed: dict[str, Callable[[], None]] = {}
        """What is still to be noted, by host; what failed last has its turn after all others."""

    def look_after(self) -> None:
        """Move the rollout on when a timer has run down, and look for hosts that have disappeared on their way."""
        view = self._sight.view
        if view is None or _is_over(view.state):
            self._owed.clear()
            return
        lookers = self._lookers(view)
        waited = self._timers.waited(timer(view.plan, view.state), lookers)
        if waited is not None:
            self._see_time(view, waited)
        if self._timers.is_time_to_count():
            self._count()
        if self._timers.is_time_to_look(lookers):
            self._look()
        self._note_some()

    def _lookers(self, view: View) -> int:
        """How many hosts look: a missing one does not."""
        return min(view.state.fleet, self._live)

    def _note_some(self) -> None:
        """Note some of the pending outcomes; the rest in the next turns."""
        for name in list(self._owed)[:MOST]:
            note = self._owed.pop(name)
            try:
                note()
            except SessionTroubleError:
                # The noted ones have restarted the timer: this one must not wait for it.
                self._owed[name] = note
                raise
        if self._owed:
            self._timers.wake_at(time.monotonic())

    def plan_count(self, state: RolloutRecord, longest: float = 0.0) -> None:
        """Have the fleet counted soon, if there is no progress meanwhile; after at most `longest` more seconds."""
        self._timers.plan_count(mark_of(state), some(PAUSE, 2 * PAUSE + longest))

    def count_where_idle(self) -> None:
        """Have the fleet counted soon if no host is on its way: the rollout may be complete."""
        view = self._sight.view
        if view is not None and not view.state.in_flight and view.state.phase in COUNTED:
            self.plan_count(view.state)

    def look_for(self, name: str) -> None:
        """Make sure that a host that has disappeared on its way counts as lost."""
        if self._sight.znodes.is_missing(name):
            self._lose(name)

    def _lose(self, name: str) -> None:
        def outcome(_now: View, entry: HostEntry) -> Outcome:
            return Outcome(name, entry.state, LOST, "it disappeared on its way")

        self._end(name, IN_FLIGHT, outcome, partial(self.look_for, name))

    def _lose_proved(self, name: str) -> None:
        """Make sure that a proved host that is gone when the soak is over counts as lost."""

        def outcome(now: View, entry: HostEntry) -> Outcome | None:
            is_over = now.state.phase == SOAKING
            return Outcome(name, entry.state, LOST, "it disappeared after it was proved") if is_over else None

        if not self._sight.znodes.is_live(name):
            self._end(name, frozenset({PROVED}), outcome, partial(self._lose_proved, name))

    def _give_up(self, name: str, record: HostEntry) -> None:
        """Give up a host that has come no further than its entry, the `record`."""

        def outcome(now: View, entry: HostEntry) -> Outcome | None:
            is_overdue = gives_up(now.state) and entry == record
            return overdue(now.plan, now.state, name, entry) if is_overdue else None

        self._end(name, IN_FLIGHT, outcome, partial(self._give_up, name, record))

    def _end(
        self,
        name: str,
        states: frozenset[str],
        outcome: Callable[[View, HostEntry], Outcome | None],
        again: Callable[[], None],
    ) -> None:
        """Note the outcome of a host that does not report it itself, if its entry still has one of these `states`.

        If somebody else writes first, `again` is done later.
        """
        znodes = self._sight.znodes
        view = znodes.read(name)
        event = outcome(view, view.record) if view and view.record and view.entry in states else None
        if view and event:
            decision = znodes.decide(view, event)
            if znodes.write(view, decision, name, event.message):
                what = f"{name} is {event.outcome}: {event.message}"
                log.warning("rollout, generation=%s: %s", znodes.generation, what)
            elif decision.state is not view.state:
                self._owed[name] = again
        self._sight.read()
        self.count_where_idle()

    def _see_time(self, before: View, waited: float) -> None:
        """Do what a timer requires, if no host has made progress meanwhile."""
        due = timer(before.plan, before.state)
        view = self._still_due(due)
        if view is None or due is None:
            return
        if view.state.phase == SOAKING and not self._is_settled(view, waited):
            return
        if not gives_up(view.state):
            self._tell(Tick(due.of, waited, self._behind(view)))
            return
        entries = self._sight.znodes.in_flight_entries()
        # A host that has set out since the first look still has all its time.
        if self._still_due(due) is not None:
            self._owed = {name: partial(self._give_up, name, entry) for name, entry in entries.items()}

    def _is_settled(self, view: View, waited: float) -> bool:
        """Whether a soak may end: lost hosts are noted first, and hosts that prove the release again are waited for."""
        if self._is_put_off(view, waited):
            return False
        gone = self._sight.znodes.gone()
        if gone:
            self._owed = {name: partial(self._lose_proved, name) for name in gone}
            return False
        # A host that was missing at the first look may be back.
        return not self._is_put_off(view, waited)

    def _is_put_off(self, view: View, waited: float) -> bool:
        """Whether a soak has to wait for a host, which it does for at most one deadline."""
        longest = view.plan.steps[view.state.step].soak + view.plan.progress_deadline
        is_put_off = waited < longest and self._sight.znodes.is_any_proving()
        if is_put_off:
            self._timers.put_off(self._lookers(view))
        return is_put_off

    def _still_due(self, due: Timer | None) -> View | None:
        """The rollout as it is now, if it still has the timer that has run down."""
        self._sight.read()
        view = self._sight.view
        return view if view and due and timer(view.plan, view.state) == due else None

    def _behind(self, view: View) -> tuple[str, ...]:
        """The hosts to be named when the deadline has run down."""
        if view.state.phase == ROLLING_BACK:
            return self._sight.znodes.count(view).behind
        return tuple(sorted(self._sight.znodes.in_flight())) if view.state.phase == RUNNING else ()

    def _look(self) -> None:
        """Look at the hosts on their way; if there are none, have the fleet counted: the host to do so may be gone."""
        self._sight.read()
        view = self._sight.view
        if view is None or _is_over(view.state):
            return
        if view.state.in_flight:
            for name in self._sight.znodes.missing():
                # A host that is to be given up is given up.
                self._owed.setdefault(name, partial(self.look_for, name))
        else:
            self.count_where_idle()

    def _count(self) -> None:
        """Count the fleet, if the rollout is as it was when that was planned."""
        planned, before = self._timers.counts, self._sight.view
        if before is None or mark_of(before.state) != planned:
            self._timers.end_count()
            return
        self._sight.read()
        view = self._sight.view
        counted: Count | None = None
        is_as_planned = view is not None and mark_of(view.state) == planned
        if view is not None and is_as_planned and not view.state.in_flight and view.state.phase in COUNTED:
            counted = self._sight.znodes.count(view)
        self._timers.end_count()
        if counted is not None:
            self._tell(counted)

    def _tell(self, event: Event) -> None:
        """Tell the rollout of an event that is not about a host."""
        view = self._sight.view
        if view is None:
            return
        decision = decide(view.plan, view.state, event)
        if self._sight.write(decision):
            self.count_where_idle()
        elif decision.state is not view.state:
            self._sight.is_stale = True
            self._timers.wake_at(time.monotonic() + some(0, PAUSE))
