"""No secret of a connection is where others can read it: a complete flow, then a search for each secret."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.certificates import Certificates
from support.client import connected
from support.ensemble import Ensemble
from support.inventory import Inventory, run
from support.parts import run_hook
from support.playbook import ROOT
from support.repository import GitRepository
from support.secret_flow import Flow
from support.secrets import ProcessWatch, found, found_in_files, found_in_znodes

APP = "/app/secrets"
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Look something up
      ansible.builtin.debug:
        msg: "{{ lookup('zoo.deploy.zk_znode', '/settings/colour') }}"
    - name: Ask the members
      zoo.deploy.zk_ensemble_info:
    - name: Be refused
      zoo.deploy.zk_znode_info:
        path: /settings
        sasl_mechanism: DIGEST-MD5
        sasl_username: publisher
        sasl_password: "{{ wrong }}"
      ignore_errors: true
    - name: Reach nobody
      zoo.deploy.zk_znode_info:
        path: /settings
        hosts: localhost:1
        connect_timeout: 1
      ignore_errors: true
    - name: Be mistaken
      zoo.deploy.zk_znode:
        path: settings
        value: x
      ignore_errors: true
"""


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    """An ensemble with TLS and two SASL users."""
    secrets = {name: f"s3cret-{name}-{uuid.uuid4().hex}" for name in ("publisher", "agent")}
    certificates = Certificates.create(tmp_path / "certificates")
    servers = Ensemble.with_tls(tmp_path / "ensemble", certificates, users=secrets)
    made = Flow(tmp_path, servers, certificates, dict(secrets))
    (tmp_path / "home").mkdir()
    with servers:
        yield made


@pytest.fixture
def client(flow: Flow) -> Iterator[KazooClient]:
    """A client that may read everything: it has created the application, which therefore stays open."""
    with connected(flow.servers.hosts) as zk:
        zk.ensure_path(APP)
        yield zk


