# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host may lack for a moment (descriptors, processes, memory): that says nothing about other systems."""

from __future__ import annotations

import errno

SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS}

NO_THREAD = "can't start new thread"
"""Python's message if a thread can't be started."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error is one of this host's shortages."""
    if isinstance(error, RuntimeError):
        return str(error) == NO_THREAD
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in SHORTAGES)


def comes_of_shortage(error: BaseException | None) -> bool:
    """Whether an error, or one of those that it was raised from, is one of this host's shortages."""
    return error is not None and (is_shortage(error) or comes_of_shortage(error.__cause__))
