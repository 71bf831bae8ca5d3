"""zk_fleet_info in a real ensemble, with agents whose statuses are written by hand."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl

from ansible_collections.zoo.deploy.plugins.module_utils import releases, rollout_steering
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    AppPaths,
    InvalidRecord,
    Release,
    RosterEntry,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_events import Command
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import RolloutPaths, RolloutRecord
from ansible_collections.zoo.deploy.plugins.modules import zk_fleet_info
from support.agent_status import report
from support.waiting import wait_for

LATER = 2**60
"""The id of a future transaction."""


def publish(client: KazooClient, paths: AppPaths, number: int = 1) -> int:
    """Publish a release, a different one for each number."""
    release = Release(url="https://example.org/x.git", commit_id=f"{number:040x}", relative_path="site")
    return releases.publish(client, paths, release, releases.read_published(client, paths))


def a_file(znode: str, state: str, zxid: int = LATER) -> dict[str, Any]:
    """An agent's report of its only file."""
    return {"/etc/x": {"znode": znode, "format": "value", "state": state, "zxid": zxid, "message": "says why"}}


def gather(client: KazooClient, paths: AppPaths, **given: Any) -> dict[str, Any]:
    """Run the module; a `ZooKeeperError` has the result in its details."""
    options = {name: option.get("default") for name, option in zk_fleet_info.argument_spec().items()}
    return zk_fleet_info.gather(client, {**options, "app": paths.root, "wait_timeout": 0.1, **given})


def refused(client: KazooClient, paths: AppPaths, **given: Any) -> ZooKeeperError:
    """The error with which the module fails."""
    with pytest.raises(ZooKeeperError) as caught:
        gather(client, paths, **given)
    return caught.value


class Waiting:
    """The module in a thread of its own, waiting."""

    def __init__(self, client: KazooClient, paths: AppPaths, **given: Any) -> None:
        self.results: list[dict[str, Any]] = []
        self.errors: list[ZooKeeperError] = []
        self._thread = threading.Thread(target=self._run, args=(client, paths, given), daemon=True)
        self._thread.start()
        wait_for(lambda: client._child_watchers.get(paths.agents), "it waits")

    def _run(self, client: KazooClient, paths: AppPaths, given: dict[str, Any]) -> None:
        try:
            self.results.append(gather(client, paths, **{"wait_timeout": 30.0, **given}))
        except ZooKeeperError as exc:
            self.errors.append(exc)

    def end(self) -> dict[str, Any]:
        """Its result."""
        self._thread.join(40)
        return self.results[0]

    def error(self) -> ZooKeeperError:
        """The error with which it failed."""
        self._thread.join(40)
        return self.errors[0]


@pytest.fixture
def paths(app: str) -> AppPaths:
    """The znodes of an application that only this test uses."""
    return AppPaths(app)


def test_the_state_of_a_fleet_is_returned_without_waiting(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths)
    report(other, paths, "a", "active", generation, commit_id=f"{1:040x}")
    report(other, paths, "b", "failed", generation, commit_id=f"{9:040x}", message="disk full")
    found = gather(zk, paths)
    assert (found["generation"], found["commit_id"]) == (generation, f"{1:040x}")
    assert [(one["commit_id"][-1], one["desired"], one["agents"]) for one in found["served"]] == [
        ("1", True, ["a"]),
        ("9", False, ["b"]),
    ]
    assert found["states"] == {"active": ["a"], "failed": ["b"]}
    assert found["failures"] == [{"reason": "disk full", "agents": ["b"]}]
    assert [(one["name"], one["converged"]) for one in found["agents"]] == [("a", True), ("b", False)]
    assert not {"converged", "timed_out", "pending_agents"} & set(found)


def test_the_state_of_an_empty_fleet_is_returned_too(zk: KazooClient, paths: AppPaths) -> None:
    found = gather(zk, paths, agents=["a"])
    assert (found["generation"], found["commit_id"], found["agents"]) == (None, None, [])
    assert found["missing_agents"] == ["a"]


