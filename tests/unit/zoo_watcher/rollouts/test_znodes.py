"""What a host writes in a rollout of thousands, whose state is another one many times a second."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace

from support.simulated_fleet import NEW, OLD, URL, Ensemble, FakeSession
from zoo_watcher.rollouts.znodes import RolloutZnodes
from zoo_watcher.wire.records import AppPaths, Release, RosterEntry
from zoo_watcher.wire.rollout_events import Has, Outcome
from zoo_watcher.wire.rollout_phases import HALTED, ROLLING_BACK
from zoo_watcher.wire.rollout_records import ADMITTED, FAILED, HostEntry, RolloutRecord, begin
from zoo_watcher.wire.rollout_writes import CREATE, SET, Write, begin_writes

PATHS = AppPaths("/app/shop")
ROOT = PATHS.rollout(7)


class SlowSession(FakeSession):
    """A session of a large fleet: while the statuses of its agents are read, somebody else changes the state."""

    def begin_list(self, path: str) -> Callable[[], list[str]]:
        """The names."""
        if path == PATHS.agents:
            self._ensemble.apply([Write(SET, ROOT, self._ensemble.nodes[ROOT].data, -1)])
        return super().begin_list(path)


def test_a_step_of_labels_counts_the_hosts_of_the_roster_that_have_them() -> None:
    ensemble = Ensemble()
    plan = {"steps": [{"labels": {"zone": "a"}}]}
    state = begin(Release(URL, NEW, "shop"), plan, Release(URL, OLD, "shop"), 3)
    ensemble.apply(begin_writes(ROOT, state, ""))
    for name, zone in {"web0": "a", "web1": "b", "web2": "a"}.items():
        entry = RosterEntry(name=name, labels={"zone": zone}).to_node()
        ensemble.apply([Write(CREATE, PATHS.agent(name), b"{}"), Write(CREATE, PATHS.roster_entry(name), entry)])
    znodes = RolloutZnodes(FakeSession(ensemble, random.Random(0), 0.0), PATHS, 7, "web0")  # type: ignore[arg-type]
    view = znodes.read("web0")
    assert view is not None
    assert znodes.count(view).left == 2


def test_the_failure_that_stops_a_rollout_is_written_however_fast_the_others_come_further() -> None:
    ensemble = Ensemble()
    state = begin(Release(URL, NEW, "shop"), {"maxInFlight": 2}, Release(URL, OLD, "shop"), 1500)
    state = replace(state, counts={**state.counts, ADMITTED: 1})
    entry = Write(CREATE, f"{ROOT}/in_flight/web0", HostEntry(ADMITTED).to_node())
    ensemble.apply([*begin_writes(ROOT, state, ""), entry])
    znodes = RolloutZnodes(SlowSession(ensemble, random.Random(0), 0.0), PATHS, 7, "web0")  # type: ignore[arg-type]

    def note() -> bool:
        view = znodes.read("web0")
        assert view is not None
        decision = znodes.decide(view, Outcome("web0", ADMITTED, FAILED, "status 404"))
        return znodes.write(view, decision, "web0", "status 404")

    assert any(note() for _try in range(3))
    assert RolloutRecord.from_node(ensemble.nodes[ROOT].data).phase == HALTED


def test_who_had_the_release_is_counted_once_where_a_write_was_overtaken() -> None:
    ensemble = Ensemble()
    state = begin(Release(URL, NEW, "shop"), {"onFailure": "rollback"}, Release(URL, OLD, "shop"), 10)
    state = replace(state, counts={**state.counts, ADMITTED: 1})
    entry = Write(CREATE, f"{ROOT}/in_flight/web9", HostEntry(ADMITTED).to_node())
    ensemble.apply([*begin_writes(ROOT, state, ""), entry])
    for number in range(10):
        status = {"name": f"web{number}", "state": "active", "commitId": NEW if number < 3 else OLD}
        ensemble.apply([Write(CREATE, PATHS.agent(f"web{number}"), json.dumps(status).encode())])

    def znodes(name: str) -> RolloutZnodes:
        return RolloutZnodes(FakeSession(ensemble, random.Random(0), 0.0), PATHS, 7, name)  # type: ignore[arg-type]

    failed, failure = znodes("web9"), Outcome("web9", ADMITTED, FAILED, "status 404")
    view = failed.read("web9")
    assert view is not None
    decision = failed.decide(view, failure)
    for name in ("web0", "web1", "web2"):
        own = znodes(name)
        seen = own.read(name)
        assert seen is not None
        assert own.write(seen, own.decide(seen, Has(name)), name)
    assert not failed.write(view, decision, "web9", "status 404")
    view = failed.read("web9")
    assert view is not None
    decision = failed.decide(view, failure)
    assert (decision.is_bad, decision.state.phase, decision.state.had) == (True, ROLLING_BACK, 3)
