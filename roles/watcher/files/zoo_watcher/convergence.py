# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the loop does about the desired release: has it deployed, or first what is live proved, one after the other."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from .config.config import Config
from .desired import Desired, DesiredRelease
from .host.controls import Controls, refuse_retry
from .host.layout import Layout
from .inbox import Inbox
from .releases.activation import live_commit
from .releases.course import Progress
from .releases.deployment import Deployment
from .releases.journal import KnownJournal
from .releases.live_proof import LiveProof
from .releases.return_proof import proof_of
from .releases.rollback import PlacedRelease, live_releases
from .releases.unproved import Unproved, find_unproved, proved_first
from .services.health import Health
from .status_board import StatusBoard
from .troubles import Troubles
from .wire.records import GAVE_UP, Release

OUTCOMES = frozenset({"active", *GAVE_UP})
"""The states in which a deployment ends by itself."""

log = logging.getLogger(__name__)


@dataclass
class Goal:
    """What the host is to be brought to, and what has come of that so far.

    `outcome` is the last state of its deployment, with the message; `was_told` is whether the status has said it, or
    that its deployment has begun. `tried` was proved before it, or could not be; `aside` says what came of that, and
    `leaves_doubt` whether what is live since then may not be healthy.
    """

    desired: Desired | None = None
    is_rebuilt: bool = False
    outcome: tuple[str, str | None] | None = None
    was_told: bool = False
    has_yielded: bool = False
    tried: list[Unproved] = field(default_factory=list)
    aside: str | None = None
    leaves_doubt: bool = False

    def is_for(self, desired: Desired | None) -> bool:
        """Whether it is about the same publication."""
        return desired.asks_the_same(self.desired) if desired else self.desired is None