def test_missing_hosts_of_the_roster_are_returned_without_and_with_a_wait(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    for name in ("a", "b"):
        zk.create(paths.roster_entry(name), RosterEntry(name=name).to_node(), makepath=True)
    generation = publish(zk, paths)
    report(other, paths, "a", "active", generation)
    report(other, paths, "not in the roster", "active", generation)
    assert gather(zk, paths)["missing_agents"] == ["b"]
    found = gather(zk, paths, wait_for_release="desired")
    assert (found["missing_agents"], found["converged"]) == (["b"], True)
    assert gather(zk, paths, agents=["a", "gone"])["missing_agents"] == ["gone"]
    error = refused(zk, paths, wait_for_release="desired", max_missing="0")
    assert str(error) == f"{paths.config}: published, but 1 of 3 are missing, expected at most 0: b"
    assert error.details["missing_agents"] == ["b"]


def test_a_wait_sees_hosts_that_join_the_roster_leave_it_and_come_back(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths)
    report(other, paths, "a", "fetching", generation)
    waiting = Waiting(zk, paths, wait_for_release="desired", max_missing="0")
    for name in ("a", "b", "c"):
        other.create(paths.roster_entry(name), b"{}", makepath=True)
    report(other, paths, "a", "active", generation)
    wait_for(lambda: zk._child_watchers.get(paths.roster), "it watches the roster")
    assert not waiting.results
    other.delete(paths.roster_entry("b"))
    report(other, paths, "c", "active", generation)
    found = waiting.end()
    assert (found["converged"], found["missing_agents"]) == (True, [])


def test_a_wait_for_files_returns_missing_hosts(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    znode = f"{paths.root}-config"
    zk.create(znode, b"x")
    zk.create(paths.roster_entry("b"), b"{}", makepath=True)
    report(other, paths, "a", "idle", None, files=a_file(znode, "current"))
    report(other, paths, "without it", "idle", None)
    assert gather(zk, paths, wait_for_files=[znode])["missing_agents"] == ["b"]


def test_only_named_agents_are_read_and_missing_ones_are_returned(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    report(other, paths, "a", "idle", None)
    report(other, paths, "b", "idle", None)
    found = gather(zk, paths, agents=["gone", "b"])
    assert found["states"] == {"idle": ["b"]}
    assert found["missing_agents"] == ["gone"]


def test_only_named_agents_are_waited_for(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    wanted = {"wait_for_release": "desired", "agents": ["new"]}
    error = refused(zk, paths, **wanted)
    assert "not proved in time by 1 of 1: new is not live" in str(error)
    assert error.details["missing_agents"] == error.details["pending_agents"] == ["new"]
    report(other, paths, "old", "idle", None)
    report(other, paths, "new", "idle", None)
    assert gather(zk, paths, **wanted)["converged"], "nothing is published yet"
    generation = publish(zk, paths)
    report(other, paths, "new", "failed", generation, message="disk full")
    error = refused(zk, paths, **wanted, wait_timeout=30.0)
    assert "not deployed on 1 of 1: new is failed (disk full); no server has a" in str(error)
    assert error.details["failures"] == [{"reason": "disk full", "agents": ["new"]}]
    report(other, paths, "new", "active", generation)
    found = gather(zk, paths, **wanted)
    assert (found["converged"], found["states"]) == (True, {"active": ["new"]})


def test_where_nothing_is_published_a_wait_fails_and_returns_the_fleet(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    report(other, paths, "a", "idle", None)
    error = refused(zk, paths, wait_for_release="desired")
    assert str(error) == f"{paths.config}: nothing is published to wait for"
    assert (error.details["states"], error.details["converged"]) == ({"idle": ["a"]}, False)


def test_an_invalid_release_is_not_waited_for(zk: KazooClient, paths: AppPaths) -> None:
    zk.create(paths.config, b"no release", makepath=True)
    error = refused(zk, paths, wait_for_release="desired", wait_timeout=30.0)
    assert str(error).startswith(f"{paths.config}: what is published is not a release: ")
    assert not error.details["timed_out"]


def test_a_release_is_named_by_its_generation_its_commit_or_the_beginning_of_that(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths)
    report(other, paths, "a", "active", generation)
    for name in ("desired", str(generation), f"{1:040x}", "0" * 7):
        assert gather(zk, paths, wait_for_release=name)["converged"]
    publish(zk, paths, 2)
    for name in (str(generation), f"{1:040x}"):
        error = refused(zk, paths, wait_for_release=name, wait_timeout=30.0)
        assert f'wait_for_release expects "{name}", but {2:040x} is published since ' in str(error)
        assert [agent["name"] for agent in error.details["agents"]] == ["a"]


@pytest.mark.parametrize("name", ["main", "", "True", "abc123", "--x", "desired ", "0" * 65 + "a"])
def test_an_impossible_name_of_a_release_is_refused(name: str) -> None:
    with pytest.raises(InvalidRecord, match=r"^wait_for_release: expected desired, a commit or a generation, got "):
        zk_fleet_info.check({"wait_for_release": name, "wait_for_files": None})


def test_another_release_that_is_published_meanwhile_ends_the_wait(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths)
    report(other, paths, "a", "fetching", generation)
    waiting = Waiting(zk, paths, wait_for_release="desired")
    publish(other, paths, 2)
    error = waiting.error()
    assert isinstance(error, ZooKeeperError)
    assert f"another release was published meanwhile, so this one is not waited for any more: {2:040x}" in str(error)
    assert error.details["commit_id"] == f"{2:040x}", "what is told of the fleet is of the release that is desired now"


def test_a_wait_that_is_overtaken_names_no_failures_of_the_previous_release(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths, 1)
    report(other, paths, "a", "fetching", generation)
    report(other, paths, "b", "failed", generation, message="disk full")
    waiting = Waiting(zk, paths, wait_for_release="desired", max_failures=1)
    publish(other, paths, 2)
    error = waiting.error()
    assert isinstance(error, ZooKeeperError)
    assert (error.details["failed_agents"], error.details["pending_agents"]) == ([], ["a", "b"])


def later_turn(generation: int) -> dict[str, Any]:
    """The options of a later turn, whose first turn found this generation."""
    turn = {
        "agents": [],
        "left": 5.0,
        "generation": generation,
        "stuck": 0.0,
        "moves": None,
        "states": None,
        "told": [],
    }
    return {"wait_for_release": "desired", "_turn": turn}


def test_a_release_published_between_two_turns_is_reported_in_the_same_words(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths)
    report(other, paths, "a", "fetching", generation)
    publish(other, paths, 2)
    said = str(refused(zk, paths, **later_turn(generation)))
    assert f"{paths.config}: another release was published meanwhile, so this one is not waited for any more: " in said
    zk.delete(paths.config)
    assert "not proved in time by 1 of 1: a is fetching" in str(refused(zk, paths, **later_turn(generation)))


def test_files_are_waited_for_after_the_release(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    znode = f"{paths.root}-config"
    zk.create(znode, b"x")
    generation = publish(zk, paths)
    report(other, paths, "a", "fetching", generation, files=a_file(znode, "pending", 0))
    report(other, paths, "b", "active", generation)
    waiting = Waiting(zk, paths, wait_for_release="desired", wait_for_files=[znode])
    report(other, paths, "a", "active", generation, files=a_file(znode, "pending", 0))
    wait_for(lambda: len(zk._child_watchers.get(paths.agents, ())) > 1, "it waits for the files")
    assert not waiting.results
    report(other, paths, "a", "active", generation, files=a_file(znode, "current"))
    found = waiting.end()
    assert found["converged"]
    assert [agent["name"] for agent in found["agents"]] == ["a", "b"]
    assert found["agents"][0]["files"]["/etc/x"]["state"] == "current"


def test_a_failure_of_a_release_or_its_files_names_the_znode(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    znode = f"{paths.root}-config"
    zk.create(znode, b"x")
    generation = publish(zk, paths)
    wanted = {"wait_for_release": "desired", "wait_for_files": [znode]}
    report(other, paths, "a", "failed", generation, files=a_file(znode, "failed"), message="disk full")
    error = refused(zk, paths, **wanted)
    assert str(error).startswith(f"{paths.config}: not deployed on 1 of 1: a is failed (disk full)")
    report(other, paths, "b", "active", generation, files=a_file(znode, "pending", 0))
    error = refused(zk, paths, **wanted, max_failures="50%")
    assert str(error) == f"{znode}: not proved in time by 1 of 2: /etc/x on b is pending (says why)"
    assert (error.details["failed_agents"], error.details["pending_agents"]) == (["a"], ["b"])
    assert error.details["timed_out"]
    assert {one["reason"] for one in error.details["failures"]} == {"disk full", "/etc/x: says why"}


def test_a_znode_that_may_not_be_read_is_named_and_the_fleet_is_returned(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    znode = f"{paths.root}-config"
    zk.create(znode, b"x", acl=[make_acl("world", "anyone", write=True, delete=True)])
    report(other, paths, "a", "idle", None, files=a_file(znode, "current"))
    error = refused(zk, paths, wait_for_files=[znode], wait_timeout=30.0)
    assert str(error).startswith(f"{znode}: permission denied (NoAuth)")
    assert (error.details["states"], error.details["converged"]) == ({"idle": ["a"]}, False)
    assert (error.details["failed_agents"], error.details["pending_agents"]) == ([], ["a"])
    error = refused(zk, paths, wait_for_files=[znode], agents=["b"])
    assert (error.details["pending_agents"], error.details["missing_agents"]) == (["b"], ["b"])


def test_an_agent_lost_while_files_are_waited_for_is_missing(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    znode = f"{paths.root}-config"
    zk.create(znode, b"x")
    generation = publish(zk, paths)
    for name in ("a", "b"):
        report(other, paths, name, "active", generation, files=a_file(znode, "pending", 0))
    wanted = {"wait_for_release": "desired", "wait_for_files": [znode], "agents": ["a", "b"]}
    waiting = Waiting(zk, paths, **wanted, wait_timeout=3.0)
    wait_for(lambda: len(zk._child_watchers.get(paths.agents, ())) > 1, "it waits for the files")
    other.delete(paths.agent("b"))
    details = waiting.error().details
    assert [agent["name"] for agent in details["agents"]] == ["a"]
    assert (details["missing_agents"], details["lost_agents"]) == (["b"], ["b"])


def test_a_percentage_is_of_the_agents_live_at_any_time_of_the_wait(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths)
    for name in "abcde":
        report(other, paths, name, "fetching", generation)
    waiting = Waiting(zk, paths, wait_for_release="desired", min_agents="80%", wait_timeout=5.0)
    wait_for(lambda: zk._data_watchers.get(paths.agent("e")), "it has seen them all")
    for name in "de":
        other.delete(paths.agent(name))
    for name in "abc":
        report(other, paths, name, "active", generation)
    error = waiting.error()
    what = "published, but timed out waiting for agents: 3 live, at least 4 required (80% of 5)"
    assert str(error) == f"{paths.config}: {what}"
    assert error.details["lost_agents"] == ["d", "e"]


def test_a_rollout_is_returned_and_explains_why_the_fleet_has_not_proved_it(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths)
    published = releases.read_published(zk, paths)
    assert published.release
    assert "rollout" not in gather(zk, paths)
    for name in ("a", "b"):
        report(other, paths, name, "active", generation if name == "a" else 1, commit_id=f"{1:040x}")
    rollout_steering.begin_rollout(zk, paths, generation, published.release, {"steps": [{"hosts": 1}]})
    goes_on = refused(zk, paths, wait_for_release="desired")
    assert "the rollout goes on by itself, step 1 is open: 1 of 2 have proved it; b is active" in str(goes_on)
    assert goes_on.details["timed_out"]
    rollout_steering.command(zk, paths, published, Command("pause", "ann", "the database is slow"))
    paused = gather(zk, paths, wait_for_release="desired")
    assert (paused["converged"], paused["timed_out"], paused["rollout"]["phase"]) == (False, False, "paused")
    assert "paused by ann at step 1: the database is slow" in paused["msg"]
    zk.create(f"{paths.root}/shop.conf", b"value")
    both = gather(zk, paths, wait_for_release="desired", wait_for_files=[f"{paths.root}/shop.conf"], min_agents=0)
    assert (both["converged"], both["pending_agents"], both["msg"]) == (False, ["b"], paused["msg"])
    rollout_steering.command(zk, paths, published, Command("halt", "ann", "checkout fails"))
    halted = refused(zk, paths, wait_for_release="desired")
    assert "the rollout is halted by ann: checkout fails" in str(halted)
    assert halted.details["rollout"]["by"] == "ann"


@pytest.mark.parametrize("verb", ["pause", "halt", "promote"])
def test_steering_a_rollout_that_is_done_reports_hosts_that_still_follow_it(
    zk: KazooClient, paths: AppPaths, verb: str
) -> None:
    generation = publish(zk, paths)
    published = releases.read_published(zk, paths)
    assert published.release
    rollout_steering.begin_rollout(zk, paths, generation, published.release, True)
    root = RolloutPaths(paths.rollout(generation))
    done = replace(RolloutRecord.from_node(zk.get(root.root)[0]), phase=DONE)
    zk.set(root.root, done.to_node())

    def answer() -> str:
        return rollout_steering.command(zk, paths, published, Command(verb, "ann")).decision.why

    assert answer() == "the rollout is done"
    follow = "which only another release stops (rollback.yml)"
    for said in ("1 host follows", "2 hosts follow"):
        zk.create(f"{root.line}/n-", ephemeral=True, sequence=True)
        assert answer() == f"the rollout is done; {said} it in line, {follow}"


def test_named_agents_are_waited_for_whatever_the_state_of_the_rollout(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths)
    published = releases.read_published(zk, paths)
    assert published.release
    report(other, paths, "a", "active", generation)
    report(other, paths, "b", "waiting", generation)
    rollout_steering.begin_rollout(zk, paths, generation, published.release, True)
    rollout_steering.command(zk, paths, published, Command("pause", "ann"))
    assert gather(zk, paths, wait_for_release="desired", agents=["a"])["converged"]
    assert refused(zk, paths, wait_for_release="desired", agents=["b"]).details["pending_agents"] == ["b"]


def test_an_agent_waiting_for_its_turn_is_accepted_only_until_the_rollout_is_done(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths)
    published = releases.read_published(zk, paths)
    assert published.release
    report(other, paths, "a", "waiting", generation, commit_id=f"{1:040x}")
    rollout_steering.begin_rollout(zk, paths, generation, published.release, True)
    asked: dict[str, Any] = {"wait_for_release": "desired", "agents": ["a"], "accept_waiting": True}
    assert gather(zk, paths, **asked)["converged"]
    root = RolloutPaths(paths.rollout(generation)).root
    zk.set(root, replace(RolloutRecord.from_node(zk.get(root)[0]), phase=DONE).to_node())
    assert refused(zk, paths, **asked).details["pending_agents"] == ["a"]
    report(other, paths, "a", "active", generation)
    assert gather(zk, paths, **asked)["converged"]
