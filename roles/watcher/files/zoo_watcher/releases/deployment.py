# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deployment of a release: staged, activated, and proved like any other that is live.

A deployment tries again what may pass, gives up on what will not, and rolls back to an earlier release if the new one
does not become healthy. A newer release cancels it at any instant. The apply process does the git and disk work.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import partial

from zoo_watcher.config.config import Config
from zoo_watcher.errors import DeployError, PassingError
from zoo_watcher.services.health import Health
from zoo_watcher.wire.records import Release

from .activation import activate, check_complete, prepare
from .course import Progress
from .fetching import Fetching
from .handshake import Phase
from .journal import KnownJournal
from .live_proof import LiveProof
from .rollback import PlacedRelease

WITHDRAWAL = 10.0
"""Seconds that the loop gets to withdraw the registrations before a drain continues without that."""

log = logging.getLogger(__name__)


class Deployment(LiveProof):
    """Makes `release` live, if it is not, and proves it. `fleet` agents may do the same at the same time.

    One that `yields` ends if it has to wait for longer than `health_timeout` before the release is live, so that what
    is live there meanwhile is proved. `aside` is the outcome of another release, reported until this one is live.
    """

    def __init__(  # what one deployment is made of
        self,
        config: Config,
        journal: KnownJournal,
        release: Release,
        generation: int,
        fleet: int,
        health: Health,
        report: Callable[[Progress | None], None],
        *,
        yields: bool = False,
        aside: str | None = None,
    ) -> None:
        target = PlacedRelease(release.commit_id, release.relative_path)
        super().__init__(config, journal, target, generation, health, report)
        self._fetching = Fetching(self.course, self._memory, release, fleet)
        self._untidy = False
        self._hook_done = False
        self.course.aside = aside
        if yields:
            self.course.patience = config.health_timeout

    def cancel(self) -> None:
        """Let it end as soon as it can, like any proof, and kill the processes that fetch."""
        super().cancel()
        self._fetching.end()

    def _tidy(self) -> None:
        """Pack the object store. The release is live and proved: a failure here does not change that."""
        if not self._untidy:
            return
        try:
            self._fetching.tidy()
        except Exception as exc:  # noqa: BLE001  # nothing of it is in the outcome
            log.warning("object store not packed: %s", exc)

    def _make_live(self) -> None:
        """Stage the release and swap the symlink. Raises `DeployError`, `CancelledError`, `YieldedError`."""
        self._untidy = self._fetching.fetch()
        self.course.wait_out("activating", self._switch)

    def _switch(self) -> None:
        """Drain the host, and swap the symlink. Raises `PassingError`, after ending the drain.

        Raises `DeployError`, `CancelledError`.
        """
        layout, commit_id = self.course.layout, self.target.commit_id
        # Before anything is drained: a host that lacks space for the swap goes on serving.
        self.course.wait_out("queued", partial(prepare, layout, self.target.path, commit_id))
        self._memory.begin_attempt()
        self._drain()
        try:
            self._run_hook_once()
            check_complete(layout, commit_id)
            self._activate()
        except PassingError:
            self._end_drain()
            raise

    def _run_hook_once(self) -> None:
        if not self._hook_done:
            self._hooks.run("before_activate", DeployError, self.target.commit_id, self.course.previous)
        self._hook_done = True

    def _drain(self) -> None:
        """Have the registrations withdrawn, and wait until no more requests should arrive."""
        config = self.course.config
        if not config.drain_seconds or not config.services:
            return
        self.handshake.enter(Phase.DRAINING)
        self.course.report("draining")
        if not self.handshake.wait_answered(WITHDRAWAL):
            log.warning("registrations not withdrawn within %g s, continuing", WITHDRAWAL)
        self.handshake.sleep(config.drain_seconds)

    def _end_drain(self) -> None:
        """Let the host serve until the next try, unless what is live may be the new release."""
        with contextlib.suppress(DeployError):
            if self.course.live() != self.target.commit_id:
                self.handshake.begin_anew()

    def _activate(self) -> None:
        """Swap the symlink. Raises `DeployError`, `CancelledError`."""
        course = self.course
        self.handshake.activate()
        course.report("activating")
        with course.timed("activating"):
            activate(course.layout, self.target.path, self.target.commit_id)
        self._note_live()

    def _note_live(self) -> None:
        """The release is live: it no longer gives way to anything, and reports are about itself."""
        self.course.patience = self.course.aside = None
