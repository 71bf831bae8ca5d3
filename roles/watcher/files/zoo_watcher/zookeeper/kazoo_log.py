# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kazoo says of a lost connection, three lines a second, kept for the agent's own rare lines."""

from __future__ import annotations

import logging
from collections.abc import Callable


class KazooLog(logging.Handler):
    """Keeps the last thing that kazoo has said, from warnings on; `begun` is called at the first."""

    def __init__(self, begun: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        self._begun = begun

    def listen(self) -> None:
        """Begin to keep it; kazoo need not make the lines that nobody reads."""
        kazoo = logging.getLogger("kazoo")
        kazoo.setLevel(logging.WARNING)
        kazoo.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the one line of a record; what says only that the connection is lost is known."""
        text = record.getMessage()
        if not text.startswith("Transition to"):
            first, self.last = not self.last, " ".join(text.split())
            if first:
                self._begun()
