# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of waiting for a fleet, and what a session must outlast for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

WAITING: dict[str, dict[str, Any]] = {
    "wait_timeout": {"type": "float", "default": 300.0},
    "min_agents": {"type": "int", "default": 1},
    "max_failures": {"type": "int", "default": 0},
}
"""The options of waiting, for `AnsibleModule(argument_spec=...)`."""


def outage(options: Mapping[str, Any], *, waits: bool) -> float:
    """Seconds for which the ensemble may be away: as long as is waited for the fleet, else as for a connection."""
    return max(options["connect_timeout"], options["wait_timeout"] if waits else 0.0)


def elapsed(begin: float) -> float:
    """Seconds since `begin`, of the monotonic clock."""
    return round(time.monotonic() - begin, 3)
