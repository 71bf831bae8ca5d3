# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How often something may be done: several times at once after a while without, and not too often in the long run."""

from __future__ import annotations


class TokenBucket:
    """Allows something `most` times at once, and in the long run once in `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self._used = 0.0
        self._at = 0.0

    def wait(self, now: float) -> float:
        """Seconds until it is allowed, 0 where it is."""
        return max(self._left(now) - self.most + 1, 0.0) * self.seconds

    def spend(self, now: float) -> None:
        """It is done."""
        self._used, self._at = self._left(now) + 1, now

    def _left(self, now: float) -> float:
        """How often it was done, less what time has made good."""
        return max(self._used - (now - self._at) / self.seconds, 0.0)
