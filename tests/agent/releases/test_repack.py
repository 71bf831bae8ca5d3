"""Many fetches leave many packs: they are packed into one, and a host is not affected where that fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.repository import GitRepository
from support.rollout import Rollout
from support.waiting import wait_for
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.repository import MANY_PACKS, Access, Repository
from zoo_watcher.wire.records import Release

Agents = Callable[..., Agent]
Publish = Callable[..., int]


def packs(base: Path) -> list[Path]:
    """The packs of a host's object store."""
    return list((base / ".zoo/repository.git/objects/pack").glob("*.pack"))


def untidy(agent: Agent, repository: GitRepository) -> None:
    """Give a host's object store one pack more than is left as it is."""
    layout = Layout(agent.base)
    layout.make()
    store = Repository(layout, Access(("file",)))
    store.open()
    for number in range(MANY_PACKS + 1):
        commit_id = repository.commit({"index.html": f"{number}\n"})
        store.fetch(Release(url=repository.url, commit_id=commit_id, relative_path="site"))
    assert store.untidy


def test_many_packs_become_one_with_the_live_commit_in_it(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents()
    untidy(agent, repository)
    agent.start()
    repository.commit({"index.html": "last\n"})
    generation = release()
    assert agent.wait_outcome(generation)["state"] == "active"
    wait_for(lambda: len(packs(agent.base)) == 1, "the packs are one")
    assert Repository(Layout(agent.base), Access(("file",))).has(repository.head)
    assert agent.wait_outcome(generation)["state"] == "active"


@pytest.fixture
def slow(agents: Agents, repository: GitRepository, tmp_path: Path) -> tuple[Agent, Path, Path]:
    """An agent that will repack, a file that exists once it does, and the file that it then waits for."""
    go, programs = tmp_path / "go", tmp_path / "programs"
    programs.mkdir()
    agent = agents()
    # Git may write only below the base.
    packing, begun = agent.base / "packing", agent.base / ".zoo/repository.git/objects/pack/tmp_pack_1"
    slow = f'[ "$1" != repack ] || {{ touch {begun} {packing}; while [ ! -e {go} ]; do sleep 0.05; done; }}'
    (programs / "git").write_text(f'#!/bin/sh\n{slow}\nexec {shutil.which("git")} "$@"\n')
    (programs / "git").chmod(0o755)
    untidy(agent, repository)
    return agent.start(PATH=f"{programs}:{os.environ['PATH']}"), packing, go


def test_a_refusal_is_reported_while_the_packs_are_still_being_repacked(
    slow: tuple[Agent, Path, Path], repository: GitRepository, release: Publish
) -> None:
    agent, packing, _go = slow
    repository.commit({"index.html": "last\n"})
    assert agent.wait_outcome(release())["state"] == "active"
    wait_for(packing.exists, "the packs are made one")
    assert agent.wait_outcome(release(relativePath="/etc"))["state"] == "failed"
    assert agent.live() == repository.head


@pytest.fixture
def packing(slow: tuple[Agent, Path, Path], repository: GitRepository, release: Publish) -> Agent:
    """An agent that is repacking, and has not finished."""
    agent, begun, _go = slow
    repository.commit({"index.html": "last\n"})
    release()
    wait_for(begun.exists, "the packs are made one")
    return agent


def test_what_an_interrupted_repacking_has_written_is_removed(packing: Agent, release: Publish) -> None:
    release(relativePath="/etc")
    wait_for(lambda: not Layout(packing.base).begun_packs(), "nothing is left of it")


def test_what_a_killed_agents_repacking_has_written_is_removed_by_the_next_agent(packing: Agent) -> None:
    packing.kill()
    assert Layout(packing.base).begun_packs()
    packing.start()
    wait_for(lambda: not Layout(packing.base).begun_packs(), "nothing is left of it")


def test_a_rollout_does_not_wait_for_repacking(
    slow: tuple[Agent, Path, Path], repository: GitRepository, release: Publish, zk: KazooClient, app: str
) -> None:
    agent, packing, go = slow
    repository.commit({"index.html": "last\n"})
    made = Rollout(zk, app, release(rollout={"minHealthy": 0}))
    wait_for(packing.exists, "the packs are made one")
    made.wait("done")
    go.touch()
    wait_for(lambda: len(packs(agent.base)) == 1, "the packs are one")


@pytest.fixture
def waiting(
    slow: tuple[Agent, Path, Path],
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    zk: KazooClient,
    app: str,
) -> tuple[Agent, Path, Rollout]:
    """An agent that waits in a rollout while it repacks, the file that lets it finish, and the rollout."""
    agent, packing, go = slow
    first = agents("first").start().wait_live()
    repository.commit({"index.html": "stable\n"})
    Rollout(zk, app, release(rollout={"minHealthy": 0})).wait("done")
    wait_for(packing.exists, "the packs are made one")
    repository.commit({"index.html": "last\n"})
    steps = [{"names": [first.name], "pause": True}, {"percent": 100}]
    rollout = Rollout(zk, app, release(rollout={"minHealthy": 0, "steps": steps}))
    rollout.wait("paused")
    wait_for(lambda: tells(agent, "waiting", rollout.generation), "it waits for its turn")
    return agent, go, rollout


def tells(agent: Agent, state: str, generation: int | None) -> bool:
    """Whether a host that is still repacking reports this state and generation."""
    assert len(packs(agent.base)) > 1
    status = agent.status
    return (status["state"], status.get("generation")) == (state, generation)


def test_a_host_that_is_repacking_reports_that_a_rollout_is_halted(waiting: tuple[Agent, Path, Rollout]) -> None:
    agent, go, rollout = waiting
    rollout.command("halt")
    wait_for(lambda: tells(agent, "halted", rollout.generation), "it is halted")
    go.touch()
    wait_for(lambda: len(packs(agent.base)) == 1, "the packs are one")
    assert agent.status["state"] == "halted"


def test_a_host_that_is_repacking_no_longer_waits_in_a_rollout_whose_release_is_deleted(
    waiting: tuple[Agent, Path, Rollout], zk: KazooClient, app: str
) -> None:
    agent, _go, _rollout = waiting
    zk.delete(f"{app}/config")
    wait_for(lambda: tells(agent, "idle", None), "nothing is to be done")


def test_a_retry_is_answered_while_the_packs_are_still_being_repacked(
    slow: tuple[Agent, Path, Path], repository: GitRepository, release: Publish
) -> None:
    agent, packing, _go = slow
    repository.commit({"index.html": "last\n"})
    release()
    wait_for(packing.exists, "the packs are made one")
    assert agent.wait_outcome(release(rollout={"minHealthy": -1}))["state"] == "failed"
    assert "nothing to retry: rollout: " in agent.control("retry").stdout


def damage_pack_of(store: Repository, commit_id: str) -> None:
    """Make the pack with a commit unreadable."""
    for pack in packs(store.layout.base):
        with pack.with_suffix(".idx").open("rb") as index:
            listed = store.git.run("show-index", input_=index)
        if commit_id.encode() in listed:
            pack.chmod(0o644)
            pack.write_bytes(b"PACK" + bytes(60))


@pytest.mark.parametrize("again", [False, True])
def test_a_release_stays_proved_where_repacking_fails_and_the_object_store_is_recreated(
    agents: Agents, repository: GitRepository, release: Publish, again: bool
) -> None:
    agent = agents()
    untidy(agent, repository)
    layout = Layout(agent.base)
    store = Repository(layout, Access(("file",)))
    store.open()
    kept = repository.git("rev-parse", "HEAD~1")
    # A release that a symlink in the base leads to is kept, and git can't pack what it can't read.
    layout.release(kept).mkdir()
    (agent.base / "by-hand").symlink_to(layout.release(kept))
    damage_pack_of(store, kept)
    agent.start()
    repository.commit({"index.html": "last\n"})
    generation = release()
    assert agent.wait_outcome(generation)["state"] == "active"
    wait_for(lambda: "object store not packed" in agent.log, "the failure is in the log")
    assert packs(agent.base) == []
    if again:
        repository.commit({"index.html": "after it\n"})
        generation = release()
    assert agent.wait_outcome(generation)["state"] == "active"
    assert agent.live() == repository.head
