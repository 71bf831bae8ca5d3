"""The lookup `zoo.deploy.zk_znode`, as Ansible loads and templates it."""

from __future__ import annotations

import functools
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from support.client import connected
from support.ensemble import Ensemble
from support.lookups import LookupFailed, Lookups, lookups
from support.playbook import run_playbook
from support.ports import free_ports
from support.waiting import wait_for

Lookup = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def process() -> Iterator[Lookups]:
    """One process for all tests."""
    with lookups({}) as running:
        yield running


@pytest.fixture
def lookup(process: Lookups, ensemble: Ensemble) -> Lookup:
    """The lookup, which finds the ensemble in the variable `zk_hosts`."""
    return functools.partial(run, process, ensemble)


def run(
    process: Lookups, ensemble: Ensemble, *terms: Any, variables: dict[str, str] | None = None, **given: Any
) -> Any:
    """Run the lookup for `terms`."""
    return process.run("zoo.deploy.zk_znode", list(terms), {"zk_hosts": ensemble.hosts, **(variables or {})}, **given)


def test_values_come_in_the_order_of_the_terms(lookup: Lookup, zk: KazooClient, app: str) -> None:
    for name in ("a", "b", "c"):
        zk.create(f"{app}/{name}", name.encode(), makepath=True)
    assert lookup(f"{app}/c", [f"{app}/a", f"{app}/b"]) == ["c", "a", "b"]


def test_where_no_hosts_are_given_both_ways_to_give_them_are_named(process: Lookups) -> None:
    with pytest.raises(LookupFailed, match=r"^hosts: none given; set the option, or ZK_HOSTS in the environment$"):
        process.run("zoo.deploy.zk_znode", ["/a"], {})


def test_json_is_decoded_only_on_request(lookup: Lookup, zk: KazooClient, app: str) -> None:
    zk.create(app, b'{"a": [1, null]}', makepath=True)
    assert lookup(app) == ['{"a": [1, null]}']
    assert lookup(app, json=True) == [{"a": [1, None]}]


def test_what_others_wrote_a_moment_ago_is_seen_through_any_server(
    lookup: Lookup, ensemble: Ensemble, zk: KazooClient, app: str
) -> None:
    zk.create(app, makepath=True)
    for number, member in enumerate(ensemble.members * 5):
        zk.set(app, str(number).encode())
        assert lookup(app, hosts=f"127.0.0.1:{member.client_port}") == [str(number)]


@pytest.mark.parametrize("default", ["green", None, "", {"a": 1}])
def test_a_default_stands_in_for_a_znode_that_is_not_there(lookup: Lookup, app: str, default: Any) -> None:
    assert lookup(app, default=default) == [default]


def test_without_a_default_a_missing_znode_is_an_error(lookup: Lookup, app: str) -> None:
    with pytest.raises(LookupFailed) as caught:
        lookup(app)
    assert str(caught.value) == f"{app}: no such znode (NoNode); create it, or give a default"


