# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host rolls back from a failed release to what it ran before; `rollback.py` decides what that is."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from functools import partial

from zoo_watcher.errors import DeployError, PassingError
from zoo_watcher.host.filesystem import disk_errors

from .activation import activate, check_visible, live_commit, read_link, restore_link
from .apply_process import ApplyProcess, verify_job
from .course import Course
from .handshake import Phase
from .health_proof import HealthProof
from .hooks import HostHooks
from .manifest import Manifest
from .memory import Memory
from .release_directory import allowed_signers
from .rollback import PlacedRelease, WayBack, live_releases
from .unproved import Unproved

MOST_ATTEMPTS = 2
"""How often the agent may die, alone or with its host, before the release counts as the cause."""
MOST_BROKEN_OFF = 8
"""The same if it is stopped on purpose each time, while hooks or units run or soon after: people do that, too."""
BROKEN_OFF = (
    f"given up: the agent was stopped or restarted {MOST_BROKEN_OFF} times after hooks or units were run for this "
    "release; does one of them restart the agent?"
)
_NOT_USED = f"after_activate and the units were not done for it: the agent died {MOST_ATTEMPTS} times meanwhile"
_NOT_CHECKED = f"it was not checked: the agent died {MOST_ATTEMPTS} times meanwhile"

log = logging.getLogger(__name__)


