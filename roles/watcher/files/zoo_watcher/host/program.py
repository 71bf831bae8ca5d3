# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the agent is run from: somebody may remove them while it runs, for instance to reinstall it."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import PathFinder

PACKAGES = (str(__package__).partition(".")[0], "kazoo")


def find_missing() -> str | None:
    """What another process of this program would lack now; None if nothing is known to be missing."""
    if not os.access(sys.executable, os.X_OK):
        return sys.executable
    importlib.invalidate_caches()
    # Not by `importlib.util`, which is satisfied with what this process has in memory.
    found = ((name, PathFinder.find_spec(name)) for name in PACKAGES)
    # A directory without the package's first file has no origin.
    missing = next((name for name, spec in found if spec is None or spec.origin is None), None)
    return f"the Python package {missing}" if missing else None
