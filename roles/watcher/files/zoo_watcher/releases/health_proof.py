# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of what is live: its checks pass, for long enough, and it is still where it belongs."""

from __future__ import annotations

from functools import partial

from zoo_watcher.host.filesystem import disk_errors
from zoo_watcher.services.health import Health

from .activation import check_visible, live_commit
from .course import Course
from .rollback import PlacedRelease


class HealthProof:
    """Waits, for one deployment, until the health checks have given their results."""

    def __init__(self, course: Course, health: Health) -> None:
        self._course = course
        self._health = health

    def wake(self) -> None:
        """Check whether the deployment is cancelled."""
        self._health.wake()

    def find_problem(self, soak: float = 0.0) -> str | None:
        """Wait until every check has passed, from now on, for `soak` seconds in a row; what is wrong at the deadline.

        Raises `CancelledError`.
        """
        self._health.begin_proof(soak)
        deadline = self._course.config.health_timeout + soak
        if self._wait(deadline):
            return None
        healthy = f"healthy for {soak:g} s on end" if soak else "healthy"
        return f"not {healthy} within {deadline:g} s: {self._health.reason}"

    def wait_for_ever(self) -> None:
        """Wait until every check has passed after all. Raises `CancelledError`."""
        self._wait(None)

    def _wait(self, seconds: float | None) -> bool:
        handshake = self._course.handshake
        proved = self._health.wait_proved(seconds, handshake.is_cancelled, self._report_soak)
        handshake.check()
        return proved

    def _report_soak(self, passing: bool) -> None:
        """Report that all checks pass, or that one has failed before that had lasted long enough."""
        soak = f"{self._course.config.healthy_for:g} s"
        message = f"healthy, proved in {soak}" if passing else f"not healthy for {soak} on end: {self._health.reason}"
        self._course.report("checking", message)

    def find_problem_of_place(self, target: PlacedRelease) -> str | None:
        """What is wrong at the place where a release has to be live: a hook, or anybody, may have removed it meanwhile.

        Raises `CancelledError`.
        """
        if self._course.wait_out("checking", partial(self._is_live, target)):
            return None
        place = self._course.layout.place(target.path)
        return f"{place} does not lead to release {target.commit_id} any more; does a hook remove it?"

    def _is_live(self, target: PlacedRelease) -> bool:
        with disk_errors("looking at what is live"):
            check_visible(self._course.layout, target.path, target.commit_id)
            return live_commit(self._course.layout, target.path) == target.commit_id
