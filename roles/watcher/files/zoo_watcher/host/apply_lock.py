# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a host's object store and staging directory: only its holder works there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .filesystem import MAY_BE_REMOVED, disk_errors, open_regular
from .layout import Layout


@contextmanager
def hold_apply_lock(layout: Layout) -> Iterator[None]:
    """Hold the lock; waits for its holder, as the process of a killed agent may still be ending.

    Raises `DeployError`.
    """
    with disk_errors("locking", MAY_BE_REMOVED):
        layout.make()
        descriptor = open_regular(layout.own / "apply.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
