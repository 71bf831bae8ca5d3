# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns the base: a command that root has typed does no more in it than that user could do."""

from __future__ import annotations

import contextlib
import os

from zoo_watcher.errors import AgentError

from .layout import Layout


def become_owner(layout: Layout) -> bool:
    """As root, permanently become the user who owns what is in the base; any other user stays the same.

    Returns whether there is a base: if there is none, nothing may be done in one that appears meanwhile. A symlink or
    a process id of that user leads nowhere that the user has no access to. Raises `AgentError`.
    """
    if not os.path.isdir(layout.base):
        return False
    if os.geteuid() != 0:
        return True
    try:
        user, group = _owner(layout)
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    except OSError as exc:
        raise AgentError(f"base: {exc.filename or layout.base}: {exc.strerror}") from exc
    return True


def _owner(layout: Layout) -> tuple[int, int]:
    """The ids of the agent's user and group: those of its own directory, or of the base while there is none."""
    places = [os.stat(layout.base)]
    with contextlib.suppress(FileNotFoundError):
        places.insert(0, os.lstat(layout.own))
    place = next((status for status in places if status.st_uid != 0), places[0])
    return place.st_uid, place.st_gid
