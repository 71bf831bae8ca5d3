# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says, where Ctrl-C has ended a wait, that only the wait has ended, and what a person can do.

A worker that waits is killed by Ctrl-C, before its last words could arrive anywhere. The process that a person has
started imports this too, before it forks workers, and says it at its end; a byte that they share tells it whether one
was waiting.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import sys
from collections.abc import Iterator

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

_waiting = mmap.mmap(-1, 1)
_started = os.getpid()


@contextlib.contextmanager
def waiting(*, asks_gates: bool = False) -> Iterator[None]:
    """While this lasts, a wait that is broken off is told of; not where it ends by itself, or by an error."""
    _waiting[0] = 2 if asks_gates else 1
    try:
        yield
    except Exception:
        _waiting[0] = 0
        raise
    _waiting[0] = 0


def _tell() -> None:
    if _waiting[0] and os.getpid() == _started:
        sys.stderr.write((NO_GATES if _waiting[0] == 2 else GOES_ON) + COMMANDS)


atexit.register(_tell)
