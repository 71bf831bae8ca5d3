"""The event source with a real ensemble: the events of each kind of watch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient

from eda.source import Source
from support.ensemble import Ensemble
from support.waiting import wait_for

Watch = Callable[..., Source]


def test_a_znode_that_is_created_changed_deleted_and_created_again_is_an_event_each_time(
    watch: Watch, zk: KazooClient, app: str
) -> None:
    path = f"{app}/config"
    source = watch(data=[path])
    zk.create(path, b"one")
    created = source.one(change="created", path=path)
    zk.set(path, b"two")
    changed = source.one(change="changed", path=path)
    zk.delete(path)
    deleted = source.one(change="deleted", path=path)
    zk.create(path, b"three")
    again = wait_for(lambda: source.all(change="created", path=path)[1:], "it is created again")[0]
    assert [(one["type"], one.get("value")) for one in (created, changed, deleted, again)] == [
        ("data", "one"),
        ("data", "two"),
        ("data", None),
        ("data", "three"),
    ]
    assert (created["stat"]["version"], changed["stat"]["version"]) == (0, 1)
    assert len(source.all(path=path)) == 4


def test_a_value_is_sent_as_zk_znode_info_returns_it(watch: Watch, zk: KazooClient, app: str) -> None:
    values = {"text": b"caf\xc3\xa9", "json": b'{"port": 5432}', "binary": b"\xff\x00", "empty": b""}
    for name, value in values.items():
        zk.create(f"{app}/{name}", value, makepath=True)
    source = watch(data=[f"{app}/{name}" for name in values])
    sent = {name: source.one(path=f"{app}/{name}") for name in values}
    assert {name: (one["value"], one["encoding"], one.get("json")) for name, one in sent.items()} == {
        "text": ("café", "text", None),
        "json": ('{"port": 5432}', "text", {"port": 5432}),
        "binary": ("/wA=", "base64", None),
        "empty": ("", "text", None),
    }


def test_without_initial_what_is_there_at_the_beginning_is_not_sent(watch: Watch, zk: KazooClient, app: str) -> None:
    zk.create(f"{app}/a", b"0", makepath=True)
    source = watch(data=[f"{app}/a"], session=True)
    assert source.all(type="session", change="connected")
    quiet = Source(**{**source._args, "initial": False}).start()
    try:
        numbers = iter(range(1, 10000))

        def sent() -> list[dict[str, Any]]:
            zk.set(f"{app}/a", str(next(numbers)).encode())
            return quiet.events

        assert wait_for(sent, "a change is sent")[0]["change"] == "changed"
        assert not quiet.all(change="present")
        assert not quiet.all(type="session")
    finally:
        quiet.stop()


def test_children_are_sent_with_what_was_added_and_removed(watch: Watch, zk: KazooClient, app: str) -> None:
    zk.create(f"{app}/members/a", makepath=True)
    source = watch(children=[f"{app}/members"])
    present = source.one(type="children", change="present")
    zk.create(f"{app}/members/b")
    source.one(added=["b"])
    zk.delete(f"{app}/members/a")
    removed = source.one(removed=["a"])
    zk.delete(f"{app}/members", recursive=True)
    source.one(type="children", change="deleted")
    assert (present["children"], present["added"], removed["children"]) == (["a"], ["a"], ["b"])


def test_a_subtree_is_sent_znode_by_znode_the_deepest_deleted_first(watch: Watch, zk: KazooClient, app: str) -> None:
    root = f"{app}/tree"
    zk.create(f"{root}/a/b", b"deep", makepath=True)
    source = watch(subtrees=[root])
    source.one(change="present", path=f"{root}/a/b")
    zk.create(f"{root}/a/c/d", b"new", makepath=True)
    assert source.one(change="created", path=f"{root}/a/c/d")["relative"] == "a/c/d"
    zk.set(f"{root}/a/b", b"newer")
    assert source.one(change="changed", path=f"{root}/a/b")["value"] == "newer"
    transaction = zk.transaction()
    for path in ("a/c/d", "a/c", "a/b", "a"):
        transaction.delete(f"{root}/{path}")
    transaction.commit()
    source.one(change="deleted", path=f"{root}/a")
    deleted = [path.removeprefix(f"{root}/") for _change, path in source.changes(change="deleted")]
    assert sorted(deleted) == ["a", "a/b", "a/c", "a/c/d"]
    assert deleted.index("a/c/d") < deleted.index("a/c")


def test_a_subtree_that_is_deleted_and_created_again_at_once_is_sent_as_both(
    watch: Watch, zk: KazooClient, app: str
) -> None:
    root = f"{app}/tree"
    zk.create(f"{root}/a", b"old", makepath=True)
    source = watch(subtrees=[root])
    source.one(path=f"{root}/a")
    transaction = zk.transaction()
    for verb, path in (("delete", "/a"), ("delete", ""), ("create", ""), ("create", "/a")):
        getattr(transaction, verb)(f"{root}{path}")
    transaction.commit()
    source.one(change="created", path=f"{root}/a")
    source.one(change="created", path=root)
    for path in (root, f"{root}/a"):
        assert [change for change, _path in source.changes(path=path)] == ["present", "deleted", "created"]


def test_a_service_joins_changes_and_leaves_decoded_as_the_inventory_decodes_it(
    watch: Watch, zk: KazooClient, app: str
) -> None:
    registry = f"{app}/service/*"
    source = watch(registries=[{"path": registry, "group": "service_*"}])
    zk.create(f"{app}/service/web/s1", b'["10.0.0.1", "8080"]', makepath=True, ephemeral=True)
    joined = source.one(type="service", change="joined")
    zk.delete(f"{app}/service/web/s1")
    left = source.one(type="service", change="left")
    expected = {
        "path": f"{app}/service/web/s1",
        "registry": registry,
        "group": "service_web",
        "name": "s1",
        "address": "10.0.0.1",
        "port": 8080,
        "id": "s1",
        "service": ["10.0.0.1", "8080"],
        "segments": ["web"],
        "ephemeral": True,
    }
    assert expected.items() <= joined.items()
    assert expected.items() <= left.items()


def test_a_serverset_member_joins_when_it_says_that_it_is_alive(watch: Watch, zk: KazooClient, app: str) -> None:
    def member(status: str, host: str = "h1") -> bytes:
        return json.dumps({"serviceEndpoint": {"host": host, "port": 80}, "status": status}).encode()

    path = f"{app}/set/member_0000000001"
    zk.create(path, member("STARTING"), makepath=True)
    zk.create(f"{app}/set/member_0000000002", member("ALIVE", "h2"))
    source = watch(registries=[{"path": f"{app}/set", "format": "serverset"}])
    source.one(change="present", address="h2")
    zk.set(path, member("ALIVE"))
    source.one(change="joined")
    zk.set(path, member("WARNING"))
    source.one(change="left")
    assert [change for change, _path in source.changes(address="h1")] == ["joined", "left"]


def test_a_service_below_a_parent_that_is_created_later_is_found(watch: Watch, zk: KazooClient, app: str) -> None:
    source = watch(registries=[f"{app}/dubbo/*/providers"])
    zk.create(f"{app}/dubbo/api", makepath=True)
    zk.create(f"{app}/other/providers", makepath=True)
    zk.create(f"{app}/dubbo/api/providers/x:80", makepath=True)
    assert source.one(change="joined")["group"] == "api"
    zk.delete(f"{app}/dubbo/api", recursive=True)
    source.one(change="left")
    zk.create(f"{app}/dubbo/api/providers/x:80", makepath=True)
    wait_for(lambda: len(source.all(change="joined")) == 2, "it joins again")


def test_an_undecodable_entry_is_not_a_service_and_hides_no_other(
    watch: Watch, zk: KazooClient, app: str, caplog: Any
) -> None:
    zk.create(f"{app}/web/bad", b"no", makepath=True)
    zk.create(f"{app}/web/good", b'["10.0.0.1", "80"]')
    source = watch(registries=[{"path": f"{app}/web", "format": "seed"}])
    assert source.one(type="service")["id"] == "good"
    assert f"{app}/web/bad: left out" in caplog.text


def test_a_service_that_registers_again_before_its_old_entry_is_deleted_has_neither_left_nor_joined(
    watch: Watch, zk: KazooClient, app: str
) -> None:
    zk.create(f"{app}/web/m_0000000001", b'{"host": "h1", "port": 80}', makepath=True)
    source = watch(registries=[{"path": f"{app}/web", "format": "nerve"}])
    source.one(change="present", address="h1")
    zk.create(f"{app}/web/m_0000000002", b'{"host": "h1", "port": 80}')
    zk.delete(f"{app}/web/m_0000000001")
    zk.create(f"{app}/web/m_0000000003", b'{"host": "h2", "port": 80}')
    source.one(change="joined", address="h2")
    assert [change for change, _path in source.changes(address="h1")] == ["present"]


def test_a_service_that_comes_back_within_settle_has_not_left(watch: Watch, zk: KazooClient, app: str) -> None:
    zk.create(f"{app}/web/m_0000000001", b'{"host": "h1", "port": 80}', makepath=True)
    zk.create(f"{app}/web/m_0000000002", b'{"host": "h2", "port": 80}')
    source = watch(registries=[{"path": f"{app}/web", "format": "nerve"}], settle=5)
    source.one(change="present", address="h2")
    zk.delete(f"{app}/web/m_0000000001")
    zk.delete(f"{app}/web/m_0000000002")
    zk.create(f"{app}/web/m_0000000003", b'{"host": "h3", "port": 80}')
    source.one(change="joined", address="h3")  # so that the two were seen to be absent
    zk.create(f"{app}/web/m_0000000004", b'{"host": "h1", "port": 80}')
    source.one(change="left", address="h2")
    assert [change for change, _path in source.changes(address="h1")] == ["present"]
    zk.create(f"{app}/web/m_0000000005", b'{"host": "h2", "port": 80}')
    source.one(change="joined", address="h2")


def test_no_event_holds_a_template(watch: Watch, zk: KazooClient, app: str, caplog: Any) -> None:
    evil = "{{ lookup('pipe', 'id') }}"
    header = "#jinja2:variable_start_string:'<<'\n<< 1 >>"
    source = watch(
        subtrees=[f"{app}/tree"], children=[f"{app}/tree"], registries=[{"path": f"{app}/web", "format": "seed"}]
    )
    zk.create(f"{app}/tree/{evil}", b"", makepath=True)
    zk.create(f"{app}/tree/value", evil.encode())
    zk.create(f"{app}/tree/header", header.encode())
    zk.create(f"{app}/tree/json", json.dumps({"a": ["{% if 1 %}"]}).encode())
    zk.create(f"{app}/tree/key", json.dumps({"\u007b{ 1 }}": 1}).encode())
    zk.create(f"{app}/tree/hidden", b'{"a": "\\u007b{ 1 }}"}')
    zk.create(f"{app}/web/{evil}", b'["10.0.0.2", "80"]', makepath=True)
    zk.create(f"{app}/web/s1", b'["10.0.0.1", "80"]')
    source.one(path=f"{app}/web/s1")
    for name in ("value", "header", "json", "key"):
        assert source.one(path=f"{app}/tree/{name}")["encoding"] == "base64"
    hidden = source.one(path=f"{app}/tree/hidden")
    assert hidden["encoding"] == "text"
    assert hidden["json"] == {"a": None}
    assert source.one(path=f"{app}/tree/json")["json"] == {"a": [None]}
    assert "json" not in source.one(path=f"{app}/tree/key")
    sent = json.dumps(source.events, ensure_ascii=False)
    assert not any(mark in sent for mark in ("{{", "{%", "{#", "#jinja2"))
    assert "their names are templates" in caplog.text


def test_decoded_data_that_holds_a_template_is_null(watch: Watch, zk: KazooClient, app: str) -> None:
    source = watch(registries=[f"{app}/web"])
    zk.create(f"{app}/web/a", b'{"host": "h3", "port": 80, "name": "{{ 1 }}"}', makepath=True)
    joined = source.one(change="joined")
    assert (joined["address"], joined["service"]) == ("h3", None)


def test_json_that_the_rule_engine_cannot_handle_is_sent_as_text_only(watch: Watch, zk: KazooClient, app: str) -> None:
    values = [b"1e999", b"9" * 40, b"[" * 60 + b"]" * 60, b'"\\ud800"', b"[NaN]"]
    for number, value in enumerate(values):
        zk.create(f"{app}/{number}", value, makepath=True)
    source = watch(data=[f"{app}/{number}" for number in range(len(values))])
    for number, value in enumerate(values):
        sent = source.one(path=f"{app}/{number}")
        assert sent["value"] == value.decode()
        assert "json" not in sent


def test_a_chroot_is_not_part_of_a_path(watch: Watch, zk: KazooClient, app: str) -> None:
    hosts = ",".join(f"{host}:{port}" for host, port in zk.hosts) + app
    zk.ensure_path(f"{app}{app}/sentinel")
    source = watch(hosts=hosts, subtrees=["/tree"])
    zk.create(f"{app}/tree/a", b"1", makepath=True)
    source.one(change="created", path="/tree/a")
    zk.set(f"{app}/tree/a", b"2")
    source.one(change="changed", path="/tree/a")


def test_a_missing_chroot_is_reported(
    ensemble: Ensemble, zk: KazooClient, app: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(hosts=f"{ensemble.hosts}{app}/none", data=["/a"]).start()
    try:
        wait_for(lambda: caplog.messages, "a warning")
        assert caplog.messages == [f"{app}/none, the chroot in hosts, does not exist; create it first"]
        zk.create(f"{app}/none/a", b"1", makepath=True)
        source.one(change="created", path="/a")
    finally:
        source.stop()


def test_a_znode_may_be_watched_in_several_ways(watch: Watch, zk: KazooClient, app: str) -> None:
    path = f"{app}/many"
    source = watch(data=[path], children=[path], subtrees=[path], registries=[path])
    zk.create(path, b"1")
    zk.create(f"{path}/h:80")
    source.one(type="service", change="joined")
    source.one(type="children", added=["h:80"])
    source.one(type="subtree", path=f"{path}/h:80")
    assert source.changes(type="data", path=path) == [("created", path)]
