"""zk_fleet in a real ensemble: the hosts that belong to a fleet."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl

from ansible_collections.zoo.deploy.plugins.module_utils import roster
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import roster_names
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, InvalidRecord
from ansible_collections.zoo.deploy.plugins.module_utils.roster import RosterChange
from ansible_collections.zoo.deploy.plugins.modules import zk_fleet
from support.agent_status import report
from support.ensemble import Ensemble
from support.module import run_module
from support.playbook import ROOT


@pytest.fixture
def paths(app: str) -> AppPaths:
    """The znodes of an application that only this test uses."""
    return AppPaths(app)


def fleet(
    client: KazooClient, paths: AppPaths, *names: str, state: str = "present", check: bool = False
) -> dict[str, Any]:
    """Run the module."""
    return zk_fleet.converge(client, {"app": paths.root, "names": list(names), "state": state}, check)


def test_a_host_is_added_to_the_roster_once(zk: KazooClient, paths: AppPaths) -> None:
    first = fleet(zk, paths, "b", "a")
    assert (first["changed"], first["added"], first["removed"], first["roster"]) == (True, ["a", "b"], [], ["a", "b"])
    entry = json.loads(zk.get(paths.roster_entry("a"))[0])
    assert (entry["name"], sorted(entry)) == ("a", ["name", "since"])
    again = fleet(zk, paths, "a")
    assert (again["changed"], again["added"], again["roster"]) == (False, [], ["a", "b"])
    assert json.loads(zk.get(paths.roster_entry("a"))[0]) == entry


def test_a_host_is_removed_from_the_roster_once(zk: KazooClient, paths: AppPaths) -> None:
    fleet(zk, paths, "a", "b")
    gone = fleet(zk, paths, "b", "never there", state="absent")
    assert (gone["changed"], gone["removed"], gone["roster"]) == (True, ["b"], ["a"])
    assert gone["diff"] == {"before": "a\nb\n", "after": "a\n"}
    assert not fleet(zk, paths, "b", state="absent")["changed"]


def test_check_mode_returns_the_same_and_writes_nothing(zk: KazooClient, paths: AppPaths) -> None:
    told = fleet(zk, paths, "a", check=True)
    assert (told["changed"], told["added"], roster_names(zk, paths)) == (True, ["a"], [])
    fleet(zk, paths, "a")
    told = fleet(zk, paths, "a", state="absent", check=True)
    assert (told["changed"], told["removed"], roster_names(zk, paths)) == (True, ["a"], ["a"])


def test_a_live_host_is_not_removed_nor_any_other_with_it(zk: KazooClient, paths: AppPaths) -> None:
    fleet(zk, paths, "a", "b")
    report(zk, paths, "b", "idle", None)
    said = f"^{paths.roster}: b is live, and would be in the roster again with the next session; stop the agent first"
    for check in (True, False):
        with pytest.raises(ZooKeeperError, match=said):
            fleet(zk, paths, "a", "b", state="absent", check=check)
    assert roster_names(zk, paths) == ["a", "b"]


def test_a_concurrent_change_is_seen(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet(zk, paths, "a", "b")
    plan = roster.plan_change

    def overtaken(*words: Any, **options: Any) -> RosterChange:
        change = plan(*words, **options)
        if other.exists(paths.roster_entry("a")):
            other.delete(paths.roster_entry("a"))
        return change

    monkeypatch.setattr(zk_fleet, "plan_change", overtaken)
    gone = fleet(zk, paths, "a", "b", state="absent")
    assert (gone["removed"], roster_names(zk, paths)) == (["b"], [])


def test_a_fleet_of_any_size_is_added_and_removed(zk: KazooClient, paths: AppPaths) -> None:
    names = [f"ip-10-0-{number // 256}-{number % 256}.eu-west-1.compute.internal" for number in range(6000)]
    assert len(fleet(zk, paths, *names)["added"]) == len(roster_names(zk, paths)) == 6000
    assert len(fleet(zk, paths, *names, state="absent")["removed"]) == 6000
    assert roster_names(zk, paths) == []


class Busy:
    """A client whose second transaction comes too late or is refused, because somebody acts before it."""

    def __init__(self, client: KazooClient, act: Callable[[], object]) -> None:
        self._client = client
        self._act = act
        self._transactions = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transaction(self) -> Any:
        """The client's own; before the second one, somebody else acts."""
        self._transactions += 1
        if self._transactions == 2:
            self._act()
        return self._client.transaction()


def test_a_large_change_that_fails_or_restarts_reports_its_earlier_parts(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "MOST_AT_ONCE", 2)
    done = fleet(Busy(zk, lambda: other.create(paths.roster_entry("d"))), paths, "a", "b", "c", "d")
    assert (done["changed"], done["added"], done["roster"]) == (True, ["a", "b", "c", "d"], ["a", "b", "c", "d"])
    closed = [make_acl("world", "anyone", read=True)]
    with pytest.raises(ZooKeeperError, match="permission denied") as caught:
        fleet(Busy(zk, lambda: other.set_acls(paths.roster, closed)), paths, *"abcd", state="absent")
    assert caught.value.details["changed"]
    assert roster_names(zk, paths) == ["c", "d"]


@pytest.mark.parametrize("length", [255, 3000])
def test_hosts_with_long_names_are_added_and_removed_within_the_limit_of_a_request(
    zk: KazooClient, paths: AppPaths, length: int
) -> None:
    # Each character takes 2 bytes in the path, and 6 in the entry.
    names = sorted(f"{number:03}{chr(0xFC) * length}" for number in range(600 if length < 1000 else 60))
    assert fleet(zk, paths, *names)["added"] == names
    assert fleet(zk, paths, *names, state="absent")["removed"] == names
    assert roster_names(zk, paths) == []


def test_a_host_that_becomes_live_in_the_middle_of_a_large_change_ends_it_there(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "MOST_AT_ONCE", 2)
    fleet(zk, paths, *"abcd")

    def act() -> None:
        other.delete(paths.roster_entry("d"))
        report(other, paths, "a", "idle", None)

    with pytest.raises(ZooKeeperError, match=r"a is live, .*; stop the agent first$") as caught:
        fleet(Busy(zk, act), paths, *"abcd", state="absent")
    assert caught.value.details["changed"]
    assert roster_names(zk, paths) == ["c"]


def test_a_roster_that_may_not_be_changed_is_named_and_stays(zk: KazooClient, paths: AppPaths) -> None:
    fleet(zk, paths, "a")
    zk.set_acls(paths.roster, [make_acl("world", "anyone", read=True)])
    for name, state in (("a", "absent"), ("b", "present")):
        with pytest.raises(ZooKeeperError, match=f"^{paths.roster_entry(name)}: permission denied"):
            fleet(zk, paths, name, state=state)
    assert roster_names(zk, paths) == ["a"]


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_an_impossible_name_of_an_agent_is_refused(zk: KazooClient, paths: AppPaths, name: str) -> None:
    with pytest.raises(InvalidRecord, match=r"^names: .* can't name a znode"):
        fleet(zk, paths, "a", name)
    assert roster_names(zk, paths) == []


def test_the_module_runs_by_itself(ensemble: Ensemble, paths: AppPaths) -> None:
    given: dict[str, Any] = {"hosts": ensemble.hosts, "app": paths.root, "names": ["a"]}
    result = run_module(ROOT / "plugins/modules/zk_fleet.py", **given)
    assert (result["changed"], result["roster"]) == (True, ["a"])
