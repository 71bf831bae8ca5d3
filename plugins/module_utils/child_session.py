# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child in a session of its own: all that it starts can be ended, and no signal for this process reaches it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""What tells a process to end."""


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and all that it has started in its session. Once waited for, its number may be another's."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def ended_with_this() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """What tells this process to end kills the child first, then does what it would have done.

    What this gives is told of the child once it has started. A signal that comes before waits for that.
    One that this process ignores stays ignored. Only the main thread may change what a signal does: elsewhere, nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda _process: None
        return
    found = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}
    running: list[subprocess.Popen[bytes]] = []
    told: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        for process in running:
            kill(process)
            signal.signal(number, before[signal.Signals(number)])
            os.kill(os.getpid(), number)

    def started(process: subprocess.Popen[bytes]) -> None:
        running.append(process)
        if told:
            end(told[0], None)

    for number in before:
        signal.signal(number, end)
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if told and not running:
            os.kill(os.getpid(), told[0])
