# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The course of one deployment: its target, what it reports, and what it waits out."""

from __future__ import annotations

import contextlib
import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.config import Config
from zoo_watcher.errors import DeployError, PassingError, YieldedError
from zoo_watcher.frozen import dataclass
from zoo_watcher.host.filesystem import disk_errors
from zoo_watcher.host.layout import Layout

from .activation import live_commit
from .handshake import Handshake
from .rollback import PlacedRelease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """The progress of a deployment, for the agent's status. `retry` is why its step is tried again, if it is.

    `waits_for` is what it is waiting for, also while its step is being tried again. `failed_in` is the state in which
    the release has failed, from which the host rolls back. `failed_step` is the step that has failed.
    `left` are the paths, in the staging directory or of earlier releases, that could not be removed before it was
    fetched.
    """

    state: str
    message: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    previous: str | None = None
    retry: str | None = None
    waits_for: str | None = None
    failed_in: str | None = None
    failed_step: FailedStep | None = None
    left: tuple[str, ...] = ()


class FailedStep(namedtuple("FailedStep", ("step", "seconds"))):
    """The first failed step of a deployment, and after how many seconds it failed."""

    __slots__ = ()

    step: str
    seconds: float


def in_seconds(timings: Mapping[str, Any], failed: Mapping[str, Any] | None = None) -> str:
    """How long each step took, for a person, and the one that has `failed`; empty if none is known."""
    known = {step: seconds for step, seconds in timings.items() if isinstance(seconds, (int, float))}
    done = [f"{step} {seconds:.2f} s" for step, seconds in known.items()]
    return ", ".join([*done, *([f"{failed['step']} FAILED after {failed['seconds']:.2f} s"] if failed else [])])


class Course:
    """The course of the deployment of `target`. `told` gets each `Progress`, and None at the end."""

    def __init__(
        self, config: Config, target: PlacedRelease, generation: int, told: Callable[[Progress | None], None]
    ) -> None:
        self.config = config
        self.layout = Layout(config.base)
        self.target = target
        self.generation = generation
        self.handshake = Handshake()
        self.timings: dict[str, float] = {}
        self.previous: str | None = None
        """The commit that the host would roll back to."""
        self.patience: float | None = None
        """Seconds for which a step may be tried again before it gives way to something else; None for no limit."""
        self.failed_in: str | None = None
        self.failed_step: FailedStep | None = None
        self.aside: str | None = None
        """The outcome of another release before; in each report until this one is live."""
        self.left: list[str] = []
        """What could not be removed from the staging directory and of earlier releases."""
        self._told = told
        self._state = "queued"

    def report(
        self, state: str, message: str | None = None, retry: str | None = None, waits_for: str | None = None
    ) -> None:
        """Report the progress of the deployment."""
        self._state = state
        message = "; ".join(filter(None, [message, self.aside])) or None
        timings, waits_for = dict(self.timings), waits_for or retry
        failed, left = (self.failed_in, self.failed_step), tuple(self.left)
        self._told(Progress(state, message, timings, self.previous, retry, waits_for, *failed, left))

    def note_failure(self) -> None:
        """The release has failed: reports from now on are about the rollback."""
        self.failed_in = self._state

    def patience_left(self, since: float) -> float | None:
        """For how many more seconds a step that has been tried since `since` may be; None for no limit."""
        return None if self.patience is None else since + self.patience - time.monotonic()

    def pause(self, state: str, why: str, reason: str, seconds: float, since: float) -> None:
        """Wait before a step that has been tried since `since` is tried again.

        Raises `CancelledError`, and `YieldedError` if it has been tried for long enough.
        """
        left = self.patience_left(since)
        if left is not None and left < 0:
            self.report(state, why)
            raise YieldedError
        self.report(state, f"{why}; tried again in {seconds:.0f} s", reason)
        self.handshake.sleep(seconds)

    def wait_turn(self, seconds: float) -> None:
        """Wait before a step is begun, for as long as nothing else takes precedence.

        Raises `CancelledError`, and `YieldedError` if it would have to wait for longer.
        """
        allowed = seconds if self.patience is None else min(seconds, self.patience)
        self.handshake.sleep(allowed)
        if allowed < seconds:
            raise YieldedError

    def live(self) -> str | None:
        """The commit that is live at the place of the release now. Raises `DeployError`."""
        with disk_errors("looking at what is live"):
            return live_commit(self.layout, self.target.path)

    def end(self) -> None:
        """Report that there will be no more reports."""
        self._told(None)

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measure the time of a step that is done, and of the first that has failed."""
        begin = time.monotonic()
        try:
            yield
        except PassingError:
            raise
        except DeployError:
            if self.failed_in is None and self.failed_step is None:  # else it is a step of the rollback
                self.failed_step = FailedStep(step, round(time.monotonic() - begin, 4))
            raise
        self.timings[step] = round(time.monotonic() - begin, 4)

    def wait_out(self, state: str, step: Callable[[], T], why: str = "") -> T:
        """The result of a step of this thread; a problem that may pass, such as a full disk, is waited out in `state`.

        Raises `DeployError` for what will not pass, `CancelledError`, `YieldedError`.
        """
        backoff, begin = Backoff(), time.monotonic()
        while True:
            try:
                return step()
            except PassingError as exc:
                self.pause(state, f"{why}{exc}", exc.reason, next(backoff), begin)
