# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the loop is to bring this host to, and what has come of that so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from .desired import Desired, Standstill
from .releases.unproved import Unproved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .releases.live_proof import LiveProof


@dataclass
class Goal:
    """What the host is to be brought to, and what has come of that so far.

    `standstill` is told instead of an outcome. `outcome` is the last state of its deployment, with the message;
    `was_told` is whether the status has said it, or that its deployment has begun. `tried` was proved before it, or
    could not be, and whether that has yielded to it; `aside` says what came of that, and `leaves_doubt` whether what is
    live since then may not be healthy.
    """

    desired: Desired | None = None
    standstill: Standstill | None = None
    is_rebuilt: bool = False
    outcome: tuple[str, str | None] | None = None
    was_told: bool = False
    has_yielded: bool = False
    tried: dict[Unproved, bool] = field(default_factory=dict)
    aside: str | None = None
    leaves_doubt: bool = False

    def is_for(self, desired: Desired | None) -> bool:
        """Whether it is about the same publication."""
        return desired.asks_the_same(self.desired) if desired else self.desired is None

    def note_end(self, deployment: LiveProof, proved: Unproved | None, state: str, message: str | None) -> None:
        """Take in what a deployment has come to, by its last words; `proved` is none where that was the goal's own."""
        # There may be more to prove, and the status has said other things meanwhile.
        self.was_told = False
        if deployment.handshake.is_cancelled():
            return  # it has come to nothing
        if deployment.handshake.has_gone_back and not deployment.has_yielded:
            # To what was tried before, perhaps: it has to be used again.
            self.tried.clear()
        # Where the host goes back, a deployment has that proved as well.
        self.leaves_doubt = proved is not None and state not in {"active", "rolled_back"}
        if proved is None:
            self.has_yielded = self.has_yielded or deployment.has_yielded
            if state == "rolled_back":
                # What the host has gone back to was checked since, or is used and checked anew.
                self.aside = None
            return
        self.tried[proved] = deployment.has_yielded
        # What came of the desired release itself, the journal has.
        is_desired = self.desired is not None and proved.generation == self.desired.generation
        if message and (deployment.has_yielded or not is_desired):
            self.aside = proved.tell(message)
