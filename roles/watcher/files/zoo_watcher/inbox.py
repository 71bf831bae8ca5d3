# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent's loop waits for: messages of its threads, and signals, whichever thread the kernel gives them to.

Python runs a signal's handler in the main thread alone, as soon as that does something. Where another thread gets the
signal, a main thread that waits for a lock goes on waiting; here it waits for a pipe that Python writes to as well.
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
    """One thread waits; any other, and a signal handler, may put in a message or wake it without one."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._readable, self._writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._readable, select.POLLIN)

    def be_woken_by_signals(self) -> None:
        """Have each signal with a handler wake whoever waits; called by the main thread."""
        signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)

    @property
    def descriptor(self) -> int:
        """What has the number of each signal that came since the last wait, beside zeros."""
        return self._readable

    def put(self, message: Any) -> None:
        """Leave a message."""
        self._messages.append(message)
        self.wake()

    def wake(self) -> None:
        """Have a wait end, that of now or the next."""
        with contextlib.suppress(BlockingIOError):  # full: there is enough to wake by
            os.write(self._writable, b"\0")

    def wait(self, seconds: float) -> list[Any]:
        """The messages that are there, as soon as somebody wakes, and after `seconds` at the latest."""
        if self._poll.poll(max(0, seconds) * 1000):
            with contextlib.suppress(BlockingIOError):
                os.read(self._readable, 65536)
        return [self._messages.popleft() for _number in range(len(self._messages))]
