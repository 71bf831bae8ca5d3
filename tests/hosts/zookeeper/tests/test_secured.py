"""The ensemble `replaced`, which test_ensembles.py leaves behind, is made secure while clients use it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGUSR2
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError, QuotaExceededError
from kazoo.protocol.states import ZnodeStat
from kazoo.security import make_acl

from hosts.zookeeper.member import FILES, MEMBERS_SECRET, Ensemble, Member
from hosts.zookeeper.run import Run, apply
from support.agent import Agent
from support.client import connected
from support.service import Service
from support.waiting import wait_for

APP = "/secured"
REGISTRATION = f"{APP}/service/host"
TLS: dict[str, Any] = {
    "zookeeper_secure_client_port": 2281,
    "zookeeper_x509_superuser": "CN=client",
    "zookeeper_audit": 1,
}
BOTH = {**TLS, "zookeeper_quorum_port_unification": 1}
STEPS: list[dict[str, Any]] = [
    {**BOTH, "zookeeper_quorum_sasl": "accept"},
    {**BOTH, "zookeeper_quorum_sasl": "send", "zookeeper_quorum_tls": 1},
    {
        **TLS,
        "zookeeper_quorum_sasl": "require",
        "zookeeper_quorum_tls": 1,
        "zookeeper_client_port": 0,
        "zookeeper_auth_schemes": ["x509"],
    },
]
"""The role's variables in each run; clients move to TLS after the first."""


@pytest.fixture(scope="module")
def secured(replaced: Ensemble) -> Ensemble:
    """The members of `replaced`, reached at their TLS ports."""
    return Ensemble([Member(member.host, secured=True) for member in replaced.members])


