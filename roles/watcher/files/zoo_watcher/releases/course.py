# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where one deployment is: what it is about, what it tells of that, and what it waits out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Callable, TypeVar

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.config import Config
from zoo_watcher.errors import PassingError, YieldedError
from zoo_watcher.host.filesystem import disk_errors
from zoo_watcher.host.layout import Layout

from .activation import live_commit
from .handshake import Handshake
from .rollback import PlacedRelease

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """Where a deployment is: what the agent's status says of it. `retry` is why its step is tried again, if it is.

    `waits_for` is what it waits for until it is there: also while its step is being tried again.
    """

    state: str
    message: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    previous: str | None = None
    retry: str | None = None
    waits_for: str | None = None


class Course:
    """The course of the deployment of `target`. `told` gets each `Progress`, and None at its end."""

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
        """The commit that the host would go back to."""
        self.patience: float | None = None
        """Seconds for which a step may be tried again before it gives way to something else; None for no end."""
        self.aside: str | None = None
        """What came of another release before; it is in each report until this one is live."""
        self._told = told

    def report(
        self, state: str, message: str | None = None, retry: str | None = None, waits_for: str | None = None
    ) -> None:
        """Report where the deployment is."""
        message = "; ".join(filter(None, [message, self.aside])) or None
        self._told(Progress(state, message, dict(self.timings), self.previous, retry, waits_for or retry))

    def check_patience(self, since: float) -> None:
        """Raises `YieldedError` where a step has been tried again `since` then for longer than it may be."""
        if self.patience is not None and time.monotonic() > since + self.patience:
            raise YieldedError

    def live(self) -> str | None:
        """The commit that is live at the place of the release now. Raises `DeployError`."""
        with disk_errors("looking at what is live"):
            return live_commit(self.layout, self.target.path)

    def end(self) -> None:
        """Report that nothing more will be."""
        self._told(None)

    @contextlib.contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Take the time of a step, where it is done."""
        begin = time.monotonic()
        yield
        self.timings[step] = round(time.monotonic() - begin, 4)

    def wait_out(self, state: str, step: Callable[[], T], why: str = "") -> T:
        """What a step of this thread comes to; what may pass, such as a full disk, is waited out in `state`.

        Raises `DeployError` for what will not, `CancelledError`, `YieldedError`.
        """
        backoff, begin = Backoff(), time.monotonic()
        while True:
            try:
                return step()
            except PassingError as exc:
                pause = next(backoff)
                self.check_patience(begin)
                self.report(state, f"{why}{exc}; tried again in {pause:.0f} s", exc.reason)
                self.handshake.sleep(pause)
