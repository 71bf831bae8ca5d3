# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One release on its way to be live and proved, in a thread of its own; git and disk work is the apply child's.

A deployment tries again what may pass, gives up on what will not, and goes back to the previous release where
the new one does not become healthy. A newer release cancels it at any instant.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Callable

from .activation import activate, live_commit
from .config import Config
from .errors import CancelledError, DeployError, PassingError, UnhealthyError
from .health import Health
from .journal import Failure, Journal
from .layout import Layout
from .records import Release

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds between tries of what may pass; doubled from the first to the longest, with jitter."""
SPREAD = 0.01
"""Seconds, for each live agent, over which a fleet spreads its first request to one git server."""
LONGEST_SPREAD = 10.0
NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What the service manager tells the agent alone."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a deployment is: what the agent's status says of it."""

    state: str
    message: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    previous: str | None = None


class Deployment(threading.Thread):
    """Brings `release` live and proves it. `report` gets, in this thread, each `Progress`, and None at its end."""

    def __init__(  # noqa: PLR0913  # what one deployment is made of
        self,
        config: Config,
        release: Release,
        generation: int,
        fleet: int,
        health: Health,
        report: Callable[[Progress | None], None],
    ) -> None:
        super().__init__(name=f"deployment-{generation}", daemon=True)
        self.config = config
        self.layout = Layout(config.base)
        self.release = release
        self.generation = generation
        self.fleet = fleet
        self.health = health
        self._report = report
        self.ended = False
        self._cancelled = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._timings: dict[str, float] = {}
        self._previous: str | None = None

    def cancel(self) -> None:
        """Let it end as soon as it can; the host stays whole."""
        self._cancelled.set()
        self.health.wake()
        self._end_child()

    def run(self) -> None:
        """The whole deployment. What it comes to is in its last report, and in the journal."""
        try:
            self._deploy()
        except CancelledError:
            pass
        except UnhealthyError as exc:
            self._go_back(str(exc))
        except DeployError as exc:
            self._give_up("failed", str(exc))
        finally:
            self.ended = True
            self._report(None)

    def _deploy(self) -> None:
        journal = Journal.load(self.layout.journal)
        self._previous = self._fallback(journal)
        swapped = self._go_live()
        self._prove(may_go_back=swapped or journal.healthy[:1] != (self.release.commit_id,))
        self._remember(journal.with_healthy(self.release.commit_id, self.config.keep_releases))
        self.report("active")

    def report(self, state: str, message: str | None = None) -> None:
        """Say where the deployment is."""
        self._report(Progress(state, message, dict(self._timings), self._previous))

    def _fallback(self, journal: Journal) -> str | None:
        """The commit to go back to: the last that was healthy, still whole on disk; else what is live now."""
        staged = set(self.layout.staged())
        earlier = [commit_id for commit_id in journal.healthy if commit_id in staged]
        live = live_commit(self.layout, self.release.relative_path)
        candidates = [*earlier, *([live] if live else [])]
        return next((commit_id for commit_id in candidates if commit_id != self.release.commit_id), None)

    def _go_live(self) -> bool:
        """Make the release live; whether it was not so already."""
        if live_commit(self.layout, self.release.relative_path) == self.release.commit_id:
            return False
        self._spread()
        for pause in _pauses():
            try:
                self._apply()
            except PassingError as exc:
                self.report("fetching", f"{exc}; tried again in {pause:.0f} s")
                self._sleep(pause)
            else:
                break
        return True

    def _spread(self) -> None:
        """Wait a random moment, longer in a larger fleet: many at once make a git server refuse."""
        if self.fleet > 1 and not self.layout.release(self.release.commit_id).is_dir():
            self.report("queued")
            # Only spreads load: nothing to guess.
            self._sleep(random.uniform(0, min(self.fleet * SPREAD, LONGEST_SPREAD)))  # noqa: S311

    def _sleep(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise CancelledError

    def _apply(self) -> None:
        """Run the apply child to its end. Raises `PassingError`, `DeployError`, `CancelledError`."""
        command = [sys.executable, "-m", __package__, "apply"]
        # A group of its own, so that git goes with it when it is ended.
        child = subprocess.Popen(  # noqa: S603  # our own program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd="/", env=_environment()
        )
        self._child = child
        if self._cancelled.is_set():
            self._end_child()
        overdue = threading.Timer(self.config.fetch_timeout, self._end_child)
        overdue.start()
        begin = time.monotonic()
        try:
            outcome = self._listen(child)
        finally:
            overdue.cancel()
            self._end_child()
            child.wait()
        if self._cancelled.is_set():
            raise CancelledError
        self._judge(outcome, time.monotonic() - begin)

    def _judge(self, outcome: dict[str, Any], seconds: float) -> None:
        if "done" in outcome:
            self._timings.update(outcome["done"])
        elif "error" in outcome:
            raise (PassingError if outcome["passing"] else DeployError)(outcome["error"])
        elif seconds >= self.config.fetch_timeout:
            raise PassingError(f"not fetched and staged within {self.config.fetch_timeout:g} s (fetch_timeout)")
        else:
            raise PassingError("the apply child ended without a word; its log says why")

    def _listen(self, child: subprocess.Popen[str]) -> dict[str, Any]:
        """Give the child its job and pass its steps on; what it said last."""
        journal = Journal.load(self.layout.journal)
        job = {
            "base": str(self.config.base),
            "release": self.release.to_object(),
            "allowed_schemes": self.config.allowed_schemes,
            "keep": [*journal.healthy[: self.config.keep_releases - 1], *([self._previous] if self._previous else [])],
        }
        assert child.stdin is not None  # noqa: S101  # both are pipes
        assert child.stdout is not None  # noqa: S101
        said: dict[str, Any] = {}
        try:
            child.stdin.write(json.dumps(job))
            child.stdin.close()
        except BrokenPipeError:
            return said
        for line in child.stdout:
            said = json.loads(line)
            if "step" in said:
                self.report(said["step"])
        return said

    def _end_child(self) -> None:
        child = self._child
        if child is not None and child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def _prove(self, *, may_go_back: bool) -> None:
        """Wait until every check has passed since the release went live. Raises `UnhealthyError`, `CancelledError`."""
        self.report("checking")
        begin = time.monotonic()
        self.health.begin_proof()
        if not self.health.wait_proved(self._cancelled, self.config.health_timeout):
            reason = f"not healthy within {self.config.health_timeout:g} s: {self.health.reason}"
            if may_go_back and self._previous is not None:
                raise UnhealthyError(reason)
            # Nothing to go back to: the release was proved before, or is the first and its service comes up later.
            self.report("checking", reason)
            self.health.wait_proved(self._cancelled, None)
        if self._cancelled.is_set():
            raise CancelledError
        self._timings["checking"] = round(time.monotonic() - begin, 4)

    def _go_back(self, reason: str) -> None:
        """Make the previous release live again; that needs no git."""
        assert self._previous is not None  # noqa: S101  # the proof has looked
        try:
            activate(self.layout, self.release.relative_path, self._previous)
        except DeployError as exc:
            self._give_up("failed", f"{reason}; and going back failed: {exc}")
        else:
            self._give_up("rolled_back", f"{reason}; went back to {self._previous}")

    def _give_up(self, state: str, message: str) -> None:
        journal = Journal.load(self.layout.journal)
        self._remember(journal.with_failure(Failure(self.generation, state, message)))
        self.report(state, message)

    def _remember(self, journal: Journal) -> None:
        """Write the journal; where that can't be, the host still runs what it runs."""
        try:
            journal.save(self.layout.journal)
        except OSError as exc:
            log.warning("journal not written, path=%s: %s", self.layout.journal, exc.strerror)


def _environment() -> dict[str, str]:
    """The child's environment: this one's, with this package importable as it is here."""
    found = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = [found, *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    return {**inherited, "PYTHONPATH": os.pathsep.join(paths)}


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.7, 1.3)  # noqa: S311
        pause = min(pause * 2, LONGEST_PAUSE)
