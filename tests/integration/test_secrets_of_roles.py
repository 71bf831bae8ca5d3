"""No secret of an application's roles or of its signers is where others can read it.

In the flow the application is closed, its releases are signed, and each password is changed. Then each secret is
searched for: in outputs, logs (the members' audit log among them), processes, files and znodes.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl_credential

from eda.source import Source
from support.agent import Agent
from support.certificates import Certificates
from support.client import connected
from support.ensemble import Ensemble
from support.playbook import ROOT
from support.repository import GitRepository
from support.secret_flow import Flow
from support.secrets import ProcessWatch, found, found_in_files, found_in_znodes
from support.signer import Signer
from support.waiting import wait_for

APP = "/app/roles"
REGISTRY = "/service/roles"


@dataclass
class Stage:
    """The parts of the flow."""

    flow: Flow
    agent: Agent
    repository: GitRepository
    signer: Signer

    def variables(self, name: str, **variables: Any) -> list[str]:
        """Command-line words that give a playbook these variables and the publisher's connection, in a new file."""
        place = self.flow.directory / "given" / f"{name}.json"
        place.parent.mkdir(exist_ok=True)
        given = {"app": APP, "connection": self.flow.digest("publisher"), "wait_timeout": 60, **variables}
        place.write_text(json.dumps({f"zoo_{key}": value for key, value in given.items()}))
        return ["-e", f"@{place}"]

    def secure(self, name: str, *words: str, **roles: Any) -> None:
        """Run secure.yml with these roles beside the publisher."""
        given = {"publishers": [{"scheme": "auth"}], "registries": [REGISTRY], **roles}
        self.flow.playbook(str(ROOT / "playbooks/secure.yml"), *self.variables(name, **given), *words)

    def identity(self, user: str) -> dict[str, str]:
        """A user of a role, with its password."""
        return {"scheme": "digest", "id": user, "password": self.flow.secret(user)}

    def log_in(self, user: str) -> None:
        """Replace the agent's credentials with another user's, as a container's secret, and let it reload."""
        (self.flow.directory / "given/password").write_text(self.flow.secret(user))
        self.agent.config["digest_username"] = user
        self.agent.configure()
        if self.agent.process:
            before = self.agent.log.count("session SyncConnected")
            self.agent.process.send_signal(signal.SIGHUP)
            wait_for(lambda: self.agent.log.count("session SyncConnected") > before, "it has begun anew")

    def deploy(self, name: str, text: str, key: Path) -> None:
        """Publish a commit with a signed record."""
        commit = self.signer.commit(self.repository, text)
        release = {"url": self.repository.url, "ref": "main", "relative_path": "site", "sign_with": str(key)}
        self.flow.playbook(str(ROOT / "playbooks/deploy.yml"), *self.variables(name, **release))
        assert self.agent.live() == commit


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    """An ensemble with TLS and an audit log."""
    certificates = Certificates.create(tmp_path / "certificates")
    servers = Ensemble.with_tls(tmp_path / "ensemble", certificates, "audit.enable=true")
    made = Flow(tmp_path, servers, certificates, {})
    (tmp_path / "home").mkdir()
    with servers:
        yield made


@pytest.fixture
def superuser(flow: Flow) -> Iterator[KazooClient]:
    """A client that may read everything, with a reader's and the publisher's credentials."""
    reader = f"reader:{flow.secret('reader')}"
    with connected(
        flow.servers.hosts, auth_data=[("digest", reader), ("digest", f"publisher:{flow.secret('publisher')}")]
    ) as zk:
        yield zk


@pytest.fixture
def stage(flow: Flow, superuser: KazooClient, repository: GitRepository) -> Iterator[Stage]:
    """An agent that gets its connection from its environment, and requires signatures."""
    signer = Signer(flow.directory, "signing")
    (flow.directory / "signers").write_text(signer.line)
    flow.secrets["signing key"] = signer.key.read_text().splitlines()[3]
    keys = {
        "hosts": None,
        "log_level": "debug",
        "require_signature": str(flow.directory / "signers"),
        "services": [{"path": REGISTRY, "port": 9, "check": {"type": "command", "command": ["true"]}}],
    }
    agent = Agent(flow.directory / "host/agent", "", APP, superuser, config=keys)
    made = Stage(flow, agent, repository, signer)
    made.variables("none")
    made.log_in("agent")
    tls = {key: value for key, value in flow.tls("agent").items() if key != "tls_key_password"}
    (flow.directory / "given/key password").write_text(flow.secret("agent-key-password"))
    files = {
        "ZK_TLS_KEY_PASSWORD_FILE": str(flow.directory / "given/key password"),
        "ZK_DIGEST_PASSWORD_FILE": str(flow.directory / "given/password"),
    }
    agent.start(**flow.environment(tls), **files)
    yield made
    agent.kill()


