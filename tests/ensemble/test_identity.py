"""A refusal by an ACL names the connection's identities, if the server reports them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, NoAuthError, UnimplementedError
from kazoo.security import make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils.connection import Overtaken, ZooKeeperError, translated
from ansible_collections.zoo.deploy.plugins.module_utils.identity import identities, named
from support.client import connected
from support.ensemble import Ensemble
from support.inventory import Inventory, run
from support.lookups import LookupFailed, lookups
from support.module import run_module
from support.playbook import ROOT
from support.repository import GitRepository

ZNODE = ROOT / "plugins/modules/zk_znode.py"
USER: dict[str, Any] = {"digest_username": "ann", "digest_password": "a secret of hers"}


@pytest.fixture
def closed(zk: KazooClient, app: str) -> str:
    """A znode that only somebody else may use; its `child` is open."""
    zk.create(f"{app}/child", makepath=True)
    zk.set_acls(app, [make_digest_acl("owner", "secret", all=True)])
    return app


def test_a_connection_has_the_identities_of_its_address_and_its_login(ensemble: Ensemble) -> None:
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
def test_zk_znode_names_the_refused_identity_and_never_the_password(
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
    # ZooKeeper before 3.7 does one or the other.
    def fail(**_timeout: float) -> None:
        raise error

    handler = SimpleNamespace(async_result=lambda: SimpleNamespace(get=fail))
    client = SimpleNamespace(handler=handler, _call=lambda _request, _answer: None)
    with pytest.raises(ZooKeeperError) as caught, named(client), translated("/closed"):
        raise NoAuthError
    assert str(caught.value).startswith("/closed: permission denied (NoAuth)")
    assert "this connection is" not in str(caught.value)


TOLD = "to the server this connection is digest ann, ip 127.0.0.1"


@pytest.fixture
def closed_app(zk: KazooClient, app: str) -> str:
    """An application whose records only somebody else may use."""
    for name in ("config", "history", "agents", "roster", "rollouts", "policy"):
        zk.ensure_path(f"{app}/{name}")
        zk.set_acls(f"{app}/{name}", [make_digest_acl("owner", "secret", all=True)])
    zk.set_acls(app, [make_digest_acl("owner", "secret", all=True)])
    return app


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("zk_znode_info", {"path": "{app}"}),
        ("zk_znode_info", {"path": "{app}", "wait_for": {"value": "x"}}),
        ("zk_release_info", {"app": "{app}"}),
        ("zk_release", {"app": "{app}", "url": "file:///site.git", "ref": "1" * 40, "relative_path": "site"}),
        ("zk_fleet", {"app": "{app}", "names": ["a"]}),
        ("zk_fleet_info", {"app": "{app}"}),
        ("zk_lock", {"app": "{app}", "reason": "holidays"}),
    ],
)
def test_every_module_names_the_refused_identity(
    ensemble: Ensemble, closed_app: str, module: str, options: dict[str, Any]
) -> None:
    given: Any = {name: closed_app if value == "{app}" else value for name, value in options.items()}
    refused = run_module(ROOT / f"plugins/modules/{module}.py", hosts=ensemble.hosts, **given, **USER)
    assert refused["failed"]
    assert "permission denied (NoAuth)" in refused["msg"]
    assert refused["msg"].endswith(TOLD)


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("zk_lock", {"reason": "holidays"}),
        ("zk_lock", {"state": "absent"}),
        ("zk_release", {"url": "{url}", "ref": "main", "relative_path": "site"}),
    ],
)
def test_an_unreadable_lock_is_reported_with_the_refused_identity_and_advice(
    ensemble: Ensemble, zk: KazooClient, app: str, module: str, options: dict[str, Any], repository: GitRepository
) -> None:
    zk.ensure_path(app)
    zk.create(f"{app}/lock", b"", acl=[make_digest_acl("owner", "secret", all=True)])
    given: Any = {name: repository.url if value == "{url}" else value for name, value in options.items()}
    refused = run_module(ROOT / f"plugins/modules/{module}.py", hosts=ensemble.hosts, app=app, **given, **USER)
    assert refused["failed"]
    assert refused["msg"].startswith(
        f"{app}/lock: whether somebody holds the lock can't be read: permission denied (NoAuth); the ACL does "
        "not allow this to the given credentials; give those of somebody whom it allows; "
    )
    assert refused["msg"].endswith(TOLD)


def test_a_lookup_with_a_kept_session_names_the_refused_identity(
    ensemble: Ensemble, closed: str, zk: KazooClient
) -> None:
    zk.create(f"{closed}/child/open", b"green")
    variables = {"zk_hosts": ensemble.hosts, **{f"zk_{name}": value for name, value in USER.items()}}
    with lookups({}) as process:
        for _time in range(2):
            with pytest.raises(LookupFailed, match=TOLD):
                process.run("zoo.deploy.zk_znode", [closed], variables)
            assert process.run("zoo.deploy.zk_znode", [f"{closed}/child/open"], variables) == ["green"]


def test_the_inventory_names_the_refused_identity(ensemble: Ensemble, closed: str, tmp_path: Path) -> None:
    inventory = Inventory(tmp_path, ensemble.hosts)
    inventory.options.update({"registries": [{"path": closed}], "unreachable_action": "fail", **USER})
    assert TOLD in " ".join(run("ansible-inventory", "-i", str(inventory.file()), "--list").stderr.split())


def test_an_error_keeps_its_kind(zk: KazooClient, closed: str) -> None:
    with pytest.raises(Overtaken, match="this connection is"), named(zk):
        raise Overtaken("once more", path=closed) from NoAuthError()
