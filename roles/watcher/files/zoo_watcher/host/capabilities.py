# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service manager lets the agent do beyond its user, to give files their owners: it is the agent's alone."""

from __future__ import annotations

import ctypes

PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
"""prctl(2)."""


def keep_from_children() -> None:
    """Let no program that is started from now on have this process's ambient capabilities: no git, hook or command.

    To be called before there is a second thread: each has its own (capabilities(7)).
    """
    ctypes.CDLL(None).prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
