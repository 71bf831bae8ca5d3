"""A scrape reports what is true now, and nothing of the past."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from zoo_watcher.metrics.disk_use import DiskUse, FileSystem
from zoo_watcher.metrics.facts import CheckFacts, Facts, SessionFacts, Tally, Turn
from zoo_watcher.metrics.metric import families
from zoo_watcher.wire.records import AgentStatus
from zoo_watcher.zookeeper.session_states import SYNC_CONNECTED

OLD, NEW = "a" * 40, "b" * 40


def facts(**changes: object) -> Facts:
    """The facts of an agent that has just been started, with some changes to its status."""
    status = AgentStatus(name="web1", version="1.0").with_changes(**changes)
    return Facts(
        "/app/shop", 1000.0, Turn(1001.0, status), SessionFacts(SYNC_CONNECTED, 10.0, 1002.0, Counter()), Tally()
    )


def samples(told: Facts) -> dict[str, float]:
    """The samples by name and labels."""
    return {
        sample.name.removeprefix("zoo_watcher_") + "".join(f" {key}={value}" for key, value in sample.labels.items()): (
            sample.value
        )
        for family in families(told)
        for sample in family.samples
    }


def test_no_commit_step_or_file_of_the_past_stays() -> None:
    before = facts(commit_id=OLD, timings={"fetching": 0.5}, files={"/etc/a": {"state": "current"}})
    told = samples(before)
    assert told["deploy_seconds step=fetching"] == 0.5
    assert told[f"release_info desired_commit= live_commit={OLD} previous_commit="] == 1
    assert told["file_current dest=/etc/a"] == 1
    after = samples(facts(commit_id=NEW, timings={"activating": 0.1}, files={"/etc/b": {"state": "failed"}}))
    assert [name for name in after if "step=" in name and name.startswith("deploy_seconds")] == [
        "deploy_seconds step=activating"
    ]
    assert [name for name in after if name.startswith("release_info")] == [
        f"release_info desired_commit= live_commit={NEW} previous_commit="
    ]
    assert [name for name in after if name.startswith("file_current")] == ["file_current dest=/etc/b"]


def test_exactly_one_state_is_true() -> None:
    told = samples(facts(state="checking", since="2026-11-24T10:15:30.412+00:00"))
    assert [name for name, value in told.items() if name.startswith("state ") and value] == ["state state=checking"]
    assert [name for name, value in told.items() if name.startswith("session_state ") and value] == [
        "session_state state=SyncConnected"
    ]
    assert told["state_entered_timestamp_seconds"] == 1795515330.412


def test_every_counter_begins_at_zero_for_every_label_it_may_get() -> None:
    told = samples(facts())
    counted = {name: value for name, value in told.items() if "_total " in name}
    assert set(counted.values()) == {0}
    assert {"deployments_total outcome=rolled_back", "deployment_failures_total step=checking"} <= counted.keys()
    assert {"deployment_retries_total reason=fetch", "session_changes_total state=Expired"} <= counted.keys()


def test_each_service_has_its_check_and_its_registration() -> None:
    turn = replace(facts().turn, registered=frozenset({"/s/a"}), refused=frozenset({"/s/b"}))
    checks = (CheckFacts("/s/a", True, 990.0, 12.0), CheckFacts("/s/b", False, 0.0, 12.0))
    told = samples(replace(facts(), turn=turn, checks=checks))
    values = [
        [told[f"{name} service={service}"] for name in ("check_healthy", "registered", "registration_refused")]
        for service in ("/s/a", "/s/b")
    ]
    assert values == [[1, 1, 0], [0, 0, 1]]
    assert told["check_verdict_timestamp_seconds service=/s/b"] == 0


def test_files_are_counted_by_state_even_where_none_is_in_it() -> None:
    files = {"/etc/a": {"state": "current"}, "/etc/b": {"state": "failed"}, "/etc/c": {"state": "failed"}}
    told = samples(facts(files=files))
    assert [told[f"files state={state}"] for state in ("current", "missing", "pending", "failed")] == [1, 0, 0, 2]


@pytest.mark.parametrize("name", ["object_store_bytes", "disk_use_timestamp_seconds", "base_free_bytes"])
def test_a_figure_that_is_not_known_has_no_sample(name: str) -> None:
    assert name not in samples(facts())
    known = replace(facts(), disk_use=DiskUse(1000.0, 1, 2), file_system=FileSystem(100, 10, 50, 5))
    assert name in samples(known)
