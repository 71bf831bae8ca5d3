"""A server like ClickHouse Keeper: it hangs up on unknown requests, and gives each connection a new session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils import releases, znode_snapshots, znodes, zookeeper
from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ConnectError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import WAITING_OPTIONS, wait_for_fleet
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import Limits
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, Release
from ansible_collections.zoo.deploy.plugins.module_utils.znode_options import DesiredZnode
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import Value
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import Node, connect, read_many
from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.agent_releases import read_agent_releases
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Registry, discover
from support.ensemble import Ensemble
from support.keeper import MULTI_READ, SASL, Keeper
from support.lookups import lookups

OPTIONS: dict[str, Any] = {name: spec.get("default") for name, spec in ARGSPEC.items()}
COUNT = 1500
RELEASE = Release(url="file:///site.git", commit_id="0" * 40, relative_path="site")


@pytest.fixture
def keeper(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """The server, of which this process knows nothing yet."""
    monkeypatch.setattr(zookeeper, "_KNOW_MULTI_READ", {})
    made = Keeper(ensemble.members[0].client_port)
    yield made
    made.close()


@pytest.fixture
def client(keeper: Keeper) -> Iterator[KazooClient]:
    """A client of it, connected as in modules and plugins."""
    with connect({**OPTIONS, "hosts": keeper.hosts}) as connected:
        yield connected


@pytest.fixture
def registry(zk: KazooClient, app: str) -> str:
    """A registry with many entries."""
    zk.ensure_path(app)
    for one in [zk.create_async(f"{app}/n{number:05}", b'["10.0.0.1", "80"]') for number in range(COUNT)]:
        one.get()
    return app


def test_a_client_that_was_hung_up_on_reads_one_by_one_for_the_rest_of_the_process(
    client: KazooClient, keeper: Keeper, zk: KazooClient, app: str
) -> None:
    zk.create(f"{app}/a", b"1", makepath=True)
    for _time in range(2):
        found, gone = read_many(client, [f"{app}/a", f"{app}/none"])
        assert isinstance(found, Node)
        assert (found.data, gone) == (b"1", None)
    with connect({**OPTIONS, "hosts": keeper.hosts}) as later:
        assert read_many(later, [f"{app}/none"]) == [None]
    assert keeper.hung_up_at == [MULTI_READ]


def test_a_connection_that_is_lost_later_is_no_reason_to_read_one_by_one(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch, zk: KazooClient, app: str
) -> None:
    monkeypatch.setattr(zookeeper, "_KNOW_MULTI_READ", {})
    monkeypatch.setattr("support.keeper.UNKNOWN", frozenset())
    knows = Keeper(ensemble.members[0].client_port)
    zk.create(app, b"1", makepath=True)
    with connect({**OPTIONS, "hosts": knows.hosts}) as client:
        assert isinstance(read_many(client, [app])[0], Node)
        monkeypatch.setattr("support.keeper.UNKNOWN", frozenset({MULTI_READ}))
        assert isinstance(read_many(client, [app])[0], Node)
    assert knows.hung_up_at == [MULTI_READ]
    assert list(zookeeper._KNOW_MULTI_READ.values()) == [True]
    knows.close()


def test_no_entry_of_a_registry_is_missing(client: KazooClient, registry: str) -> None:
    (reading,) = discover(client, [Registry(registry)], [None])
    assert [child.name for child in reading.children] == [f"n{number:05}" for number in range(COUNT)]
    assert not reading.problems


def test_the_releases_of_the_agents_are_read(client: KazooClient, zk: KazooClient, app: str) -> None:
    paths = AppPaths(app)
    generation = releases.publish(client, paths, RELEASE, releases.read_published(client, paths))
    status = {"name": "server1", "state": "active", "generation": generation, "commitId": RELEASE.commit_id}
    zk.create(paths.agent("server1"), json.dumps(status).encode(), ephemeral=True)
    found, problems = read_agent_releases(client, app)
    assert (found["server1"]["drift"], problems) == (False, [])


def test_a_release_is_published_and_proved(client: KazooClient, keeper: Keeper, zk: KazooClient, app: str) -> None:
    paths = AppPaths(app)
    generation = releases.publish(client, paths, RELEASE, releases.read_published(client, paths))
    status = {"name": "server1", "state": "active", "generation": generation, "commitId": RELEASE.commit_id}
    zk.create(paths.agent("server1"), json.dumps({**status, "state": "fetching"}).encode(), ephemeral=True)
    proof = releases.ReleaseProof(paths.config, generation)
    keeper.cut()
    waiting = {name: option["default"] for name, option in WAITING_OPTIONS.items()}
    assert wait_for_fleet(client, paths, proof, Limits(1, 0), 0.5).timed_out
    zk.set(paths.agent("server1"), json.dumps(status).encode())
    releases.prove(client, paths, proof, {**waiting, "wait_timeout": 20.0})
    (entry,) = releases.read_history(client, paths)
    assert entry.release
    assert "provedAt" in entry.release.extra


def test_znodes_converge(client: KazooClient, zk: KazooClient, app: str) -> None:
    wanted = [DesiredZnode(f"{app}/n{number}", value=Value(b"x"), recursive=True) for number in range(20)]
    done = znodes.converge(client, wanted, check=False, timeout=10.0)
    assert all(one["changed"] for one in done)
    again = znodes.converge(client, wanted, check=False, timeout=10.0)
    assert not any(one["changed"] for one in again)
    assert len(znode_snapshots.below(client, app, 3, 100, 10.0)) == 20
    gone = DesiredZnode(app, present=False, recursive=True)
    assert znodes.converge(client, [gone], check=False, timeout=10.0)[0]["changed"]
    assert zk.exists(app) is None


def test_the_lookup_finds_a_value(keeper: Keeper, zk: KazooClient, app: str) -> None:
    zk.create(app, b"green", makepath=True)
    with lookups({}) as process:
        found = process.run("zoo.deploy.zk_znode", [app], {"zk_hosts": keeper.hosts})
    assert found == ["green"]


def test_a_login_by_sasl_ends_in_one_line(keeper: Keeper) -> None:
    login = {"sasl_mechanism": "DIGEST-MD5", "sasl_username": "deployer", "sasl_password": "sesame"}
    with (
        pytest.raises(ConnectError, match=r"^ZooKeeper at 127\.0\.0\.1:\d+ refused the credentials$") as caught,
        connect({**OPTIONS, "hosts": keeper.hosts, "connect_timeout": 20.0, **login}),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert SASL in keeper.hung_up_at
