# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's threads: the caller that starts one goes on, even if this host is short of memory just then."""

from __future__ import annotations

import threading

from .shortage import NO_THREAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST_START = 5.0
"""Seconds within which a thread has to begin."""


class Thread(threading.Thread):
    """A thread that begins as it is started, or never does.

    A thread that gets no memory ends before it can report that it has begun; Python's own `start` waits for ever.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What Python's `start` waits for; see the source of `threading`.
        self._started = _Beginning()

    def start(self) -> None:
        """Begin. Raises `RuntimeError` if the thread can't; the next try then needs a new one."""
        run, claim = self.run, threading.Lock()

        def begin() -> None:
            if claim.acquire(blocking=False):
                run()

        self.run = begin  # type: ignore[method-assign]
        super().start()
        # A thread that is only slow must not begin once it counts as failed.
        if not self._started.is_set() and claim.acquire(blocking=False):
            raise RuntimeError(NO_THREAD)


class _Beginning(threading.Event):
    """The event that a thread has begun: a wait without a limit lasts for `LONGEST_START`."""

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(LONGEST_START if timeout is None else timeout)
