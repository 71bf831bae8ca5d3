# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pauses between tries."""

from __future__ import annotations

import random
from collections.abc import Iterator

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""The defaults, in seconds, of the first pause and of the longest."""


class Backoff(Iterator[float]):
    """Seconds to wait after each failed try: `next(backoff)`, or `for pause in backoff` around the tries.

    The first pause is `first`, each further one `factor` times as long, none longer than `longest`; each is shortened
    at random by up to the share `jitter`, so that many hosts do not try at the same moment. `tries` counts the pauses
    since the last `reset`, to be called when a try has succeeded.
    """

    def __init__(
        self,
        first: float = FIRST_PAUSE,
        longest: float = LONGEST_PAUSE,
        factor: float = 2.0,
        jitter: float = 0.3,
    ) -> None:
        self.tries = 0
        self._first = first
        self._longest = longest
        self._factor = factor
        self._jitter = jitter
        self._pause = first

    def __next__(self) -> float:
        """The next pause, in seconds."""
        pause = min(self._pause, self._longest)
        self._pause = pause * self._factor
        self.tries += 1
        # Only spreads load: it need not be unpredictable.
        return pause * random.uniform(1 - self._jitter, 1)  # noqa: S311  # no secret

    def reset(self) -> None:
        """Start again with the first pause."""
        self.tries = 0
        self._pause = self._first
