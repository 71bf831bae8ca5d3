# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of the session with the ensemble, named as in ZooKeeper's `Watcher.Event.KeeperState`."""

from __future__ import annotations

import logging
import time
from collections import Counter
from datetime import datetime, timezone

SYNC_CONNECTED = "SyncConnected"
DISCONNECTED = "Disconnected"
EXPIRED = "Expired"
AUTH_FAILED = "AuthFailed"
CONNECTED_READ_ONLY = "ConnectedReadOnly"

ACTIONS = {
    SYNC_CONNECTED: "all is read anew, and kept up",
    DISCONNECTED: "what is live stays; members are tried until one answers; registrations last as long as the session",
    EXPIRED: "the ensemble has ended the session and what it held; all of it is made again in a new one",
    AUTH_FAILED: (
        "the ensemble does not take the credentials, or not yet; what is live stays, registrations end with the session"
    ),
    CONNECTED_READ_ONLY: (
        "this member is cut off from the others; nothing is deployed or registered until one that can write is back"
    ),
}
"""What the agent does in each state, for its log."""
BAD = {DISCONNECTED, EXPIRED, AUTH_FAILED, CONNECTED_READ_ONLY}
REMINDERS = (5.0, 60.0, 600.0, 3600.0)
"""Seconds after which a bad state is logged again, with what is known about the cause; then at the last interval."""

BRIEF = 5.0
"""Seconds: a connection that lasts less counts as lost at once."""
MOST_TOLD = 3
"""How many consecutive connections lost at once are each logged on their own."""

log = logging.getLogger(__name__)


class SessionStates:
    """The current state, and when and how often each was entered. One thread enters states, others read."""

    def __init__(self) -> None:
        self.current = DISCONNECTED
        self.entered: dict[str, str] = {}
        """The time at which each was last entered, RFC 3339; none for a state never entered."""
        self.counts: Counter[str] = Counter()
        self._proved = float("-inf")
        self.lost_at: float | None = None
        """When a server that can write was last lost, by `time.monotonic()`; None for never."""
        self._since = time.monotonic()
        self._due = REMINDERS[0]
        self._detail = ""
        self._lost_at_once = 0
        """How many consecutive connections were lost at once."""
        self._lost_since = 0.0
        self._loss_due = 0.0

    def enter(self, state: str, detail: str = "") -> bool:
        """Enter a state and log it; returns whether it is another than before."""
        if state == EXPIRED:
            self._proved = float("-inf")
        # Credentials are tried at one member after the other: what happens between two refusals is not news.
        if state == self.current or (self.current == AUTH_FAILED and state in {DISCONNECTED, EXPIRED}):
            return False
        if self.current == SYNC_CONNECTED:
            self.lost_at = time.monotonic()
            self._count_loss(self.lost_at)
            if state != EXPIRED:
                self._proved = self.lost_at
        self.current = state
        self._detail = detail
        self._since = time.monotonic()
        self._due = REMINDERS[0]
        self.entered[state] = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self.counts[state] += 1
        if not self._is_losing or state not in {SYNC_CONNECTED, DISCONNECTED}:
            self._tell()
        return True

    @property
    def _is_losing(self) -> bool:
        return self._lost_at_once > MOST_TOLD

    def _tell(self) -> None:
        level = logging.WARNING if self.current in BAD else logging.INFO
        detail = f", {self._detail}" if self._detail else ""
        log.log(level, "session %s%s: %s", self.current, detail, ACTIONS[self.current])

    def _count_loss(self, now: float) -> None:
        if now - self._since >= BRIEF:
            self._lost_at_once = 0
            return
        if not self._lost_at_once:
            self._lost_since, self._loss_due = self._since, 0.0
        self._lost_at_once += 1

    @property
    def last_contact(self) -> float:
        """When a server that can write was last connected, by `time.time()`: now, while one is; 0 for never."""
        if self.current == SYNC_CONNECTED:
            return time.time()
        return 0.0 if self.lost_at is None else time.time() - (time.monotonic() - self.lost_at)

    def remind(self, cause: str) -> float:
        """Log again, less and less often, that there is no lasting session; returns the seconds until the next time."""
        lasted = time.monotonic() - self._since
        if self.current == SYNC_CONNECTED:
            return self._await_lasting(lasted)
        said = f": {cause}" if cause else ""
        lost_for = time.monotonic() - self._lost_since
        if self._is_losing and lost_for >= self._loss_due:
            log.warning("%d connections in %d s were lost at once%s", self._lost_at_once, max(1, lost_for), said)
            self._loss_due = next((due for due in REMINDERS[1:] if due > lost_for), lost_for + REMINDERS[-1])
        if lasted >= self._due:
            log.warning("session still %s after %d s%s", self.current, lasted, said)
            self._due = next((due for due in REMINDERS if due > lasted), lasted + REMINDERS[-1])
        return self._due - lasted

    def _await_lasting(self, lasted: float) -> float:
        """Log that there is a session after all, once it lasts; returns the seconds until the next look."""
        if not self._is_losing:
            return REMINDERS[-1]
        if lasted < BRIEF:
            return BRIEF - lasted
        self._lost_at_once = 0
        self._tell()
        return REMINDERS[-1]

    def seconds_left(self, timeout: float) -> float:
        """Seconds that a session with this timeout lasts whatever happens; 0 if it may have ended."""
        if self.current == SYNC_CONNECTED:
            return timeout
        if self.current != DISCONNECTED:
            return 0.0
        return max(0.0, self._proved + timeout - time.monotonic())
