# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says, where Ctrl-C has ended a wait, that only the wait has ended, and what a person can do.

A worker that waits is killed by Ctrl-C, before its last words could arrive anywhere. The process that a person has
started imports this too, before it forks workers, and says it at its end; a byte of each, in memory that they share,
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
"""What is said at the end, by the byte that tells what was going on; nothing for 0."""

_states = mmap.mmap(-1, mmap.PAGESIZE)
_started = os.getpid()


class Waiting:
    """A publication and the wait after it, told of where they are broken off; not where they end, or by an error."""

    def __init__(self, *, asks_gates: bool = False) -> None:
        self._published = 3 if asks_gates else 2

    def __enter__(self) -> None:
        """It begins."""
        _note(1)

    def note_published(self) -> None:
        """What there was to publish is published: only the wait is left."""
        _note(self._published)

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """It has ended by itself, by an error such as a timeout of the task, or is broken off."""
        if kind is None or not issubclass(kind, (KeyboardInterrupt, SystemExit)):
            _note(0)


def _note(state: int) -> None:
    _states[os.getpid() % len(_states)] = state


def _tell() -> None:
    furthest = max(_states[:])
    if furthest and os.getpid() == _started:
        sys.stderr.write(_TOLD[furthest])


atexit.register(_tell)
