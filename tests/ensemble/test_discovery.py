"""Reading registries from a real ensemble: completely, in few requests, and confirming earlier readings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect
from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.last_good import LastGood, from_cache, to_cache
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Reading, Registry, discover
from support.client import connected
from support.ensemble import Ensemble


@pytest.fixture
def client(ensemble: Ensemble) -> Iterator[KazooClient]:
    with connect({"hosts": ensemble.hosts, "connect_timeout": 10.0}) as connected:
        yield connected


@pytest.fixture
def root(zk: KazooClient, app: str) -> str:
    zk.ensure_path(app)
    return app


def fill(zk: KazooClient, parent: str, count: int, data: bytes = b'["10.0.0.1", "80"]') -> None:
    zk.ensure_path(parent)
    for one in [zk.create_async(f"{parent}/n{number:05}", data) for number in range(count)]:
        one.get()


def asked(client: KazooClient, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The types of all requests sent from now on."""
    kinds: list[str] = []
    send = client._call

    def noting(request: Any, result: Any) -> Any:
        kinds.append(type(request).__name__)
        return send(request, result)

    monkeypatch.setattr(client, "_call", noting)
    return kinds


def names(reading: Reading) -> list[str]:
    return [child.name for child in reading.children]


def test_children_are_read_with_their_parent_in_the_order_of_their_names(
    client: KazooClient, zk: KazooClient, root: str
) -> None:
    fill(zk, f"{root}/a", 20)
    zk.ensure_path(f"{root}/b")
    first, second, gone = discover(client, [Registry(f"{root}/{name}") for name in "abc"], [None] * 3)
    assert names(first) == [f"n{number:05}" for number in range(20)]
    assert first.parents == {f"{root}/a": zk.exists(f"{root}/a").pzxid}
    assert (names(second), second.problems) == ([], [])
    assert gone.parents == {f"{root}/c": None}
    assert gone.problems == [f"{root}/c: no such znode, so nothing is registered there"]


