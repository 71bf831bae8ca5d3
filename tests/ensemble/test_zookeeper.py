"""Connecting to an ensemble: what succeeds, what is refused, and with which messages."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl

from ansible_collections.zoo.deploy.plugins.doc_fragments.zookeeper import ModuleDocFragment
from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC
from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    ConnectError,
    ZooKeeperError,
    host_string,
    translated,
)
from ansible_collections.zoo.deploy.plugins.module_utils.znode_snapshots import take
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect
from support.certificates import PASSWORD, Certificates
from support.ensemble import Ensemble
from support.keeper import SASL as LOGIN
from support.keeper import Keeper
from support.module import run_module
from support.playbook import ROOT
from support.ports import free_ports
from support.silent import SilentMember
from support.waiting import wait_for

SECONDS = 1.0
"""The connect_timeout of attempts that are to fail."""
SLACK = 2.5
"""Seconds that a failure may take beyond it, to end the session, and on a busy machine."""


def options(hosts: str | list[str], **given: Any) -> dict[str, Any]:
    """The connection options of a task with `hosts` and these."""
    defaults = {name: spec.get("default") for name, spec in ARGSPEC.items()}
    return {**defaults, "hosts": hosts, **given}


def refusal(given: dict[str, Any]) -> str:
    """The error with which connecting fails: one line, in time, without a secret."""
    began = time.monotonic()
    with pytest.raises(ConnectError) as raised, connect({**given, "connect_timeout": SECONDS}):
        pass
    assert time.monotonic() - began < SECONDS + SLACK
    message = str(raised.value)
    assert "\n" not in message
    assert not any(value in message for name, value in given.items() if name.endswith("_password") and value)
    return message


@pytest.fixture
def tls(certificates: Certificates) -> dict[str, Any]:
    """Correct TLS options."""
    return {
        "tls": True,
        "tls_ca": str(certificates.ca),
        "tls_cert": str(certificates.client),
        "tls_key": str(certificates.key),
    }


@pytest.fixture(scope="module")
def sasl_ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """A server where `deployer` can log in by SASL."""
    with Ensemble.with_sasl(tmp_path_factory.mktemp("sasl-ensemble"), {"deployer": "sesame"}) as servers:
        yield servers


SASL = {"sasl_mechanism": "DIGEST-MD5", "sasl_username": "deployer", "sasl_password": "sesame"}


@pytest.fixture
def own_ensemble(tmp_path: Path) -> Iterator[Ensemble]:
    """An ensemble of three that the test may destroy."""
    with Ensemble(tmp_path / "own") as servers:
        yield servers


# --- addresses


def test_a_session_opens_with_hosts_as_one_string_or_as_a_list(ensemble: Ensemble) -> None:
    for hosts in (ensemble.hosts, ensemble.hosts.split(","), [f" {ensemble.hosts} "]):
        with connect(options(hosts)) as client:
            assert client.exists("/zookeeper")


def test_every_path_is_below_a_chroot_at_the_end_of_hosts(ensemble: Ensemble, zk: KazooClient, app: str) -> None:
    zk.ensure_path(app)
    with connect(options(f"{ensemble.hosts}{app}")) as client:
        client.create("/config", b"below")
    assert zk.get(f"{app}/config")[0] == b"below"


@pytest.mark.parametrize(("module", "given"), [("zk_lock", {"reason": "migration"}), ("zk_fleet", {"names": ["web1"]})])
def test_an_error_for_a_missing_znode_names_a_missing_chroot(
    ensemble: Ensemble, app: str, module: str, given: dict[str, Any]
) -> None:
    file = ROOT / "plugins" / "modules" / f"{module}.py"
    message = run_module(file, hosts=f"{ensemble.hosts}{app}/none", app="/app/x", **given)["msg"]
    assert message.startswith("/app/x/")
    assert message.endswith(
        f": no such znode (NoNode); {app}/none, the chroot in hosts, does not exist; create it first"
    )


@pytest.mark.parametrize(
    ("module", "given"),
    [
        ("zk_znode", {"path": "/a/b", "value": "x"}),
        ("zk_znode", {"path": "/a/b", "value": "x", "version": 3}),
        ("zk_znode", {"path": "/a/b", "value": "x", "parents": False}),
        ("zk_znode_info", {"path": "/a", "wait_for": {"state": "present"}, "wait_timeout": 0.1}),
        ("zk_fleet_info", {"wait_for_release": "desired", "wait_timeout": 0.1}),
        ("zk_fleet_info", {"wait_for_release": "desired", "agents": ["web1"], "wait_timeout": 0.1}),
        ("zk_fleet_info", {"wait_for_files": ["/a"], "wait_timeout": 0.1}),
        ("zk_release", {"state": "promoted"}),
        ("zk_release", {"state": "rolled_back"}),
        ("zk_release", {"ref": "main"}),
    ],
)
def test_an_error_because_of_a_missing_chroot_names_it(
    ensemble: Ensemble, zk: KazooClient, app: str, module: str, given: dict[str, Any]
) -> None:
    file = ROOT / "plugins" / "modules" / f"{module}.py"
    chroot = f"{app}/none"
    assert run_module(file, hosts=f"{ensemble.hosts}{chroot}", **given)["msg"].endswith(
        f"; {chroot}, the chroot in hosts, does not exist; create it first"
    )
    zk.ensure_path(chroot)
    assert "the chroot" not in run_module(file, hosts=f"{ensemble.hosts}{chroot}", **given).get("msg", "")


@pytest.mark.parametrize("module", ["zk_fleet_info", "zk_release_info"])
def test_where_nothing_is_found_a_warning_names_a_missing_chroot(
    ensemble: Ensemble, zk: KazooClient, app: str, module: str
) -> None:
    file = ROOT / "plugins" / "modules" / f"{module}.py"
    warned = f"{app}, the chroot in hosts, does not exist; create it first"
    assert warned in str(run_module(file, hosts=f"{ensemble.hosts}{app}")["warnings"])
    zk.ensure_path(app)
    assert "warnings" not in run_module(file, hosts=f"{ensemble.hosts}{app}")


@pytest.mark.parametrize("hosts", [None, "", [], [" "], [""]])
def test_without_hosts_the_error_names_both_ways_to_give_them(hosts: Any) -> None:
    with pytest.raises(ConnectError, match=r"^hosts: none given; .*ZK_HOSTS"):
        host_string(hosts)


@pytest.mark.parametrize("hosts", ["/", "/x", ["/x"]])
def test_a_chroot_without_a_member_is_refused(hosts: Any) -> None:
    with pytest.raises(ConnectError, match=r"^hosts: expected a member before the chroot, got '/x?'"):
        host_string(hosts)


@pytest.mark.parametrize("hosts", ["a:1,b:2/x", "a:1/x,b:2/x", ["a:1", "b:2/x"], ["a:1/x", "b:2/x"]])
def test_a_chroot_stands_after_the_last_member_or_after_each(hosts: Any) -> None:
    assert host_string(hosts) == "a:1,b:2/x"


@pytest.mark.parametrize("hosts", ["a:1/x,b:2", "a:1/x,y", ["a:1/x", "b:2"], ["a:1/x", "b:2/y"], ["a:1", "b:2/x,y"]])
def test_members_with_several_chroots_are_refused(hosts: Any) -> None:
    assert "hosts: expected one chroot, after the last member" in refusal(options(hosts))


@pytest.mark.parametrize("hosts", ["127.0.0.1:twelve", "127.0.0.1:999999", "[::1", ":::", "a b:2181", "127.0.0.1:-1"])
def test_an_invalid_address_is_refused_in_one_line(hosts: str) -> None:
    message = refusal(options(hosts))
    assert "hosts" in message or hosts in message


def test_a_name_that_does_not_resolve_is_in_the_message() -> None:
    message = refusal(options("no-such-host.invalid:2181"))
    assert "can't reach ZooKeeper at no-such-host.invalid:2181" in message
    assert "Cannot resolve" in message


def test_a_closed_port_is_known_after_connect_timeout_and_no_later() -> None:
    port = free_ports(1)[0]
    assert f"can't reach ZooKeeper at 127.0.0.1:{port} within 1 s" in refusal(options(f"127.0.0.1:{port}"))


def test_a_server_that_accepts_but_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert f"can't reach ZooKeeper at {address}" in refusal(options(address))


def test_a_server_that_is_not_zookeeper_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def talk() -> None:
            while True:
                try:
                    conn, _peer = stranger.accept()
                except OSError:
                    return
                with conn:
                    conn.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        threading.Thread(target=talk, daemon=True).start()
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
        assert f"can't reach ZooKeeper at {address}" in refusal(options(address))


def test_one_dead_member_of_three_does_not_matter(ensemble: Ensemble) -> None:
    dead = free_ports(1)[0]
    with connect(options(f"127.0.0.1:{dead},{ensemble.hosts}")) as client:
        assert client.exists("/zookeeper")


# --- an ensemble that fails


def test_an_ensemble_without_a_quorum_gives_no_session(own_ensemble: Ensemble) -> None:
    leader = own_ensemble.leader
    for member in own_ensemble.members:
        if member is not leader:
            member.kill()
    wait_for(lambda: not leader.mode, "the last member serves no more")
    assert "can't reach ZooKeeper at" in refusal(options(own_ensemble.hosts))


@pytest.mark.parametrize(
    ("survivors", "read"),
    [
        (0, lambda client: client.get("/zookeeper")),
        (1, lambda client: client.get("/zookeeper")),
        (0, lambda client: take(client, ["/zookeeper"] * 1000, timeout=30.0)),  # kazoo's own sockets hold some 280
    ],
)
def test_an_ensemble_lost_within_a_session_is_an_error_in_time_and_never_an_endless_wait(
    own_ensemble: Ensemble, survivors: int, read: Callable[[KazooClient], object]
) -> None:
    told: list[str] = []
    in_session, lost = threading.Event(), threading.Event()

    def work() -> None:
        try:
            with connect(options(own_ensemble.hosts, connect_timeout=2.0)) as client, translated("/zookeeper"):
                in_session.set()
                lost.wait(30)
                wait_for(lambda: not client.connected, "the session is suspended")
                read(client)
        except ZooKeeperError as exc:
            told.append(str(exc))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert in_session.wait(10)
    for member in own_ensemble.members[survivors:]:
        member.kill()
    lost.set()
    worker.join(15)
    assert not worker.is_alive()
    assert told[0].startswith("/zookeeper: the ")
    assert "connection was" in told[0] or "session has expired" in told[0]


def test_the_session_ends_with_the_block_also_when_it_fails(ensemble: Ensemble, zk: KazooClient, app: str) -> None:
    zk.ensure_path(app)

    def fail_within() -> None:
        with connect(options(ensemble.hosts)) as client:
            client.create(f"{app}/mine", ephemeral=True)
            raise KeyError

    with pytest.raises(KeyError):
        fail_within()
    zk.sync(app)
    assert zk.exists(f"{app}/mine") is None


# --- credentials


def test_at_the_shutdown_of_python_a_session_is_left_to_expire(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with connect(options(ensemble.hosts)) as client:
        monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.undo()
    assert client.connected
    client.stop()


def test_a_znode_of_a_digest_user_is_read_only_with_its_credentials(ensemble: Ensemble, app: str) -> None:
    owner = options(ensemble.hosts, digest_username="owner", digest_password="sesame")
    with connect(owner) as client:
        client.create(app, b"kept", acl=[make_digest_acl("owner", "sesame", all=True)], makepath=True)
    with connect(owner) as client:
        assert client.get(app)[0] == b"kept"
    stranger = options(ensemble.hosts, digest_username="owner", digest_password="wrong")
    with connect(stranger) as client, pytest.raises(ZooKeeperError) as raised, translated(app):
        client.get(app)
    assert str(raised.value).startswith(f"{app}: permission denied")
    assert raised.value.details == {"path": app}


@pytest.mark.parametrize("given", [{"digest_username": "owner"}, {"digest_password": "sesame"}])
def test_half_of_the_digest_credentials_is_refused(given: dict[str, str]) -> None:
    assert "give both or neither" in refusal(options("127.0.0.1:1", **given))


def test_a_sasl_user_logs_in_and_owns_its_znodes(sasl_ensemble: Ensemble) -> None:
    with connect(options(sasl_ensemble.hosts, **SASL)) as client:
        client.create("/owned", b"kept", acl=[make_acl("sasl", "deployer", all=True)])
        assert client.get("/owned")[0] == b"kept"
    with connect(options(sasl_ensemble.hosts)) as client, pytest.raises(ZooKeeperError) as raised, translated("/owned"):
        client.get("/owned")
    assert str(raised.value).startswith("/owned: permission denied")


def test_a_wrong_sasl_password_is_distinguished_from_an_ensemble_that_is_down(sasl_ensemble: Ensemble) -> None:
    message = refusal(options(sasl_ensemble.hosts, **{**SASL, "sasl_password": "wrong"}))
    assert message == f"ZooKeeper at {sasl_ensemble.hosts} refused the credentials"


@pytest.fixture
def way(sasl_ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """A relay to the SASL ensemble that passes on every request."""
    monkeypatch.setattr("support.keeper.UNKNOWN", frozenset())
    made = Keeper(sasl_ensemble.members[0].client_port)
    yield made
    made.close()


def test_a_server_that_ends_during_a_later_login_is_no_refusal(way: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(options(way.hosts, **SASL), outage=30.0) as client:
        monkeypatch.setattr("support.keeper.UNKNOWN", frozenset({LOGIN}))
        way.cut()
        wait_for(lambda: len(way.hung_up_at) > 2, "it has tried to log in several times")
        monkeypatch.setattr("support.keeper.UNKNOWN", frozenset())
        wait_for(lambda: client.client_state == "CONNECTED", "it is logged in again")
        assert take(client, ["/zookeeper"], 10.0)[0].stat


def test_credentials_that_are_refused_later_on_end_the_session_after_connect_timeout(
    way: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(options(way.hosts, **{**SASL, "connect_timeout": 1.0}), outage=30.0) as client:
        monkeypatch.setattr("support.keeper.UNKNOWN", frozenset({LOGIN}))
        way.cut()
        wait_for(lambda: client.client_state in {"AUTH_FAILED", "CLOSED"}, "the client has given up")
        assert len(way.hung_up_at) > 1


@pytest.mark.parametrize("missing", ["sasl_username", "sasl_password"])
def test_digest_md5_without_its_user_or_password_is_refused_before_anything_is_sent(missing: str) -> None:
    message = refusal(options("127.0.0.1:1", **{**SASL, missing: None}))
    assert message == "sasl_username and sasl_password: DIGEST-MD5 needs both"


def test_a_mechanism_whose_library_is_missing_says_which_one(ensemble: Ensemble) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(Path("collections").resolve())!r})
sys.modules.update(kerberos=None, winkerberos=None, gssapi=None)
from ansible_collections.zoo.deploy.plugins.module_utils.connection import CONNECTION_OPTIONS, MissingLibraryError
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect
options = {{name: spec.get("default") for name, spec in CONNECTION_OPTIONS.items()}}
try:
    with connect({{**options, "hosts": {ensemble.hosts!r}, "connect_timeout": 2.0, "sasl_mechanism": "GSSAPI"}}):
        pass
except MissingLibraryError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "kerberos" in done.stdout
    assert not done.stderr


# --- TLS


def test_tls_connects_where_the_certificate_is_for_the_host_name(tls_ensemble: Ensemble, tls: dict[str, Any]) -> None:
    with connect(options(tls_ensemble.secure_hosts, **tls)) as client:
        assert client.exists("/zookeeper")


def test_a_certificate_for_another_host_name_is_refused_unless_told_not_to_look(
    tls_ensemble: Ensemble, tls: dict[str, Any]
) -> None:
    address = tls_ensemble.secure_hosts.replace("localhost", "127.0.0.1")
    assert "not valid for '127.0.0.1'" in refusal(options(address, **tls))
    with connect(options(address, **tls, tls_check_hostname=False)) as client:
        assert client.exists("/zookeeper")


def test_a_certificate_of_an_unknown_authority_is_refused_unless_told_not_to_verify(
    tls_ensemble: Ensemble, tls: dict[str, Any], certificates: Certificates
) -> None:
    stranger = {**tls, "tls_ca": str(certificates.client)}
    assert "certificate verify failed" in refusal(options(tls_ensemble.secure_hosts, **stranger))
    with connect(options(tls_ensemble.secure_hosts, **stranger, tls_verify=False)) as client:
        assert client.exists("/zookeeper")


def test_a_client_without_a_certificate_is_refused_where_the_servers_want_one(
    tls_ensemble: Ensemble, certificates: Certificates
) -> None:
    message = refusal(options(tls_ensemble.secure_hosts, tls=True, tls_ca=str(certificates.ca)))
    assert "certificate" in message


def test_certificate_and_key_may_be_in_one_file(
    tls_ensemble: Ensemble, tls: dict[str, Any], certificates: Certificates, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_text(certificates.client.read_text() + certificates.key.read_text())
    with connect(options(tls_ensemble.secure_hosts, **{**tls, "tls_cert": str(both), "tls_key": None})) as client:
        assert client.exists("/zookeeper")


def test_a_certificate_without_a_key_and_a_key_without_a_certificate_are_refused(tls: dict[str, Any]) -> None:
    message = refusal(options("localhost:1", **{**tls, "tls_key": None}))
    assert message.startswith("tls_cert, tls_key or tls_key_password: can't be read, or don't match: ")
    assert refusal(options("localhost:1", **{**tls, "tls_cert": None})) == "tls_key: given without tls_cert"


def test_a_locked_key_opens_with_its_password_and_with_no_other(
    tls_ensemble: Ensemble, tls: dict[str, Any], certificates: Certificates
) -> None:
    locked = {**tls, "tls_key": str(certificates.locked_key)}
    with connect(options(tls_ensemble.secure_hosts, **locked, tls_key_password=PASSWORD)) as client:
        assert client.exists("/zookeeper")
    for wrong in ("not the passphrase", None):
        message = refusal(options(tls_ensemble.secure_hosts, **locked, tls_key_password=wrong))
        assert message.startswith("tls_cert, tls_key or tls_key_password: ")


@pytest.mark.parametrize("name", ["tls_ca", "tls_cert", "tls_key"])
def test_a_missing_or_wrong_tls_file_is_named(tls: dict[str, Any], tmp_path: Path, name: str) -> None:
    assert refusal(options("localhost:1", **{**tls, name: "/no/such.pem"})) == f"{name}: no file at /no/such.pem"
    (tmp_path / "notes.txt").write_text("nothing like a certificate\n")
    message = refusal(options("localhost:1", **{**tls, name: str(tmp_path / "notes.txt")}))
    assert name in message.partition(": ")[0]


def test_plain_text_at_a_tls_port_and_tls_at_a_plain_port_end_in_time(
    tls_ensemble: Ensemble, tls: dict[str, Any]
) -> None:
    assert "can't reach ZooKeeper" in refusal(options(tls_ensemble.secure_hosts))
    plain = tls_ensemble.hosts.replace("127.0.0.1", "localhost")
    assert "can't reach ZooKeeper" in refusal(options(plain, **tls))


# --- errors of single operations


OPERATIONS: dict[str, tuple[Callable[[KazooClient, str], Any], str]] = {
    "NoNode": (lambda client, path: client.get(f"{path}/none"), "no such znode"),
    "NodeExists": (lambda client, path: client.create(path), "there already"),
    "NotEmpty": (lambda client, path: client.delete(path), "has children"),
    "BadVersion": (lambda client, path: client.set(path, b"", version=7), "has changed since"),
    "NoChildrenForEphemerals": (lambda client, path: client.create(f"{path}/live/x"), "can't have children"),
    "InvalidACL": (lambda client, path: client.set_acls(path, [make_acl("no-such", "x")]), "not valid"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_error_of_zookeeper_becomes_one_line_that_names_the_path(ensemble: Ensemble, app: str, name: str) -> None:
    operation, meaning = OPERATIONS[name]
    with connect(options(ensemble.hosts)) as client:
        client.create(f"{app}/live", ephemeral=True, makepath=True)
        with pytest.raises(ZooKeeperError) as raised, translated(app):
            operation(client, app)
    message = str(raised.value)
    assert message.startswith(f"{app}: ")
    assert meaning in message
    assert f"({name})" in message
    assert "\n" not in message


def test_an_error_that_is_not_zookeepers_passes_unchanged() -> None:
    with pytest.raises(KeyError), translated("/app"):
        raise KeyError


# --- the documentation


def test_the_documented_connection_options_are_the_accepted_ones() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    looked_at = ("type", "elements", "default", "choices", "required")
    accepted = {name: {key: spec[key] for key in looked_at if key in spec} for name, spec in ARGSPEC.items()}
    assert {name: {key: spec[key] for key in looked_at if key in spec} for name, spec in documented.items()} == accepted


def test_no_password_of_the_connection_is_ever_logged() -> None:
    assert {name for name, spec in ARGSPEC.items() if spec.get("no_log")} == {
        name for name in ARGSPEC if name.endswith("_password")
    }


@pytest.mark.parametrize("seconds", [0.0, -1.0, 2e6, math.inf, math.nan])
def test_an_impossible_connect_timeout_is_refused(seconds: float) -> None:
    with pytest.raises(ConnectError) as raised, connect(options("127.0.0.1:1", connect_timeout=seconds)):
        pass
    said = f"connect_timeout: expected more than 0 seconds and at most 1000000, got {seconds:g}"
    assert str(raised.value) == said


def test_a_member_whose_host_is_off_leaves_time_for_the_others(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = SilentMember()
    monkeypatch.setattr("random.shuffle", lambda _servers: None)  # so that it comes first
    with connect(options(f"127.0.0.1:{off.port},{ensemble.hosts}", connect_timeout=4.0)) as client:
        assert client.exists("/")
    off.close()
