"""To what a rollout has hosts go back, where only publishers may publish."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from support.simulated_fleet import APP, NEW, OLD, URL, Ensemble, FakeSession, Fleet
from zoo_watcher.desired import Desired
from zoo_watcher.rollouts.participation import Participation
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.rollout_records import RETURNING, HostEntry
from zoo_watcher.wire.rollout_records import begin as begin_rollout
from zoo_watcher.wire.rollout_writes import CREATE, Write, begin_writes

PLAN = {"from": OLD, "minHealthy": 0}


@pytest.mark.parametrize(("own", "policy"), [(PLAN, None), (None, PLAN), (None, {**PLAN, "from": OLD.upper()})])
def test_hosts_take_what_the_record_or_the_policy_of_a_publisher_names_and_nothing_else(
    begin: Callable[..., Fleet], own: Any, policy: Any
) -> None:
    host = begin(1, 1, PLAN).hosts[0]
    host.has = NEW
    desired = Release(URL, NEW, "site", extra={} if own is None else {"rollout": own})
    told = {OLD: None, "f" * 40: f"{'f' * 40} of {URL} is not deployed"}
    for commit, refusal in told.items():
        ensemble = Ensemble()
        state = begin_rollout(desired, own or policy, Release(URL, commit, "site"), 1)
        state = replace(state, phase="rolling_back", counts={**state.counts, RETURNING: 1})
        entry = Write(CREATE, f"{APP.rollout(7)}/in_flight/{host.name}", HostEntry(RETURNING).to_node())
        ensemble.apply([*begin_writes(APP.rollout(7), state, ""), entry])
        session = FakeSession(ensemble, random.Random(0), 0.0)
        session.has_roles = True
        wanted = Desired(7, 1, desired, policy=policy and json.dumps({"rollout": policy}).encode())
        part = Participation(host, session, wanted, lambda: None, resumes=False)  # type: ignore[arg-type]
        part.keep()
        assert (refusal in (part.refused or "")) if refusal else part.refused is None
