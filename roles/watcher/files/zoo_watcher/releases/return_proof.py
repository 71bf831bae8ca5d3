# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of what an earlier agent has left live without an outcome: a release, or one that it rolled back to."""

from __future__ import annotations

from collections.abc import Callable

from zoo_watcher.config.config import Config
from zoo_watcher.errors import CancelledError
from zoo_watcher.services.health import Health

from .course import Progress
from .journal import KnownJournal
from .live_proof import LiveProof
from .unproved import Unproved

TYPE_CHECKING = False
if TYPE_CHECKING:
    Report = Callable[[Progress | None], None]


class ReturnProof(LiveProof):
    """Finishes a rollback to a release: the generation is that of the failed one."""

    def _prove_or_go_back(self) -> bool:
        if self.course.wait_out("queued", self._back.look_back) != self.target.commit_id:
            raise CancelledError
        assert self._unproved is not None  # noqa: S101  # else it is no proof
        self._give_up(*self._back.finish(self._unproved))
        return False


def proof_of(
    config: Config, journal: KnownJournal, unproved: Unproved, health: Health, report: Report, *, ends: bool
) -> LiveProof:
    """The proof that brings a live release to its outcome; with `ends`, in limited time, and so perhaps to none."""
    kind = ReturnProof if unproved.left else LiveProof
    return kind(config, journal, unproved.release, unproved.generation, health, report, unproved=unproved, ends=ends)
