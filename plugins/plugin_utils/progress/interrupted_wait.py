# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""If Ctrl-C has ended a wait, says that only the wait has ended, and what a person can do.

Ctrl-C kills a worker that waits, before its last words could arrive anywhere. The process that the person started
imports this too, before it forks workers, and prints the message at its end. A byte for each worker, in shared memory,
tells it how far they were.
"""

from __future__ import annotations

import atexit
import mmap
import os
import sys

GOES_ON = "The waiting has ended, and nothing else: what is published goes on.\n"
NO_GATES = """\
The waiting has ended, and nobody asks the gates any more: a step that waits for them stays paused.
  go on:   ansible-playbook promote.yml -e @gates.yml     (with the file that has zoo_gates; it asks them)
"""
COMMANDS = """\
  follow:  ansible-playbook status.yml -e zoo_wait_timeout=600     (or zk_fleet_info with wait_for_release: desired)
  pause:   ansible-playbook pause.yml
  halt:    ansible-playbook abort.yml
"""

UNKNOWN = "It was interrupted before it knew whether anything has been published: see status.yml.\n"
_TOLD = {1: UNKNOWN, 2: GOES_ON + COMMANDS, 3: NO_GATES + COMMANDS}
"""The message at the end, by the byte for what was in progress; none for 0."""

_states = mmap.mmap(-1, mmap.PAGESIZE)
_started = os.getpid()


class Waiting:
    """A publication and the wait after it: noted for the message if interrupted, not if they end or fail."""

    def __init__(self, *, asks_gates: bool = False) -> None:
        self._published = 3 if asks_gates else 2

    def __enter__(self) -> None:
        """Note the beginning."""
        _note(1)

    def note_published(self) -> None:
        """Note that everything is published: only the wait is left."""
        _note(self._published)

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """Note the end, on its own or by an error such as a timeout of the task, but not an interruption."""
        if kind is None or not issubclass(kind, (KeyboardInterrupt, SystemExit)):
            _note(0)


def _note(state: int) -> None:
    _states[os.getpid() % len(_states)] = state


def _tell() -> None:
    furthest = max(_states[:])
    if furthest and os.getpid() == _started:
        sys.stderr.write(_TOLD[furthest])


atexit.register(_tell)
