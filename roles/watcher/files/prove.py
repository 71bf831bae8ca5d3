# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until an agent that has just been started proves itself.

The role sends this source to the host's Python, followed by a call of `main`. It prints what it waited for in vain,
or nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any


def main(order_text: str) -> None:
    """Wait, at most `seconds`, until `unit` runs and its status is of `version` and, if `connected`, says so.

    The order is a JSON object with these keys and `base`, where the status is.
    """
    order = json.loads(order_text)
    deadline = time.monotonic() + float(order["seconds"])
    while True:
        problem = lacks(order)
        if not problem or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    sys.stdout.write(problem)


def lacks(order: dict[str, Any]) -> str:
    """What the agent does not do yet."""
    shown = _shown(order["unit"])
    if shown["ActiveState"] != "active":
        return f"the unit is {shown['ActiveState']}, its last result is {shown['Result']}"
    status = os.path.join(order["base"], ".zoo", "status.json")
    try:
        # The previous agent may have left a status.
        begun = time.time() - time.monotonic() + int(shown["ExecMainStartTimestampMonotonic"]) / 1_000_000
        # The agent's user can put a symlink or a FIFO there: neither is followed or waited for.
        descriptor = os.open(status, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8") as file:
            said = dict(json.load(file)) if os.fstat(file.fileno()).st_mtime > begun else {}
    except (OSError, ValueError, TypeError):
        said = {}
    if said.get("version") != order["version"]:
        return f"it has written no status, {status}"
    if order["connected"] and said.get("session") != "SyncConnected":
        return f"it has no session with the ensemble{_trying(said.get('trying'))}"
    return ""


def _trying(said: Any) -> str:
    """The members that the agent tries, and why none of them answers."""
    if not isinstance(said, dict) or not said.get("members"):
        return ""
    return f"; it tries {', '.join(said['members'])}: {said.get('error', 'no answer yet')}"


def _shown(unit: str) -> dict[str, str]:
    asked = "ActiveState,Result,ExecMainStartTimestampMonotonic"
    done = subprocess.run(["systemctl", "show", "--property", asked, unit], stdout=subprocess.PIPE, check=True)
    return dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)