@pytest.mark.parametrize(
    ("data", "given", "said"),
    [
        (b"\xff", {}, "not UTF-8 at byte 0; read it with zoo.deploy.zk_znode_info"),
        (b"\xff", {"json": True}, "not UTF-8 at byte 0"),
        (b"", {"json": True}, "not JSON: "),
        (b"[NaN]", {"json": True}, "not JSON: NaN is not JSON"),
        (b"[" * 100_000, {"json": True}, "not JSON: nested too deeply"),
    ],
)
def test_data_of_the_wrong_kind_is_reported_in_one_clear_line(
    lookup: Lookup, zk: KazooClient, app: str, data: bytes, given: dict[str, Any], said: str
) -> None:
    zk.create(app, data, makepath=True)
    with pytest.raises(LookupFailed) as caught:
        lookup(app, default="unused", **given)
    assert str(caught.value).startswith(f"{app}: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("term", ["app/x", "/app/", "/a/../b", "", 7, None, {"a": 1}])
def test_a_term_that_is_not_a_path_is_reported_in_one_clear_line(lookup: Lookup, term: Any) -> None:
    with pytest.raises(LookupFailed, match=r"expected |can't name a znode"):
        lookup(term)


def test_a_missing_znode_is_blamed_on_a_missing_chroot(lookup: Lookup, ensemble: Ensemble, app: str) -> None:
    with pytest.raises(
        LookupFailed, match=f"^/config: no such znode.*; {app}/none, the chroot in hosts, does not exist"
    ):
        lookup("/config", hosts=f"{ensemble.hosts}{app}/none")


def test_a_znode_that_may_not_be_read_is_an_error_even_with_a_default(
    lookup: Lookup, zk: KazooClient, app: str
) -> None:
    zk.create(app, b"x", acl=[make_digest_acl("user", "secret", all=True)], makepath=True)
    with pytest.raises(LookupFailed, match=rf"^{app}: permission denied \(NoAuth\)"):
        lookup(app, default="none")
    mine = {"zk_digest_username": "user", "zk_digest_password": "secret"}
    assert lookup(app, variables=mine) == ["x"]


def test_an_ensemble_that_is_down_is_an_error_within_the_timeout(lookup: Lookup, app: str) -> None:
    (port,) = free_ports(1)
    with pytest.raises(LookupFailed, match=rf"^can't reach ZooKeeper at 127.0.0.1:{port} within 0.5 s"):
        lookup(app, hosts=f"127.0.0.1:{port}", connect_timeout=0.5)


def test_the_ensemble_is_found_in_the_environment_where_no_variable_names_it(
    ensemble: Ensemble, zk: KazooClient, app: str
) -> None:
    zk.create(app, b"x", makepath=True)
    with lookups({"ZK_HOSTS": ensemble.hosts}) as process:
        assert process.run("zoo.deploy.zk_znode", [app], {}) == ["x"]


def test_hosts_are_asked_for_where_nothing_gives_them(process: Lookups, app: str) -> None:
    with pytest.raises(LookupFailed, match="hosts"):
        process.run("zoo.deploy.zk_znode", [app], {})


@pytest.fixture
def shop(zk: KazooClient, app: str) -> str:
    """A small configuration: JSON values, some of them two levels down, below an empty znode."""
    for name, data in {"colour": b'"green"', "limits": b"", "limits/orders": b"100", "limits/items": b"20"}.items():
        zk.create(f"{app}/{name}", data, makepath=True)
    return app


def test_children_are_a_dictionary_of_their_values_by_name(lookup: Lookup, shop: str) -> None:
    assert lookup(shop, children=True) == [{"colour": '"green"', "limits": ""}]
    assert lookup(shop, f"{shop}/limits", children=True)[1] == {"items": "20", "orders": "100"}


def test_a_subtree_is_a_dictionary_of_values_by_the_path_below_the_znode(
    lookup: Lookup, ensemble: Ensemble, shop: str
) -> None:
    below = {"colour": '"green"', "limits": "", "limits/items": "20", "limits/orders": "100"}
    assert lookup(shop, recursive=True) == [below]
    assert list(lookup(shop, recursive=True)[0]) == sorted(below)
    assert lookup("/", recursive=True, variables={"zk_hosts": f"{ensemble.hosts}{shop}"}) == [below]


def test_values_below_are_decoded_too_and_an_empty_one_is_none(lookup: Lookup, shop: str) -> None:
    assert lookup(shop, children=True, json=True) == [{"colour": "green", "limits": None}]
    assert lookup(shop, recursive=True, json=True)[0]["limits/orders"] == 100


def test_a_znode_without_children_is_an_empty_dictionary_and_a_missing_one_is_not(lookup: Lookup, shop: str) -> None:
    leaf, missing = f"{shop}/colour", f"{shop}/none"
    for given in ({"children": True}, {"recursive": True}):
        assert lookup(leaf, **given) == [{}]
        assert lookup(leaf, missing, default={"a": 1}, **given) == [{}, {"a": 1}]
        with pytest.raises(LookupFailed, match=rf"^{missing}: no such znode"):
            lookup(missing, **given)


def test_a_znode_below_that_can_not_be_read_is_named(lookup: Lookup, zk: KazooClient, shop: str) -> None:
    zk.set(f"{shop}/limits/orders", b"\xff")
    with pytest.raises(LookupFailed, match=rf"^{shop}/limits/orders: not UTF-8 at byte 0; read it with"):
        lookup(shop, recursive=True)
    zk.set(f"{shop}/limits/orders", b"a hundred")
    with pytest.raises(LookupFailed, match=rf"^{shop}/limits/orders: not JSON: "):
        lookup(shop, recursive=True, json=True)
    zk.create(f"{shop}/secret", b"x", acl=[make_digest_acl("user", "secret", all=True)])
    with pytest.raises(LookupFailed, match=rf"^{shop}/secret: permission denied \(NoAuth\)"):
        lookup(shop, children=True)


def test_more_znodes_than_allowed_are_an_error_that_says_what_to_do(lookup: Lookup, shop: str) -> None:
    assert len(lookup(shop, recursive=True, max_znodes=4)[0]) == 4
    for limit, given in ((3, {"recursive": True}), (1, {"children": True})):
        with pytest.raises(LookupFailed) as caught:
            lookup(shop, max_znodes=limit, **given)
        assert str(caught.value) == f"{shop}: more than {limit} znodes below it; raise max_znodes"


def test_children_and_recursive_are_one_or_the_other(lookup: Lookup, shop: str) -> None:
    with pytest.raises(LookupFailed, match=r"^expected one of children and recursive, got both$"):
        lookup(shop, children=True, recursive=True)


def transactions(zk: KazooClient, app: str) -> int:
    """A number that grows by one with each transaction; beginning and ending a session are transactions."""
    zk.ensure_path(app)
    return int(zk.set(app, b"").mzxid)


def test_lookups_of_one_process_share_a_session(lookup: Lookup, zk: KazooClient, shop: str) -> None:
    lookup(shop, children=True)
    before = transactions(zk, f"{shop}/count")
    for _turn in range(5):
        lookup(shop)
        lookup(shop, recursive=True)
    assert transactions(zk, f"{shop}/count") == before + 1


def test_other_credentials_are_another_session(lookup: Lookup, zk: KazooClient, shop: str) -> None:
    zk.create(f"{shop}/secret", b"x", acl=[make_digest_acl("user", "sesame", all=True)])
    mine = {"zk_digest_username": "user", "zk_digest_password": "sesame"}
    assert lookup(f"{shop}/secret", variables=mine) == ["x"]
    for other in ({}, {**mine, "zk_digest_password": "other"}):
        with pytest.raises(LookupFailed, match="NoAuth"):
            lookup(f"{shop}/secret", variables=other)


def test_a_session_that_is_lost_is_replaced(tmp_path: Path) -> None:
    with Ensemble(tmp_path / "zk", size=1) as servers, lookups({"ZK_HOSTS": servers.hosts}) as process:
        (member,) = servers.members
        find = functools.partial(process.run, "zoo.deploy.zk_znode", ["/a"], {}, connect_timeout=2)
        with connected(servers.hosts) as zk:
            zk.create("/a", b"1")
        assert find() == ["1"]
        # Its server ends and restarts: the connection or the session is a new one.
        member.kill()
        with pytest.raises(LookupFailed, match=r"^can't reach ZooKeeper|ConnectionLoss"):
            find()
        wait_for(member.serves, "the server serves again")
        assert find() == ["1"]
        # The process sleeps for longer than its session lasts, and does not know it when it wakes.
        process.signal(signal.SIGSTOP)
        wait_for(lambda: sessions(servers) == 0, "the session expires")
        process.signal(signal.SIGCONT)
        assert find() == ["1"]


def sessions(servers: Ensemble) -> int:
    """The number of sessions at the server of an ensemble of one."""
    (line,) = (line for line in servers.members[0].ask("mntr").splitlines() if "global_sessions" in line)
    return int(line.split()[1])


def test_a_play_has_a_session_for_each_task_and_leaves_none(tmp_path: Path) -> None:
    """Templates in Ansible's own process, such as a task's name, are evaluated before its workers are forked."""
    task = {
        "name": "{{ lookup('zoo.deploy.zk_znode', '/a') }}",
        "ansible.builtin.debug": {"msg": "got {{ lookup('zoo.deploy.zk_znode', '/a') }} {{ item }}"},
        "loop": "{{ range(5) | list }}",
    }
    with Ensemble(tmp_path / "zk", size=1) as servers, connected(servers.hosts) as zk:
        before = zk.create("/a", b"sesame", include_data=True)[1].czxid
        playbook = tmp_path / "play.json"
        playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task, task]}]))
        output = run_playbook(playbook, env={"ZK_HOSTS": servers.hosts}).stdout
        assert output.count("got sesame") == 10
        assert "TASK [sesame]" in output
        # The one left is this test's. Ansible may terminate its last worker while that ends: its session then expires.
        wait_for(lambda: sessions(servers) == 1, "no session is left")
        assert zk.create("/b", include_data=True)[1].czxid - before < 15
