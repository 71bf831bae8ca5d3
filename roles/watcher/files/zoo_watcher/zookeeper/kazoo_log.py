# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what kazoo logs about a lost connection, three lines a second, for the agent's own rare lines."""

from __future__ import annotations

import logging
from collections.abc import Callable


class KazooLog(logging.Handler):
    """Keeps kazoo's last message, from warnings on; `begun` is called at the first."""

    def __init__(self, begun: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self._begun = begun

    def listen(self) -> None:
        """Start to keep messages; kazoo need not format lines that nobody reads."""
        kazoo = logging.getLogger("kazoo")
        kazoo.setLevel(logging.WARNING)
        kazoo.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the one line of a record, unless it only says that the connection is lost."""
        text = record.getMessage()
        if not text.startswith("Transition to"):
            first, self.last = not self.last, " ".join(text.split())
            if first:
                self._begun()
