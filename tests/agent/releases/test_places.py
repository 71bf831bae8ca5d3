"""A release moves to another place: the old place stays live, and the new one is undone if the release fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from support.agent import Agent
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]

FAILS_WHERE_BROKEN = ["/bin/sh", "-c", "! grep -q broken index.html"]
"""A hook that fails for a release whose index.html has `broken`."""


@pytest.fixture
def agent(agents: Agents) -> Agent:
    """An agent for which each release with `broken` in its index.html fails."""
    return agents(keep_releases=2, hooks={"after_activate": FAILS_WHERE_BROKEN}).start()


def break_at(place: str, repository: GitRepository, release: Publish) -> int:
    """Publish a release that fails at a place, and return its generation."""
    repository.commit({"index.html": f"broken {place}\n"})
    return release(relativePath=place)


def test_a_place_that_was_free_is_free_again_and_the_old_one_stays_live(
    agent: Agent, repository: GitRepository, release: Publish
) -> None:
    first = repository.head
    agent.wait_outcome(release())
    status = agent.wait_outcome(break_at("srv/web", repository, release))
    assert not os.path.lexists(agent.base / "srv/web")
    assert agent.live() == first
    assert (status["state"], status["commitId"]) == ("rolled_back", first)
    assert status["message"].endswith(f"; rolled back to {first} at site")


def test_the_hook_runs_for_what_is_live_at_the_old_place(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    script = 'echo "$ZOO_COMMIT $ZOO_PREVIOUS" >> ../../../notes; ! grep -q broken index.html'
    agent = agents(hooks={"after_activate": ["/bin/sh", "-c", script]}).start()
    first = repository.head
    agent.wait_outcome(release())
    agent.wait_outcome(break_at("web", repository, release))
    last = (agent.base / "notes").read_text().splitlines()[-1]
    assert last == f"{first} {agent.base / '.zoo/releases' / repository.head}"


def test_a_place_goes_back_to_the_release_that_was_live_there(
    agent: Agent, repository: GitRepository, release: Publish
) -> None:
    first = repository.head
    agent.wait_outcome(release(relativePath="web"))
    second = repository.commit({"index.html": "two\n"})
    agent.wait_outcome(release())
    status = agent.wait_outcome(break_at("web", repository, release))
    assert (status["state"], status["commitId"]) == ("rolled_back", first)
    assert (agent.live("web"), agent.live()) == (first, second)


@pytest.mark.parametrize("target", ["nowhere", "."])
def test_somebody_elses_symlink_is_put_back(
    agent: Agent, repository: GitRepository, release: Publish, target: str
) -> None:
    agent.wait_outcome(release())
    (agent.base / "web").symlink_to(target)
    assert agent.wait_outcome(break_at("web", repository, release))["state"] == "rolled_back"
    assert os.readlink(agent.base / "web") == target


def test_a_place_is_undone_by_a_restarted_agent_too(
    agents: Agents, repository: GitRepository, release: Publish, service: Service, registered: dict[str, object]
) -> None:
    agent = agents(health_timeout=600, **registered).start()
    service.answer = lambda: (500 if (agent.base / "web").exists() else 200, "")
    service.open()
    first = repository.head
    agent.wait_outcome(release())
    repository.commit({"index.html": "two\n"})
    generation = release(relativePath="web")
    wait_for(lambda: agent.status["state"] == "checking", "the release is being checked")
    agent.end(signal.SIGKILL)
    agent.config["health_timeout"] = 0.5
    agent.start()
    status = agent.wait_outcome(generation)
    assert (status["state"], status["commitId"], agent.live()) == ("rolled_back", first, first)
    assert not os.path.lexists(agent.base / "web")


def test_a_release_fails_at_a_new_place_again_after_one_that_was_interrupted_there(
    agents: Agents, repository: GitRepository, release: Publish, service: Service, registered: dict[str, object]
) -> None:
    agent = agents(health_timeout=600, hooks={"after_activate": FAILS_WHERE_BROKEN}, **registered).start()
    service.answer = lambda: (500 if (agent.base / "web").exists() else 200, "")
    service.open()
    first = repository.head
    agent.wait_outcome(release())
    repository.commit({"index.html": "two\n"})
    release(relativePath="web")
    wait_for(lambda: agent.status["state"] == "checking", "the release is being checked")
    status = agent.wait_outcome(break_at("web", repository, release))
    assert (status["state"], status["commitId"], agent.live()) == ("rolled_back", first, first)
    assert not os.path.lexists(agent.base / "web")


def test_what_is_live_at_an_earlier_place_is_kept_until_its_symlink_is_removed(
    agent: Agent, repository: GitRepository, release: Publish
) -> None:
    first = repository.head
    agent.wait_outcome(release())
    directory = agent.base / ".zoo/releases" / first
    for number in range(4):
        repository.commit({"index.html": f"{number}\n"})
        assert agent.wait_outcome(release(relativePath="web"))["state"] == "active"
    assert (agent.base / "site/index.html").read_text() == "one\n"
    assert len(os.listdir(directory.parent)) == 3
    (agent.base / "site").unlink()
    repository.commit({"index.html": "last\n"})
    agent.wait_outcome(release(relativePath="web"))
    assert not directory.exists()
