"""Snapshots of znodes, and waiting until they meet a condition."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils import znode_snapshots
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.znode_snapshots import (
    Condition,
    ZnodeSnapshot,
    below,
    take,
    wait,
)
from ansible_collections.zoo.deploy.plugins.modules import zk_znode_info
from support.client import connected
from support.ensemble import Ensemble
from support.lonely import kill, lonely_ensemble
from support.waiting import wait_for

TIMEOUT = 10.0


def condition(**given: Any) -> Condition:
    """A condition from the module's option."""
    checked = ArgumentSpecValidator(zk_znode_info.WAIT_SPEC).validate(given)
    assert not checked.error_messages
    return Condition.from_options(checked.validated_parameters)


def options(**given: Any) -> dict[str, Any]:
    """A task's options as the module gets them from Ansible."""
    checked = ArgumentSpecValidator(zk_znode_info.argument_spec()).validate(given)
    assert not checked.error_messages
    return dict(checked.validated_parameters)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({}, ""),
        ({"state": "absent"}, "is present, expected absent"),
        ({"value": {"a": 1}}, ""),
        ({"value": "b"}, 'holds "{\\"a\\":1}", expected "b"'),
        ({"min_children": 2}, ""),
        ({"min_children": 3}, "has 2 children, expected 3 or more"),
        ({"newer_than": 0}, ""),
        ({"newer_than": 2**62}, f"expected one after {2**62}"),
        ({"value": {"a": 1}, "min_children": 2, "newer_than": 1}, ""),
    ],
)
def test_a_condition_states_why_a_znode_does_not_meet_it(
    zk: KazooClient, app: str, wanted: dict[str, Any], why: str
) -> None:
    zk.create(app, b'{"a":1}', makepath=True)
    for name in "xy":
        zk.create(f"{app}/{name}")
    said = condition(**wanted).unmet(take(zk, [app], TIMEOUT)[0])
    assert said.endswith(why)
    assert bool(said) == bool(why)


DATABASE = {"pool": {"max": 30, "a.b": "x"}, "replicas": [{"state": "ready"}], "none": None, "port": "5432", "": 1}


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"key": "pool.max"}, ""),
        ({"key": ".pool.max"}, ""),
        ({"key": ["pool", "max"]}, ""),
        ({"key": ["pool", "a.b"], "value": "x"}, ""),
        ({"key": "replicas.0.state", "value": "ready"}, ""),
        ({"key": ["replicas", 0, "state"], "value": "ready"}, ""),
        ({"key": "none"}, ""),
        ({"key": "pool", "value": {"a.b": "x", "max": 30}}, ""),
        # As with the value of a znode: a string is compared as it is, everything else as JSON.
        ({"key": "pool.max", "value": 30}, ""),
        ({"key": "pool.max", "value": "30"}, ""),
        ({"key": "port", "value": 5432}, ""),
        ({"key": "pool.max", "value": 31}, 'has the key pool.max as "30", expected "31"'),
        ({"key": "pool", "value": {"max": 30}}, 'expected "{\\"max\\": 30}"'),
        ({"key": "pool.min"}, "has no key pool.min"),
        ({"key": "pool.max.deeper"}, "has no key pool.max.deeper"),
        ({"key": "replicas.1"}, "has no key replicas.1"),
        ({"key": "replicas.state"}, "has no key replicas.state"),
        ({"key": "replicas.-1"}, "has no key replicas.-1"),
        ({"key": "pool.max", "min_children": 1}, "has 0 children, expected 1 or more"),
    ],
)
def test_a_condition_states_why_a_key_does_not_meet_it(
    zk: KazooClient, app: str, wanted: dict[str, Any], why: str
) -> None:
    zk.create(app, json.dumps(DATABASE).encode(), makepath=True)
    said = condition(**wanted).unmet(take(zk, [app], TIMEOUT)[0])
    assert said.endswith(why)
    assert bool(said) == bool(why)


@pytest.mark.parametrize("data", [b"", b"green", b"\xff", b"[" * 100_000])
def test_data_that_is_not_json_has_no_key(zk: KazooClient, app: str, data: bytes) -> None:
    zk.create(app, data, makepath=True)
    assert condition(key="a").unmet(take(zk, [app], TIMEOUT)[0]) == "is not JSON, so it has no key a"


