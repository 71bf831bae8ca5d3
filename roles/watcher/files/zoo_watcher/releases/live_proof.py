# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of a live release, in a thread of its own: if it does not become healthy, the host rolls back.

It needs neither the ensemble nor git. What a deployment does before that is in `deployment.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from zoo_watcher.config.config import Config
from zoo_watcher.errors import CancelledError, DeployError, UnhealthyError, YieldedError
from zoo_watcher.host.thread import Thread
from zoo_watcher.services.health import Health

from .activation import live_commit
from .course import Course, Progress
from .going_back import BROKEN_OFF, MOST_ATTEMPTS, MOST_BROKEN_OFF, GoingBack, given_up
from .handshake import Phase
from .health_proof import HealthProof
from .hooks import HostHooks
from .journal import KnownJournal
from .memory import Memory
from .rollback import PlacedRelease
from .unproved import Unproved

log = logging.getLogger(__name__)


class LiveProof(Thread):
    """Proves `target`, which is live. `report` gets, in this thread, each `Progress`, and None at the end.

    `unproved` is what is known about it, if it is not the desired release. A proof that `ends` waits for nothing for
    ever: in the end it `has_yielded` to what is deployed after it.
    """

    def __init__(
        self,
        config: Config,
        journal: KnownJournal,
        target: PlacedRelease,
        generation: int,
        health: Health,
        report: Callable[[Progress | None], None],
        *,
        unproved: Unproved | None = None,
        ends: bool = False,
    ) -> None:
        super().__init__(name=f"deployment-{generation}", daemon=True)
        self.target = target
        self.generation = generation
        self.ends = ends
        self.has_yielded = False
        self.course = Course(config, target, generation, report)
        self.handshake = self.course.handshake
        self._unproved = unproved
        self._cancel_is_logged = False
        self._memory = Memory(self.course, journal, unproved)
        self._hooks = HostHooks(self.course)
        self._proof = HealthProof(self.course, health)
        self._back = GoingBack(self.course, self._memory, self._hooks, self._proof)
        if ends:
            self.course.patience = config.health_timeout

    def cancel(self) -> None:
        """Let it end as soon as it can; the host stays whole. A hook that runs is waited for."""
        if not self._cancel_is_logged and self.handshake.phase < Phase.SETTLED:
            log.info("cancelled, generation=%s commit=%s", self.generation, self.target.commit_id)
        self._cancel_is_logged = True
        self.handshake.cancel()
        self._proof.wake()
        self._back.end()

    def cancel_for_end(self) -> None:
        """Cancel it because the agent ends, or reloads: on purpose, unless a hook of this release has caused that."""
        if self._hooks.may_end_agent:
            self._memory.end_after_hooks()
        self.cancel()

    def end(self, seconds: float) -> None:
        """Cancel it, and wait for its end, for at most `seconds`. Then the agent ends, on purpose."""
        self.cancel_for_end()
        self.join(seconds)
        self._memory.break_off_attempt()

    def cancel_unless_live(self) -> bool:
        """Cancel it if its release is not live yet, and has not been; returns whether that is so.

        Raises `OSError` if what is live can't be told now.
        """
        if live_commit(self.course.layout, self.target.path) == self.target.commit_id:
            return False
        if not self.handshake.cancel_before_activation():
            return False
        self.cancel()
        return True

    def run(self) -> None:
        """Do all of it. The outcome is in the last report, and in the journal."""
        try:
            if self._prove_or_go_back():
                self._tidy()
        except (CancelledError, YieldedError) as exc:
            self._memory.break_off_attempt()
            self.has_yielded = isinstance(exc, YieldedError)
        except DeployError as exc:
            self._give_up("failed", str(exc))
        except Exception as exc:  # noqa: BLE001  # whatever it is, the status says so
            self._give_up("failed", self._log_own(exc))
        finally:
            self.handshake.enter(Phase.ENDED)
            self.course.end()

    def _tidy(self) -> None:
        """Do what is left to do once the release is proved: nothing."""

    def _prove_or_go_back(self) -> bool:
        """Have the release live and proved, or undo that; returns whether it is proved.

        Raises `DeployError`, `CancelledError`, `YieldedError`.
        """
        try:
            self._make_live_and_prove()
        except UnhealthyError as exc:
            reason = str(exc)
        except DeployError:
            raise
        except Exception as exc:
            reason = self._log_own(exc)
            if not self.handshake.has_activated:
                raise DeployError(reason) from exc
        else:
            return True
        # If cancelled, what failed stays live and unproved: the newer release settles it, or the next agent.
        self.handshake.check()
        self._give_up(*self._back.go_back(reason))
        return False

    def _log_own(self, error: Exception) -> str:
        """Log an unexpected error with its traceback; returns what the status says about it."""
        log.error(
            "deployment broken off by an internal error of the agent, generation=%s", self.generation, exc_info=error
        )
        return f"an internal error of the agent, see its log: {type(error).__name__} {error}"

    def _make_live_and_prove(self) -> None:
        """Have the release live, and prove it. Raises `DeployError`, `CancelledError`."""
        proved_before = False
        if self.course.wait_out("queued", self._back.look_back) == self.target.commit_id:
            proved_before = self._take_live()
        else:
            self._check_attempts()
            self._make_live()
        if not proved_before:
            self._use()
        self._prove(proved_before=proved_before)
        problem = self._proof.find_problem_of_place(self.target)
        if problem:
            raise UnhealthyError(problem)
        self._memory.note_healthy(self.target)
        self._settle("active")

    def _take_live(self) -> bool:
        """Go on with a release that is live from the start; returns whether it was proved. Raises `UnhealthyError`."""
        self._note_live()
        self._check_attempts()
        is_proved = self._memory.journal.is_proved(self.target.commit_id, self.target.path)
        if not is_proved:
            # An earlier agent did not finish it.
            self.handshake.enter(Phase.ACTIVATED)
        return is_proved

    def _note_live(self) -> None:
        """The release is live: nothing changes for one that has been live from the start."""

    def _use(self) -> None:
        """Have the host use the release, unless that is done. Raises `UnhealthyError`, `CancelledError`."""
        self._memory.begin_attempt()
        if self._unproved is None or self._unproved.needs_use:
            self._hooks.use(UnhealthyError, self.target.commit_id, self.course.previous)
            self._memory.note_used(self.target)

    def _make_live(self) -> None:
        """Raises `CancelledError`: what is no longer live is not to be proved."""
        raise CancelledError

    def _check_attempts(self) -> None:
        """Raises `UnhealthyError` if the release has taken down the agent as often as it may."""
        times = self._memory.attempts
        if times >= MOST_ATTEMPTS:
            self._back.taken_down = times
            # The rollback may take down the agent as well.
            self._memory.begin_attempt()
            raise UnhealthyError(given_up("this release"))
        if self._memory.broken_off >= MOST_BROKEN_OFF:
            self._back.taken_down = MOST_ATTEMPTS
            self._memory.begin_attempt()
            raise UnhealthyError(BROKEN_OFF)

    def _prove(self, *, proved_before: bool) -> None:
        """Wait until the checks have passed since the release went live, for long enough.

        Raises `UnhealthyError`, `CancelledError`, `YieldedError`.
        """
        course, config = self.course, self.course.config
        course.report("checking")
        with course.timed("checking"):
            # A release that was proved before need not last again: nothing has changed on this host.
            problem = self._proof.find_problem(0.0 if proved_before else config.healthy_for)
            if problem:
                if not proved_before and self._back.is_possible:
                    raise UnhealthyError(problem)
                # Nothing to go back to: it was proved before, or is the first and its service comes up later.
                if self.ends:
                    self.course.report("checking", f"{problem}; there is no earlier release to go back to")
                    raise YieldedError
                self._memory.break_off_attempt()
                self.handshake.end_drain()
                course.report("checking", problem, waits_for="health")
                self._proof.wait_for_ever()
            if not proved_before and config.rollback_when_isolated:
                self._await_contact(config.rollback_when_isolated)

    def _await_contact(self, seconds: float) -> None:
        """Wait until the ensemble answers with this release live. Raises `UnhealthyError`, `CancelledError`."""
        self.handshake.enter(Phase.AWAITING_CONTACT)
        self.course.report("checking", "waiting for an answer from the ensemble")
        if not self.handshake.wait_answered(seconds) and self._back.is_possible:
            raise UnhealthyError(f"no answer from the ensemble within {seconds:g} s (rollback_when_isolated)")
        self.handshake.check()

    def _give_up(self, state: str, message: str) -> None:
        """Note and report that the release has failed, unless its deployment was cancelled."""
        if self.handshake.is_cancelled():
            self._memory.break_off_attempt()
            return
        self._memory.note_failure(state, message)
        self._settle(state, message)

    def _settle(self, state: str, message: str | None = None) -> None:
        """Report the outcome; the loop may hold registrations again."""
        self.handshake.enter(Phase.SETTLED)
        self.course.report(state, message)
