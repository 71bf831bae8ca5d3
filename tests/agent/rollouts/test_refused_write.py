"""A write that the ensemble refuses to a host in a rollout is reported, not mistaken for a race with another host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl

from support.agent import Agent
from support.ensemble import Ensemble
from support.repository import GitRepository
from support.rollout import Rollout
from support.waiting import wait_for


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """A server that enforces quotas."""
    with Ensemble(tmp_path_factory.mktemp("quota"), size=1, extra=("enforceQuota=true",)) as servers:
        yield servers


def wait_trouble(agent: Agent, *words: str) -> None:
    """Wait until the agent's status has a trouble whose line contains these strings."""

    def told() -> bool:
        return any(all(word in line for word in words) for line in agent.status.get("troubles", ()))

    wait_for(told, f"a trouble has {words}; its log:\n{agent.log}")


def test_a_quota_that_keeps_a_rollout_from_beginning_is_reported(
    agents: Callable[..., Agent], zk: KazooClient, repository: GitRepository, release: Callable[..., int]
) -> None:
    agent = agents().start()
    agent.wait_outcome(release(rollout={"minHealthy": 0}))
    quota = f"/zookeeper/quota{agent.app}"
    zk.create(f"{quota}/zookeeper_stats", b"count=5,bytes=100", makepath=True)
    zk.create(f"{quota}/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=1")
    repository.commit({"index.html": "two\n"})
    generation = release(rollout={"minHealthy": 0})
    wait_trouble(agent, f"{agent.app}/rollouts/{generation}", "Quota")
    zk.delete(quota, recursive=True)
    assert agent.wait_outcome(generation)["state"] == "active"


def test_a_deleted_gate_is_reported(
    agents: Callable[..., Agent], zk: KazooClient, release: Callable[..., int], tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    hook = ["/bin/sh", "-c", f"while test -e {blocked}; do sleep 0.05; done"]
    agent = agents(hooks={"after_activate": hook}).start().wait_live()
    made = Rollout(zk, agent.app, release(rollout={"minHealthy": 0}))
    wait_for(lambda: agent.status["state"] == "activating", "the hook runs")
    gate = f"{made.root}/gate"
    value, _stat = zk.get(gate)
    zk.delete(gate)
    blocked.unlink()
    wait_trouble(agent, f"{gate} is not there")
    zk.create(gate, value)
    made.wait("done")


def test_a_deleted_part_of_a_rollout_is_reported(
    agents: Callable[..., Agent], zk: KazooClient, repository: GitRepository, release: Callable[..., int]
) -> None:
    agent = agents().start()
    first = agent.wait_outcome(release(rollout={"minHealthy": 0}))["commitId"]
    repository.commit({"index.html": "two\n"})
    steps = [{"names": ["other"], "pause": True}, {"hosts": "100%"}]
    made = Rollout(zk, agent.app, release(rollout={"minHealthy": 0, "from": first, "steps": steps}))
    made.wait("paused")
    zk.delete(f"{made.root}/in_flight")
    made.command("promote")
    wait_trouble(agent, f"{made.root}/in_flight/{agent.name}", "has somebody deleted it?")
    zk.create(f"{made.root}/in_flight")
    assert agent.wait_outcome(made.generation)["state"] == "active"


def test_a_late_host_that_may_not_wait_in_line_follows_a_finished_rollout_immediately(
    agents: Callable[..., Agent], zk: KazooClient, repository: GitRepository, release: Callable[..., int]
) -> None:
    here, away = agents("web1").start(), agents("web2").start()
    first = release(rollout={"minHealthy": 0})
    for agent in (here, away):
        agent.wait_outcome(first)
    away.end()
    repository.commit({"index.html": "two\n"})
    made = Rollout(zk, here.app, release(rollout={"minHealthy": 0}))
    made.wait("done")
    zk.set_acls(f"{made.root}/line", [make_acl("world", "anyone", read=True, admin=True)])
    away.start()
    assert away.wait_outcome(made.generation)["state"] == "active"
    assert f"may not wait in line, and follows at once: {made.root}/line/n-: permission denied" in away.log


def test_hosts_whose_line_is_deleted_join_a_new_one(
    agents: Callable[..., Agent],
    zk: KazooClient,
    repository: GitRepository,
    release: Callable[..., int],
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "blocked"
    hook = ["/bin/sh", "-c", f"while test -e {blocked}; do sleep 0.05; done"]
    here, *away = fleet = [agents(f"web{number}", hooks={"after_activate": hook}).start() for number in range(4)]
    first = release(rollout={"minHealthy": 0})
    for agent in fleet:
        agent.wait_outcome(first)
    for agent in away:
        agent.end()
    second = repository.commit({"index.html": "two\n"})
    made = Rollout(zk, here.app, release(rollout={"minHealthy": 0}))
    made.wait("done")
    blocked.touch()
    for agent in away:
        agent.start()
    line, lanes = f"{made.root}/line", f"{made.root}/lanes"

    def follow(switched: int, waiting: int) -> bool:
        are_live = sum(agent.live() == second for agent in away) == switched
        return are_live and len(below(zk, line)) == waiting

    wait_for(lambda: follow(1, 3), "the first one follows")
    deletion = zk.transaction()
    for path in [*below(zk, line), line, *below(zk, lanes), lanes]:
        deletion.delete(path)
    assert set(deletion.commit()) == {True}
    wait_for(lambda: follow(2, 2), "the next one follows")
    assert [agent.status["state"] for agent in away if agent.live() != second] == ["waiting"]
    blocked.unlink()
    for agent in away:
        assert agent.wait_outcome(made.generation)["state"] == "active"


def below(zk: KazooClient, parent: str) -> list[str]:
    """The paths of a znode's children, none if it does not exist."""
    return [f"{parent}/{name}" for name in zk.get_children(parent)] if zk.exists(parent) else []
