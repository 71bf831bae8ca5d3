# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the services of this host are healthy: one thread per check, which probes, counts and reports changes."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.config import Check
from zoo_watcher.errors import NotCheckedError
from zoo_watcher.host.thread import Thread

from .probes import probe

EAGER = 0.05
"""Seconds until the second probe after a release went live; each further pause is `SLOWER` times as long."""
SLOWER = 1.3
HANGING = 10.0
"""Seconds beyond a check's timeout, or three intervals, after which its last verdict no longer counts."""
LOOK = 1.0
"""Seconds between two looks at whether the checks make progress."""

log = logging.getLogger(__name__)


class Checker(Thread):
    """One check. `healthy` (None: not known yet) changes after `rise` or `fall` answers in a row.

    `proved_at` is when there had been `rise` passes since `prove`, on the monotonic clock; None before that.
    """

    def __init__(self, check: Check, changed: Callable[[], None]) -> None:
        super().__init__(name=f"check-{check.port}", daemon=True)
        self.check = check
        self.healthy: bool | None = None
        self.proved_at: float | None = None
        self.reason = "not checked yet"
        self.trouble: str | None = None
        """Why the check can't be run now: meanwhile the last verdict stays, for as long as for a check that hangs."""
        self.answers = 0
        """How often the check has ended, which one that hangs does not."""
        self.answered_at = 0.0
        """When it last ended, by `time.time()`; 0 before the first time."""
        self.patience = check.timeout + max(HANGING, 3 * check.interval)
        """Seconds that one check may take."""
        self.max_age = self.patience + check.interval
        """Seconds after which a verdict no longer counts."""
        self._changed = changed
        self._in_a_row = 0
        self._is_failing = False
        self._warns = True
        self._epoch = 0
        self._soak = 0.0
        self._backoff = Backoff(EAGER, check.interval, SLOWER, jitter=0)
        self._again = threading.Event()
        self._lock = threading.Lock()

    @property
    def proved(self) -> bool:
        """Whether there have been `rise` passes since `prove`."""
        return self.proved_at is not None

    def prove(self, soak: float = 0.0) -> None:
        """Start to count: only probes from now on prove; with a `soak`, in seconds, one failure revokes that."""
        with self._lock:
            self._epoch += 1
            self._warns = True
            self._soak = soak
            self.proved_at = None
            self._in_a_row = 0
            self._backoff.reset()
        self._again.set()

    def run(self) -> None:
        """Probe for ever; the thread ends with the process."""
        while True:
            try:
                self._ask()
                pause = self._next_pause()
            except Exception:  # noqa: BLE001  # no memory, not even to note that: the next time there may be
                pause = self.check.interval
            self._again.wait(pause)
            self._again.clear()

    def _ask(self) -> None:
        epoch = self._epoch
        try:
            problem = probe(self.check)
        except NotCheckedError as exc:
            self._note_not_made(str(exc))
        except Exception as exc:  # noqa: BLE001  # whatever it is, it says nothing of the service
            self._note_not_made(f"unexpected {type(exc).__name__}: {exc}".rstrip(": "), exc)
        else:
            self._note(problem, epoch)

    def _note_not_made(self, why: str, mistake: Exception | None = None) -> None:
        trouble = f"{self.check.type} check of port {self.check.port} can't be made: {why}"
        if trouble == self.trouble:
            return
        if mistake:
            log.error("%s", trouble, exc_info=mistake)
        self.trouble = trouble
        self._changed()

    def _next_pause(self) -> float:
        with self._lock:
            # During a proof, probe often until the end: at the interval, a short soak would see no answer.
            lasts = self.proved_at is not None and time.monotonic() - self.proved_at >= self._soak
            return self.check.interval if lasts else next(self._backoff)

    def note_hang(self, answers: int) -> None:
        """The probe after so many `answers` does not end: the results of earlier ones no longer say anything."""
        with self._lock:
            if self.answers != answers:
                return  # it has just ended
            hung = self.healthy is not False
            self.healthy = False
            self.proved_at = None
            self._in_a_row = 0
            what = self.trouble or f"{self.check.type} check of port {self.check.port}"
            self.reason = f"{what}: no result for {self.patience:g} s"
        if hung:
            self._changed()

    def _note(self, problem: str | None, epoch: int) -> None:
        told = None
        with self._lock:
            self.answers += 1
            self.answered_at = time.time()
            before = (self.healthy, self.proved, self.trouble)
            self.trouble = None
            if epoch == self._epoch:
                self._count(problem)
                told = self._news(problem)
            changed = before != (self.healthy, self.proved, self.trouble)
        if told:
            log.log(*told)
        if changed:
            self._changed()

    def _count(self, problem: str | None) -> None:
        passed = problem is None
        self._in_a_row = max(self._in_a_row, 0) + 1 if passed else min(self._in_a_row, 0) - 1
        if problem is not None:
            self.reason = problem
            if self._soak:
                self.proved_at = None
        if self._in_a_row >= self.check.rise:
            self.healthy = True
            self.proved_at = self.proved_at or time.monotonic()
        elif self._in_a_row <= -self.check.fall:
            self.healthy = False

    def _news(self, problem: str | None) -> tuple[int, str, object] | None:
        """What to log once the answer is counted: the first failure in a row, and the end of that row."""
        if problem is not None and self._warns:
            self._is_failing, self._warns = True, False
            return logging.WARNING, "check fails: %s", problem
        if self._is_failing and self._in_a_row >= self.check.rise:
            self._is_failing, self._warns = False, True
            return logging.INFO, "check passes again: port %s", self.check.port
        return None


