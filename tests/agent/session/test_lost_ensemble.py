"""An ensemble comes back empty or from a backup: no agent needs a restart, as docs/operations.md promises."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.agent import Agent, publish
from support.client import connected
from support.ensemble import Ensemble
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Ensemble]:
    """An ensemble with a single member, to be emptied."""
    with Ensemble(tmp_path / "zk", size=1) as servers:
        yield servers


def put_back(servers: Ensemble, backup: Path | None = None) -> None:
    """End the ensemble, delete its data, and start it with the backup or with nothing."""
    (member,) = servers.members
    member.kill()
    (data,) = servers.root.rglob("version-2")
    shutil.rmtree(data)
    if backup:
        shutil.copytree(backup, data)
    servers.start()


def is_back(client: KazooClient) -> bool:
    """Whether the agent has recreated its znodes in the ensemble."""
    return all(client.exists(path) for path in ("/app/agents/server1", "/app/roster/server1", "/service/web/server1"))


def test_an_agent_recreates_its_znodes_and_keeps_what_is_live_without_a_restart(
    servers: Ensemble, tmp_path: Path, repository: GitRepository, service: Service
) -> None:
    release = {"url": repository.url, "commitId": repository.head, "relativePath": "site"}
    file = tmp_path / "server1/motd"
    config: dict[str, Any] = {
        "services": [{"path": "/service/web", "port": service.port, "address": "192.0.2.7"}],
        "files": [{"znode": "/config/motd", "dest": str(file)}],
    }
    service.open()
    with connected(servers.hosts) as client:
        client.create("/config/motd", b"hello", makepath=True)
        agent = Agent(tmp_path / "server1", servers.hosts, "/app", client, "server1", config).start().wait_live()
        generation = publish(client, "/app", release)
        assert agent.wait_outcome(generation)["state"] == "active"
        wait_for(file.exists, "the file is there")
    try:
        put_back(servers)
        with connected(servers.hosts) as client:
            agent.zk = client
            wait_for(lambda: is_back(client), "the agent is back", 60)
            assert not client.exists("/app/config")
            assert agent.live() == json.loads(client.get("/app/agents/server1")[0])["commitId"] == repository.head
            assert file.read_text(encoding="utf-8") == "hello"
            later = repository.commit({"index.html": "later\n"})
            publish(client, "/app", {**release, "commitId": later})
            # Not by the generation: an ensemble that counts from the beginning may give the same number again.
            wait_for(lambda: agent.live() == later, "what is published then is live")
    finally:
        agent.kill()


def test_agents_follow_an_ensemble_that_was_put_back_from_a_copy_taken_while_it_ran(
    servers: Ensemble, tmp_path: Path, repository: GitRepository
) -> None:
    release = {"url": repository.url, "commitId": repository.head, "relativePath": "site"}
    with connected(servers.hosts) as client:
        agent = Agent(tmp_path / "server1", servers.hosts, "/app", client, "server1").start().wait_live()
        assert agent.wait_outcome(publish(client, "/app", release))["state"] == "active"
        (data,) = servers.root.rglob("version-2")
        shutil.copytree(data, tmp_path / "backup")
        later = repository.commit({"index.html": "later\n"})
        assert agent.wait_outcome(publish(client, "/app", {**release, "commitId": later}))["commitId"] == later
    try:
        put_back(servers, tmp_path / "backup")
        wait_for(lambda: agent.live() == release["commitId"], "the release of the backup is live", 60)
    finally:
        agent.kill()
