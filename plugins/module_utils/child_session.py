# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child in its own session: everything it starts can be killed, and no signal for this process reaches it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""The signals that tell a process to end."""


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and everything it has started in its session. Once waited for, its pid may be another's."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def ended_with_this() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Kill the child first when this process is told to end, then do what the signal would have done.

    The yielded function is called with the child once it has started. A signal that comes earlier waits for that.
    A signal that this process ignores stays ignored. Outside the main thread, which alone may set handlers, this does
    nothing.
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
