"""Many fetches leave many packs: they are made one, and a host does not suffer where that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.agent import Agent
from support.repository import GitRepository
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
    """Give a host's object store one pack more than is left alone."""
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


def damage_pack_of(store: Repository, commit_id: str) -> None:
    """Have the pack with a commit hold nothing that can be read."""
    for pack in packs(store.layout.base):
        if commit_id in str(store.git.show_index(istream=pack.with_suffix(".idx").open("rb"))):
            pack.chmod(0o644)
            pack.write_bytes(b"PACK" + bytes(60))


@pytest.mark.parametrize("again", [False, True])
def test_a_release_stays_proved_where_the_packs_can_not_be_made_one_and_the_store_is_made_anew(
    agents: Agents, repository: GitRepository, release: Publish, again: bool
) -> None:
    agent = agents()
    untidy(agent, repository)
    layout = Layout(agent.base)
    store = Repository(layout, Access(("file",)))
    store.open()
    kept = repository.git("rev-parse", "HEAD~1")
    # What a symlink of the base leads to is kept, and git can't pack what it can't read.
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
