# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout has to know about this host, gathered from the agent's parts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from zoo_watcher.config.config import Config
from zoo_watcher.convergence import Convergence
from zoo_watcher.desired import Desired
from zoo_watcher.host.controls import Controls
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.activation import live_commit
from zoo_watcher.services.health import Health

from .turn import HostView


@dataclass(frozen=True)
class HostFacts:
    """The parts of the agent that know it."""

    config: Config
    layout: Layout
    convergence: Convergence
    health: Health
    controls: Controls

    def gather(self, desired: Desired, stable: Desired | None) -> HostView:
        """The state of this host now. Raises `OSError` if what is live can't be told."""
        release = desired.release
        here = live_commit(self.layout, release.relative_path) if release else None
        is_switched = release is not None and here == release.commit_id
        return replace(
            self.gather_without_disk(desired),
            has=self.convergence.live(),
            is_switched=is_switched,
            is_cut_off=is_switched and self.convergence.was_cut_off(desired),
            ended=self.convergence.outcome_of(desired),
            stable_ended=self.convergence.outcome_of(stable) if stable else None,
        )

    def gather_without_disk(self, desired: Desired) -> HostView:
        """As much of it as the agent has in memory."""
        checkers = self.health.checkers
        sick = [checker.reason for checker in checkers if checker.healthy is False]
        return HostView(
            name=self.config.name,
            labels=dict(self.config.labels),
            ended=self.convergence.known_outcome_of(desired),
            sickness="; ".join(sick) or None,
            is_healthy=all(checker.healthy for checker in checkers),
            awaits_health=self.convergence.awaits_health(desired),
            is_held=self.controls.held is not None,
            is_busy=self.convergence.deployment is not None,
            is_drained=self.controls.drained is not None,
        )
