"""Login by Kerberos (GSSAPI): a real KDC, a real server, and every part of the collection as a client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent import SOURCE, Agent
from support.client import connected
from support.ensemble import Ensemble
from support.kerberos import REALM, Realm, lacking
from support.parts import PARTS, by_module
from support.relay import Relay
from support.waiting import wait_for

pytestmark = pytest.mark.skipif(bool(lacking()), reason=f"there is no {', '.join(lacking())}")

SERVER = "zookeeper/localhost"
# The event source runs in this process, whose Python started without the library.
CLIENTS = {part: "agent" if part == "agent" else "publisher" for part in PARTS if part != "event source"}


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """A running KDC with the principals of the server and its clients."""
    with Realm(tmp_path_factory.mktemp("kerberos") / "realm") as made:
        for principal in (SERVER, *set(CLIENTS.values())):
            made.add(principal)
        yield made


@pytest.fixture(scope="module")
def library(realm: Realm) -> Path:
    """The directory in which Python finds the library."""
    return realm.library()


@pytest.fixture(scope="module")
def servers(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """A server where the realm's principals can log in."""
    root = tmp_path_factory.mktemp("servers") / "zk"
    krb5_conf = Path(realm.environment["KRB5_CONFIG"])
    with Ensemble.with_kerberos(root, f"{SERVER}@{REALM}", realm.keytab(SERVER), krb5_conf) as running:
        yield running


@pytest.fixture
def options(servers: Ensemble) -> dict[str, Any]:
    """The connection options, with a host name because the server's principal contains it."""
    return {"hosts": servers.hosts.replace("127.0.0.1", "localhost"), "sasl_mechanism": "GSSAPI"}


@pytest.fixture(autouse=True)
def _surroundings(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(library), os.environ.get("PYTHONPATH", "")]))


def become(realm: Realm, principal: str, monkeypatch: pytest.MonkeyPatch, **other: str) -> None:
    """Make processes started from now on use a principal's keys."""
    for name, value in {**realm.client(principal), **other}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("part", CLIENTS)
def test_it_logs_in_by_the_keys_of_its_principal(
    part: str, realm: Realm, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(realm, CLIENTS[part], monkeypatch)
    assert PARTS[part](options, tmp_path) == ""


def test_the_principal_may_be_chosen_among_those_with_keys(
    realm: Realm, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    become(realm, "publisher", monkeypatch)
    assert by_module("zk_znode_info", {**options, "sasl_principal": f"publisher@{REALM}"}, path="/") == ""


def test_a_principal_owns_what_it_creates_for_itself(
    realm: Realm, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    become(realm, "publisher", monkeypatch)
    acl = [{"scheme": "sasl", "id": f"publisher@{REALM}", "perms": ["all"]}]
    assert by_module("zk_znode", options, path="/owned", value="kept", acl=acl) == ""
    assert by_module("zk_znode_info", options, path="/owned") == ""
    become(realm, "agent", monkeypatch)
    told = by_module("zk_znode_info", options, path="/owned")
    assert told.startswith("/owned: permission denied (NoAuth)")
    assert f"agent@{REALM}" in told


WITHOUT_TICKET = {
    "no keys": ({}, {"KRB5_CLIENT_KTNAME": "/none", "KRB5CCNAME": "FILE:/none"}, "No Kerberos credentials available"),
    "another's keys": ({"sasl_principal": f"agent@{REALM}"}, {}, f"Can't find client principal agent@{REALM}"),
    "no such service": (
        {"sasl_service": "kafka"},
        {},
        f"Server kafka/localhost@{REALM} not found in Kerberos database",
    ),
}


@pytest.mark.parametrize("part", ["module", "agent"])
@pytest.mark.parametrize("lack", WITHOUT_TICKET)
def test_without_a_ticket_the_error_quotes_kerberos_in_one_line(
    part: str, lack: str, realm: Realm, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, surroundings, reason = WITHOUT_TICKET[lack]
    become(realm, "publisher", monkeypatch, **surroundings)
    told = PARTS[part]({**options, **given}, tmp_path)
    assert f"Kerberos: {reason}" in told
    if part == "module":
        assert told.startswith(f"can't log in to ZooKeeper at {options['hosts']}: ")
    else:
        log = (tmp_path / "agent" / "agent.log").read_text()
        assert "Traceback" not in log
        assert f"session AuthFailed, server={options['hosts']} (Kerberos: {reason}" in log


@pytest.fixture
def way(servers: Ensemble) -> Iterator[Relay]:
    """A relay to the server that can be cut: the server itself would need the KDC to restart."""
    made = Relay(servers.members[0].client_port)
    yield made
    made.close()


def test_an_agent_comes_back_when_the_kdc_does(realm: Realm, servers: Ensemble, way: Relay, tmp_path: Path) -> None:
    """It loses its ticket and its connection while there is no KDC, and then gets another ticket with its keys."""
    hosts = way.hosts.replace("127.0.0.1", "localhost")
    with connected(servers.hosts) as zk:
        zk.ensure_path("/app/kerberos")
        agent = Agent(tmp_path / "agent", hosts, "/app/kerberos", zk, config={"sasl_mechanism": "GSSAPI"})
        agent.start(PYTHONPATH=f"{realm.directory / 'python'}:{SOURCE}", **realm.client("agent"))
        try:
            agent.wait_live()
            realm.stop()
            realm.tickets("agent").unlink()
            way.end_all()
            wait_for(lambda: "Kerberos: Cannot contact any KDC" in agent.log, "it says why it can't log in")
            realm.start()
            wait_for(lambda: agent.log.count("session SyncConnected") == 2, "it has logged in again")
            assert "Traceback" not in agent.log
        finally:
            agent.kill()
            realm.start()
