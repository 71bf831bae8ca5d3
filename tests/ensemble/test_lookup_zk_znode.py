"""The lookup `zoo.deploy.zk_znode`, as Ansible loads and templates it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from support.ensemble import Ensemble
from support.lookups import LookupFailed, Lookups, lookups
from support.ports import free_ports

Lookup = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def process() -> Iterator[Lookups]:
    """One process for all."""
    with lookups({}) as running:
        yield running


@pytest.fixture
def lookup(process: Lookups, ensemble: Ensemble) -> Lookup:
    """The lookup, which finds the ensemble in the variable `zk_hosts`."""
    return functools.partial(run, process, ensemble)


def run(
    process: Lookups, ensemble: Ensemble, *terms: Any, variables: dict[str, str] | None = None, **given: Any
) -> Any:
    """What the lookup returns for `terms`."""
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
        (b"[NaN]", {"json": True}, "not JSON: NaN is no JSON"),
        (b"[" * 100_000, {"json": True}, "not JSON: nested too deeply"),
    ],
)
def test_data_that_is_not_what_was_asked_for_is_one_clear_line(
    lookup: Lookup, zk: KazooClient, app: str, data: bytes, given: dict[str, Any], said: str
) -> None:
    zk.create(app, data, makepath=True)
    with pytest.raises(LookupFailed) as caught:
        lookup(app, default="unused", **given)
    assert str(caught.value).startswith(f"{app}: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("term", ["app/x", "/app/", "/a/../b", "", 7, None, {"a": 1}])
def test_a_term_that_is_no_path_is_one_clear_line(lookup: Lookup, term: Any) -> None:
    with pytest.raises(LookupFailed, match=r"expected |can't name a znode"):
        lookup(term)


def test_what_may_not_be_read_is_an_error_also_with_a_default(lookup: Lookup, zk: KazooClient, app: str) -> None:
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


def test_an_ensemble_that_nothing_names_is_asked_for(process: Lookups, app: str) -> None:
    with pytest.raises(LookupFailed, match="hosts"):
        process.run("zoo.deploy.zk_znode", [app], {})
