# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a host looks at a rollout in which nothing wakes it: some host has to notice that a timer has run down.

Each looks at a random moment, within a time that grows with the fleet, so that of many hosts one is early enough to be
the only one. All times are of the monotonic clock, in seconds.
"""

from __future__ import annotations

import random
import time

from zoo_watcher.wire.rollout_failures import Timer

LOOKS = 5.0
"""Seconds between two looks, by any host, at the hosts on their way."""
TICKS, LATEST = 0.1, 60.0
"""Seconds, for each host that looks and at most, within which one after the other moves a rollout on."""
GRACE = 1.5
"""How many session timeouts it takes after an outage until all hosts have a connection again, or are gone: ZooKeeper
ends sessions in whole ticks, and the shortest session timeout has two."""
AGAIN = 2.0
"""The most seconds, about, before another try to count the fleet, or to end a soak that waits for a host."""


def some(least: float, most: float) -> float:
    """A random number of seconds."""
    return random.uniform(least, most)  # noqa: S311  # no secret


class Timers:
    """How much time this host has seen pass, and when it looks again: in `pause` seconds, None for never."""

    def __init__(self) -> None:
        self._wake_at: float | None = None
        self._of: tuple[int, ...] | None = None
        self._since = 0.0
        self._not_before = 0.0
        self._lateness = 0.0
        self._turned_at = time.monotonic()
        self._count_at: float | None = None
        self._look_at: float | None = None
        self.counts: tuple[int, ...] | None = None
        """The state of a rollout when a count was planned."""

    @property
    def pause(self) -> float | None:
        """Seconds after which to look again; None if there is nothing to look at."""
        return None if self._wake_at is None else max(0.0, self._wake_at - time.monotonic())

    def begin_turn(self) -> None:
        """Decide everything again."""
        self._wake_at = None
        self._turned_at = time.monotonic()

    def skip_outage(self, lost_at: float | None, timeout: float) -> None:
        """There was no connection: the time since it was lost does not count as seen.

        Perhaps nobody had answered for a session `timeout` before that, or since the last turn. Nothing runs down
        before others have a connection again, or are gone.
        """
        now = time.monotonic()
        seen_until = self._turned_at if lost_at is None else max(self._turned_at, lost_at - timeout)
        self._since += now - seen_until
        self._not_before = now + GRACE * timeout

    def wake_at(self, moment: float) -> None:
        """Look again then, if not before."""
        self._wake_at = moment if self._wake_at is None else min(moment, self._wake_at)

    def waited(self, timer: Timer | None, lookers: int) -> float | None:
        """The seconds that have passed, if the timer has run down; None if not.

        `lookers` is how many hosts look.
        """
        if timer is None:
            self._of = None
            return None
        now = time.monotonic()
        if timer.of != self._of:
            self._of, self._since = timer.of, now
            self._lateness = some(0, min(TICKS * lookers, LATEST))
        end = max(self._since + timer.seconds, self._not_before) + self._lateness
        if now < end:
            self.wake_at(end)
            return None
        return now - self._since

    def put_off(self, lookers: int) -> None:
        """Let nothing run down for a moment: there is something to wait for. `lookers` is how many hosts look."""
        self._lateness = some(0, min(TICKS * lookers, LATEST))
        self._not_before = time.monotonic() + AGAIN
        self.wake_at(self._not_before + self._lateness)

    def plan_count(self, counts: tuple[int, ...], seconds: float) -> None:
        """Have the fleet counted after `seconds`, if the rollout is still as it is now."""
        self.counts, self._count_at = counts, time.monotonic() + seconds
        self.wake_at(self._count_at)

    def is_time_to_count(self) -> bool:
        """Whether the planned count is due. The next one is planned: this one may be refused."""
        if self._count_at is None:
            return False
        is_due = time.monotonic() >= self._count_at
        if is_due:
            self._count_at = time.monotonic() + some(AGAIN / 2, AGAIN)
        self.wake_at(self._count_at)
        return is_due

    def end_count(self) -> None:
        """The fleet was counted, or need not be."""
        self._count_at = None

    def is_time_to_look(self, lookers: int) -> bool:
        """Whether to look now at the hosts on their way; `lookers` is how many hosts look."""
        now = time.monotonic()
        is_due = self._look_at is not None and now >= self._look_at
        # From the start, one of so many looks within this time.
        least, most = (0.0, 1.0) if self._look_at is None else (0.5, 1.5)
        if self._look_at is None or is_due:
            self._look_at = now + LOOKS * max(1, lookers) * some(least, most)
        self.wake_at(self._look_at)
        return is_due
