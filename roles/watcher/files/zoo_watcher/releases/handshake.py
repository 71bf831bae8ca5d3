# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment and the agent's loop, in two threads, know about each other: one state under one condition."""

from __future__ import annotations

import threading
from enum import IntEnum

from zoo_watcher.errors import CancelledError


class Phase(IntEnum):
    """The phase of a deployment, as far as the loop is concerned. It may skip some.

    It returns only to the first, when the switch starts over.
    """

    PREPARING = 0
    DRAINING = 1
    """It waits until the registrations are withdrawn."""
    DRAINED = 2
    ACTIVATED = 3
    """The release is live, and not proved."""
    AWAITING_CONTACT = 4
    """It waits for an answer of the ensemble."""
    IN_CONTACT = 5
    GOING_BACK = 6
    """The release has failed; an earlier one is to replace it."""
    SETTLED = 7
    """The outcome is reported: registrations may be held again."""
    ENDED = 8


ANSWERS = {Phase.DRAINING: Phase.DRAINED, Phase.AWAITING_CONTACT: Phase.IN_CONTACT}
"""The phases that wait for the loop, and the phase that its answer starts."""
DRAINS = (Phase.DRAINING, Phase.DRAINED)


class Handshake:
    """The phases that a deployment has entered, and whether it is cancelled. Safe to use from any thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._entered = [Phase.PREPARING]
        self._cancelled = False

    @property
    def phase(self) -> Phase:
        """The phase of the deployment."""
        return self._entered[-1]

    @property
    def has_activated(self) -> bool:
        """Whether the deployment has made its release live."""
        return Phase.ACTIVATED in self._entered

    @property
    def has_gone_back(self) -> bool:
        """Whether the deployment has replaced its own release by an earlier one, or has tried to."""
        return Phase.GOING_BACK in self._entered

    @property
    def withholds_registrations(self) -> bool:
        """Whether no registration is to be held: from the start of a drain until the outcome."""
        return Phase.DRAINING in self._entered and self.phase < Phase.SETTLED

    def is_cancelled(self) -> bool:
        """Whether the deployment is to end as soon as it can."""
        return self._cancelled

    def activate(self) -> None:
        """The release goes live now. Raises `CancelledError` if it was cancelled before that."""
        with self._condition:
            self.check()
            self.enter(Phase.ACTIVATED)

    def cancel_before_activation(self) -> bool:
        """Let the deployment end as soon as it can if it has changed nothing live; returns whether that is so."""
        with self._condition:
            if self.phase >= Phase.ACTIVATED:
                return False
            self.cancel()
            return True

    def enter(self, phase: Phase) -> None:
        """The deployment is in this phase now."""
        with self._condition:
            self._entered.append(phase)
            self._condition.notify_all()

    def begin_anew(self) -> None:
        """Nothing that the deployment began to switch to is live: the host serves, and the switch starts over."""
        with self._condition:
            self._entered = [Phase.PREPARING]
            self._condition.notify_all()

    def end_drain(self) -> None:
        """The release stays live, whatever becomes of it: the host serves what is healthy."""
        with self._condition:
            self._entered = [phase for phase in self._entered if phase not in DRAINS]

    def answer(self, question: Phase) -> None:
        """The loop has done what the deployment waits for in the phase `question`, if it still waits."""
        with self._condition:
            if self.phase == question:
                self._entered.append(ANSWERS[question])
                self._condition.notify_all()

    def wait_answered(self, seconds: float) -> bool:
        """Wait for the loop's answer, at most `seconds`; whether it came, or none is needed: it is cancelled."""
        with self._condition:
            return self._condition.wait_for(lambda: self._cancelled or self.phase not in ANSWERS, seconds)

    def cancel(self) -> None:
        """Let the deployment end as soon as it can: it no longer waits for anything."""
        with self._condition:
            self._cancelled = True
            self._condition.notify_all()

    def check(self) -> None:
        """Raises `CancelledError` if it is cancelled."""
        if self._cancelled:
            raise CancelledError

    def sleep(self, seconds: float) -> None:
        """Wait. Raises `CancelledError` as soon as it is cancelled."""
        with self._condition:
            self._condition.wait_for(lambda: self._cancelled, seconds)
        self.check()
