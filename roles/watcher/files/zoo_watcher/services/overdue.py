# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a withdrawal does not get through: then only the end of the session removes the registration."""

from __future__ import annotations

import time

PATIENCE = 3.0
"""How many session timeouts a withdrawal may take."""
MOST_CONNECTIONS = 2
"""How many connections may be made meanwhile: a lasting one is not what keeps it from getting through."""


class Overdue:
    """Watches a withdrawal from when it is due."""

    def __init__(self) -> None:
        self.is_overdue = False
        self._since: float | None = None
        self._connections = 0

    def look(self, *, is_due: bool, connections: int, timeout: float) -> bool:
        """Whether it has just become overdue; there have been so many `connections` of sessions with this timeout."""
        now, before = time.monotonic(), self.is_overdue
        if not is_due:
            self.is_overdue, self._since = False, None
        elif self._since is None:
            self._since, self._connections = now, connections
        elif now - self._since > PATIENCE * timeout:
            self.is_overdue = before or connections - self._connections >= MOST_CONNECTIONS
            self._since, self._connections = now, connections
        return self.is_overdue and not before
