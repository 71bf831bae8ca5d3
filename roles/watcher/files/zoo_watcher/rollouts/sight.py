# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host sees of a rollout: what was read last, and what it has written since."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Callable

from zoo_watcher.errors import SessionTroubleError
from zoo_watcher.host.controls import now
from zoo_watcher.wire.rollout_events import Decision
from zoo_watcher.wire.rollout_phases import HALTED, ROLLING_BACK
from zoo_watcher.wire.rollout_records import FAILURES, IN_FLIGHT, RETURNING, describe
from zoo_watcher.wire.rollout_writes import Write, entry_of

from .znodes import RolloutZnodes, View

LEVELS = {HALTED: logging.WARNING, ROLLING_BACK: logging.ERROR}
"""The log level of phases that a person should know about; all others are information."""

log = logging.getLogger(__name__)


class Sight:
    """`view` is None if there is no rollout. `moved` is called with a new phase or step."""

    def __init__(
        self, znodes: RolloutZnodes, host: str, changed: Callable[[], None], moved: Callable[[View], None]
    ) -> None:
        self.znodes = znodes
        self.view: View | None = None
        self.is_stale = True
        self.is_displaced = False
        """Whether others have changed this host's entry, which was in flight, to one that is not."""
        self.is_given_up = False
        """Whether others have given up this host, which was to leave a bad release before its turn."""
        self._host = host
        self._changed = changed
        self._moved = moved

    def on_gate(self, _event: Any) -> None:
        """Have the rollout read again; called in kazoo's thread."""
        self.is_stale = True
        self._changed()

    def read(self) -> None:
        """Read the rollout, and watch its gate. Raises `SessionTroubleError`."""
        before, self.is_stale = self.view, False
        try:
            self.view = self.znodes.read(self._host, self.on_gate)
        except SessionTroubleError:
            self.is_stale = True
            raise
        entry = self.view.entry if self.view else None
        if before and before.entry in IN_FLIGHT and entry not in IN_FLIGHT:
            self.is_displaced = True
            self._changed()  # hosts behind it in a line wait until it has left
            if self.view and before.entry == RETURNING and entry is None:
                self.is_given_up = self.view.state.given_up > before.state.given_up
        if self.view and (before is None or before.state.moves != self.view.state.moves):
            self._tell_move(self.view)

    def write(
        self, decision: Decision, host: str | None = None, message: str | None = None, exits: Sequence[Write] = ()
    ) -> bool:
        """Carry out a decision about this `host`, or about none; returns whether nobody else was quicker.

        Raises `SessionTroubleError`.
        """
        before = self.view
        if before is None or not self.znodes.write(before, decision, host, message, exits):
            return False
        is_changed = host is not None and decision.entry != before.entry
        record = entry_of(before.state, decision, now(), message, before.step) if is_changed else before.record
        self.view = view = View(decision.state, before.version + 1, record)
        if is_changed:
            why = f": {message}" if message else ""
            level = logging.WARNING if view.entry in FAILURES else logging.INFO
            log.log(level, "rollout, generation=%s: this host is %s%s", self.znodes.generation, view.entry, why)
        if view.state.moves != before.state.moves:
            self._tell_move(view)
        return True

    def _tell_move(self, view: View) -> None:
        level = LEVELS.get(view.state.phase, logging.INFO)
        log.log(level, "rollout, generation=%s: %s", self.znodes.generation, describe(view.plan, view.state))
        self._moved(view)