class Convergence:
    """Runs one deployment, or proof, at a time. Used by the loop alone; what runs leaves its progress in the inbox."""

    def __init__(
        self,
        config: Config,
        layout: Layout,
        inbox: Inbox[tuple[LiveProof, Progress | None]],
        health: Health,
        desired: DesiredRelease,
        controls: Controls,
        board: StatusBoard,
        troubles: Troubles,
    ) -> None:
        self.journal = KnownJournal(layout.journal)
        self.deployment: LiveProof | None = None
        self.is_stopping = False
        self._begin = time.monotonic()
        self._config = config
        self._layout = layout
        self._inbox = inbox
        self._health = health
        self._desired = desired
        self._controls = controls
        self._board = board
        self._troubles = troubles
        self._goal = Goal()
        self._served = self._goal
        """The goal for which the deployment was begun."""
        self._proved: Unproved | None = None
        """What is proved, where that is no deployment of the desired release."""
        self._said: tuple[str, str | None] = "idle", None
        """The state that was told last, and the message."""
        self._comes_first = False
        """Whether that has to come to its end before anything is deployed."""
        self._cancelled: str | None = None

    def look_again(self) -> None:
        """Begin anew with what is desired, whatever came of it."""
        self._goal = Goal(self._goal.desired, self._goal.is_rebuilt)

    def note(self, deployment: LiveProof, progress: Progress | None) -> None:
        """Take over how far a deployment is; None where it has ended."""
        if deployment is not self.deployment:
            return
        self.journal.forget()
        if progress is None:
            # Only now: its last word is taken, so nothing says less of it than it has come to.
            self.deployment = None
            self._note_end(deployment)
            return
        self._said = progress.state, progress.message
        if self._proved is None and progress.state in OUTCOMES:
            self._served.outcome = progress.state, progress.message
        self._board.count(progress.state, progress.retry)
        log.info(
            "%s, generation=%s commit=%s%s",
            progress.state,
            deployment.generation,
            deployment.target.commit_id,
            f": {progress.message}" if progress.message else "",
        )
        self._board.enter(
            progress.state,
            self.known_live(),
            generation=deployment.generation or None,
            message=progress.message,
            timings=progress.timings or None,
            previous_commit_id=progress.previous,
            waits_for=progress.waits_for,
        )

    def _note_end(self, deployment: LiveProof) -> None:
        goal, proved = self._goal, self._proved
        # There may be more to prove, and the status has said other things meanwhile.
        goal.was_told = False
        if deployment.handshake.is_cancelled():
            return  # it has come to nothing
        goal.has_yielded = goal.has_yielded or (deployment.has_yielded and proved is None)
        state, message = self._said
        # Where the host goes back, a deployment has that proved as well.
        goal.leaves_doubt = proved is not None and state not in {"active", "rolled_back"}
        if proved is not None:
            goal.tried.append(proved)
        if proved is not None and message:
            goal.aside = proved.tell(message)

    def converge(self) -> None:
        """Start what the desired release asks for, unless it is under way, done, or known to fail here."""
        desired = self._desired.current
        if self.is_stopping or not self._desired.is_read:
            return
        if not self._goal.is_for(desired):
            self._set_goal(desired)
        if self.deployment is not None:
            # Its end wakes the loop.
            if self._served is not self._goal:
                self._cancel_for(desired)
        elif not self._goal.was_told:
            self._proceed(desired)

    def prove_in_isolation(self) -> float | None:
        """Where contact is demanded, and a restart may have come of its lack, prove what is live though there is none.

        To be called while no server answers; the seconds after which to call it again, None where that is not needed.
        """
        patience = self._config.rollback_when_isolated
        if not patience or self._desired.is_read or self.is_stopping or self.deployment is not None:
            return None
        left = self._begin + patience - time.monotonic()
        if left <= 0:
            self._proceed(None)
        return max(0.0, left) or None

    def _set_goal(self, desired: Desired | None) -> None:
        before = self._goal.desired
        # What failed may have been another release of this generation, before the ensemble was rebuilt.
        is_rebuilt = bool(before and desired and before.generation == desired.generation)
        self._goal = Goal(desired, is_rebuilt)

    def _cancel_for(self, desired: Desired | None) -> None:
        """Cancel the deployment that is under way, where another may take its place."""
        deployment = self.deployment
        if deployment is None or self._comes_first:
            return
        if desired is None or desired.release is None:
            # What it has made live is brought to its end where nothing takes its place.
            if not deployment.cancel_unless_live() and desired:
                self._troubles.add([str(desired.problem)])
        elif not self._controls.held:
            deployment.cancel()

    def _proceed(self, desired: Desired | None) -> None:
        """Begin what comes next: a proof of what is live, the deployment, or nothing."""
        target = self._target(desired)
        unproved = self._unproved(target)
        first = proved_first(unproved, target, self._goal.tried, has_yielded=self._goal.has_yielded)
        outcome = self._outcome(desired) if desired else None
        if first is not None:
            # Where there is an outcome to be told, that does not wait for ever either.
            self._prove(first, ends=target is not None or outcome is not None)
            self._comes_first = target is not None
        elif target is not None and desired is not None and desired.release is not None:
            done = {target, *(one.release for one in self._goal.tried)}
            self._deploy(desired, desired.release, yields=any(one.release not in done for one in unproved))
        elif desired is not None and outcome:
            self._tell(desired, *outcome)
        else:
            self._stay()

    def _target(self, desired: Desired | None) -> PlacedRelease | None:
        """What is to be deployed; None where there is nothing to deploy, it has failed, or a person holds the host."""
        if desired is None or desired.release is None or self._outcome(desired):
            return None
        if self._controls.held is not None and not self._is_live(desired.release):
            return None
        return PlacedRelease(desired.release.commit_id, desired.release.relative_path)

    def _outcome(self, desired: Desired) -> tuple[str, str | None] | None:
        """What the desired release has come to here, if anything."""
        if desired.release is None:
            return "failed", desired.problem
        if self._goal.outcome:
            return self._goal.outcome
        journal = self.journal.read()
        failure = None if self._goal.is_rebuilt else journal.failed(desired.generation, desired.release.commit_id)
        return (failure.state, failure.message) if failure else None

    def _unproved(self, target: PlacedRelease | None) -> list[Unproved]:
        journal = self.journal.read()
        return find_unproved(live_releases(self._layout, journal), journal, target.path if target else None)

    def _prove(self, unproved: Unproved, *, ends: bool) -> None:
        """Prove what is live and has no outcome yet."""
        proof = proof_of(self._config, unproved, self._health, lambda one: self._inbox.put((proof, one)), ends=ends)
        if self._start(proof, unproved):
            generation = unproved.generation or None
            self._board.enter("queued", self.known_live(), generation=generation, message=None, timings=None)

    def _deploy(self, desired: Desired, release: Release, *, yields: bool) -> None:
        deployment = Deployment(
            self._config,
            release,
            desired.generation,
            desired.fleet,
            self._health,
            lambda progress: self._inbox.put((deployment, progress)),
            yields=yields,
            aside=self._goal.aside,
        )
        if self._start(deployment, None):
            self._enter("queued", desired, message=None, timings=None)

    def _start(self, deployment: LiveProof, proved: Unproved | None) -> bool:
        try:
            deployment.start()
        except RuntimeError as exc:
            # No thread, no memory: nothing has begun, and all of it is tried again.
            self._troubles.add([f"deployment of generation {deployment.generation} not started: {exc}"])
            return False
        self.deployment, self._proved, self._served = deployment, proved, self._goal
        self._said = "queued", None
        self._comes_first = False
        return True

    def _tell(self, desired: Desired, state: str, message: str | None) -> None:
        if desired.release is None:
            log.warning("not deployed, generation=%s: %s", desired.generation, message)
        changes = {"timings": None} if desired.release is None else {}
        aside = self._goal.aside if state in GAVE_UP else None
        if aside and aside not in str(message):
            message = f"{message}; {aside}"
        if state == "rolled_back" and (self._goal.leaves_doubt or self._unproved(None)):
            state = "failed"
        self._enter(state, desired, message=message, **changes)

    def _enter(self, state: str, desired: Desired, **changes: Any) -> None:
        self._goal.was_told = True
        self._board.enter(state, self.known_live(), generation=desired.generation, **changes)

    def _stay(self) -> None:
        """While nothing is deployed, the state is that of the last release which came to an outcome, or none's."""
        if self._board.status.state not in OUTCOMES:
            message = f"{self._cancelled}: held" if self._cancelled else None
            self._board.enter("idle", self.known_live(), generation=None, message=message, timings=None)

    def keep_held(self) -> None:
        """Cancel, while a person holds this host, what is not live yet; what is live is brought to its outcome."""
        deployment = self.deployment
        if self._controls.held is None:
            self._end_hold()
            return
        if deployment is not None and deployment.cancel_unless_live():
            cancelled = f"the deployment of {deployment.target.commit_id} is cancelled"
            if cancelled != self._cancelled:
                log.info("held: %s", cancelled)
            # It is deployed when the hold ends.
            self._cancelled = cancelled
            self._board.note_hold(cancelled)
        else:
            self._board.note_hold("what is live already is proved or gone back from" if deployment else self._cancelled)

    def _end_hold(self) -> None:
        self._board.note_hold(None)
        if self._cancelled and self.deployment is None and self._board.status.message == f"{self._cancelled}: held":
            self._board.enter(self._board.status.state, self.known_live(), message=None)
        self._cancelled = None

    def retry_where_asked(self) -> None:
        """Answer a request to try again what has failed here: forget that it has, or say why not."""
        request = self._controls.retry
        if request is None or not self._desired.is_read or self._is_ending():
            return
        desired = self._desired.current
        generation = desired.generation if desired else None
        try:
            refusal = self._forget_failure(desired)
        except OSError as exc:
            refusal = f"not retried: {self._layout.journal}: {exc.strerror}"
        self._controls.answer_retry(request, refusal or f"generation {generation} is tried again", done=not refusal)
        self._board.set_controls(self._controls)

    def _is_ending(self) -> bool:
        """Whether what runs ends soon, and so wakes the loop: it has just failed, or is a proof of limited time."""
        return self.deployment is not None and (self._board.status.state in GAVE_UP or self.deployment.ends)

    def _forget_failure(self, desired: Desired | None) -> str | None:
        """Forget that what is desired has failed here; why not. Raises `OSError`."""
        status = self._board.status
        generation = desired.generation if desired else None
        known = status.state if generation == status.generation else None
        has_failed = desired is not None and self._has_failed(desired)
        refusal = refuse_retry(self._controls.held, generation, known, has_failed=has_failed)
        if refusal is None and desired is not None:
            self.journal.save(self.journal.read().without_failure())
            self.look_again()
        return refusal

    def _has_failed(self, desired: Desired) -> bool:
        if self.deployment is not None:
            return False
        outcome = self._outcome(desired)
        return outcome is not None and outcome[0] in GAVE_UP

    def _is_live(self, release: Release) -> bool:
        return live_commit(self._layout, release.relative_path) == release.commit_id

    def live(self) -> str | None:
        """The commit that is live where the desired release belongs, else at the place that was used last.

        Raises `OSError` where that can't be told now.
        """
        release = self._desired.current.release if self._desired.current else None
        here = live_commit(self._layout, release.relative_path) if release else None
        if here:
            return here
        targets = live_releases(self._layout, self.journal.load())
        return targets[0].commit_id if targets else None

    def known_live(self) -> str | None:
        """As `live`; None where that can't be told now: then the status says what it said before."""
        with contextlib.suppress(OSError):
            return self.live()
        return None