@pytest.fixture
def gits(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the command lines and environments of git and its parents, most of which end too soon to be seen."""
    # Below the base of the agent, whose git may write nowhere else.
    seen, programs = flow.directory / "host/agent/base/gits", flow.directory / "programs"
    seen.parent.mkdir(parents=True)
    programs.mkdir()
    program = programs / "git"
    note = f"cat /proc/$PPID/cmdline /proc/$$/cmdline /proc/$$/environ >> {seen}"
    program.write_text(f'#!/bin/sh\n{note}\nexec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return seen


def start_agent(flow: Flow, client: KazooClient, bare: Path) -> Agent:
    """An agent that got its secrets from systemd, with a hook that records its environment and its parent."""
    options = flow.sasl("agent")
    names = ["sasl_password", "tls_key_password"]
    (flow.directory / "credentials").mkdir()
    for name in names:
        (flow.directory / "credentials" / name).write_text(options.pop(name))
    show = ["sh", "-c", f"env > {bare / 'hook.env'}; cat /proc/$PPID/cmdline > {bare / 'hook.parent'}"]
    keys = {**options, "credentials": names, "log_level": "debug", "hooks": {"after_activate": show}}
    service = {"path": "/service/secrets", "port": 9, "check": {"type": "command", "command": ["true"]}}
    agent = Agent(bare / "agent", options["hosts"], APP, client, config={**keys, "services": [service]})
    return agent.start(CREDENTIALS_DIRECTORY=str(flow.directory / "credentials"))


def deploy(flow: Flow, repository: GitRepository) -> None:
    """Publish a release and values and show them, with the connection options in a file of variables."""
    place = flow.directory / "vars.json"
    place.write_text(json.dumps({"zoo_connection": flow.sasl("publisher"), "zoo_app": APP}))
    given = ["-e", f"@{place}"]
    release = {"zoo_url": repository.url, "zoo_ref": "main", "zoo_relative_path": "site", "zoo_wait_timeout": 60}
    values = {"zoo_config_path": "/settings", "zoo_config_values": {"colour": "green"}, "zoo_min_agents": 0}
    flow.playbook(str(ROOT / "playbooks/deploy.yml"), *given, "-e", json.dumps(release))
    flow.playbook(str(ROOT / "playbooks/config.yml"), *given, "-e", json.dumps(values))
    flow.playbook(str(ROOT / "playbooks/status.yml"), *given)


def discover(flow: Flow) -> None:
    """Read the inventory with its cache, and run a playbook whose tasks succeed and fail, with login by environment."""
    environment = flow.environment(flow.digest("reader"))
    inventory = Inventory(flow.directory, "")
    inventory.options.pop("hosts")
    file = inventory.file(registries=["/service/secrets"], **inventory.cached)
    for words in (["--list"], ["--graph", "--vars"]):
        done = run("ansible-inventory", "-i", str(file), *words, "-vvvvv", env={**flow.places(), **environment})
        assert "server1" in done.stdout, done.stderr
        flow.said[f"ansible-inventory {words[0]}"] = done.stdout + done.stderr
    playbook = flow.directory / "play.yml"
    playbook.write_text(PLAYBOOK)
    variables = flow.directory / "wrong.json"
    variables.write_text(json.dumps({"wrong": flow.secret("wrong")}))
    flow.playbook(str(playbook), "-e", f"@{variables}", env=environment)
    assert "green" in flow.said[str(playbook)]
    assert flow.said[str(playbook)].count("...ignoring") == 3


def push(flow: Flow, repository: GitRepository) -> None:
    """Let the git hook publish a commit, and refuse to with wrong options."""
    repository.commit({"index.html": "two\n"})
    branch = {"branch": "main", "app": APP, "relative_path": "site"}
    config = flow.directory / "hook.json"
    for name, further in (("hook", {}), ("mistaken hook", {"tls_key": "/none"})):
        options = flow.digest("hook")
        keys = {**options, "hosts": [options["hosts"]], "wait": True, "wait_timeout": 60, **further}
        config.write_text(json.dumps({"url": repository.url, "branches": [branch], **keys}))
        done = run_hook(config, repository, HOME=str(flow.directory / "home"))
        flow.said[name] = done.stdout + done.stderr
        assert (done.returncode != 0) is bool(further), flow.said[name]


def test_no_secret_is_where_it_does_not_belong(
    flow: Flow, client: KazooClient, repository: GitRepository, gits: Path
) -> None:
    bare = flow.directory / "host"
    agent = start_agent(flow, client, bare)
    assert agent.process
    try:
        with ProcessWatch(flow.secrets, agent.process.pid) as processes:
            agent.wait_live()
            deploy(flow, repository)
            discover(flow)
            push(flow, repository)
            flow.said["zoo-watcher status"] = agent.control("status").stdout + agent.control("status", "--json").stdout
            assert agent.status["commitId"] == repository.head
        stored = found_in_znodes(flow.secrets, client)
    finally:
        agent.kill()
    assert len(flow.secrets) == 9
    told = {name: found(flow.secrets, text.encode()) for name, text in flow.said.items()}
    assert {name: names for name, names in told.items() if names} == {}
    assert processes.found == set()
    assert stored == set()
    # The rest is what the test itself has written, which shows that the search finds something.
    own = {"certificates", "vars.json", "wrong.json", "hook.json", "jaas.conf", "credentials"}
    hits = found_in_files(flow.secrets, [flow.directory])
    assert {hit for hit in hits if not own & set(Path(hit.partition(" in ")[2]).parts)} == set()
    assert any("credentials" in hit for hit in hits)
    assert (bare / "hook.env").exists()
    assert list((flow.directory / "cache").iterdir())
    assert (flow.directory / "ansible.log").stat().st_size > 0
    for word in ("ansible-playbook", "zoo_watcher run"):
        assert any(word in line for line in processes.seen), word
    for words in (b"zoo_watcher\0apply\0", b"fetch\0", b"ls-remote\0"):
        assert words in gits.read_bytes(), words