def test_thousands_of_children_take_a_handful_of_requests(
    client: KazooClient, zk: KazooClient, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(zk, f"{root}/a", 3000)
    kinds = asked(client, monkeypatch)
    (reading,) = discover(client, [Registry(f"{root}/a")], [None])
    assert len(reading.children) == 3000
    assert kinds[0] == "Sync"
    assert set(kinds[1:]) == {"MultiRead"}
    assert len(kinds) <= 10


def test_an_earlier_reading_that_holds_is_confirmed_in_one_pass(
    client: KazooClient, zk: KazooClient, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zk.ensure_path(f"{root}/a")
    zk.create(f"{root}/a/h1,1,1", b"")
    fill(zk, f"{root}/b", 3)
    registries = [Registry(f"{root}/a", "hbase"), Registry(f"{root}/*")]
    before = discover(client, registries, [None, None])
    kinds = asked(client, monkeypatch)
    assert discover(client, registries, before) == before
    assert kinds == ["Sync", "MultiRead", "MultiRead"]


def test_what_changed_since_an_earlier_reading_is_seen(client: KazooClient, zk: KazooClient, root: str) -> None:
    fill(zk, f"{root}/a/providers", 2)
    fill(zk, f"{root}/b/providers", 1)
    zk.ensure_path(f"{root}/c")
    registries = [Registry(f"{root}/*/providers")]

    before: list[Any] = discover(client, registries, [None])

    def change(what: str, *words: Any) -> list[tuple[str, bytes]]:
        nonlocal before
        getattr(zk, what)(*words)
        before = discover(client, registries, before)
        assert before == discover(client, registries, [None])
        return [(child.path.removeprefix(root), child.data) for child in before[0].children]

    assert ("/a/providers/n00000", b"new") in change("set", f"{root}/a/providers/n00000", b"new")
    assert "/a/providers/x" in dict(change("create", f"{root}/a/providers/x", b""))
    assert "/a/providers/x" not in dict(change("delete", f"{root}/a/providers/x"))
    assert len(change("ensure_path", f"{root}/c/providers/y")) == 4
    assert len(change("ensure_path", f"{root}/d/providers/z")) == 5
    assert len(change("delete", f"{root}/b", -1, True)) == 4
    zk.delete(f"{root}/a/providers/n00001")
    assert len(change("create", f"{root}/a/providers/n00001", b"again")) == 4


def test_the_leader_key_of_each_cluster_is_read_with_its_members_and_whenever_they_are_confirmed(
    client: KazooClient, zk: KazooClient, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(zk, f"{root}/a/members", 2)
    fill(zk, f"{root}/b/members", 1)
    zk.ensure_path(f"{root}/c/members")
    zk.create(f"{root}/a/leader", b"n00001")
    registries = [Registry(f"{root}/*/members", "patroni"), Registry(f"{root}/a/members", "seed")]
    before = discover(client, registries, [None, None])
    assert [reading.leaders for reading in before] == [{f"{root}/a/leader": "n00001", f"{root}/b/leader": ""}, {}]
    zk.set(f"{root}/a/leader", b"n00000")
    zk.create(f"{root}/b/leader", b"n00000")
    kinds = asked(client, monkeypatch)
    (after, _seed) = discover(client, registries, before)
    assert after.leaders == {f"{root}/a/leader": "n00000", f"{root}/b/leader": "n00000"}
    assert kinds == ["Sync", "MultiRead", "MultiRead"]
    zk.delete(f"{root}/a/leader")
    assert discover(client, registries, [after, None])[0].leaders[f"{root}/a/leader"] == ""


def test_an_unreadable_leader_key_is_a_problem_but_loses_no_member(
    client: KazooClient, zk: KazooClient, root: str
) -> None:
    fill(zk, f"{root}/members", 1)
    zk.create(f"{root}/leader", b"n00000", acl=[make_digest_acl("somebody", "else", all=True)])
    registries = [Registry(f"{root}/members", "patroni")]
    (reading,) = discover(client, registries, [None])
    assert (names(reading), reading.leaders) == (["n00000"], {})
    (problem,) = reading.problems
    assert problem.startswith(f"{root}/leader: ")
    assert problem.endswith("; who leads is what each says itself")
    # The permission to read it may be withdrawn between two readings.
    sound = Reading(reading.parents, reading.children, (), {f"{root}/leader": "n00000"})
    assert discover(client, registries, [sound]) == [reading]


def test_a_write_that_was_answered_is_read_through_any_member(ensemble: Ensemble, zk: KazooClient, root: str) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(f"127.0.0.1:{member.client_port}")) for member in ensemble.members]
        for number in range(20):
            zk.create(f"{root}/n{number}", b"")
            for one in clients:
                assert len(discover(one, [Registry(root)], [None])[0].children) == number + 1


def test_a_reading_comes_out_of_a_cache_as_it_went_in(client: KazooClient, zk: KazooClient, root: str) -> None:
    fill(zk, f"{root}/x/a", 2, data=bytes(range(256)))
    registries = [Registry(f"{root}/*/a"), Registry(f"{root}/none", "kafka")]
    first, second = discover(client, registries, [None, None])
    kept = [LastGood(first._replace(leaders={f"{root}/x/leader": "n00000"}), 7), LastGood(second, 0)]
    stored = json.loads(json.dumps(to_cache("zk1:2181", registries, kept)))
    assert from_cache("zk1:2181", registries, stored) == kept
    assert from_cache("zk2:2181", registries, stored) == [None, None]
    assert from_cache("zk1:2181", [Registry(f"{root}/none", "nerve"), registries[0]], stored) == [None, kept[0]]


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {},
        {"version": 0},
        {"version": 1},
        {"version": 1, "hosts": "zk1:2181", "registries": {"/a auto": {"live": 1}}},
        {
            "version": 1,
            "hosts": "zk1:2181",
            "registries": {"/a auto": {"live": 1, "directories": {}, "problems": [], "children": [[1]]}},
        },
    ],
)
def test_a_cache_with_other_content_is_ignored(stored: Any) -> None:
    assert from_cache("zk1:2181", [Registry("/a")], stored) == [None]
