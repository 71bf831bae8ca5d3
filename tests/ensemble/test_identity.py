"""A refusal by an ACL says who the connection is, where the server tells."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, NoAuthError, UnimplementedError
from kazoo.security import make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError, translated
from ansible_collections.zoo.deploy.plugins.module_utils.identity import identities, named
from support.client import connected
from support.ensemble import Ensemble
from support.module import run_module
from support.playbook import ROOT

ZNODE = ROOT / "plugins/modules/zk_znode.py"
USER: dict[str, Any] = {"digest_username": "ann", "digest_password": "a secret of hers"}


@pytest.fixture
def closed(zk: KazooClient, app: str) -> str:
    """A znode that only somebody else may do anything with; its `child` is open."""
    zk.create(f"{app}/child", makepath=True)
    zk.set_acls(app, [make_digest_acl("owner", "secret", all=True)])
    return app


def test_a_connection_is_its_address_and_whoever_has_logged_in(ensemble: Ensemble) -> None:
    with connected(ensemble.hosts) as nobody:
        assert identities(nobody) == ["ip 127.0.0.1"]
    with connected(ensemble.hosts, auth_data=[("digest", "ann:secret")]) as ann:
        assert identities(ann) == ["digest ann", "ip 127.0.0.1"]


@pytest.mark.parametrize(
    ("below", "wanted"),
    [
        ("", {"value": "y"}),
        ("", {"acl": [{"scheme": "world", "perms": ["read"]}]}),
        ("/new", {"value": "y"}),
        ("/child", {"state": "absent"}),
    ],
    ids=["value", "acl", "new", "absent"],
)
def test_zk_znode_says_who_was_refused_and_never_the_password(
    ensemble: Ensemble, closed: str, below: str, wanted: dict[str, Any]
) -> None:
    refused = run_module(ZNODE, hosts=ensemble.hosts, path=f"{closed}{below}", **wanted, **USER)
    assert refused["failed"]
    assert "permission denied (NoAuth)" in refused["msg"]
    assert refused["msg"].endswith("; to the server this connection is digest ann, ip 127.0.0.1")
    assert USER["digest_password"] not in refused["msg"]
    assert refused["path"] == f"{closed}{below}"


def test_an_error_that_is_no_refusal_stays_as_it_is(zk: KazooClient) -> None:
    with pytest.raises(ZooKeeperError) as caught, named(zk), translated("/missing"):
        zk.get("/missing")
    assert str(caught.value) == "/missing: no such znode (NoNode)"


@pytest.mark.parametrize("error", [UnimplementedError(), ConnectionLoss()], ids=["unimplemented", "hung up"])
def test_a_server_that_does_not_tell_leaves_the_refusal_as_it_is(error: Exception) -> None:
    # ZooKeeper before 3.7 does either.
    def fail(**_timeout: float) -> None:
        raise error

    handler = SimpleNamespace(async_result=lambda: SimpleNamespace(get=fail))
    client = SimpleNamespace(handler=handler, _call=lambda _request, _answer: None)
    with pytest.raises(ZooKeeperError) as caught, named(client), translated("/closed"):
        raise NoAuthError
    assert str(caught.value).startswith("/closed: permission denied (NoAuth)")
    assert "this connection is" not in str(caught.value)