@pytest.fixture(scope="module")
def agent(replaced: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent that has registered a service without TLS."""
    service = Service().open()
    check = {"type": "http", "interval": 0.5, "timeout": 5}
    services = [{"path": f"{APP}/service", "port": service.port, "address": "192.0.2.7", "check": check}]
    config = {"services": services, "session_timeout": 20}
    with connected(replaced.hosts) as zk:
        made = Agent(tmp_path_factory.mktemp("agent"), replaced.hosts, APP, zk, name="host", config=config).start()
        wait_for(lambda: zk.exists(REGISTRATION), f"it is registered; its log: {made.log}")
    yield made
    made.kill()
    service.close()


def watch(client: KazooClient) -> list[ZnodeStat | None]:
    """What a client that watches the registration sees of it from now on."""
    seen: list[ZnodeStat | None] = []
    client.DataWatch(REGISTRATION, lambda _data, stat: seen.append(stat))
    return seen


@dataclass
class Securing:
    """The outcome: each run, one that was refused, and what two clients saw of the registration."""

    runs: list[Run] = field(default_factory=list)
    refused: Run | None = None
    seen: list[list[ZnodeStat | None]] = field(default_factory=list)
    at_the_end: ZnodeStat | None = None


@pytest.fixture(scope="module")
def securing(replaced: Ensemble, secured: Ensemble, replacement: Path, agent: Agent) -> Securing:
    """Take the ensemble from plain to secure."""
    done = Securing()

    def run(**variables: Any) -> Run:
        names: dict[str, Any] = {"zoo_target": "replaced", "zookeeper_ensemble": "replaced", "zookeeper_sync_limit": 7}
        return apply("-i", str(replacement), **names, zookeeper_quorum_password=MEMBERS_SECRET, **variables)

    with connected(replaced.hosts) as plain:
        done.seen.append(watch(plain))
        done.runs.append(run(**STEPS[0]))
        agent.end(SIGUSR2)
        agent.hosts = secured.hosts
        files = {"tls_ca": "ca.pem", "tls_cert": "client.crt", "tls_key": "client.key"}
        agent.config |= {"tls": True, "tls_check_hostname": False, **{key: str(FILES / files[key]) for key in files}}
        agent.start()
        with connected(secured.hosts, **secured.certificates()) as client:
            done.seen.append(watch(client))
            done.refused = run(**STEPS[2])
            done.runs.append(run(**STEPS[1]))
            plain.get(REGISTRATION)
            plain.stop()
            done.runs.append(run(**STEPS[2]))
            done.at_the_end = client.exists(REGISTRATION)
    return done


def test_a_plain_ensemble_becomes_secure_without_an_event_on_a_registration(securing: Securing) -> None:
    assert [run.status for run in securing.runs] == [0, 0, 0], securing.runs[-1].output
    assert [len(seen) for seen in securing.seen] == [1, 1]
    first, second = (seen[0] for seen in securing.seen)
    assert first is not None
    assert first == second == securing.at_the_end


def test_a_step_is_not_skipped(securing: Securing) -> None:
    assert securing.refused is not None
    assert securing.refused.status != 0
    assert "got accept to require" in securing.refused.output
    assert "members that speak TLS to each other are in no ensemble with members that do not" in securing.refused.output


def test_a_host_name_that_reverse_dns_may_give_is_warned_of_until_members_log_in(securing: Securing) -> None:
    warned = ["WARNING: ZooKeeper 3.8.0 takes a certificate" in run.output for run in securing.runs]
    assert warned == [True, True, False]


def test_the_members_password_is_in_one_file_that_the_service_alone_reads(
    securing: Securing, secured: Ensemble
) -> None:
    assert not any(MEMBERS_SECRET in run.output for run in securing.runs)
    member = secured.members[0]
    assert member.run("stat", "--format=%U %a", "/etc/zookeeper/jaas.conf") == "zookeeper 600"
    assert member.run("grep", "-rl", MEMBERS_SECRET, "/etc", "/run", "/opt", "/var") == "/etc/zookeeper/jaas.conf"


def alert(member: Member, port: int, certificate: str = "") -> str:
    """The TLS alert with which a member refuses the certificate of this name, or none at all; empty if it accepts."""
    context = ssl.create_default_context(cafile=str(FILES / "ca.pem"))
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(FILES / f"{certificate}.crt", FILES / f"{certificate}.key")
    plain = socket.create_connection((member.host.address, port), timeout=20)
    try:
        with context.wrap_socket(plain) as connection:
            connection.recv(1)
    except ssl.SSLError as exc:
        return exc.reason
    return ""


@pytest.mark.parametrize("name", ["secured", "new"])
def test_a_clients_certificate_is_not_accepted_as_a_members(
    securing: Securing, name: str, request: pytest.FixtureRequest
) -> None:
    assert securing.runs
    ensemble: Ensemble = request.getfixturevalue(name)
    assert "CERTIFICATE_UNKNOWN" in alert(ensemble.members[0], 3888, "client")


@pytest.mark.parametrize("name", ["secured", "new"])
def test_members_authenticate_to_each_other(securing: Securing, name: str, request: pytest.FixtureRequest) -> None:
    assert securing.runs
    ensemble: Ensemble = request.getfixturevalue(name)
    said = [
        member.run("journalctl", "-u", "zookeeper", "-g", "completed the authentication") for member in ensemble.members
    ]
    assert any("SaslQuorumAuthServer" in lines for lines in said)


SPEAK = """
import socket, ssl, sys
context = ssl.create_default_context(cafile="/etc/ssl/zookeeper/ca.pem")
context.check_hostname = False
context.load_cert_chain("/etc/ssl/zookeeper/member.pem")
with context.wrap_socket(socket.create_connection((sys.argv[1], 3888), 30)) as connection:
    connection.sendall(b"no password" * 10)
    connection.recv(1)
"""
"""Speaks to a member as another one without the password would."""


def test_a_members_certificate_is_not_enough_to_be_heard_by_members(securing: Securing, secured: Ensemble) -> None:
    assert securing.runs
    heard, speaker = secured.members[:2]
    speaker.run("python3", "-c", SPEAK, heard.host.address)
    said = heard.run("journalctl", "-u", "zookeeper", "-g", "not trying to authenticate")
    assert "Learner not trying to authenticate and authentication is required" in said


def test_a_client_without_a_certificate_is_not_served(
    securing: Securing, replaced: Ensemble, secured: Ensemble
) -> None:
    assert securing.runs
    for member in replaced.members:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((member.host.address, member.port), timeout=5)
    assert "ALERT" in alert(secured.members[0], 2281)


@pytest.fixture
def owners(securing: Securing, secured: Ensemble) -> Iterator[tuple[KazooClient, KazooClient]]:
    """The superuser, and a client with another certificate."""
    assert securing.runs
    superuser = connected(secured.hosts, **secured.certificates())
    with superuser as first, connected(secured.hosts, **secured.certificates("old1")) as second:
        yield first, second


def test_a_certificates_subject_is_the_clients_identity(owners: tuple[KazooClient, KazooClient]) -> None:
    superuser, other = owners
    superuser.create(f"{APP}/mine", b"", acl=[make_acl("x509", "CN=client", all=True)])
    other.create(f"{APP}/others", b"of another", acl=[make_acl("x509", "CN=old1", all=True)])
    with pytest.raises(NoAuthError):
        other.get(f"{APP}/mine")
    assert superuser.get(f"{APP}/others")[0] == b"of another"


def test_a_change_is_in_the_journal_with_its_author(owners: tuple[KazooClient, KazooClient], secured: Ensemble) -> None:
    owners[1].create(f"{APP}/audited", b"")

    def lines() -> str:
        return "".join(
            member.run("journalctl", "-u", "zookeeper", "-g", "Slf4jAuditLogger") for member in secured.members
        )

    said = wait_for(lambda: [line for line in lines().splitlines() if f"znode={APP}/audited" in line], "it is logged")
    assert "CN=old1" in said[0]
    assert "operation=create" in said[0]


def test_a_write_beyond_a_quota_is_refused(new: Ensemble) -> None:
    with connected(new.hosts, **new.client_options) as client:
        client.create("/zookeeper/quota/limited/zookeeper_limits", b"countHardLimit=2", makepath=True)
        client.create("/zookeeper/quota/limited/zookeeper_stats", b"")
        client.create("/limited/first", b"", makepath=True)
        with pytest.raises(QuotaExceededError):
            client.create("/limited/second", b"")
