# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signals that an agent handles, and what each makes it do."""

from __future__ import annotations

import os
import signal

ENDINGS = {
    signal.SIGTERM: "leaving",
    signal.SIGINT: "leaving",
    signal.SIGUSR2: "handing over",
    signal.SIGHUP: "reloading",
}
"""What each signal that ends the loop makes the agent do; of several, the first counts."""
CONTROL = signal.SIGUSR1
"""Wakes the loop: a person on this host has given the agent a command."""
SIGNALS = (*ENDINGS, CONTROL)
PASSED_ON = "ZOO_WATCHER_SIGNALS"
"""The variable with the descriptor of what `pass_on` has left."""


def defer() -> None:
    """Let signals wait until the agent listens, also the agent that this process reloads as."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def hear_of_children() -> None:
    """Make the exit status of each process started from now on known, also of what those processes start.

    Whoever started this program may have ignored SIGCHLD: then every process seems to have succeeded.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def receive() -> None:
    """Receive the signals that have waited, and those to come: each has a handler now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore() -> None:
    """Let no signal end this process, which is ending anyway: Python gives up its handlers before it has ended."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def pass_on(descriptor: int) -> None:
    """Leave the signals that this process gets from now on to the program that it is about to execute.

    `defer` blocks them in one thread only. The others take them, and end with this program; a signal with a handler
    then writes its number into the pipe that wakes the loop. `descriptor` is the end to read from.
    """
    os.set_inheritable(descriptor, True)
    os.environ[PASSED_ON] = str(descriptor)


def take_up() -> None:
    """Resend this process the signals left to it that end it; it rereads its configuration and looks in any case."""
    descriptor = os.environ.pop(PASSED_ON, None)
    if descriptor is None:
        return
    with open(int(descriptor), "rb", buffering=0) as pipe:
        left = pipe.read() or b""
    for number, ending in ENDINGS.items():
        if number in left and ending != "reloading":
            os.kill(os.getpid(), number)
