# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which live releases have no outcome yet, and what is owed to each.

One that was activated is owed its hook and units, if these were not done, its checks, and a rollback if any of these
fails. One that the host rolls back to is owed the hook, the units and a check: it was proved before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from zoo_watcher.frozen import dataclass

from .journal import ReleaseJournal
from .rollback import PlacedRelease


@dataclass(frozen=True)
class Unproved:
    """A release that is live and has no outcome yet; `generation` is 0 if no attempt at it is known.

    `needs_use` tells whether hook and units are still to be done for it, `times` how often an agent has died meanwhile,
    `broken_off` how often one that had run hooks or units was stopped on purpose. If the host rolls back to it, `left`
    is the commit that it leaves, and `why` says what has happened.
    """

    release: PlacedRelease
    generation: int = 0
    needs_use: bool = False
    times: int = 0
    left: str | None = None
    why: str = ""
    broken_off: int = 0

    def tell(self, message: str) -> str:
        """The message about it that is shown with another release, whose outcome it is not."""
        return f"{self.left or self.release.commit_id}, which was live: {message}"


def find_unproved(live: Sequence[PlacedRelease], journal: ReleaseJournal, place: str | None = None) -> list[Unproved]:
    """Those of the `live` releases that are unproved, in the same order.

    At `place`, one that was never healthy there is unproved even if no attempt at it is known.
    """
    found = []
    for release in live:
        attempt = journal.unproved(release.commit_id, release.path)
        if attempt:
            needs_use = not attempt.is_used
            known = (attempt.generation, needs_use, attempt.times, attempt.left, attempt.why, attempt.broken_off)
            found.append(Unproved(release, *known))
        elif release.path == place and journal.lacks_proof(release.commit_id, release.path):
            found.append(Unproved(release))
    return found


def proved_first(
    unproved: Sequence[Unproved], target: PlacedRelease | None, tried: Collection[Unproved], *, has_yielded: bool
) -> Unproved | None:
    """Which of the unproved releases is to be proved before `target` is deployed, if any; without a target, the first.

    What the deployment of the target proves, or replaces, is left to that, unless it `has_yielded`: then it has waited
    for long enough. What was `tried`, and is still unproved, is left as it is.
    """
    for one in unproved:
        if one.release == target:
            return None
        takes_its_place = target is not None and one.release.path == target.path and not has_yielded
        if not takes_its_place and one.release not in {other.release for other in tried}:
            return one
    return None
