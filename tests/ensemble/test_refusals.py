"""A request refused right after a reconnection is retried until the connection has settled; then a refusal is final."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils import releases, zookeeper
from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError, unless_refused
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import wait_for_fleet
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import Limits
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, Release
from ansible_collections.zoo.deploy.plugins.module_utils.znode_snapshots import Condition, wait
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import Value
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect, read_many
from support.ensemble import Ensemble
from support.refusing import Refusing
from support.waiting import wait_for

OPTIONS: dict[str, Any] = {name: spec.get("default") for name, spec in ARGSPEC.items()}
ANN: dict[str, Any] = {"digest_username": "ann", "digest_password": "her secret"}
OWN = [make_digest_acl("ann", "her secret", all=True)]
RELEASE = Release(url="file:///site.git", commit_id="0" * 40, relative_path="site")


@pytest.fixture
def server(ensemble: Ensemble, zk: KazooClient, app: str) -> Iterator[Refusing]:
    """A server that can refuse requests after it has cut a connection."""
    made = Refusing(ensemble.members[0].client_port, zk, f"{app}-closed")
    yield made
    made.close()


@pytest.fixture
def ann(server: Refusing) -> Iterator[KazooClient]:
    """A client with a login, connected as in modules."""
    with connect({**OPTIONS, **ANN, "hosts": server.hosts}) as client:
        yield client


def make(client: KazooClient, path: str, data: bytes, acl: list[Any]) -> None:
    """Create a znode with an ACL; its parents are open."""
    client.create(path, data, makepath=True)
    client.set_acls(path, acl)


def in_background(wait_for_it: Any) -> tuple[threading.Thread, list[Any]]:
    """Begin to wait in a thread; the list then receives the outcome."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(wait_for_it())
        except ZooKeeperError as exc:
            found.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def test_a_wait_for_a_fleet_outlasts_refusals(ann: KazooClient, server: Refusing, app: str) -> None:
    paths = AppPaths(app)
    ann.create(app, makepath=True)
    generation = releases.publish(ann, paths, RELEASE, releases.read_published(ann, paths))
    status = {"name": "server1", "state": "active", "generation": generation, "commitId": RELEASE.commit_id}
    ann.create(paths.agent("server1"), json.dumps({**status, "state": "fetching"}).encode(), acl=OWN, makepath=True)
    proof = releases.ReleaseProof(paths.config, generation)
    thread, found = in_background(lambda: wait_for_fleet(ann, paths, proof, Limits(1, 0), 60.0))
    server.cut(8)
    wait_for(lambda: server.refused == 8, "every refusal was used")
    ann.set(paths.agent("server1"), json.dumps(status).encode())
    thread.join(60)
    assert found[0].problem is None


def test_a_wait_for_a_znode_outlasts_refusals(ann: KazooClient, server: Refusing, app: str) -> None:
    make(ann, app, b"red", OWN)
    condition = Condition(value=Value(b"green"))
    thread, found = in_background(lambda: wait(ann, [app], condition, 60.0))
    server.cut(4)
    wait_for(lambda: server.refused == 4, "every refusal was used")
    ann.set(app, b"green")
    thread.join(60)
    assert found[0][0].data == b"green"


def test_an_optional_read_is_retried_too(ann: KazooClient, server: Refusing, app: str) -> None:
    make(ann, app, b"1", OWN)
    server.cut(1)
    wait_for(lambda: not ann.connected, "it has lost its connection")
    wait_for(lambda: ann.connected, "it has another one")
    assert unless_refused(lambda: ann.get(app)[0], b"refused") == b"1"
    assert server.refused == 1


def test_a_refused_transaction_and_bulk_read_succeed_later(
    ann: KazooClient, server: Refusing, zk: KazooClient, app: str
) -> None:
    # She is refused until another client gives her the rights, as during a login that takes long.
    make(zk, app, b"1", [make_digest_acl("bob", "other", all=True)])
    zk.add_auth("digest", "bob:other")
    server.cut(0)
    wait_for(lambda: not ann.connected, "it has lost its connection")
    wait_for(lambda: ann.connected, "it has another one")
    transaction = ann.transaction()
    transaction.set_data(app, b"2")
    done = transaction.commit_async()
    thread, found = in_background(lambda: read_many(ann, [app]))
    zk.set_acls(app, [*OWN, make_digest_acl("bob", "other", all=True)])
    assert done.get(timeout=30)[0].version == 1
    thread.join(30)
    assert found[0][0].data in {b"1", b"2"}


def test_a_true_refusal_is_final_once_the_connection_has_settled(
    ann: KazooClient, server: Refusing, zk: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(zk, app, b"", [make_digest_acl("bob", "other", all=True)])
    monkeypatch.setattr(zookeeper, "ASK_AGAIN", None)  # a connection that was never lost retries nothing
    with pytest.raises(ZooKeeperError, match=r"NoAuth"):
        wait(ann, [app], Condition(), 60.0)
    monkeypatch.undo()
    server.cut(0)
    wait_for(lambda: not ann.connected, "it has lost its connection")
    with pytest.raises(ZooKeeperError, match=r"NoAuth"):
        wait(ann, [app], Condition(), 60.0)
