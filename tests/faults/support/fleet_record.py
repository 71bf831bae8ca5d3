"""The history of a fleet in a rollout: every change of its hosts' statuses and entries, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from support.ensemble import Ensemble
from support.rollout import Rollout
from support.transaction_log import Change, read_changes

RESTS = {"waiting", "halted", "active", "failed", "rolled_back"}
"""The states of a host that is not on its way to a release."""


@dataclass(frozen=True)
class FleetRecord:
    """The changes below an application, and the rollout under examination."""

    changes: list[Change]
    made: Rollout

    @classmethod
    def read(cls, servers: Ensemble, made: Rollout) -> FleetRecord:
        """What the leader has logged so far."""
        return cls(read_changes(servers.leader.directory / "data", made.app), made)

    def statuses(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each status of the rollout's generation that a host has had, with the host's name."""
        for name, status in self._statuses():
            if status.get("generation") == self.made.generation:
                yield name, status

    def _statuses(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each status that a host has had, with the host's name, and an empty one where it was deleted."""
        prefix = f"{self.made.app}/agents/"
        for change in self.changes:
            if change.path.startswith(prefix):
                yield change.path.removeprefix(prefix), json.loads(change.data) if change.data else {}

    def on_their_way(self) -> Iterator[set[str]]:
        """After each change of a status, the hosts that report that they are on their way to the release."""
        names: set[str] = set()
        for name, status in self._statuses():
            is_about = status.get("generation") == self.made.generation
            (names.add if is_about and status["state"] not in RESTS else names.discard)(name)
            if is_about:
                yield set(names)

    def with_places(self) -> Iterator[set[str]]:
        """After each change below the rollout's `in_flight`, the hosts that have an entry there."""
        names: set[str] = set()
        prefix = f"{self.made.root}/in_flight/"
        for change in self.changes:
            if change.path.startswith(prefix):
                (names.discard if change.data is None else names.add)(change.path.removeprefix(prefix))
                yield set(names)
