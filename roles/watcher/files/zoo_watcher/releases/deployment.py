# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One release, staged, activated and proved in a thread of its own; git and disk work is done by the apply process.

A deployment tries again what may pass, gives up on what will not, and goes back to an earlier release where the new
one does not become healthy. A newer release cancels it at any instant.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Callable

from zoo_watcher.config.config import Config
from zoo_watcher.errors import CancelledError, DeployError, UnhealthyError
from zoo_watcher.services.health import Health
from zoo_watcher.wire.records import Release

from .activation import activate, check_complete, prepare
from .course import Course, Progress
from .fetching import Fetching
from .going_back import MOST_ATTEMPTS, GoingBack
from .handshake import Phase
from .health_proof import HealthProof
from .hooks import HostHooks
from .memory import Memory
from .rollback import PlacedRelease

WITHDRAWAL = 10.0
"""Seconds that the loop gets to withdraw the registrations before a drain continues without that."""

log = logging.getLogger(__name__)


class Deployment(threading.Thread):
    """Activates `release` and proves it. `report` gets, in this thread, each `Progress`, and None at its end."""

    def __init__(  # what one deployment is made of
        self,
        config: Config,
        release: Release,
        generation: int,
        fleet: int,
        health: Health,
        report: Callable[[Progress | None], None],
    ) -> None:
        super().__init__(name=f"deployment-{generation}", daemon=True)
        self.target = PlacedRelease(release.commit_id, release.relative_path)
        self.generation = generation
        self.course = Course(config, self.target, generation, report)
        self.handshake = self.course.handshake
        self._memory = Memory(self.course)
        self._hooks = HostHooks(self.course)
        self._proof = HealthProof(self.course, health)
        self._back = GoingBack(self.course, self._memory, self._hooks, self._proof)
        self._fetching = Fetching(self.course, self._memory, release, fleet)

    def cancel(self) -> None:
        """Let it end as soon as it can; the host stays whole. A hook that runs is waited for."""
        self.handshake.cancel()
        self._memory.break_off_attempt()
        self._proof.wake()
        self._fetching.end()

    def run(self) -> None:
        """The whole deployment. What it comes to is in its last report, and in the journal."""
        try:
            untidy = self._deploy_or_go_back()
            if untidy:
                self._tidy()
        except CancelledError:
            pass
        except DeployError as exc:
            self._give_up("failed", str(exc))
        except Exception as exc:  # noqa: BLE001  # whatever it is, the status says so
            self._give_up("failed", self._log_own(exc))
        finally:
            self.handshake.enter(Phase.ENDED)
            self.course.end()

    def _tidy(self) -> None:
        """Pack the object store. The release is live and proved: what goes wrong here takes nothing of that back."""
        try:
            self._fetching.tidy()
        except Exception as exc:  # noqa: BLE001  # nothing of it is in the outcome
            log.warning("object store not packed: %s", exc)

    def _deploy_or_go_back(self) -> bool:
        """Deploy, or undo that; whether the object store is untidy. Raises `DeployError`."""
        try:
            return self._deploy()
        except UnhealthyError as exc:
            reason = str(exc)
        except DeployError as exc:
            done = None if self.handshake.has_activated else self._back.settle_unproved(str(exc))
            if done:
                raise DeployError(f"{exc}; {done}") from exc
            raise
        except Exception as exc:
            if not self.handshake.has_activated:
                raise
            reason = self._log_own(exc)
        self._give_up(*self._back.go_back(reason))
        return False

    def _log_own(self, error: Exception) -> str:
        """Log an error that nobody has thought of, with its traceback; what the status says of it."""
        log.error(
            "deployment broken off by an error of the agent's own, generation=%s", self.generation, exc_info=error
        )
        return f"an error of the agent's own, see its log: {type(error).__name__} {error}"

    def _deploy(self) -> bool:
        """Activate the release and prove it; whether the object store is untidy. Raises `DeployError`."""
        commit_id = self.target.commit_id
        live = self.course.wait_out("queued", self._back.look_back)
        self._check_attempts()
        untidy = self._make_live() if live != commit_id else False
        # Live and not proved: this deployment's, or one that an earlier agent did not bring to its end.
        proved_before = live == commit_id and self._memory.journal.was_healthy_last(commit_id, self.target.path)
        if not proved_before:
            if live == commit_id:
                self.handshake.enter(Phase.ACTIVATED)
            self._memory.begin_attempt()
            self._hooks.use(UnhealthyError, commit_id, self.course.previous)
        self._prove(proved_before=proved_before)
        problem = self._proof.find_problem_of_place(self.target)
        if problem:
            raise UnhealthyError(problem)
        self._memory.note_healthy(commit_id)
        self._settle("active")
        return untidy

    def _check_attempts(self) -> None:
        """Raises `UnhealthyError` where the release has taken the agent down as often as it may."""
        times = self._memory.attempts
        if times >= MOST_ATTEMPTS:
            self._back.taken_down = times
            # The way back may take the agent down as well.
            self._memory.begin_attempt()
            raise UnhealthyError(
                f"given up: the agent ended without a word {MOST_ATTEMPTS} times "
                "while this release was being activated or checked"
            )

    def _make_live(self) -> bool:
        """Stage the release and swap the symlink; whether the object store is untidy. Raises `DeployError`."""
        course, layout, commit_id = self.course, self.course.layout, self.target.commit_id
        untidy = self._fetching.fetch(self._back.settle_unproved)
        # Before anything is drained: a host that lacks room for the swap goes on serving.
        course.wait_out("queued", partial(prepare, layout, self.target.path, commit_id))
        self._memory.begin_attempt()
        self._drain()
        before = partial(self._hooks.run, "before_activate", DeployError, commit_id, course.previous)
        course.wait_out("activating", before)
        course.wait_out("activating", partial(check_complete, layout, commit_id))
        self._activate()
        return untidy

    def _drain(self) -> None:
        """Have the registrations withdrawn, and wait until no request should come any more."""
        config = self.course.config
        if not config.drain_seconds or not config.services:
            return
        self.handshake.enter(Phase.DRAINING)
        self.course.report("draining")
        if not self.handshake.wait_answered(WITHDRAWAL):
            log.warning("registrations not withdrawn within %g s, continuing", WITHDRAWAL)
        self.handshake.sleep(config.drain_seconds)

    def _activate(self) -> None:
        """Swap the symlink; a disk that is full or read-only is waited out."""
        course = self.course
        self.handshake.check()
        course.report("activating")
        self.handshake.enter(Phase.ACTIVATED)
        with course.timed("activating"):
            course.wait_out("activating", partial(activate, course.layout, self.target.path, self.target.commit_id))

    def _prove(self, *, proved_before: bool) -> None:
        """Wait until the checks pass since the release went live, and long enough.

        Raises `UnhealthyError`, `CancelledError`.
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
                self._memory.break_off_attempt()
                course.report("checking", problem)
                self._proof.wait_for_ever()
            if not proved_before and config.rollback_when_isolated:
                self._await_contact(config.rollback_when_isolated)

    def _await_contact(self, seconds: float) -> None:
        """With this release live, the ensemble must still answer. Raises `UnhealthyError`, `CancelledError`."""
        self.handshake.enter(Phase.AWAITING_CONTACT)
        self.course.report("checking", "waiting for an answer of the ensemble")
        if not self.handshake.wait_answered(seconds) and self._back.is_possible:
            raise UnhealthyError(f"no answer of the ensemble within {seconds:g} s (rollback_when_isolated)")
        self.handshake.check()

    def _give_up(self, state: str, message: str) -> None:
        self._memory.note_failure(state, message)
        self._settle(state, message)

    def _settle(self, state: str, message: str | None = None) -> None:
        """Report the outcome; the loop may hold registrations again."""
        self.handshake.enter(Phase.SETTLED)
        self.course.report(state, message)