def test_a_key_is_waited_for_by_watch(zk: KazooClient, other: KazooClient, app: str) -> None:
    zk.create(app, b"green", makepath=True)
    found: list[ZnodeSnapshot] = []
    wanted = condition(key="state.ready", value=True)
    waiter = threading.Thread(target=lambda: found.extend(wait(zk, [app], wanted, 30)))
    waiter.start()
    for data in (b"{}", b'{"state": null}', b'{"state": {"ready": false}}', b'{"state": {"ready": true}}'):
        wait_for(lambda: zk._data_watchers.get(app), "the next watch is set")
        assert not found
        other.set(app, data)
    waiter.join(30)
    assert [one.data for one in found] == [b'{"state": {"ready": true}}']


@pytest.mark.parametrize("key", ["", ".", "a..b", [], [""], 1.5, True, {"a": 1}, ["a", None]])
def test_an_invalid_key_is_refused(key: Any) -> None:
    with pytest.raises(ZooKeeperError, match=r"^wait_for: key: expected names with dots between them, or a list of "):
        condition(key=key)


def test_a_number_is_an_index_into_a_list(zk: KazooClient, app: str) -> None:
    zk.create(app, b'["a", "b"]', makepath=True)
    (znode,) = take(zk, [app], TIMEOUT)
    assert condition(key=0, value="a").unmet(znode) == ""
    assert condition(key=2).unmet(znode) == "has no key 2"


class Between:
    """A client that lets somebody else act after its first read of a value."""

    def __init__(self, client: KazooClient, act: Callable[[], object]) -> None:
        self._client = client
        self._acts = [act]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_async(self, path: str) -> Any:
        """The client's own request, answered before somebody else acts."""
        answer = self._client.get_async(path)
        answer.wait()
        while self._acts:
            self._acts.pop()()
        return answer


def test_a_snapshot_shows_a_znode_at_a_single_moment(zk: KazooClient, app: str) -> None:
    zk.create(app, b"ready", makepath=True)

    def change() -> None:
        transaction = zk.transaction()
        transaction.set_data(app, b"broken")
        transaction.create(f"{app}/c")
        transaction.commit()

    (seen,) = take(Between(zk, change), [app], TIMEOUT)
    assert (seen.data, seen.children, seen.stat.numChildren) == (b"broken", ("c",), 1)
    (added,) = take(Between(zk, lambda: zk.create(f"{app}/d")), [app], TIMEOUT)
    assert (added.data, sorted(added.children), added.stat.numChildren) == (b"broken", ["c", "d"], 2)


def test_a_znode_that_is_not_there_meets_absent_only() -> None:
    nothing = ZnodeSnapshot("/a")
    assert condition(state="absent").unmet(nothing) == ""
    assert condition().unmet(nothing) == "is absent, expected present"
    assert condition(newer_than=0).unmet(nothing) == "is absent, expected present"


def test_absent_with_anything_else_is_refused() -> None:
    for given in ({"value": "x"}, {"key": "x"}):
        with pytest.raises(ZooKeeperError, match="wait_for: a znode that is absent has no value"):
            condition(state="absent", **given)


@pytest.mark.parametrize(
    ("wanted", "events"),
    [
        ({}, ["create"]),
        ({"state": "absent"}, ["create", "delete"]),
        ({"value": [1]}, ["create", "set", "delete", "create", "final"]),
        ({"min_children": 2}, ["create", "child", "child"]),
    ],
)
def test_the_watch_tells_of_each_change(zk: KazooClient, app: str, wanted: dict[str, Any], events: list[str]) -> None:
    zk.ensure_path("/app")
    if wanted == {"state": "absent"}:
        zk.create(app)
        events = events[1:]
    acts = {
        "create": lambda: zk.create(app),
        "set": lambda: zk.set(app, b"[2]"),
        "delete": lambda: zk.delete(app),
        "child": lambda: zk.create(f"{app}/c-", sequence=True),
        "final": lambda: zk.set(app, b"[1]"),
    }
    found: list[ZnodeSnapshot] = []
    waiter = threading.Thread(target=lambda: found.extend(wait(zk, [app], condition(**wanted), 30)))
    waiter.start()
    for event in events:
        wait_for(lambda: zk._data_watchers.get(app), "the next watch is set")
        assert not found
        acts[event]()
    waiter.join(30)
    assert [one.path for one in found] == [app]
    assert condition(**wanted).unmet(found[0]) == ""


def test_several_znodes_must_meet_a_condition_together(zk: KazooClient, app: str) -> None:
    zk.ensure_path(f"{app}/a")
    with pytest.raises(ZooKeeperError, match=rf"^{app}/b: is absent, expected present; not within 0.3 s$"):
        wait(zk, [f"{app}/a", f"{app}/b"], condition(), 0.3)


