"""The storm of `tests/faults` does to a rollout only what every host survives."""

from __future__ import annotations

import random
from types import SimpleNamespace
from unittest.mock import MagicMock, call

import pytest

from faults.support import rollout_storm
from faults.support.rollout_storm import RolloutStorm

STEPS = 200


@pytest.mark.parametrize("seed", range(5))
def test_no_agent_is_killed_as_often_as_a_release_is_given_up_for(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_storm, "LONGEST", 0.0)
    monkeypatch.setattr(rollout_storm, "PAUSE", 0.0)
    agent, fleet = MagicMock(), MagicMock()
    agent.name, fleet.agents, fleet.named.return_value = "web00", [agent], agent
    fleet.servers.members = [MagicMock()]
    made = SimpleNamespace(state={"phase": "running"}, entries={"web00": "admitted"})
    storm = RolloutStorm(fleet, made, random.Random(seed))  # type: ignore[arg-type]
    for _number in range(STEPS):
        storm.step()
    storm.calm()
    assert agent.kill.mock_calls == [call()]
    assert agent.end.call_count > STEPS / 20, "other troubles go on"
