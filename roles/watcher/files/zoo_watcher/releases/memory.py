# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one deployment remembers in the journal: that its release is being activated, and what it came to."""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Iterator

from zoo_watcher.backoff import Backoff
from zoo_watcher.host.filesystem import disk_errors

from .course import Course
from .journal import Failure, ReleaseJournal
from .rollback import PlacedRelease

log = logging.getLogger(__name__)


class Memory:
    """The journal as a deployment has it, which nobody else writes meanwhile but who cancels it."""

    def __init__(self, course: Course) -> None:
        self.journal = ReleaseJournal()
        self.desired = course.target.commit_id
        """The commit of this generation; where the host goes back, that is not the one which is made live."""
        self._live: str | None = None
        self._course = course
        self._is_known = False
        self._attempting = False
        self._lock = threading.RLock()

    def take(self, journal: ReleaseJournal, live: str | None) -> None:
        """Go on with what was read, where the commit `live` is live at the place of the release."""
        self.journal = journal
        self._live = live
        self._is_known = True

    def remember(self, journal: ReleaseJournal) -> OSError | None:
        """Write the journal; why that can't be: the host still runs what it runs."""
        path = self._course.layout.journal
        with self._lock:
            self.journal = journal
            try:
                journal.save(path)
            except OSError as exc:
                log.warning("journal not written, path=%s: %s", path, exc.strerror)
                return exc
        return None

    @property
    def attempts(self) -> int:
        """How often the release was begun to be activated, and the agent ended without a word."""
        return self.journal.attempts(self._course.generation, self._course.target.commit_id)

    def begin_attempt(self) -> None:
        """Note, once, that the release is about to be activated: who is started after a crash has to know.

        A read-only disk is waited out, before anything is drained. Raises `CancelledError`.
        """
        if self._attempting:
            return
        course = self._course
        target = course.target
        for pause in Backoff():
            with self._lock:
                course.handshake.check()
                before = self.journal
                problem = self.remember(
                    before.with_attempt(course.generation, target.commit_id, target.path, self._live)
                )
                self._attempting = problem is None or problem.errno != errno.EROFS
            if self._attempting:
                return
            self.journal = before
            why = f"{course.layout.journal}: Read-only file system"
            course.look_at_deadline(why)
            course.report("queued", f"{why}; tried again in {pause:.0f} s", "disk")
            course.handshake.sleep(pause)

    @contextlib.contextmanager
    def checking(self, live: PlacedRelease) -> Iterator[int]:
        """Note, while it lasts, that what is live and unproved is checked; how often the agent ended in that before.

        Raises `CancelledError`.
        """
        course = self._course
        with self._lock:
            course.handshake.check()
            self.remember(self.journal.with_check(live.commit_id, live.path, course.generation))
            self._attempting = True
        attempt = self.journal.unproved(live.commit_id, live.path)
        yield attempt.times - 1 if attempt else 0
        with self._lock:
            self._attempting = False

    def note_used(self, live: PlacedRelease) -> None:
        """Note that hook and units were done for what is live, which is not proved yet."""
        with self._lock:
            self.remember(self.journal.with_use(live.commit_id, live.path))

    def note_return(self, left: PlacedRelease, target: PlacedRelease, why: str) -> None:
        """Note, before it does, that the host goes back: who is started after a crash has to finish that."""
        generation = self._course.generation
        with self._lock:
            self.remember(self.journal.with_return(generation, left.where, target.where, why))

    def note_returned(self, target: PlacedRelease) -> None:
        """Note that the host uses again what it went back to."""
        with self._lock:
            self.remember(self.journal.without_return(target.commit_id, target.path))

    def break_off_attempt(self) -> None:
        """Note, where the release has no outcome yet, that it is not to blame for the end of this activation."""
        with self._lock:
            if self._attempting:
                self.remember(self.journal.without_attempt())
            self._attempting = False

    def note_healthy(self, live: PlacedRelease) -> None:
        """Note that a release was healthy where it is live."""
        self.remember(self.journal.with_healthy(live.commit_id, live.path, self._course.config.keep_releases))

    def note_failure(self, state: str, message: str) -> OSError | None:
        """Note that this generation is not tried again; why that can't be noted."""
        if not self._is_known:
            return None  # what could not be read is not overwritten either
        failure = Failure(self._course.generation, state, message, self.desired)
        return self.remember(self.journal.with_failure(failure))

    def note_failure_surely(self, state: str, message: str) -> None:
        """Note durably that this generation is not tried again; what may pass is waited out.

        Raises `DeployError`, `CancelledError`.
        """

        def note() -> None:
            with disk_errors("noting that the release has failed"):
                problem = self.note_failure(state, message)
                if problem is not None:
                    raise OSError(problem.errno, problem.strerror, problem.filename)

        self._course.wait_out("checking", note, f"{message}; ")
