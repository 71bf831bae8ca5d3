# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which live releases have come to no outcome, and what is owed to each.

One that was activated is owed its hook and units, where these were not done, its checks, and a way back where one of
that fails. One that the host goes back to is owed the hook, the units and a check: it was proved before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .journal import ReleaseJournal
from .rollback import PlacedRelease


@dataclass(frozen=True)
class Unproved:
    """A release that is live and has come to no outcome; `generation` is 0 where no attempt at it is known.

    `needs_use` tells whether hook and units are still to be done for it. Where the host goes back to it, `left` is the
    commit that it leaves, and `why` says what has happened.
    """

    release: PlacedRelease
    generation: int = 0
    needs_use: bool = False
    left: str | None = None
    why: str = ""


def find_unproved(
    live: Sequence[PlacedRelease], journal: ReleaseJournal, target: PlacedRelease | None = None
) -> list[Unproved]:
    """Those of the `live` releases that are unproved, but `target`, in the same order.

    At the place of `target`, one that was never healthy is unproved also where no attempt at it is known.
    """
    found = []
    for release in live:
        attempt = journal.unproved(release.commit_id, release.path)
        if release == target:
            continue
        if attempt:
            found.append(Unproved(release, attempt.generation, not attempt.is_used, attempt.left, attempt.why))
        elif target and release.path == target.path and journal.lacks_proof(release.commit_id, release.path):
            found.append(Unproved(release))
    return found