class GoingBack:
    """The rollback of one deployment. `taken_down` is how often the release has taken down the agent, if too often."""

    def __init__(self, course: Course, memory: Memory, hooks: HostHooks, proof: HealthProof) -> None:
        self.taken_down = 0
        self._course = course
        self._memory = memory
        self._hooks = hooks
        self._proof = proof
        self._way_back = WayBack()
        self._process = ApplyProcess(course.config)

    def end(self) -> None:
        """Kill the verification of an earlier release, and start nothing more."""
        self._process.end()

    @property
    def is_possible(self) -> bool:
        """Whether there is anything to roll back to."""
        return self._way_back.first is not None

    def look_back(self) -> str | None:
        """Find out what this host ran before; returns the commit that is live at the place of the release now.

        Raises `DeployError`.
        """
        with disk_errors("looking at what is here"):
            return self._find()

    def _find(self) -> str | None:
        layout, target = self._course.layout, self._course.target
        check_visible(layout, target.path, target.commit_id)
        live = live_commit(layout, target.path)
        journal = self._memory.read()
        in_use = {target.path, *(other.path for other in live_releases(layout, journal))}
        journal = journal.without_places(lambda known: known not in in_use)
        journal = journal.with_place(target.path, live, read_link(layout, target.path))
        self._way_back = WayBack.find(layout, journal, target)
        staged = set(layout.staged())
        candidates = [self._way_back.first.commit_id] if self._way_back.first else []
        candidates += [commit_id for commit_id in journal.healthy if commit_id in staged]
        self._course.previous = next((commit_id for commit_id in candidates if commit_id != target.commit_id), None)
        self._memory.take(journal, live)
        return live

    def go_back(self, reason: str) -> tuple[str, str]:
        """Make an earlier release live again and check it, without git; returns the outcome and its message.

        A release that was never proved itself is left to a proof of its own. Raises `CancelledError`, `YieldedError`.
        """
        course = self._course
        course.note_failure()
        course.handshake.enter(Phase.GOING_BACK)
        try:
            target, message = self._swap_back(course.target, self.taken_down, reason)
            if self.taken_down:
                # Before anything is run that may take down the agent again.
                ended = "the agent ended before after_activate and the units were done"
                self._memory.note_failure_surely("failed", f"{message}; {ended}")
        except DeployError as exc:
            return "failed", str(exc)
        known = self._memory.journal.unproved(*target.where)
        if known and known.left is None:
            return "rolled_back", f"{message}, which was never proved"
        return self._check_earlier(target, message, self._use(target, course.target.commit_id, message))

    def finish(self, unproved: Unproved) -> tuple[str, str]:
        """Finish rolling back to the release of this course, which an earlier agent began; as `go_back`."""
        self._course.handshake.enter(Phase.GOING_BACK)
        self._memory.begin_attempt()
        not_left, problems = self._leave_place(unproved), self._noted_problems(unproved)
        if unproved.broken_off > MOST_BROKEN_OFF:
            return _outcome(unproved.why, [*not_left, *problems, "after_activate and the units were not done for it"])
        if unproved.times >= MOST_ATTEMPTS:
            never = _NOT_USED if unproved.needs_use else _NOT_CHECKED
            return _outcome(unproved.why, [*not_left, *problems, never])
        if unproved.needs_use:
            problems = self._use(unproved.release, unproved.left, unproved.why)
        return self._check_earlier(unproved.release, unproved.why, [*not_left, *problems])

    def _leave_place(self, unproved: Unproved) -> list[str]:
        """Restore the other place if the earlier agent has not come to that; returns what went wrong."""
        for one in self._memory.journal.begun:
            is_left = (one.commit_id, one.generation) == (unproved.left, unproved.generation)
            if is_left and one.path not in {None, unproved.release.path}:
                left = PlacedRelease(one.commit_id, str(one.path))
                try:
                    self._course.wait_out("checking", partial(self._leave, left, unproved.release))
                except DeployError as exc:
                    return [str(exc)]
        return []

    def _leave(self, left: PlacedRelease, target: PlacedRelease) -> None:
        with disk_errors("looking at what is here"):
            check_visible(self._course.layout, left.path, left.commit_id)
            is_live = live_commit(self._course.layout, left.path) == left.commit_id
        if is_live:
            self._make_live(left.path, target)

    def _noted_problems(self, unproved: Unproved) -> list[str]:
        """What went wrong when an earlier agent had the host use the release, as noted by that agent."""
        failure = self._memory.journal.failed(unproved.generation, unproved.left or "")
        begin = f"{unproved.why}; "
        return [failure.message[len(begin) :]] if failure and failure.message.startswith(begin) else []

    def _use(self, target: PlacedRelease, failed: str | None, message: str) -> list[str]:
        """Have the host use the earlier release; returns what went wrong. Raises `CancelledError`, `YieldedError`."""
        problems = self._hooks.use_again(target.commit_id, failed, message)
        # Before the check: if the agent ends during it, the next one must not retry this generation, but check on.
        self._memory.note_return_used(target, *_outcome(message, problems))
        return problems

    def _check_earlier(self, target: PlacedRelease, message: str, problems: list[str]) -> tuple[str, str]:
        """Wait for the health of the earlier release, which the host uses. Raises `CancelledError`."""
        self._course.report("checking", message)
        problems = [*problems, *self._find_problems()]
        problem = self._proof.find_problem_of_place(target)
        return _outcome(message, [*problems, *([problem] if problem else [])])

    def _find_problems(self) -> list[str]:
        problem = self._proof.find_problem()
        return [f"the earlier release is {problem}"] if problem else []

    def _swap_back(self, failed: PlacedRelease, times: int, reason: str) -> tuple[PlacedRelease, str]:
        """Make an earlier release live after one that has failed, and has taken down the agent so many `times`.

        Returns that release, and what has happened.

        Raises `DeployError`, also with the reason, and `CancelledError`.
        """
        try:
            choose = partial(self._choose, time.monotonic() + self._course.config.health_timeout)
            target = self._course.wait_out("checking", choose, f"{reason}; rolling back: ")
        except DeployError as exc:
            raise DeployError(f"{reason}; {exc}") from exc
        log.error("rolling back to %s, generation=%s: %s", target.commit_id, self._course.generation, reason)
        try:
            self._prepare(failed.commit_id, times, target)
        # Also if it can't be started now: the release that has failed is live until the symlink is swapped.
        except DeployError as exc:
            reason = f"{reason}; {exc}"
        where = "" if target.path == failed.path else f" at {target.path}"
        message = f"{reason}; rolled back to {target.commit_id}{where}"
        self._memory.note_return(failed, target, message)
        try:
            self._course.wait_out(
                "checking", partial(self._make_live, failed.path, target), f"{reason}; rolling back: "
            )
        except DeployError as exc:
            raise DeployError(f"{reason}; and the rollback failed: {exc}") from exc
        return target, message

    def _choose(self, deadline: float) -> PlacedRelease:
        """What to roll back to; after the deadline, also what can't be read. Raises `DeployError`, `CancelledError`."""
        config, layout = self._course.config, self._course.layout
        signers = allowed_signers(*config.signers)
        accepted = self._accepted()
        unknown = self._verify_anew(signers, accepted or ())
        waits = time.monotonic() < deadline
        try:
            return self._way_back.choose(layout, config.shared_paths, signers, accepted, waits=waits)
        except DeployError:
            if unknown:
                raise unknown from None
            raise

    def _accepted(self) -> frozenset[tuple[str, str]] | None:
        """The earlier releases that were accepted by a signature; None if none is demanded. Raises `DeployError`."""
        if self._course.config.require_signature is None:
            return None
        # Imported here: an agent that demands none does not keep it in memory.
        from .accepted_releases import accepted_places  # noqa: PLC0415

        places = [one.where for one in self._way_back.earlier]
        return accepted_places(self._course.config, self._course.layout, places)

    def _verify_anew(self, signers: str | None, accepted: Collection[tuple[str, str]]) -> PassingError | None:
        """Verify the earlier releases that were verified with other signers; returns why one of them can't be now.

        Raises `CancelledError`.
        """
        unknown = None
        for target in (one for one in self._way_back.earlier if one.where in accepted):
            try:
                with disk_errors("reading a manifest"):
                    manifest = Manifest.load(self._course.layout.manifest(target.commit_id))
                if manifest is not None and manifest.signers != signers:
                    self._process.run(verify_job(self._course.config, target.commit_id))
            except PassingError as exc:
                unknown = exc
            except DeployError as exc:
                log.warning("skipped while rolling back, commit=%s: %s", target.commit_id, exc)
        return unknown

    def _prepare(self, failed: str, times: int, target: PlacedRelease) -> None:
        """Run the hook `before_rollback`, unless the agent may have ended in it. Raises `DeployError`."""
        if self._memory.broken_off > MOST_BROKEN_OFF:
            raise DeployError("hook before_rollback not run: the agent was stopped or restarted while it went back")
        if times > MOST_ATTEMPTS:
            raise DeployError("hook before_rollback not run: the agent died while rolling back")
        self._hooks.run("before_rollback", DeployError, failed, target.commit_id)

    def _make_live(self, path: str, target: PlacedRelease) -> None:
        """Make the target live, and restore the place `path` to what it was before. Raises `DeployError`."""
        layout, memory = self._course.layout, self._memory
        if target.path == path:
            activate(layout, path, target.commit_id)
            return
        # The target is live at its own place, where nothing has changed.
        restore_link(layout, path, memory.journal.place(path).before)
        memory.journal = memory.journal.without_places(lambda known: known == path)


def given_up(what: str) -> str:
    """What is wrong with a release that has taken down the agent too often."""
    return f"given up: the agent died {MOST_ATTEMPTS} times while {what} was being activated or checked"


def _outcome(message: str, problems: list[str]) -> tuple[str, str]:
    """How a generation has failed: `failed` if the host does not run the earlier release as it should either."""
    return "failed" if problems else "rolled_back", "; ".join([message, *problems])
