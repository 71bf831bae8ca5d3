"""A fleet in memory with a clock that the test sets."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from support.simulated_fleet import BEGIN, Fleet
from zoo_watcher.rollouts import lookout, participation, timers
from zoo_watcher.rollouts.znodes import RolloutZnodes


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fleet]:
    """Starts a fleet from a seed, with a clock that the test sets."""

    def make(seed: int, count: int, rollout: Any, **keys: Any) -> Fleet:
        monkeypatch.setattr(RolloutZnodes, "trim", lambda _znodes: None)
        chance = random.Random(seed)
        monkeypatch.setattr(timers, "some", chance.uniform)
        monkeypatch.setattr(participation, "some", chance.uniform)
        monkeypatch.setattr(lookout, "some", chance.uniform)
        fleets: list[Fleet] = []

        def now() -> float:
            # The hosts look at the clock while the fleet is created.
            return fleets[0].now if fleets else BEGIN

        for module in (lookout, participation, timers):
            monkeypatch.setattr(module, "time", type("Clock", (), {"monotonic": staticmethod(now)}))
        fleets.append(Fleet(chance, count, rollout, **keys))
        return fleets[0]

    return make
