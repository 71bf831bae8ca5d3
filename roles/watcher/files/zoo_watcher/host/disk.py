# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the disk of the base accepts writes: if not, the agent can't record its state."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def unwritable(directory: Path) -> str | None:
    """Why no new file can be written in a directory, except perhaps by root; None if it can, or that is not known."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return None
    if disk.f_flag & os.ST_RDONLY:
        return os.strerror(errno.EROFS)
    # A file system that does not count inodes reports 0.
    if disk.f_bavail == 0 or (disk.f_files and disk.f_favail == 0):
        return os.strerror(errno.ENOSPC)
    return None