def test_newer_than_waits_for_the_next_write(zk: KazooClient, app: str) -> None:
    zk.create(app, b"one", makepath=True)
    wanted = condition(newer_than=zk.exists(app).mzxid)
    with pytest.raises(ZooKeeperError, match="was last set by transaction"):
        wait(zk, [app], wanted, 0.2)
    zk.set(app, b"one")
    assert wait(zk, [app], wanted, 10)[0].data == b"one"


def test_a_snapshot_has_everything(zk: KazooClient, app: str) -> None:
    zk.create(app, b'{"a": 1}', makepath=True)
    zk.create(f"{app}/b")
    zk.create(f"{app}/a")
    fields = take(zk, [app], TIMEOUT)[0].fields()
    stat = fields.pop("stat")
    assert fields == {
        "path": app,
        "exists": True,
        "value": '{"a": 1}',
        "encoding": "text",
        "json": {"a": 1},
        "children": ["a", "b"],
        "acl": [{"scheme": "world", "id": "anyone", "perms": ["read", "write", "create", "delete", "admin"]}],
    }
    assert (stat["num_children"], stat["ephemeral_owner"], len(stat)) == (2, 0, 11)


def test_without_values_everything_else_is_the_same(ensemble: Ensemble, zk: KazooClient, app: str) -> None:
    for name in ("a", "a/b", "a/b/c", "d"):
        zk.create(f"{app}/{name}", b'{"secret": "sesame"}', makepath=True)
    given = {"hosts": ensemble.hosts, "paths": [app, f"{app}/a", f"{app}/none"], "depth": 2, "max_znodes": 10}
    whole, outline = (zk_znode_info.gather(options(**given, values=values)) for values in (True, False))
    assert "sesame" in repr(whole)
    assert outline == {"znodes": [stripped(one) for one in whole["znodes"]]}
    with pytest.raises(ZooKeeperError, match=f"^{app}: more than 2 znodes below it; raise max_znodes$"):
        zk_znode_info.gather(options(**{**given, "max_znodes": 2}, values=False))


def stripped(znode: dict[str, Any]) -> dict[str, Any]:
    """A znode of a result, without its value."""
    kept = {name: field for name, field in znode.items() if name not in {"value", "encoding", "json"}}
    return {**kept, **({"descendants": [*map(stripped, znode["descendants"])]} if "descendants" in znode else {})}


def test_a_value_that_is_waited_for_is_not_returned_without_values(
    ensemble: Ensemble, zk: KazooClient, app: str
) -> None:
    zk.create(app, b'{"state": "ready", "password": "sesame"}', makepath=True)
    given = {"hosts": ensemble.hosts, "path": app, "values": False}
    found = zk_znode_info.gather(options(**given, wait_for={"key": "state", "value": "ready"}))
    assert "elapsed" in found
    assert "sesame" not in repr(found)
    with pytest.raises(ZooKeeperError) as caught:
        zk_znode_info.gather(options(**given, wait_for={"key": "password", "value": "x"}, wait_timeout=0.1))
    assert str(caught.value) == f"{app}: has another value at the key password; not within 0.1 s"
    with pytest.raises(ZooKeeperError) as caught:
        zk_znode_info.gather(options(**given, wait_for={"value": "x"}, wait_timeout=0.1))
    assert str(caught.value) == f"{app}: holds another value; not within 0.1 s"


def test_data_that_is_not_json_has_no_json_field(zk: KazooClient, app: str) -> None:
    for number, data in enumerate([b"", b"text", b"NaN", b"[1", b"\xff", b"[" * 200_000]):
        zk.create(f"{app}/{number}", data, makepath=True)
        assert "json" not in take(zk, [f"{app}/{number}"], TIMEOUT)[0].fields()


def test_a_znode_that_is_not_there_is_no_error(zk: KazooClient, app: str) -> None:
    gone, root = take(zk, [app, "/"], TIMEOUT)
    assert gone.fields() == {"path": app, "exists": False}
    assert root.fields()["exists"]


def test_a_subtree_is_read_to_its_depth(zk: KazooClient, app: str) -> None:
    for name in ("a/b/c", "d"):
        zk.create(f"{app}/{name}", name.encode(), makepath=True)
    assert [node.path for node in below(zk, app, 2, 10, TIMEOUT)] == [f"{app}/{name}" for name in ("a", "a/b", "d")]
    assert [node.data for node in below(zk, app, 9, 4, TIMEOUT)] == [b"", b"", b"a/b/c", b"d"]
    assert below(zk, f"{app}/d", 3, 10, TIMEOUT) == []


