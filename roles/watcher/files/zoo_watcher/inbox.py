# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent's loop waits for: messages from its threads, and signals, whichever thread the kernel gives them to.

Python runs a signal's handler only in the main thread, as soon as that does something. If another thread gets the
signal, a main thread that waits for a lock goes on waiting; here it waits for a pipe that Python also writes to.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Inbox:
    """One thread waits; any other, or a signal handler, may leave a message or wake it without one."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._readable, select.POLLIN)

    def be_woken_by_signals(self) -> None:
        """Let each signal that has a handler end a wait; called by the main thread."""
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)

    @property
    def descriptor(self) -> int:
        """The end to read from: it holds the number of each signal since the last wait, among zeros."""
        return self._readable

    def put(self, message: Any) -> None:
        """Leave a message."""
        self._messages.append(message)
        self.wake()

    def wake(self) -> None:
        """End the current wait, or the next one."""
        with contextlib.suppress(BlockingIOError):  # full: there is enough to wake by
            os.write(self._writable, b"\0")

    def wait(self, seconds: float) -> list[Any]:
        """Wait until woken, for at most `seconds`; returns the messages that are there."""
        if self._poll.poll(max(0, seconds) * 1000):
            with contextlib.suppress(BlockingIOError):
                os.read(self._readable, 65536)
        return [self._messages.popleft() for _number in range(len(self._messages))]
