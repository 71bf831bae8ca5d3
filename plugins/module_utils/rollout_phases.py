# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of a rollout."""

from __future__ import annotations

RUNNING = "running"
SOAKING = "soaking"
PAUSED = "paused"
HALTED = "halted"
ROLLING_BACK = "rolling_back"
DONE = "done"
ROLLED_BACK = "rolled_back"
PHASES = (RUNNING, SOAKING, PAUSED, HALTED, ROLLING_BACK, DONE, ROLLED_BACK)
GOING_ON = frozenset({RUNNING, SOAKING, PAUSED})
GOING_BACK = frozenset({ROLLING_BACK, ROLLED_BACK})
FINAL = frozenset({DONE, ROLLED_BACK})
STOPPED = GOING_BACK | {HALTED}
