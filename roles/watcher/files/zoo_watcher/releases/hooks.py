# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's own commands around a switch: its hooks, and the restart of its units."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from zoo_watcher.errors import MOST_KILLED, DeployError, KilledError, PassingError
from zoo_watcher.host import command
from zoo_watcher.host.command import Ended

from .course import Course

RECENT = 10.0
"""Seconds after its end for which a command may be the cause of a stop, restart or reload of the agent."""

log = logging.getLogger(__name__)


class HostHooks:
    """The hooks and units of the configuration, run for one deployment."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._ended_at = -math.inf
        """When the last hook, or restart of a unit, was over, on the monotonic clock; infinite while one runs."""
        self._killed = 0
        """How many of the last commands in a row were killed."""

    @property
    def may_end_agent(self) -> bool:
        """Whether a hook or the restart of a unit may be what ends the agent now: it runs, or did a moment ago."""
        return time.monotonic() < self._ended_at + RECENT

    def run(self, name: str, failure: type[DeployError], commit_id: str, previous: str | None) -> None:
        """Run a hook, if there is one, for a commit.

        Raises `failure` with the last lines of its output; `PassingError` if it can't be started now, or was killed.
        """
        config, layout, generation = self._course.config, self._course.layout, self._course.generation
        words = getattr(config.hooks, name)
        if not words:
            return
        environment = {
            "ZOO_COMMIT": commit_id,
            "ZOO_RELEASE": str(layout.release(commit_id)),
            "ZOO_PREVIOUS": str(layout.release(previous)) if previous else "",
            "ZOO_GENERATION": str(max(0, generation)),
        }
        with self._course.timed(name):
            ended = self._execute(words, environment, environment["ZOO_RELEASE"])
            for line in ended.lines:
                log.info("hook %s, generation=%s: %s", name, generation, line)
            self._check_ended(f"hook {name}", ended, failure)

    def use(self, failure: type[DeployError], commit_id: str, previous: str | None) -> None:
        """Have the host use the release that is live: its hook, its units. Raises `failure`, `CancelledError`."""
        for step in self._steps(failure, commit_id, previous):
            self._course.wait_out("activating", step)

    def use_again(self, commit_id: str, previous: str | None, why: str) -> list[str]:
        """Have the host use a live release of an earlier deployment; returns what went wrong.

        A failed step does not stop the others.

        Raises `CancelledError`.
        """
        problems = []
        for step in self._steps(DeployError, commit_id, previous):
            try:
                self._course.wait_out("checking", step, f"{why}; ")
            except DeployError as exc:
                problems.append(str(exc))
        return problems

    def _steps(self, failure: type[DeployError], commit_id: str, previous: str | None) -> list[Callable[[], None]]:
        restarts = [partial(self._restart, unit, failure) for unit in self._course.config.restart_units]
        return [partial(self.run, "after_activate", failure, commit_id, previous), *restarts]

    def _restart(self, unit: str, failure: type[DeployError]) -> None:
        ended = self._execute(["systemctl", "restart", unit])
        self._check_ended(f"restarting {unit}", ended, failure)

    def _execute(
        self, words: Sequence[str], environment: Mapping[str, str] | None = None, directory: str = "/"
    ) -> Ended:
        self._ended_at = math.inf
        try:
            return command.run(words, self._course.config.hook_timeout, environment, directory)
        finally:
            self._ended_at = time.monotonic()

    def _check_ended(self, what: str, ended: Ended, failure: type[DeployError]) -> None:
        """Raises `failure` if a command failed, `PassingError` if this host lacked the resources for it."""
        if ended.found_shortage:
            raise PassingError(f"{what} {ended.problem}", "process")
        self._killed = self._killed + 1 if ended.was_killed else 0
        text = f"{what} {ended.problem}: {ended.tail}".rstrip(": ")
        if 0 < self._killed < MOST_KILLED:
            raise KilledError(f"{text}; is this host short of memory?")
        if ended.problem:
            self._killed = 0
            raise failure(text)
