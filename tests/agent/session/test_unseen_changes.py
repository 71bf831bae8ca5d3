"""A change that no watch reports: a server silently drops the watches of an agent that may not read the znode."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from support.agent import Agent
from support.repository import GitRepository
from support.waiting import wait_for

CLOSED = [make_acl("world", "anyone", write=True, create=True, delete=True, admin=True)]
"""Every permission but read."""
Registrations = Callable[[], dict[str, list[str]]]


def close(zk: KazooClient, paths: Iterable[str]) -> None:
    """Let nobody read the znodes."""
    for path in paths:
        zk.set_acls(path, CLOSED)


def look_again(agent: Agent) -> None:
    """Make the agent look again, as a command of `zoo-watcher` and the passing of a minute do."""
    assert agent.process
    agent.process.send_signal(signal.SIGUSR1)


def test_a_release_that_was_published_while_nobody_could_read_it_is_deployed_once_it_is_readable(
    deployed: Callable[..., Agent],
    release: Callable[..., int],
    zk: KazooClient,
    app: str,
    repository: GitRepository,
) -> None:
    agent = deployed()
    close(zk, [f"{app}/config"])
    commit_id = repository.commit({"index.html": "two"})
    release(commit_id)
    look_again(agent)
    wait_for(lambda: f"{app}/config" in str(agent.status.get("troubles")), "the status says what may not be read")
    zk.set_acls(f"{app}/config", OPEN_ACL_UNSAFE)
    wait_for(lambda: agent.live() == commit_id, "it is deployed")


def test_a_registration_and_a_status_deleted_while_nobody_could_read_them_are_recreated(
    deployed: Callable[..., Agent], zk: KazooClient, app: str, registrations: Registrations
) -> None:
    agent = deployed()
    paths = [f"{app}/service/server1", f"{app}/agents/server1"]
    close(zk, paths)
    for path in paths:
        zk.delete(path)
    look_again(agent)
    wait_for(registrations, "it is registered again")
    wait_for(lambda: agent.status, "its status is there again")


def test_a_file_whose_znode_was_changed_while_nobody_could_read_it_follows_once_it_is_readable(
    deployed: Callable[..., Agent], zk: KazooClient, app: str, tmp_path: Path
) -> None:
    znode, dest = f"{app}/shop.conf", tmp_path / "shop.conf"
    zk.create(znode, b"one", makepath=True)
    agent = deployed(files=[{"znode": znode, "dest": str(dest)}])
    wait_for(dest.exists, "it is written")
    close(zk, [znode])
    zk.set(znode, b"two")
    zk.set_acls(znode, OPEN_ACL_UNSAFE)
    look_again(agent)
    wait_for(lambda: dest.read_bytes() == b"two", "it follows")


def test_an_ensemble_that_answers_but_refuses_does_not_count_as_isolation(
    agents: Callable[..., Agent],
    release: Callable[..., int],
    zk: KazooClient,
    app: str,
    repository: GitRepository,
    tmp_path: Path,
) -> None:
    go_on = tmp_path / "go-on"
    agent = agents(rollback_when_isolated=0.5, health_timeout=1).start()
    agent.wait_outcome(release())
    agent.end(signal.SIGUSR2)
    agent.config["hooks"] = {"after_activate": ["/bin/sh", "-c", f"until [ -e {go_on} ]; do sleep 0.02; done"]}
    agent.start()
    second = repository.commit({"index.html": "two"})
    generation = release()
    wait_for(lambda: agent.live() == second, "the release is live, its hook runs")
    close(zk, [f"{app}/config"])
    look_again(agent)
    wait_for(lambda: f"{app}/config" in str(agent.status.get("troubles")), "the status says what may not be read")
    go_on.touch()
    assert agent.wait_outcome(generation)["state"] == "active"
    assert agent.live() == second
