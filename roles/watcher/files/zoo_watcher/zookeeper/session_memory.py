# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a session across restarts of the agent."""

from __future__ import annotations

import json
import os
from pathlib import Path


def recall(memory: Path) -> tuple[tuple[int, bytes] | None, set[str]]:
    """The session that the agent had when it last ended without closing it, and the ephemerals that it held."""
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
        return (int(found["id"]), bytes.fromhex(found["password"])), {str(path) for path in found.get("held", [])}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None, set()


def session_memory(runtime_directory: str | None, fallback: Path) -> Path:
    """Where the session is remembered: a file that only the agent's user can read."""
    return Path(os.path.join(runtime_directory, "session.json")) if runtime_directory else fallback
