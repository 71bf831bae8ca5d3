# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the loop is to bring this host to, and the outcome so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from .desired import Desired, Standstill
from .releases.unproved import Unproved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .releases.live_proof import LiveProof


@dataclass
class Goal:
    """What the host is to be brought to, and the outcome so far.

    `standstill` is reported instead of an outcome. `outcome` is the last state of its deployment, with the message;
    `was_told` is whether the status has shown it, or that its deployment has begun. `tried` has what was proved before
    it, or could not be, and whether that proof has yielded to it; `aside` says what came of these proofs, and
    `leaves_doubt` whether what has been live since then may not be healthy.
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
        """Note the outcome of a deployment, from its last report; `proved` is None if it was the goal's own."""
        # There may be more to prove, and the status has shown other things meanwhile.
        self.was_told = False
        if deployment.handshake.is_cancelled():
            return  # it has no outcome
        if deployment.handshake.has_gone_back and not deployment.has_yielded:
            # Perhaps to what was tried before: that has to be used again.
            self.tried.clear()
        # If the host rolls back, a deployment has the earlier release proved as well.
        self.leaves_doubt = proved is not None and state not in {"active", "rolled_back"}
        if proved is None:
            self.has_yielded = self.has_yielded or deployment.has_yielded
            if state == "rolled_back":
                # The release that the host has rolled back to was checked since, or is used and checked again.
                self.aside = None
            return
        self.tried[proved] = deployment.has_yielded
        # The outcome of the desired release itself is in the journal.
        is_desired = self.desired is not None and proved.generation == self.desired.generation
        if message and (deployment.has_yielded or not is_desired):
            self.aside = proved.tell(message)
