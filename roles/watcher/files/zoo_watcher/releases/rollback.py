# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host rolls back to when a release fails.

At a place where a release was healthy before, that is the latest of those that may still go live. A place without one
is restored to what it was before, and the host rolls back to the release that is live at its other place.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from zoo_watcher.errors import DeployError, PassingError
from zoo_watcher.frozen import dataclass
from zoo_watcher.host.layout import Layout

from .activation import live_commit
from .journal import ReleaseJournal
from .release_directory import is_deployable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlacedRelease:
    """A commit that a host can roll back to, at the place `path`."""

    commit_id: str
    path: str

    @property
    def where(self) -> tuple[str, str]:
        """The commit and its place, as in the journal."""
        return self.commit_id, self.path


@dataclass(frozen=True)
class WayBack:
    """What a host can roll back to: `earlier` releases of the place, the latest first, or one that is `elsewhere`."""

    earlier: tuple[PlacedRelease, ...] = ()
    elsewhere: PlacedRelease | None = None

    @classmethod
    def find(cls, layout: Layout, journal: ReleaseJournal, release: PlacedRelease) -> WayBack:
        """The way back from `release`, before it is live."""
        path = release.path
        healthy = journal.place(path).healthy
        if not healthy:
            elsewhere = next((target for target in live_releases(layout, journal) if target.path != path), None)
            if elsewhere:
                return cls(elsewhere=elsewhere)
        staged = set(layout.staged())
        live = live_commit(layout, path)
        # A live release that was never healthy is better than nothing.
        candidates = [commit_id for commit_id in healthy if commit_id in staged] or ([live] if live else [])
        return cls(tuple(PlacedRelease(commit_id, path) for commit_id in candidates if commit_id != release.commit_id))

    @property
    def first(self) -> PlacedRelease | None:
        """What the host most likely rolls back to; None if there is nothing."""
        return self.elsewhere or next(iter(self.earlier), None)

    def choose(
        self,
        layout: Layout,
        shared_paths: Sequence[str],
        signers: str | None,
        accepted: Collection[tuple[str, str]] | None = None,
        *,
        waits: bool = True,
    ) -> PlacedRelease:
        """The release to roll back to: the latest that is as it was staged.

        If none is, and no signatures are demanded, simply the latest: a hook may have built something in it, and it was
        healthy like that. `accepted` are the commits and places of records with a good signature, if one is demanded.
        Raises `DeployError` if none may go live, `PassingError` if one that can't be read now might, and the host still
        `waits` or a signature is demanded.
        """
        if self.elsewhere:
            return self.elsewhere
        if not self.earlier:
            raise DeployError("there is no earlier release to go back to")
        unread = None
        others: list[PlacedRelease] = []
        unknown: list[PlacedRelease] = []
        for target in (one for one in self.earlier if accepted is None or one.where in accepted):
            try:
                if is_deployable(layout, target.commit_id, shared_paths, signers):
                    return target
            except PassingError as exc:
                # A bad sector in one does not exclude the others.
                unread = unread or exc
                unknown.append(target)
                continue
            except DeployError as exc:
                log.warning("skipped while rolling back, commit=%s: %s", target.commit_id, exc)
            others.append(target)
        fitting = [*others, *([] if waits else unknown)]
        if signers is None and fitting:
            return fitting[0]
        if unread:
            raise unread
        refused = ", ".join(target.commit_id for target in self.earlier)
        raise DeployError(
            f"no earlier release may go live again: modified since it was staged, "
            f"or it or its record not verified with the present require_signature: {refused}"
        )


def live_releases(layout: Layout, journal: ReleaseJournal) -> list[PlacedRelease]:
    """What is live at all places in the journal, the one used last first. Raises `OSError`."""
    found = ((live_commit(layout, place.path), place.path) for place in journal.places)
    return [PlacedRelease(commit_id, path) for commit_id, path in found if commit_id]
