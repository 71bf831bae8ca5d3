# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a deployment gets its release directory: it is here, or the apply process creates it, with retries."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.allowed_urls import find_problem
from zoo_watcher.errors import MOST_KILLED, DeployError, KilledError, PassingError
from zoo_watcher.host.filesystem import disk_errors
from zoo_watcher.wire.records import Release

from .apply_process import ApplyProcess, has_mirror, stage_job, tidy_job, without_mirrors
from .course import Course
from .memory import Memory
from .release_directory import allowed_signers, is_deployable, is_unmodified
from .rollback import live_releases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .apply_process import Job

log = logging.getLogger(__name__)


class Fetching:
    """Fetches and stages `release`. `fleet` agents may do the same at the same time."""

    def __init__(self, course: Course, memory: Memory, release: Release, fleet: int) -> None:
        self._course = course
        self._memory = memory
        self._release = release
        self._fleet = fleet
        self._process = ApplyProcess(course.config)
        course.left = self._process.left

    def end(self) -> None:
        """Kill what runs, and start nothing more."""
        self._process.end()

    def tidy(self) -> None:
        """Pack the object store. Raises `DeployError`, `CancelledError`."""
        self._process.run(tidy_job(self._course.config))

    def fetch(self) -> bool:
        """Make sure that the complete release directory is there; returns whether the object store is untidy.

        Raises `DeployError`, `CancelledError`, `YieldedError`.
        """
        course = self._course
        if course.wait_out("queued", self._is_deployable):
            self._spread(course.config.activation_rate)
            return False
        # A release that a rollout rolls back to was perhaps published for others; one that is here needs no server.
        problem = find_problem(self._release.url, course.config.allowed_schemes, course.config.allowed_urls)
        if problem:
            raise DeployError(problem)
        self._spread(course.config.fetch_rate)
        job = course.wait_out("queued", self._job)
        backoff = Backoff()
        steps = _Steps(course.report)
        begin, killed = time.monotonic(), 0
        present = job
        while True:
            try:
                result = self._process.run(present, steps.enter, course.patience_left(begin))
            except PassingError as exc:
                course.handshake.check()
                killed = killed + 1 if isinstance(exc, KilledError) else 0
                if killed == MOST_KILLED:
                    raise DeployError(f"{exc}; given up after {killed} tries that ended so") from exc
                steps.fail(exc)
                course.pause("fetching", str(exc), exc.reason, next(backoff), begin)
                present = _next_try(job, present, exc)
            else:
                course.timings.update(result["done"])
                return bool(result["untidy"])

    def _is_deployable(self) -> bool:
        """Whether the release directory that is here may go live as it is. Raises `DeployError`."""
        layout, config, commit_id = self._course.layout, self._course.config, self._course.target.commit_id
        signers = allowed_signers(*config.signers)
        if is_deployable(layout, commit_id, config.shared_paths, signers):
            if not self._may_lead_out:
                # Created when that was allowed, or by an agent that did not check.
                self._check_links()
            return True
        # What a hook has built in it is in use: recreating the directory would remove that under the other place.
        with disk_errors("looking at what is live"):
            everywhere = live_releases(layout, self._memory.journal)
        place = next((live for live in everywhere if live.commit_id == commit_id), None)
        if place is None or is_unmodified(layout, commit_id, config.shared_paths):
            return False
        if signers is not None:
            raise DeployError(
                f"{commit_id} is live at {place.path} and modified since it was staged, so its signature proves "
                "nothing: publish another commit"
            )
        return True

    def _check_links(self) -> None:
        """Raises `DeployError` if a symlink of the release directory that is here leads out of it."""
        layout, config, commit_id = self._course.layout, self._course.config, self._course.target.commit_id
        with disk_errors("looking at the symlinks of the release"):
            try:
                # Imported here: most releases are not here yet. A shortage during it says nothing about the release.
                from .outside_links import check_links  # noqa: PLC0415
            except ImportError as exc:
                raise PassingError(f"the agent lacks a part: {exc}; is it being installed?", "process") from exc
            check_links(layout, layout.release(commit_id), commit_id, config.shared_paths)

    @property
    def _may_lead_out(self) -> bool:
        """Whether its symlinks may lead out of it: a host can return to anything that was healthy on it before."""
        was_healthy = self._release.commit_id in self._memory.journal.healthy
        return was_healthy or self._course.config.allow_outside_symlinks

    def _job(self) -> Job:
        """The job for the apply process. Raises `DeployError`."""
        return stage_job(self._course.config, self._release, self._kept(), outside_symlinks=self._may_lead_out)

    def _kept(self) -> list[str]:
        """The commits whose release directories stay, the one most likely to resemble the new one first.

        Raises `DeployError`.
        """
        course, journal = self._course, self._memory.journal
        with disk_errors("looking at what is live"):
            everywhere = [target.commit_id for target in live_releases(course.layout, journal)]
        live = course.live()
        healthy = journal.healthy[: course.config.keep_releases - 1]
        candidates = (live, course.previous, *healthy, *everywhere)
        return list(dict.fromkeys(commit_id for commit_id in candidates if commit_id))

    def _spread(self, rate: int) -> None:
        """Wait a random moment, so that about `rate` hosts of the fleet go on in each second.

        Many at once make a git server refuse, and all at once would restart every service of the fleet together.
        Raises `CancelledError`, `YieldedError`.
        """
        if self._fleet > 1:
            self._course.report("queued")
            # Only spreads load: it need not be unpredictable.
            self._course.wait_turn(random.uniform(0, self._fleet / rate))  # noqa: S311  # no secret


def _next_try(job: Job, last: Job, problem: PassingError) -> Job:
    """What to try after `last` has failed: a silent mirror uses up all the time there is for both."""
    if problem.reason != "timeout" or last is not job or not has_mirror(job):
        return job
    log.warning("%s; the next try skips the mirror", problem)
    return without_mirrors(job)


class _Steps:
    """Reports the steps of the apply process; until a step has succeeded, with its last failure."""

    def __init__(self, report: Callable[..., None]) -> None:
        self._report = report
        self._entered: list[str] = []
        self._failed = ""
        self._message: str | None = None
        self._waits_for: str | None = None

    def enter(self, step: str) -> None:
        """A step begins: those before it have succeeded."""
        if self._failed in self._entered:
            self._message = self._waits_for = None
        self._entered.append(step)
        self._report(step, self._message, waits_for=self._waits_for)

    def fail(self, problem: PassingError) -> None:
        """The step that was entered last has failed; all of them are entered again."""
        self._failed = self._entered[-1] if self._entered else ""
        self._message = f"{problem}; trying again"
        self._waits_for = problem.reason
        self._entered = []
