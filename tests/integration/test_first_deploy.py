"""The first article's own programs and this collection work together in both directions."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from support import article
from support.agent import Agent
from support.client import connected
from support.ensemble import Ensemble
from support.repository import IDENTITY, GitRepository
from support.service import Service
from support.tasks import run_tasks
from support.waiting import wait_for

APP = "/app/business"
"""The article's own znode, which each test has in a chroot of its own."""


@pytest.fixture
def hosts(ensemble: Ensemble) -> str:
    """The ensemble's connection string with a chroot that no other test uses."""
    chroot = f"/article-{uuid.uuid4().hex[:12]}"
    with connected(ensemble.hosts) as client:
        client.create(chroot)
    return f"{ensemble.hosts}{chroot}"


@pytest.fixture
def root(hosts: str) -> Iterator[KazooClient]:
    """A client that sees what the article's programs see."""
    with connected(hosts) as client:
        yield client


@pytest.fixture
def agent(root: KazooClient, hosts: str, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Starts the agent of `/app/business` on this host."""
    made: list[Agent] = []

    def make(**config: object) -> Agent:
        made.append(Agent(tmp_path / "server", hosts, APP, root, "server", config).start().wait_live())
        return made[-1]

    yield make
    for one in made:
        one.end()


def printed(log: Path, text: str) -> bool:
    """Whether a client has printed a string."""
    return text in log.read_text(encoding="utf-8")


def test_the_articles_clients_deploy_what_zk_release_publishes(
    hosts: str, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    keys = {"hosts": hosts, "app": APP, "url": repository.url, "relative_path": "daemon", "ref": "main", "wait": False}
    servers = [tmp_path / "server1", tmp_path / "server2"]
    with article.running_client(servers[0], hosts) as first, article.running_client(servers[1], hosts) as second:
        for text in ("one\n", "two\n"):
            commit_id = repository.commit({"index.html": text})
            done = run_tasks(tmp_path, [{"zoo.deploy.zk_release": keys, "register": "published"}])
            assert done["published"]["commit_id"] == commit_id
            for log in (first, second):
                wait_for(partial(printed, log, article.updated(commit_id)), f"the client that writes {log} has {text}")
        for server in servers:
            assert (server / "daemon/index.html").read_text() == "two\n"
            head = subprocess.run(
                ["git", "rev-parse", "HEAD"], cwd=server / "daemon", check=True, capture_output=True, text=True
            )
            assert head.stdout.strip() == repository.head


def test_the_agent_deploys_what_the_articles_publisher_writes(
    hosts: str, root: KazooClient, repository: GitRepository, agent: Callable[..., Agent]
) -> None:
    # The publisher only sets the znode, which the article's reader has to create.
    root.create(f"{APP}/config", b"", makepath=True)
    server = agent()
    wait_for(lambda: server.status.get("message"), "the agent says that the empty znode is no release")
    article.publish(hosts, repository.url, repository.head, "daemon")
    generation = root.get(f"{APP}/config")[1].mzxid
    status = server.wait_outcome(generation)
    assert (status["state"], status["commitId"]) == ("active", repository.head)
    assert (server.base / "daemon/index.html").read_text() == "one\n"


def test_get_servers_finds_the_agents_registration(hosts: str, root: KazooClient, agent: Callable[..., Agent]) -> None:
    root.ensure_path("/service/business/what")
    assert article.get_servers(hosts) == []
    service = Service().open()
    try:
        agent(
            services=[
                {
                    "path": "/service/business/what",
                    "port": service.port,
                    "address": "127.0.0.1",
                    "check": {"interval": 0.1},
                }
            ]
        )
        wait_for(lambda: root.get_children("/service/business/what"), "the agent has registered")
        assert article.get_servers(hosts) == [f"127.0.0.1:{service.port}"]
        service.close()
        wait_for(lambda: not root.get_children("/service/business/what"), "the closed port has left")
        assert article.get_servers(hosts) == []
    finally:
        service.close()
