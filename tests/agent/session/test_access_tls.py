"""An application without roles in an ensemble with client certificates: who may use the znodes that are created."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl

from support.access import everything, readable
from support.agent import Agent
from support.certificates import Certificates
from support.client import connected
from support.ensemble import Ensemble
from support.module import run_module
from support.playbook import ROOT
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

BOTH = {"digest_username": "all", "digest_password": "word"}
"""A password that publishers and agents share, beside the certificate of each."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of a publisher (`CN=client`) and an agent (`CN=server`)."""
    return Certificates.create(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Ensemble]:
    """A server with a TLS port and a plain one."""
    with Ensemble.with_tls(tmp_path_factory.mktemp("zookeeper"), certificates) as servers:
        with connected(servers.hosts) as zk:
            zk.ensure_path("/app")
        yield servers


@pytest.fixture
def publisher(secured: Ensemble, certificates: Certificates) -> Iterator[KazooClient]:
    """A connection of a publisher."""
    files = {"ca": str(certificates.ca), "certfile": str(certificates.client), "keyfile": str(certificates.key)}
    with connected(secured.secure_hosts, use_ssl=True, **files) as client:
        yield client


@pytest.fixture
def publish(secured: Ensemble, certificates: Certificates, app: str, repository: GitRepository) -> Callable[..., Any]:
    """Publishes the repository's head with the publisher's certificate, and returns the module's result."""
    login = {"tls_ca": certificates.ca, "tls_cert": certificates.client, "tls_key": certificates.key}
    where = {"hosts": secured.secure_hosts, "app": app, **{name: str(path) for name, path in login.items()}}
    what = {"url": repository.url, "ref": "main", "relative_path": "site", "wait_timeout": 45}

    def run(**given: Any) -> dict[str, Any]:
        options = {**where, **what, "tls": True, "force": True, **given}
        result = run_module(ROOT / "plugins/modules/zk_release.py", **options)
        assert not result.get("failed"), result
        return result

    return run


@pytest.fixture
def agent(
    agents: Callable[..., Agent],
    secured: Ensemble,
    certificates: Certificates,
    publisher: KazooClient,
    app: str,
    registered: dict[str, Any],
    service: Service,
) -> Agent:
    """An agent with a certificate of its own and an open service, whose registry is beside the application."""
    login = dict.fromkeys(("tls_cert", "tls_key"), str(certificates.server))
    options = {"services": [{**registered["services"][0], "path": f"{app}-service"}]}
    service.open()
    made = agents(hosts=secured.secure_hosts, **options, **login, tls=True, tls_ca=str(certificates.ca))
    made.zk = publisher
    return made


def test_what_two_certificates_with_the_same_password_create_is_for_both_and_for_nobody_else(
    secured: Ensemble, publisher: KazooClient, agent: Agent, app: str, publish: Callable[..., Any]
) -> None:
    (warning,) = publish(wait=False, **BOTH)["warnings"]
    assert "only the credentials of this connection may use it" in str(warning)
    agent.config.update(BOTH)
    agent.start()
    result = publish(wait=True, rollout={"steps": [{"percent": 100}]}, **BOTH)
    assert "warnings" not in result
    wait_for(lambda: publisher.exists(f"{app}-service/server1"), "it is registered")
    wait_for(lambda: publisher.exists(f"{app}/roster/server1"), "it is in the roster")
    assert json.loads(publisher.get(f"{app}/rollouts/{result['generation']}")[0])["phase"] == "done"
    znodes = [*everything(publisher, app), *everything(publisher, f"{app}-service")]
    with connected(secured.hosts) as nobody:
        assert (readable(publisher, znodes), readable(nobody, znodes)) == (znodes, [])
    assert "troubles" not in agent.status


@pytest.mark.parametrize("way", ["what each needs", "alike for a certificate and a password"])
def test_where_acls_were_set_by_hand_everybody_goes_on_and_nobody_else_gets_in(
    secured: Ensemble, publisher: KazooClient, agent: Agent, app: str, publish: Callable[..., Any], way: str
) -> None:
    if way == "what each needs":
        all_ = make_acl("x509", "CN=client", all=True)
        reads = [all_, make_acl("x509", "CN=server", read=True)]
        creates = [all_, make_acl("x509", "CN=server", read=True, create=True)]
        given = {"": [all_], "/config": reads, **dict.fromkeys(("/agents", "/roster", "/rollouts", "/bad"), creates)}
    else:
        agent.config.update(BOTH)
        alike = [make_acl("x509", "CN=client", all=True), make_digest_acl("all", "word", all=True)]
        given = dict.fromkeys(("", "/config", "/history", "/agents", "/roster", "/rollouts", "/bad"), alike)
    for name, acl in given.items():
        publisher.create(f"{app}{name}", acl=acl)
    agent.start()
    result = publish(wait=True, rollout={"steps": [{"percent": 100}]})
    assert "warnings" not in result
    wait_for(lambda: publisher.exists(f"{app}-service/server1"), "it is registered")
    assert json.loads(publisher.get(f"{app}/rollouts/{result['generation']}")[0])["phase"] == "done"
    znodes = [*everything(publisher, app), *everything(publisher, f"{app}-service")]
    with connected(secured.hosts) as nobody:
        assert (readable(publisher, znodes), readable(nobody, znodes)) == (znodes, [])
