# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one deployment remembers in the journal: that its release is being activated, and its outcome."""

from __future__ import annotations

import errno
import threading
import time

from zoo_watcher.backoff import Backoff
from zoo_watcher.host.filesystem import MAY_PASS, disk_errors, identify

from .course import Course
from .journal import Failure, KnownJournal, ReleaseJournal
from .rollback import PlacedRelease
from .unproved import Unproved


class Memory:
    """The journal for a deployment, or a proof; meanwhile, nobody else writes it except the agent at its end."""

    def __init__(self, course: Course, known: KnownJournal, unproved: Unproved | None) -> None:
        """`unproved` is what is known about a release that is not the published one."""
        self._known = known
        self.journal = ReleaseJournal()
        self._unproved = unproved
        # If the host rolls back to it, the generation is that of the release being left.
        self._commit_id = (unproved and unproved.left) or course.target.commit_id
        self._live: str | None = None
        self._course = course
        self._is_known = False
        self._attempting = False
        self._ends_after_hooks = False
        self._lock = threading.RLock()
        self._own: tuple[int, int] | None = None

    def read(self) -> ReleaseJournal:
        """What the host remembers. Raises `OSError` if that can't be read now."""
        self._known.forget()
        return self._known.read()

    def take(self, journal: ReleaseJournal, live: str | None) -> None:
        """Go on with what was read; the commit `live` is live at the place of the release."""
        self.journal = journal
        self._live = live
        self._is_known = True
        self._own = identify(self._course.layout.own)

    def remember(self, journal: ReleaseJournal) -> OSError | None:
        """Write the journal; returns why that fails now, if so: it counts anyway, and is written as soon as possible.

        The journal of another base, of a mount that has come up, is left as it is: it is about what is live there.
        """
        with self._lock:
            self.journal = journal
            own = identify(self._course.layout.own)
            if self._own and own and own != self._own:
                return None
            return self._known.remember(journal)

    @property
    def attempts(self) -> int:
        """How often the agent died after it had begun to activate or check the release."""
        return self.journal.attempts(self._course.generation, self._course.target.commit_id)

    @property
    def broken_off(self) -> int:
        """How often an agent that had run hooks or units for the release was stopped on purpose."""
        return self.journal.broken_off(self._course.generation, self._course.target.commit_id)

    def end_after_hooks(self) -> None:
        """The agent is stopped on purpose, and runs a hook or unit, or just did: that may be what stops it."""
        self._ends_after_hooks = True

    def begin_attempt(self) -> None:
        """Note, once, that the release is about to be activated or checked: an agent started after a crash has to know.

        A read-only disk is waited out, before anything is drained. If the disk has another problem, the status says so,
        and this goes on: the published release may be what fixes the host. Raises `CancelledError`, `YieldedError`.
        """
        if self._attempting:
            return
        course, begin = self._course, time.monotonic()
        for pause in Backoff():
            with self._lock:
                course.handshake.check()
                before = self.journal
                problem = self.remember(self._with_attempt())
                self._attempting = problem is None or problem.errno != errno.EROFS
            if self._attempting:
                return
            self.remember(before)
            course.pause("queued", f"{course.layout.journal}: Read-only file system", "disk", pause, begin)

    def _with_attempt(self) -> ReleaseJournal:
        generation, target = self._course.generation, self._course.target
        if self._unproved is None:
            return self.journal.with_attempt(generation, target.commit_id, target.path, self._live)
        return self.journal.with_check(target.commit_id, target.path, generation)

    def note_used(self, live: PlacedRelease) -> None:
        """Note that hook and units were done for what is live, which is not proved yet."""
        with self._lock:
            self.remember(self.journal.with_use(live.commit_id, live.path))

    def note_return(self, left: PlacedRelease, target: PlacedRelease, why: str) -> None:
        """Note, in advance, that the host rolls back: an agent started after a crash has to finish that."""
        generation = self._course.generation
        with self._lock:
            self.remember(self.journal.with_return(generation, left.where, target.where, why))

    def break_off_attempt(self) -> None:
        """Note, if the release has no outcome yet, that it is not to blame for the end of this activation."""
        with self._lock:
            if self._attempting:
                journal = self.journal.without_attempt()
                self.remember(journal.with_broken_off() if self._ends_after_hooks else journal)
            self._attempting = False

    def note_healthy(self, live: PlacedRelease) -> None:
        """Note that a release was healthy where it is live."""
        self._attempting = False
        journal = self.journal.with_healthy(live.commit_id, live.path, self._course.config.keep_releases)
        self.remember(journal.without_failure() if self._unproved is None else journal)

    def note_failure(self, state: str, message: str) -> OSError | None:
        """Note that the release is left and not tried again; returns why that can't be noted, if so.

        For one not known to be desired, for instance while no server answers, that does not replace a newer failure.
        """
        if not self._is_known:
            return None  # a journal that could not be read is not overwritten either
        target = self._course.target
        self._attempting = False
        return self._note_failure(self.journal.without_release(target.commit_id, target.path), state, message)

    def note_return_used(self, target: PlacedRelease, state: str, message: str) -> None:
        """As `note_failure`, when the host uses the release that it rolled back to, which is still to be checked."""
        if self._is_known:
            journal = self.journal.with_used(target.path, is_used=state == "rolled_back")
            self._note_failure(journal.with_use(target.commit_id, target.path), state, message)

    def _note_failure(self, journal: ReleaseJournal, state: str, message: str) -> OSError | None:
        generation, failure = self._course.generation, journal.failure
        # A generation is a transaction id of the ensemble: of two, the greater is the later. A stable release has the
        # negative of its rollout's generation.
        if self._unproved is None or failure is None or abs(failure.generation) <= abs(generation):
            journal = journal.with_failure(Failure(generation, state, message, self._commit_id))
        elif state == "failed":
            journal = journal.with_doubt(self._unproved.tell(message))
        return self.remember(journal)

    def note_failure_surely(self, state: str, message: str) -> None:
        """As `note_failure`, durably; a problem that may pass is waited out.

        Raises `DeployError`, `CancelledError`, `YieldedError`.
        """

        def note() -> None:
            # If only the journal can't be written, the host can roll back anyway.
            with disk_errors("noting that the release has failed", MAY_PASS):
                problem = self.note_failure(state, message)
                if problem is not None:
                    raise OSError(problem.errno, problem.strerror, problem.filename)

        self._course.wait_out("checking", note, f"{message}; ")
