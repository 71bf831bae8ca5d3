"""What zk_release foresees in check mode for a fleet in a real ensemble."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    ROLLED_BACK_FROM,
    AppPaths,
    InvalidRecord,
    Release,
)
from ansible_collections.zoo.deploy.plugins.module_utils.releases import (
    mark_proved,
    now,
    publish,
    read_published,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import HostEntry, RolloutPaths, RolloutRecord
from ansible_collections.zoo.deploy.plugins.modules import zk_release
from support.agent_status import report

LABELS = {"web1": "a", "web2": "a", "web3": "b", "web4": "b"}
HELD = {"since": "2026-11-24T10:15:30+00:00", "by": "ann", "reason": "disk swap"}


@pytest.fixture
def paths(zk: KazooClient, other: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch) -> AppPaths:
    """An application with four live hosts that have proved commit 1, and a missing one; its branch is at commit 2."""
    made = AppPaths(app)
    generation = publish(zk, made, release(1), read_published(zk, made))
    mark_proved(zk, made, generation, now())
    for name, zone in LABELS.items():
        report(other, made, name, "active", generation, commit_id=f"{1:040x}")
        zk.create(made.roster_entry(name), json.dumps({"name": name, "labels": {"zone": zone}}).encode(), makepath=True)
    zk.create(made.roster_entry("web5"), b"{}")
    monkeypatch.setattr(zk_release, "resolve", lambda _url, ref: ref if len(ref) == 40 else f"{2:040x}")
    return made


def release(number: int) -> Release:
    """A release, a different one for each number."""
    return Release("https://example.org/x.git", f"{number:040x}", "site", ref="main")


def foresee(client: KazooClient, paths: AppPaths, state: str = "published", **given: Any) -> dict[str, Any]:
    """Run zk_release in check mode, and check that it adds no znode to the application."""
    options = {name: spec.get("default") for name, spec in zk_release.argument_spec().items()}
    before = sorted(client.get_children(paths.root))
    does = zk_release.steer if state in zk_release.VERBS else zk_release.converge
    result = does(client, {**options, "app": paths.root, "state": state, **given}, True)
    assert sorted(client.get_children(paths.root)) == before
    return result


def test_without_a_rollout_all_live_hosts_would_change_at_once(zk: KazooClient, paths: AppPaths) -> None:
    result = foresee(zk, paths)
    (step,) = result["steps"]
    assert (step["hosts"], step["count"], step["fewest"]) == (sorted(LABELS), 4, 4)
    assert result["missing_agents"] == ["web5"]
    assert result["foreseen"] == [
        "4 hosts would change",
        "step 1 of 1, all hosts at once: web1, web2, web3 and web4",
        "missing, expected and not live: web5",
    ]
    assert result["diff"]["prepared"] == "\n".join([*result["foreseen"], ""])


def test_a_plan_lists_the_hosts_that_would_change_in_each_step(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    report(other, paths, "web2", "active", 1, commit_id=f"{1:040x}", held=HELD)
    report(other, paths, "web4", "active", 1, commit_id=f"{2:040x}")
    steps = [{"labels": {"zone": "a"}, "soak": 5}, {"hosts": 2, "pause": True}]
    result = foresee(zk, paths, rollout={"steps": steps, "maxInFlight": "50%"})
    assert result["foreseen"] == [
        "2 hosts would change, 2 at a time",
        "step 1 of 3, hosts with zone=a, then a soak of 5 s: web1",
        "step 2 of 3, 2 hosts in all, then a pause for a person: 0 to 1, whichever comes first",
        "step 3 of 3, all hosts: 0 to 1, whichever comes first",
        "already there: web4",
        "held, and stay as they are: web2",
        "missing, expected and not live: web5",
    ]
    assert (result["unchanged_agents"], result["held_agents"]) == (["web4"], ["web2"])


def test_the_share_that_changes_at_a_time_is_one_of_the_live_hosts(zk: KazooClient, paths: AppPaths) -> None:
    assert foresee(zk, paths, rollout={"maxInFlight": "80%"})["foreseen"][0] == "4 hosts would change, 3 at a time"


def test_the_policy_counts_as_it_is_now_unless_it_cannot_be_followed(zk: KazooClient, paths: AppPaths) -> None:
    zk.create(paths.policy, json.dumps({"rollout": {"steps": [{"names": ["web3"]}]}}).encode())
    assert foresee(zk, paths)["foreseen"][1:3] == [
        "step 1 of 2, hosts by name: web3",
        "step 2 of 2, all hosts: web1, web2 and web4",
    ]
    assert foresee(zk, paths, rollout=False)["foreseen"][1].startswith("step 1 of 1, all hosts at once")
    zk.set(paths.policy, b"{")
    with pytest.raises(InvalidRecord, match=f"^{paths.policy}: not JSON"):
        foresee(zk, paths)


def test_a_publisher_who_may_not_read_the_fleet_is_told_so(zk: KazooClient, paths: AppPaths) -> None:
    zk.set_acls(paths.roster, [make_acl("world", "anyone", admin=True)])
    result = foresee(zk, paths)
    (line,) = result["foreseen"]
    assert line.startswith(f"which hosts would change is not known: {paths.roster}: permission denied")
    assert result["changed"]


def test_where_no_release_is_known_to_work_there_are_no_steps(
    zk: KazooClient, other: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = AppPaths(app)
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{1:040x}")
    report(other, paths, "web1", "idle", None)
    rollout = {"steps": [{"hosts": 1}]}
    given: dict[str, Any] = {"url": "https://example.org/x.git", "relative_path": "site", "rollout": rollout}
    assert foresee(zk, paths, **given)["foreseen"] == ["1 host would change", "step 1 of 1, all hosts: web1"]


def test_at_another_path_no_host_has_the_release_yet(zk: KazooClient, paths: AppPaths) -> None:
    result = foresee(zk, paths, ref=f"{1:040x}", relative_path="elsewhere")
    assert (result["steps"][0]["count"], result["unchanged_agents"]) == (4, [])


def test_a_rollback_lists_the_hosts_that_would_return(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    publish(zk, paths, release(2), read_published(zk, paths))
    for name in ("web1", "web2"):
        report(other, paths, name, "active", 2, commit_id=f"{2:040x}")
    result = foresee(zk, paths, "rolled_back")
    assert result["release"][ROLLED_BACK_FROM] == f"{2:040x}"
    assert result["foreseen"][:3] == [
        "2 hosts would change",
        "step 1 of 1, all hosts at once: web1 and web2",
        "already there: web3 and web4",
    ]


def test_a_release_that_is_already_desired_changes_no_host(zk: KazooClient, paths: AppPaths) -> None:
    result = foresee(zk, paths, ref=f"{1:040x}")
    assert (result["changed"], "steps" in result, "foreseen" in result) == (False, False, False)
    assert "prepared" not in result["diff"]


def enter(zk: KazooClient, paths: AppPaths, generation: int, entries: dict[str, str]) -> None:
    """Begin a rollout by pausing it, and write entries for hosts and their counts in its state."""
    options = {name: spec.get("default") for name, spec in zk_release.argument_spec().items()}
    zk_release.steer(zk, {**options, "app": paths.root, "state": "paused"}, False)
    below = RolloutPaths(paths.rollout(generation))
    for name, entry in entries.items():
        zk.create(below.entry(name, entry), HostEntry(entry, now()).to_node())
    state = RolloutRecord.from_node(zk.get(below.root)[0])
    zk.set(below.root, replace(state, counts=Counter(entries.values())).to_node())


def test_a_command_foretells_its_effect_on_the_rollout(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    plan = {"steps": [{"hosts": 1, "pause": True}, {"labels": {"zone": "b"}}]}
    generation = publish(zk, paths, replace(release(2), extra={"rollout": plan}), read_published(zk, paths))
    promoted = foresee(zk, paths, "promoted")
    assert promoted["foreseen"][:2] == ["step 2 of 3 would be open", "4 hosts would change, 1 at a time"]
    assert promoted["steps"][0] == {"number": 2, "says": "hosts with zone=b", "hosts": [], "count": 3, "fewest": 2}
    enter(zk, paths, generation, {"web3": "proved"})
    report(other, paths, "web3", "active", generation, commit_id=f"{2:040x}")
    assert foresee(zk, paths, "promoted")["foreseen"] == [
        "step 1 of 3 would be open",
        "3 hosts would change, 1 at a time",
        "step 1 of 3, 1 host in all, then a pause for a person: nobody",
        "step 2 of 3, hosts with zone=b: web4",
        "step 3 of 3, all hosts: web1 and web2",
        "already there: web3",
        "missing, expected and not live: web5",
    ]
    zk.set_acls(paths.roster, [make_acl("world", "anyone", admin=True)])
    (line,) = foresee(zk, paths, "promoted")["foreseen"]
    assert line.startswith(f"which hosts would change is not known: {paths.roster}: permission denied")
    zk.set_acls(paths.roster, OPEN_ACL_UNSAFE)
    (line,) = foresee(zk, paths, "halted")["foreseen"]
    assert line.startswith("the rollout would be halted at step 1 of 3; no host is on its way; 3 hosts that have not ")
    again = foresee(zk, paths, "paused")
    assert (again["msg"], "foreseen" in again) == ("it is paused already", False)


def test_a_host_that_was_lost_or_is_returning_is_still_to_change(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    plan = {"steps": [{"hosts": 1}, {"hosts": 2}]}
    generation = publish(zk, paths, replace(release(2), extra={"rollout": plan}), read_published(zk, paths))
    enter(zk, paths, generation, {"web1": "proved", "web2": "lost", "web3": "returning"})
    report(other, paths, "web1", "active", generation, commit_id=f"{2:040x}")
    assert foresee(zk, paths, "promoted")["foreseen"] == [
        "step 1 of 3 would be open",
        "3 hosts would change, 1 at a time",
        "step 1 of 3, 1 host in all: nobody",
        "step 2 of 3, 2 hosts in all: nobody",
        "step 3 of 3, all hosts: web3 and web4",
        "lost on the way, and begins once more: web2",
        "already there: web1",
        "missing, expected and not live: web5",
    ]
