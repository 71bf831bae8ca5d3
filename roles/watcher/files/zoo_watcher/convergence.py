# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the loop does about the desired release: it has the live one proved first, if needed, then deploys it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from .config.config import Config
from .desired import Assignment, Desired, DesiredRelease, Standstill, is_another_of_its_generation
from .goal import Goal
from .host.controls import Controls, name_of, refuse_retry
from .host.layout import Layout
from .inbox import Inbox
from .releases.activation import live_commit
from .releases.course import Progress, in_seconds
from .releases.handshake import Phase
from .releases.journal import KnownJournal
from .releases.rollback import PlacedRelease, live_releases
from .releases.unproved import Unproved, find_unproved, proved_first
from .services.health import Health
from .status_board import StatusBoard
from .troubles import Troubles
from .wire.records import GAVE_UP, Release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .releases.live_proof import LiveProof

OUTCOMES = frozenset({"active", *GAVE_UP})
"""The states in which a deployment ends on its own."""

log = logging.getLogger(__name__)


def published(generation: int) -> int | None:
    """The generation, for a status; None if it is not known, or is that of a stable release, which nobody published."""
    return generation if generation > 0 else None


def _log(deployment: LiveProof, progress: Progress) -> None:
    """Log what a deployment reports; of a successful one, also how long it took."""
    said = progress.message or (in_seconds(progress.timings) if progress.state == "active" else None)
    log.log(
        _level(progress),
        "%s, generation=%s commit=%s%s",
        progress.state,
        deployment.generation,
        deployment.target.commit_id,
        f": {said}" if said else "",
    )


def _level(progress: Progress) -> int:
    if progress.state in GAVE_UP:
        return logging.ERROR
    if progress.retry or progress.waits_for == "health":
        return logging.WARNING
    # Its start says no more than the next line does; a step that is tried again, no more than the last line did.
    begins = progress.waits_for or (progress.state == "queued" and not progress.message)
    return logging.DEBUG if begins else logging.INFO


def _with_first(what: str, paths: Sequence[Path]) -> list[str]:
    """A line that names the first of these paths and how many there are; none for no paths."""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return [f"{what}: {paths[0]}{more}"] if paths else []


