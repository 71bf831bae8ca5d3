"""The event source's options: what is refused, in one line, and the ways to reach an ensemble."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from eda.source import FILE, Source
from support.certificates import Certificates
from support.client import connected
from support.ensemble import Ensemble
from support.ports import free_ports
from support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]


def refusal(**args: Any) -> str:
    """Return the message of the error that ends a source with these arguments."""
    source = Source(**args).start()
    try:
        error = wait_for(lambda: source.error, "the source has ended")
    finally:
        source.stop()
    text = str(error)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"data": ["/a"]}, "hosts: none given; set the option, or ZK_HOSTS in the environment"),
        ({"hosts": "", "data": ["/a"]}, "hosts: none given; set the option, or ZK_HOSTS in the environment"),
        ({"hosts": "h"}, "nothing to watch: give at least one of data, children, subtrees, registries, session"),
        ({"hosts": "h", "data": ["a"]}, 'data: path: expected one that begins with /, got "a"'),
        ({"hosts": "h", "subtrees": ["/a/../b"]}, 'subtrees: path "/a/../b": ".." can\'t name a znode'),
        ({"hosts": "h", "children": {"a": 1}}, "children"),
        ({"hosts": "h", "path": "/a", "session": True}, "path"),
        (
            {"hosts": "h", "registries": [{"path": "/a", "format": "xml"}]},
            "registries: /a: format: expected one of auto",
        ),
        ({"hosts": "h", "registries": [{"path": "/a", "name": "b"}]}, "registries: /a has an unknown key name"),
        ({"hosts": "h", "registries": [7]}, "registries: expected a path, or a mapping"),
        ({"hosts": "h", "registries": ["/a"], "settle": -1}, "settle: expected seconds, 0 or more, got -1"),
        ({"hosts": "h", "registries": ["/a"], "settle": "inf"}, "settle: expected seconds, 0 or more, got inf"),
        ({"hosts": "h", "data": ["/a"], "settle": 1}, "settle: applies to services"),
        ({"hosts": "h", "session": "maybe"}, "session"),
        ({"hosts": "h", "session": True, "sasl_mechanism": "PLAIN"}, "sasl_mechanism"),
        ({"hosts": "h", "session": True, "connection": {"data": []}}, "connection: expected a mapping of"),
        ({"hosts": "h", "session": True, "connection": "tls"}, "connection: expected a mapping of"),
        ({"hosts": "h", "session": True, "connection": {"digest_username": "u"}}, "digest_username and"),
        ({"hosts": "h", "session": True, "digest_username": "u"}, "digest_username and digest_password: give both"),
        ({"hosts": "h", "session": True, "tls": True, "tls_ca": "/none"}, "tls_ca: no file at /none"),
        ({"hosts": "h", "session": True, "connection": {"tls_ca": "/none"}}, "tls_ca: given without tls, so nothing"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(
    args: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZK_HOSTS", raising=False)
    assert message in refusal(**args)


def test_a_password_is_in_no_message(caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    secret = {"digest_username": "u", "digest_password": "s3cret", "connect_timeout": 1}
    texts = [refusal(hosts="h", data=["a"], **secret), refusal(hosts=f"127.0.0.1:{port}", data=["/a"], **secret)]
    assert not any("s3cret" in text for text in [*texts, caplog.text])


def test_an_ensemble_that_is_down_at_the_beginning_is_an_error() -> None:
    (port,) = free_ports(1)
    message = refusal(hosts=f"127.0.0.1:{port}", data=["/a"], connect_timeout=1)
    assert message.startswith(f"can't reach ZooKeeper at 127.0.0.1:{port} within 1 s")


def test_the_hosts_may_come_from_the_environment(
    watch: Callable[..., Source], ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch, zk: KazooClient, app: str
) -> None:
    monkeypatch.setenv("ZK_HOSTS", ensemble.hosts)
    source = watch(hosts=None, data=[f"{app}/a"])
    zk.create(f"{app}/a")
    source.one(change="created")


def test_a_znode_that_may_not_be_read_is_an_error_at_the_beginning_and_a_warning_later(
    watch: Callable[..., Source],
    ensemble: Ensemble,
    zk: KazooClient,
    app: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    acl = [make_digest_acl("u", "p", all=True)]
    zk.ensure_path(app)
    zk.create(f"{app}/closed", b"1", acl=acl)
    assert refusal(hosts=ensemble.hosts, data=[f"{app}/closed"]).startswith(f"{app}/closed: permission denied (NoAuth)")
    source = watch(data=[f"{app}/closed"], digest_username="u", digest_password="p")
    assert source.one(path=f"{app}/closed")["value"] == "1"
    zk.create(f"{app}/tree/open", b"", makepath=True)
    other = watch(subtrees=[f"{app}/tree"])
    other.one(path=f"{app}/tree/open")
    zk.create(f"{app}/tree/closed", b"", acl=acl)
    wait_for(lambda: f"{app}/tree/closed: permission denied" in caplog.text, "a warning")
    zk.set(f"{app}/tree/open", b"2")
    other.one(path=f"{app}/tree/open", value="2")


def test_it_speaks_tls(tmp_path: Path, app: str) -> None:
    certificates = Certificates.create(tmp_path / "certificates")
    servers = Ensemble.with_tls(tmp_path / "zk", certificates)
    args = {"hosts": servers.secure_hosts, "tls": True, "tls_ca": str(certificates.ca), "session": True}
    client = {
        "tls_cert": str(certificates.directory / "client.crt"),
        "tls_key": str(certificates.directory / "client.key"),
    }
    with servers:
        source = Source(**args, **client, subtrees=["/"], initial=True).start()
        source.one(change="present", path="/")
        with connected(servers.hosts) as zk:
            zk.create(app, b"1", makepath=True)
            source.one(change="created", path=app)
        source.stop()


def test_credentials_that_are_refused_later_on_end_it(tmp_path: Path) -> None:
    servers = Ensemble.with_sasl(tmp_path / "zk", {"rulebook": "first"})
    login = {"sasl_mechanism": "DIGEST-MD5", "sasl_username": "rulebook", "sasl_password": "first"}
    jaas = tmp_path / "zk" / "jaas.conf"
    with servers:
        source = Source(hosts=servers.hosts, data=["/a"], session=True, initial=True, **login).start()
        source.one(change="connected")
        servers.members[0].kill()
        source.one(change="suspended")
        jaas.write_text(jaas.read_text().replace("first", "second"))
        servers.start()
        error = wait_for(lambda: source.error, "the source has ended")
        assert str(error) == "ZooKeeper refused the credentials; nothing can be watched any more"
        source.stop()


SHOW = """
import runpy, sys
runpy.run_path(sys.argv[1])["find_collection"]()
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch import loop
import ansible_collections.other.thing.plugins
print(loop.__file__)
"""


@pytest.mark.parametrize("place", ["installed", "checkout"])
def test_it_finds_its_own_collection_beside_another_package_of_collections(place: str, tmp_path: Path) -> None:
    own = tmp_path / "ansible_collections" / "zoo" / "deploy" if place == "installed" else tmp_path / "checkout"
    for directory in ("plugins", "extensions"):
        shutil.copytree(ROOT / directory, own / directory)
    if place == "checkout":
        shutil.copytree(ROOT / "collections", own / "collections", symlinks=True)
    other = tmp_path / "site" / "ansible_collections"
    (other / "other" / "thing" / "plugins").mkdir(parents=True)
    (other / "__init__.py").touch()
    file = own / FILE.relative_to(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(file)],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(done.stdout.strip()).resolve() == own / "plugins" / "plugin_utils" / "watch" / "loop.py"