class Supervisor(Thread):
    """Watches for checks that hang: in a resolver, or in a process that can't be killed, no timeout ends them."""

    def __init__(self, checkers: Sequence[Checker]) -> None:
        super().__init__(name="checks", daemon=True)
        self._checkers = checkers
        self._looked = time.monotonic()
        self._progress = {checker: (checker.answers, self._looked) for checker in checkers}

    def run(self) -> None:
        """Look for ever; the thread ends with the process."""
        while True:
            time.sleep(LOOK)
            # Without memory, even this may fail; the next look follows soon.
            with contextlib.suppress(Exception):
                self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Note which checks have made no progress for too long at the time `now`, in seconds."""
        # While the process was stopped, no check could make progress.
        paused = now - self._looked > 3 * LOOK
        self._looked = now
        for checker in self._checkers:
            answers, since = self._progress[checker]
            if paused or checker.answers != answers:
                self._progress[checker] = (checker.answers, now)
            elif now - since > checker.max_age:
                checker.note_hang(answers)


class Health:
    """The checks of all services, in their order. `changed` is called from a check's thread."""

    def __init__(self, checks: Sequence[Check], changed: Callable[[], None]) -> None:
        self._condition = threading.Condition()
        self._changed = changed
        self._soak = 0.0
        self.checkers = [Checker(check, self._on_change) for check in checks]

    def start(self) -> None:
        """Start the checks."""
        for checker in self.checkers:
            checker.start()
        if self.checkers:
            Supervisor(self.checkers).start()

    def _on_change(self) -> None:
        self.wake()
        self._changed()

    def wake(self) -> None:
        """Make whoever waits for a proof look again."""
        with self._condition:
            self._condition.notify_all()

    @property
    def troubles(self) -> list[str]:
        """Which checks can't be run now, and why."""
        return [checker.trouble for checker in self.checkers if checker.trouble]

    @property
    def reason(self) -> str:
        """Why checks do not pass; if all do, the last failure of the check that was the last to start passing."""
        failing = [checker.trouble or checker.reason for checker in self.checkers if not checker.proved]
        latest = sorted(self.checkers, key=lambda checker: checker.proved_at or 0)[-1:] if self._soak else []
        return "; ".join(failing or [checker.reason for checker in latest])

    def begin_proof(self, soak: float = 0.0) -> None:
        """Count only probes from now on: every check has to pass, and then none may fail for `soak` seconds."""
        self._soak = soak
        for checker in self.checkers:
            checker.prove(soak)

    def wait_proved(
        self,
        seconds: float | None,
        is_cancelled: Callable[[], bool],
        passing: Callable[[bool], None] = lambda _passing: None,
    ) -> bool:
        """Wait for the proof, for `seconds` (None: for ever), or `is_cancelled` after `wake`; whether it is there.

        `passing` is called with True when all checks pass and the soak begins, with False when one has failed in it.
        """
        end = math.inf if seconds is None else time.monotonic() + seconds
        soaking = False
        with self._condition:
            while not is_cancelled():
                left = self._seconds_left()
                now = time.monotonic()
                if left == 0 or now >= end:
                    break
                if (left is not None) != soaking:
                    soaking = left is not None
                    passing(soaking)
                pause = min(end - now, math.inf if left is None else left)
                self._condition.wait(None if pause == math.inf else pause)
        return self.proved

    @property
    def proved(self) -> bool:
        """Whether every check has passed since the proof began, and has gone on passing for as long as it has to."""
        return self._seconds_left() == 0

    def _seconds_left(self) -> float | None:
        """Seconds for which no check may fail from now on until all is proved; None while one does not pass."""
        begun = [checker.proved_at for checker in self.checkers]
        passed = [moment for moment in begun if moment is not None]
        if len(passed) < len(begun):
            return None
        return max(0.0, max(passed) + self._soak - time.monotonic()) if passed else 0.0