def test_a_subtree_larger_than_max_znodes_is_refused(zk: KazooClient, app: str) -> None:
    for name in "abc":
        zk.ensure_path(f"{app}/{name}")
    with pytest.raises(ZooKeeperError, match=f"^{app}: more than 2 znodes below it; raise max_znodes$"):
        below(zk, app, 1, 2, TIMEOUT)


class Silent:
    """A client that gets no events, like one that may not read a znode when it changes."""

    def __init__(self, client: KazooClient) -> None:
        self._client = client
        self.has_looked = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def exists_async(self, path: str, watch: Any) -> Any:
        """The client's own request, without the watch."""
        assert watch
        return self._client.exists_async(path)

    def get_children_async(self, path: str, watch: Any, **words: Any) -> Any:
        """The client's own request, without the watch."""
        assert watch
        return self._client.get_children_async(path, **words)

    def get_acls_async(self, path: str) -> Any:
        """The client's own request, which is the last one of a look."""
        request = self._client.get_acls_async(path)
        self.has_looked.set()
        return request


def test_a_change_without_a_watch_event_is_seen_eventually(
    zk: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(znode_snapshots, "READ_AGAIN", 0.1)
    zk.create(app, b"", makepath=True)
    silent, found = Silent(zk), list[ZnodeSnapshot]()
    waiter = threading.Thread(target=lambda: found.extend(wait(silent, [app], condition(value="go"), 30)))
    waiter.start()
    silent.has_looked.wait(30)
    zk.set(app, b"go")
    waiter.join(40)
    assert [one.data for one in found] == [b"go"]


def test_a_wait_survives_a_restart_of_the_ensemble(tmp_path: Path) -> None:
    with lonely_ensemble(tmp_path / "lonely") as (servers, client):
        client.create("/a", b"")
        found: list[ZnodeSnapshot] = []
        waiter = threading.Thread(target=lambda: found.extend(wait(client, ["/a"], condition(value="go"), 60)))
        waiter.start()
        wait_for(lambda: "/a" in servers.members[0].ask("wchp"), "the watch is set")
        kill(servers, client)
        servers.start()
        with connected(servers.hosts) as other:
            other.set("/a", b"go")
        waiter.join(60)
        assert [one.data for one in found] == [b"go"]


def test_the_module_outlasts_an_outage_that_is_longer_than_its_connect_timeout(tmp_path: Path) -> None:
    with lonely_ensemble(tmp_path / "lonely") as (servers, _client):
        given = {"hosts": servers.hosts, "path": "/a", "wait_for": {"value": "go"}, "connect_timeout": 1}
        found: list[dict[str, Any]] = []
        waiter = threading.Thread(target=lambda: found.append(zk_znode_info.gather(options(**given, wait_timeout=60))))
        waiter.start()
        wait_for(lambda: "/a" in servers.members[0].ask("wchp"), "the watch is set")
        servers.members[0].kill()
        down = time.monotonic()
        wait_for(lambda: time.monotonic() - down > 2, "the outage is longer than the connect timeout")
        servers.start()
        with connected(servers.hosts) as other:
            other.create("/a", b"go")
        waiter.join(60)
        assert [one["value"] for one in found] == ["go"]


@pytest.mark.parametrize("given", [{"wait_timeout": -1}, {"depth": -1}, {"wait_timeout": math.nan}])
def test_a_number_below_zero_is_refused(given: dict[str, Any]) -> None:
    ((name, number),) = given.items()
    with pytest.raises(ZooKeeperError, match=f"^{name}: expected 0 or more, got {number}$"):
        zk_znode_info.gather(options(hosts="127.0.0.1:1", path="/a", **given))


def test_a_wait_that_ends_without_an_ensemble_says_so(tmp_path: Path) -> None:
    with lonely_ensemble(tmp_path / "lonely") as (servers, client):
        kill(servers, client)
        with pytest.raises(ZooKeeperError, match=r"^/a: .*; not within 1 s$"):
            wait(client, ["/a"], condition(), 1)


def test_waiting_asks_nothing_of_the_ensemble(tmp_path: Path) -> None:
    with lonely_ensemble(tmp_path / "lonely") as (servers, client):

        def received() -> int:
            lines = servers.members[0].ask("srvr").splitlines()
            return int(next(line for line in lines if line.startswith("Received")).split()[1])

        before = received()
        with pytest.raises(ZooKeeperError, match=r"^/nothing: is absent, expected present; not within 1.5 s$"):
            wait(client, ["/nothing"], condition(), 1.5)
        assert received() - before < 12  # one look of five requests, the pings, and this test's own request