class Convergence:
    """Runs one deployment, or proof, at a time. Only the loop uses it; what runs puts its progress into the inbox."""

    def __init__(
        self,
        config: Config,
        layout: Layout,
        inbox: Inbox,
        health: Health,
        desired: DesiredRelease,
        controls: Controls,
        board: StatusBoard,
        troubles: Troubles,
    ) -> None:
        self.journal = KnownJournal(layout.journal)
        self.deployment: LiveProof | None = None
        self.is_stopping = False
        self.assignment: Assignment | None = None
        """What the rollout of the desired release has this host do; None if there is no rollout."""
        self._alone_since: float | None = time.monotonic()
        """Since when no server has answered, or this agent has been running; None while one answers."""
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
        """The goal for which the deployment was started."""
        self._proved: Unproved | None = None
        """What is being proved, if that is not a deployment of the desired release."""
        self._said: tuple[str, str | None] = "idle", None
        """The last reported state, and its message."""
        self._comes_first = False
        """Whether that has to finish before anything is deployed."""
        self._cancelled: str | None = None
        self._left: Sequence[Path] = ()

    @property
    def troubles(self) -> list[str]:
        """Leftovers in the staging directory, which only another user can remove, and of earlier releases."""
        left = [path for path in self._left if os.path.lexists(path)]
        staged = [path for path in left if path.parent == self._layout.staging]
        # A release that was published again is in use.
        old = [path for path in left if path not in staged and path.name != self._board.status.commit_id]
        return [
            *_with_first("left in the staging directory, remove by hand", staged),
            *_with_first("an old release can't be removed, tried again with the next deployment", old),
        ]

    def note_left(self, paths: Sequence[Path]) -> None:
        """Note what could not be removed from the staging directory, and of earlier releases."""
        self._left = paths

    @property
    def _assigned(self) -> Desired | None:
        """What is to be deployed now: the desired release, unless a rollout says otherwise."""
        return self.assignment.desired if self.assignment else self._desired.current

    def look_again(self) -> None:
        """Start over with the desired release, whatever came of it."""
        self._goal = Goal(self._goal.desired, self._goal.standstill, self._goal.is_rebuilt)

    def note(self, deployment: LiveProof, progress: Progress | None) -> None:
        """Note the progress of a deployment; None: it has ended."""
        if deployment is not self.deployment:
            return
        self.journal.forget()
        if progress is None:
            # Only now: its last report is in, so nothing shows an earlier state than its outcome.
            self.deployment = None
            self._goal.note_end(deployment, self._proved, *self._said)
            return
        self._said = progress.state, progress.message
        if progress.left:
            self.note_left([Path(path) for path in progress.left])
        if self._proved is None and progress.state in OUTCOMES:
            self._served.outcome = progress.state, progress.message
        self._board.count(progress.state, progress.retry, progress.failed_in)
        _log(deployment, progress)
        self._board.enter(
            progress.state,
            self.known_live(),
            generation=published(deployment.generation),
            message=progress.message,
            timings=progress.timings or None,
            previous_commit_id=progress.previous,
            waits_for=progress.waits_for,
            failed_step=progress.failed_step and progress.failed_step._asdict(),
        )

    def settle_journal(self) -> None:
        """Write to the journal what could not be written before."""
        problem = self.journal.settle()
        if problem:
            self._troubles.add([f"journal not written, path={self._layout.journal}: {problem.strerror}"])

    def converge(self) -> None:
        """Start what the desired release requires, unless it is in progress, done, or known to fail here."""
        self._alone_since = None
        if self.is_stopping or not self._desired.is_read:
            return
        desired = self._assigned
        if not self._goal.is_for(desired):
            self._set_goal(desired)
        standstill = self.assignment.standstill if self.assignment else None
        if standstill != self._goal.standstill:
            self._goal.standstill = standstill
            self._goal.was_told = False
        if self.deployment is not None:
            # Its end wakes the loop.
            if self._is_in_the_way(desired):
                self.deployment.cancel()
            elif self._served is not self._goal:
                self._cancel_for(desired)
            if desired is None and not (self._works or self._goal.was_told):
                # Packing the object store, for up to an hour, goes on meanwhile.
                self._rest()
        elif not self._goal.was_told or (self._goal.standstill and self._target(desired)):
            # While a person held the host, a standstill was all there was to report.
            self._proceed(desired)

    def go_on_alone(self) -> float | None:
        """Do what can be done while no server answers; returns the seconds until the next call, None if none is needed.

        If contact is demanded, and the live release may be why there is none, that release is proved.
        """
        if self.is_stopping or self.deployment is not None:
            return None
        if not self._goal.was_told:
            # What has ended is no longer in progress.
            self._stay()
        patience = self._config.rollback_when_isolated
        if not patience:
            return None
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        left = self._alone_since + patience - now
        if left <= 0:
            first = self._next_proof(self._unproved(None), None, ends=False)
            if first is not None:
                self._prove(first, ends=False)
        return max(0.0, left) or None

    def _set_goal(self, desired: Desired | None) -> None:
        before = self._goal.desired
        # Another release of this generation may have failed, before the ensemble was rebuilt.
        is_rebuilt = bool(before and desired and is_another_of_its_generation(before, desired))
        self._goal = Goal(desired, is_rebuilt=is_rebuilt)

    def _is_in_the_way(self, desired: Desired | None) -> bool:
        """Whether a proof without a time limit runs although there is something to deploy or report by now."""
        deployment = self.deployment
        if deployment is None or self._proved is None or deployment.ends:
            return False
        return self._target(desired) is not None or (desired is not None and self._outcome(desired) is not None)

    def _cancel_for(self, desired: Desired | None) -> None:
        """Cancel the deployment in progress, if another may replace it."""
        deployment = self.deployment
        if deployment is None or self._comes_first:
            return
        if desired is None or desired.release is None:
            # What it has made live is brought to an outcome if nothing replaces it.
            if deployment.cancel_unless_live() or desired is None:
                return
            if self._works:
                self._troubles.add([str(desired.problem)])
            else:
                # Packing the object store may take an hour, and can as well follow the next deployment.
                deployment.cancel()
        elif not self._controls.held:
            deployment.cancel()

    def _proceed(self, desired: Desired | None) -> None:
        """Start what comes next: a proof of what is live, the deployment, or nothing."""
        target = self._target(desired)
        unproved = self._unproved(target)
        outcome = self._outcome(desired) if desired else None
        # An outcome that is to be reported does not wait for ever either.
        ends = target is not None or outcome is not None
        first = self._next_proof(unproved, target, ends=ends)
        if first is not None:
            self._prove(first, ends=ends)
            self._comes_first = target is not None
        elif target is not None and desired is not None and desired.release is not None:
            done = {target, *(one.release for one in self._goal.tried)}
            self._deploy(desired, desired.release, yields=any(one.release not in done for one in unproved))
        elif self._goal.standstill:
            self._tell_standstill(self._goal.standstill, outcome)
        elif desired is not None and outcome:
            self._tell(desired, *outcome)
        else:
            self._stay()

    def _rest(self) -> None:
        """Report why nothing is deployed, if there is anything to report."""
        if self._goal.standstill:
            self._tell_standstill(self._goal.standstill, None)
        else:
            self._stay()

    def _next_proof(self, unproved: list[Unproved], target: PlacedRelease | None, *, ends: bool) -> Unproved | None:
        """What is to be proved before the target is deployed; what has yielded, only if nothing waits for it."""
        tried = [one for one, has_yielded in self._goal.tried.items() if ends or not has_yielded]
        return proved_first(unproved, target, tried, has_yielded=self._goal.has_yielded)

    def _target(self, desired: Desired | None) -> PlacedRelease | None:
        """What is to be deployed; None if there is nothing to deploy, it has failed, or a person holds the host."""
        if desired is None or desired.release is None or self._outcome(desired):
            return None
        if self._controls.held is not None and not self._is_live(desired.release):
            return None
        return PlacedRelease(desired.release.commit_id, desired.release.relative_path)

    def _outcome(self, desired: Desired) -> tuple[str, str | None] | None:
        """The outcome of the desired release here, if any."""
        if desired.release is None:
            return "failed", desired.problem
        return self._goal.outcome or (None if self._goal.is_rebuilt else self._known_failure(desired))

    def _known_failure(self, desired: Desired) -> tuple[str, str | None] | None:
        """How it has failed here before, according to the journal."""
        commit_id = desired.release.commit_id if desired.release else ""
        failure = self.journal.read().failed(desired.generation, commit_id)
        return (failure.state, failure.message) if failure else None

    def outcome_of(self, desired: Desired) -> tuple[str, str | None] | None:
        """The outcome of the deployment of `desired`; None if it has none, or is in progress.

        While this host is brought to another release, only a failure is known.
        """
        if not self._goal.is_for(desired) or (self.deployment is not None and self._proved is not None):
            return self._known_failure(desired)
        return None if self._is_at_it else self._outcome(desired)

    def known_outcome_of(self, desired: Desired) -> tuple[str, str | None] | None:
        """The same, as far as this agent has it in memory."""
        return self._goal.outcome if self._goal.is_for(desired) and not self._is_at_it else None

    @property
    def _is_at_it(self) -> bool:
        """Whether something runs that has no outcome yet; one that has may go on packing the object store for long."""
        return self.deployment is not None and self.deployment.handshake.phase < Phase.SETTLED

    @property
    def _works(self) -> bool:
        """Whether something is deployed or proved; what has reported `active` only packs the object store."""
        return self.deployment is not None and not (self._proved is None and self._said[0] == "active")

    def awaits_health(self, desired: Desired) -> bool:
        """Whether `desired` is live, was not healthy within the time of its proof, and is still being waited for."""
        is_at_it = self.deployment is not None and self.deployment.generation == desired.generation
        return is_at_it and self._board.status.waits_for == "health"

    def was_cut_off(self, desired: Desired) -> bool:
        """Whether an agent died while it activated or checked `desired`, and nothing works on it now."""
        is_at_it = self.deployment is not None and self.deployment.generation == desired.generation
        if desired.release is None or is_at_it:
            return False
        return self.journal.read().attempts(desired.generation, desired.release.commit_id) > 0

    def _unproved(self, target: PlacedRelease | None) -> list[Unproved]:
        journal = self.journal.read()
        return find_unproved(live_releases(self._layout, journal), journal, target.path if target else None)

    def _prove(self, unproved: Unproved, *, ends: bool) -> None:
        """Prove what is live and has no outcome yet."""
        # Imported here, as below: an agent that has had nothing to do since its start does not keep it in memory.
        from .releases.return_proof import proof_of  # noqa: PLC0415

        def report(progress: Progress | None) -> None:
            self._inbox.put((proof, progress))

        proof = proof_of(self._config, self.journal, unproved, self._health, report, ends=ends)
        if self._start(proof, unproved):
            generation = published(unproved.generation)
            self._board.enter("queued", self.known_live(), generation=generation, message=None, timings=None)

    def _deploy(self, desired: Desired, release: Release, *, yields: bool) -> None:
        from .releases.deployment import Deployment  # noqa: PLC0415

        deployment = Deployment(
            self._config,
            self.journal,
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
            # No thread or memory for it: nothing has begun, and all of it is tried again.
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
        # Also for an active one, while something is still owed to another release.
        aside = self._goal.aside if state in GAVE_UP or self._unproved(None) else None
        if aside and aside not in str(message):
            message = "; ".join(filter(None, [message, aside]))
        if state == "rolled_back" and (self._goal.leaves_doubt or self._unproved(None)):
            state = "failed"
        self._enter(state, desired, message=message, **changes)

    def _tell_standstill(self, standstill: Standstill, outcome: tuple[str, str | None] | None) -> None:
        """Report why the host does not deploy the published release and, if what it has instead has failed, that."""
        self._goal.was_told = True
        failure = outcome[1] if outcome and outcome[0] in GAVE_UP else None
        message = "; ".join(filter(None, [standstill.message, failure, self._goal.aside]))
        live, generation = self.known_live(), standstill.generation
        self._board.enter(standstill.state, live, generation=generation, message=message, timings=None)

    def _enter(self, state: str, desired: Desired, **changes: Any) -> None:
        self._goal.was_told = True
        self._board.enter(state, self.known_live(), generation=published(desired.generation), **changes)

    def _stay(self) -> None:
        """While nothing is deployed, show the state of the last release that came to an outcome, if any."""
        if self._board.status.state not in OUTCOMES:
            message = f"{self._cancelled}: held" if self._cancelled else None
            self._board.enter("idle", self.known_live(), generation=None, message=message, timings=None)

    def keep_held(self) -> None:
        """While a person holds this host, cancel what is not live yet; what is live is brought to its outcome."""
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
            proves = "what is live already is proved or rolled back"
            self._board.note_hold(proves if self._works else self._cancelled)

    def _end_hold(self) -> None:
        self._board.note_hold(None)
        if self._cancelled and self.deployment is None and self._board.status.message == f"{self._cancelled}: held":
            self._board.enter(self._board.status.state, self.known_live(), message=None)
        self._cancelled = None

    def retry_where_asked(self) -> None:
        """Answer a request to try again what has failed here: forget the failure, or say why not."""
        request = self._controls.retry
        desired = self._assigned
        if request is None or not self._desired.is_read or self._is_ending(desired):
            return
        try:
            refusal = self._forget_failure(desired)
        except OSError as exc:
            refusal = f"not retried: {self._layout.journal}: {exc.strerror}"
        self._controls.answer_retry(request, refusal or self._promise(desired), done=not refusal)
        self._board.set_controls(self._controls)

    def _promise(self, desired: Desired | None) -> str:
        """What a retry will lead to."""
        waits = self.assignment.retry_waits if self.assignment else None
        when = f" once the rollout admits this host: {waits}" if waits else ""
        return f"{name_of(desired.generation) if desired else 'it'} is tried again{when}"

    def _is_ending(self, desired: Desired | None) -> bool:
        """Whether what runs ends soon, and so wakes the loop: it has just failed, or is a proof with a limited time."""
        if self.deployment is None:
            return False
        return self._said[0] in GAVE_UP or self.deployment.ends or self._is_in_the_way(desired)

    def _forget_failure(self, desired: Desired | None) -> str | None:
        """Forget that the desired release has failed here; returns why not, if so. Raises `OSError`."""
        status = self._board.status
        generation = desired.generation if desired else None
        known = status.state if generation == status.generation else None
        has_failed = desired is not None and self._has_failed(desired)
        standstill = self.assignment.standstill if self.assignment else None
        if standstill and not has_failed:
            return f"nothing to retry: {standstill.message}"
        refusal = refuse_retry(self._controls.held, generation, known, has_failed=has_failed)
        if refusal is None and desired is not None:
            self.journal.save(self.journal.read().without_failure())
            self.look_again()
        return refusal

    def _has_failed(self, desired: Desired) -> bool:
        if self._works:
            return False
        outcome = self._outcome(desired)
        return (outcome is not None and outcome[0] in GAVE_UP) or self.loss() is not None

    def loss(self) -> str | None:
        """What to report if the release that was proved here is no longer live, which is somebody else's doing.

        Raises `OSError` if that can't be told now.
        """
        desired, status = self._desired.current, self._board.status
        if desired is None or desired.release is None or self._works:
            return None
        if (status.generation, status.state) != (desired.generation, "active") or self._is_live(desired.release):
            return None
        place = self._layout.place(desired.release.relative_path)
        return f"{place}: {desired.release.commit_id} is live there no more; `zoo-watcher retry` deploys it again"

    def _is_live(self, release: Release) -> bool:
        return live_commit(self._layout, release.relative_path) == release.commit_id

    def live(self) -> str | None:
        """The commit that is live where the desired release belongs, else at the place that was used last.

        Raises `OSError` if that can't be told now.
        """
        release = self._desired.current.release if self._desired.current else None
        here = live_commit(self._layout, release.relative_path) if release else None
        if here:
            return here
        targets = live_releases(self._layout, self.journal.load())
        return targets[0].commit_id if targets else None

    def known_live(self) -> str | None:
        """As `live`; if that can't be told now, what the status says about it."""
        try:
            return self.live()
        except OSError:
            return self._board.status.commit_id
