# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes what an interrupted deployment has left on the disk, in parallel to the agent's other work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from zoo_watcher.errors import DeployError

from .apply_lock import hold_apply_lock
from .filesystem import remove_tree
from .layout import Layout
from .thread import Thread


class Leftovers(Thread):
    """Removes what is in the staging directory, and incomplete packs, which may take minutes.

    `removed` then gets the paths in the staging directory.

    An apply process that is started meanwhile waits: its first step would be to remove the same.
    """

    def __init__(self, layout: Layout, removed: Callable[[Sequence[Path]], None]) -> None:
        """Raises `OSError`."""
        super().__init__(name="leftovers", daemon=True)
        self._layout = layout
        self._removed = removed
        # A symlink was to be put in place: the agent recreates it at the same path, without the lock.
        staged = [path for path in layout.in_staging() if not path.is_symlink()]
        self.paths = [*staged, *layout.begun_packs()]

    def run(self) -> None:
        """Remove them; what can't be removed stays."""
        with contextlib.suppress(OSError, DeployError), hold_apply_lock(self._layout):
            for path in self.paths:
                remove_tree(path)
        self._removed([path for path in self.paths if path.parent == self._layout.staging])
