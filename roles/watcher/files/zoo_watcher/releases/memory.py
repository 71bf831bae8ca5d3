# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one deployment remembers in the journal: that its release is being activated, and what it came to."""

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
    """The journal as a deployment, or a proof, has it, which nobody else writes meanwhile but the agent at its end."""

    def __init__(self, course: Course, known: KnownJournal, unproved: Unproved | None) -> None:
        """`unproved` is what is known of a release that is not the published one."""
        self._known = known
        self.journal = ReleaseJournal()
        self._unproved = unproved
        # Where the host goes back to it, the generation is that of what is left.
        self._commit_id = (unproved and unproved.left) or course.target.commit_id
        self._live: str | None = None
        self._course = course
        self._is_known = False
        self._attempting = False
        self._ends_after_hooks = False
        self._lock = threading.RLock()
        self._own: tuple[int, int] | None = None

    def read(self) -> ReleaseJournal:
        """What the host remembers. Raises `OSError` where that can't be read now."""
        self._known.forget()
        return self._known.read()

    def take(self, journal: ReleaseJournal, live: str | None) -> None:
        """Go on with what was read, where the commit `live` is live at the place of the release."""
        self.journal = journal
        self._live = live
        self._is_known = True
        self._own = identify(self._course.layout.own)

    def remember(self, journal: ReleaseJournal) -> OSError | None:
        """Write the journal; why that can't be now: it counts all the same, and is written as soon as it can be.

        One of another base, over which a mount has come up, is left as it is: it tells of what is live there.
        """
        with self._lock:
            self.journal = journal
            own = identify(self._course.layout.own)
            if self._own and own and own != self._own:
                return None
            return self._known.remember(journal)

    @property
    def attempts(self) -> int:
        """How often the release was begun to be activated or checked, and the agent died."""
        return self.journal.attempts(self._course.generation, self._course.target.commit_id)

    @property
    def broken_off(self) -> int:
        """How often an agent that had run hooks or units for the release was ended on purpose."""
        return self.journal.broken_off(self._course.generation, self._course.target.commit_id)

    def end_after_hooks(self) -> None:
        """The agent is ended on purpose, and runs a hook or unit, or just did: that may be what ends it."""
        self._ends_after_hooks = True

    def begin_attempt(self) -> None:
        """Note, once, that the release is about to be activated, or checked: who is started after a crash has to know.

        A read-only disk is waited out, before anything is drained. Where the disk has another problem, the status says
        so, and this goes on: what is published may be what mends the host. Raises `CancelledError`, `YieldedError`.
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
        """Note, before it does, that the host goes back: who is started after a crash has to finish that."""
        generation = self._course.generation
        with self._lock:
            self.remember(self.journal.with_return(generation, left.where, target.where, why))

    def break_off_attempt(self) -> None:
        """Note, where the release has no outcome yet, that it is not to blame for the end of this activation."""
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
        """Note that the release is left and not tried again; why that can't be noted.

        Of one that is not known to be desired, as while no server answers, that takes the place of no newer failure.
        """
        if not self._is_known:
            return None  # what could not be read is not overwritten either
        target = self._course.target
        self._attempting = False
        return self._note_failure(self.journal.without_release(target.commit_id, target.path), state, message)

    def note_return_used(self, target: PlacedRelease, state: str, message: str) -> None:
        """As `note_failure`, where the host uses the release that it went back to: that is still to be checked."""
        if self._is_known:
            journal = self.journal.with_used(target.path, is_used=state == "rolled_back")
            self._note_failure(journal.with_use(target.commit_id, target.path), state, message)

    def _note_failure(self, journal: ReleaseJournal, state: str, message: str) -> OSError | None:
        generation, failure = self._course.generation, journal.failure
        # A generation is a transaction of the ensemble's: of two, the greater is the later. A stable release has the
        # negative of its rollout's.
        if self._unproved is None or failure is None or abs(failure.generation) <= abs(generation):
            journal = journal.with_failure(Failure(generation, state, message, self._commit_id))
        elif state == "failed":
            journal = journal.with_doubt(self._unproved.tell(message))
        return self.remember(journal)

    def note_failure_surely(self, state: str, message: str) -> None:
        """As `note_failure`, durably; what may pass is waited out.

        Raises `DeployError`, `CancelledError`, `YieldedError`.
        """

        def note() -> None:
            # Where nothing but the journal may not be written, the host can go back all the same.
            with disk_errors("noting that the release has failed", MAY_PASS):
                problem = self.note_failure(state, message)
                if problem is not None:
                    raise OSError(problem.errno, problem.strerror, problem.filename)

        self._course.wait_out("checking", note, f"{message}; ")
