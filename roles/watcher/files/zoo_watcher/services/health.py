# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the services of this host are healthy: one thread a check, which probes, counts and reports a change."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Callable

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.config import Check
from zoo_watcher.host import command

EAGER = 0.05
"""Seconds to the second question after a release went live; each further pause is `SLOWER` times as long."""
SLOWER = 1.3
BODY_LIMIT = 1_000_000
"""Bytes of an HTTP answer that are searched for `body`."""


def probe(check: Check) -> str | None:
    """Ask once: None where the service is healthy, else why it is not."""
    try:
        return PROBES[check.type](check)
    except (OSError, ValueError) as exc:
        return f"{check.type} {check.host}:{check.port}: {exc}"


def _probe_tcp(check: Check) -> None:
    socket.create_connection((check.host, check.port), timeout=check.timeout).close()


def _probe_http(check: Check) -> str | None:
    # Imported here: a host without HTTP checks need not hold it in memory.
    import http.client  # noqa: PLC0415

    connection = http.client.HTTPConnection(check.host, check.port, timeout=check.timeout)
    try:
        connection.request("GET", check.path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(BODY_LIMIT) if check.body else b""
    except http.client.HTTPException as exc:
        return f"http {check.host}:{check.port}{check.path}: {exc!r}"
    finally:
        connection.close()
    if answer.status != check.status:
        return f"http {check.host}:{check.port}{check.path}: status {answer.status}, expected {check.status}"
    if check.body and check.body.encode() not in body:
        return f"http {check.host}:{check.port}{check.path}: the body lacks {check.body!r}"
    return None


def _probe_command(check: Check) -> str | None:
    ended = command.run(check.command, check.timeout)
    if ended.problem is None:
        return None
    output = f": {ended.tail}" if ended.tail else ""
    return f"{check.command[0]} {ended.problem}{output}"


PROBES: dict[str, Callable[[Check], str | None]] = {
    "tcp": _probe_tcp,
    "http": _probe_http,
    "command": _probe_command,
}


class Checker(threading.Thread):
    """One check. `healthy` (None: not known yet) changes after `rise` or `fall` answers in a row.

    `proved` is `rise` passes since `prove`.
    """

    def __init__(self, check: Check, changed: Callable[[], None]) -> None:
        super().__init__(name=f"check-{check.port}", daemon=True)
        self.check = check
        self.healthy: bool | None = None
        self.proved = False
        self.reason = "not checked yet"
        self._changed = changed
        self._in_a_row = 0
        self._epoch = 0
        self._backoff = Backoff(EAGER, check.interval, SLOWER, jitter=0)
        self._again = threading.Event()
        self._lock = threading.Lock()

    def prove(self) -> None:
        """Count anew: only what is asked from now on proves."""
        with self._lock:
            self._epoch += 1
            self.proved = False
            self._in_a_row = 0
            self._backoff.reset()
        self._again.set()

    def run(self) -> None:
        """Ask for ever; the thread ends with the process."""
        while True:
            epoch = self._epoch
            self._note(probe(self.check), epoch)
            self._again.wait(self._next_pause())
            self._again.clear()

    def _next_pause(self) -> float:
        with self._lock:
            return self.check.interval if self.proved else next(self._backoff)

    def _note(self, problem: str | None, epoch: int) -> None:
        passed = problem is None
        with self._lock:
            if epoch != self._epoch:
                return
            before = (self.healthy, self.proved)
            self._in_a_row = max(self._in_a_row, 0) + 1 if passed else min(self._in_a_row, 0) - 1
            if problem is not None:
                self.reason = problem
            if self._in_a_row >= self.check.rise:
                self.healthy = self.proved = True
            elif self._in_a_row <= -self.check.fall:
                self.healthy = False
            changed = before != (self.healthy, self.proved)
        if changed:
            self._changed()


class Health:
    """The checks of all services, in their order. `changed` is called from a check's thread."""

    def __init__(self, checks: Sequence[Check], changed: Callable[[], None]) -> None:
        self._condition = threading.Condition()
        self._changed = changed
        self.checkers = [Checker(check, self._on_change) for check in checks]

    def start(self) -> None:
        """Begin to ask."""
        for checker in self.checkers:
            checker.start()

    def _on_change(self) -> None:
        self.wake()
        self._changed()

    def wake(self) -> None:
        """Let whoever waits for a proof look again."""
        with self._condition:
            self._condition.notify_all()

    @property
    def proved(self) -> bool:
        """Whether every check has passed since the proof began."""
        return all(checker.proved for checker in self.checkers)

    @property
    def reason(self) -> str:
        """Why the checks that do not pass do not."""
        return "; ".join(checker.reason for checker in self.checkers if not checker.proved)

    def begin_proof(self) -> None:
        """Count only what is asked from now on."""
        for checker in self.checkers:
            checker.prove()

    def wait_proved(self, seconds: float | None, is_cancelled: Callable[[], bool]) -> bool:
        """Wait until all is proved, for `seconds` (None: for ever), or `is_cancelled` after `wake`; whether it is."""
        with self._condition:
            self._condition.wait_for(lambda: self.proved or is_cancelled(), seconds)
        return self.proved