@pytest.fixture
def ssh_agent(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A running ssh-agent, which SSH_AUTH_SOCK names."""
    socket = flow.directory / "agent.socket"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    wait_for(socket.exists, "it listens")
    yield
    process.terminate()
    process.wait()


def change_passwords(stage: Stage) -> None:
    """Close the application, then give each role its old and a new password, then only the new one."""
    roles = {"agents": [stage.identity("agent")], "readers": [stage.identity("reader")]}
    stage.secure("foreseen", "--check", **roles)
    stage.secure("closed", **roles)
    further = {
        "agents": [*roles["agents"], stage.identity("agent2")],
        "readers": [*roles["readers"], stage.identity("reader2")],
    }
    stage.secure("both", **further, host_agents=[{"name": "server9", **stage.identity("host")}])
    stage.log_in("agent2")
    wait_for(lambda: stage.agent.status.get("state"), "it is live again")
    stage.secure("new", agents=further["agents"][1:], readers=further["readers"])


def publish(stage: Stage) -> None:
    """Publish with a key in a file and with one in an ssh-agent, roll back, and show the status."""
    stage.deploy("signed", "one", stage.signer.key)
    subprocess.run(["ssh-add", "-q", str(stage.signer.key)], check=True, capture_output=True)
    away = stage.flow.directory / "given/signing"
    shutil.move(stage.signer.key, away)
    public = stage.signer.key.with_suffix(".pub")
    # Git signs the commit with the ssh-agent too.
    stage.signer.key = public
    stage.deploy("by the agent", "two", public)
    rollback = str(ROOT / "playbooks/rollback.yml")
    stage.flow.playbook(rollback, *stage.variables("back", sign_with=str(public)))
    stage.flow.playbook(str(ROOT / "playbooks/status.yml"), *stage.variables("status"))


def watch(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Make the event source read the registry, and be refused, and keep all that it and Ansible's libraries log."""
    caplog.set_level(logging.DEBUG)
    options = stage.flow.digest("reader2")
    source = Source(registries=[REGISTRY], initial=True, connect_timeout=8, **options).start()
    try:
        wait_for(lambda: source.events or source.error, "it has an event")
    finally:
        source.stop()
    assert source.error is None
    wrong = {**options, "tls_key_password": stage.flow.secret("wrong")}
    refused = Source(session=True, initial=True, connect_timeout=1, **wrong).start()
    try:
        wait_for(lambda: refused.error, "it is refused")
    finally:
        refused.stop()
    stage.flow.said["events"] = repr(source.events) + repr(refused.error) + caplog.text


def hashes(passwords: Mapping[str, str]) -> dict[str, str]:
    """ZooKeeper's hashes of the passwords for digest logins."""
    return {f"hash of {name}": make_digest_acl_credential(name, password) for name, password in passwords.items()}


@pytest.mark.usefixtures("ssh_agent")
def test_no_secret_of_roles_or_signers_is_where_it_does_not_belong(
    stage: Stage, superuser: KazooClient, caplog: pytest.LogCaptureFixture
) -> None:
    flow, agent = stage.flow, stage.agent
    assert agent.process
    try:
        with ProcessWatch(flow.secrets, agent.process.pid) as processes:
            change_passwords(stage)
            publish(stage)
            watch(stage, caplog)
            flow.said["zoo-watcher status"] = agent.control("status", "--json").stdout
            stage.secure("open", "-e", "zoo_access_state=open")
        stored = found_in_znodes(flow.secrets, superuser)
    finally:
        agent.kill()
    told = {name: found({**flow.secrets, **hashes(flow.secrets)}, text.encode()) for name, text in flow.said.items()}
    assert {name: names for name, names in told.items() if names} == {}
    assert processes.found == set()
    assert stored == set()
    hits = found_in_files(flow.secrets, [flow.directory])
    # The hashes are in the znodes of the roles, and therefore in the ensemble's own files.
    places = [path for path in flow.directory.iterdir() if path.name != "ensemble"]
    assert found_in_files(hashes(flow.secrets), places) == set()
    assert found_in_files(hashes(flow.secrets), [flow.directory / "ensemble"]) != set()
    # The hits are what the test itself has written, which shows that the search finds something.
    assert {hit for hit in hits if "given" not in Path(hit.partition(" in ")[2]).parts} == set()
    assert {hit.partition(" in ")[0] for hit in hits} == flow.secrets.keys() - {"wrong", "reader2-key-password"}
    audited = (flow.servers.members[0].directory / "zookeeper.log").read_text()
    for words in ("Slf4jAuditLogger", "operation=setAcl", f"znode={APP}/config"):
        assert words in audited, words
