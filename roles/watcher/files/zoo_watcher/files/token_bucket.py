# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits how often something is done: several times at once after a pause, and not too often in the long run."""

from __future__ import annotations


class TokenBucket:
    """Allows something `burst` times at once, and once in `seconds` in the long run."""

    def __init__(self, burst: int, seconds: float) -> None:
        self.burst = burst
        self.seconds = seconds
        self._used = 0.0
        self._updated = 0.0

    def wait(self, now: float) -> float:
        """Seconds until it is allowed, 0 if it is."""
        return max(self._used_at(now) - self.burst + 1, 0.0) * self.seconds

    def spend(self, now: float) -> None:
        """Take a token: it is done now."""
        self._used, self._updated = self._used_at(now) + 1, now

    def _used_at(self, now: float) -> float:
        """The tokens that are used, less those that time has given back."""
        return max(self._used - (now - self._updated) / self.seconds, 0.0)
