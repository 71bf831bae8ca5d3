"""A release that does not become healthy gives way to the one before, and is not tried again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from support.agent import Agent
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]


def serve_from(service: Service, agent: Agent) -> None:
    """Let the service answer as the live release says: 500 where its index.html has `broken`."""

    def answer() -> tuple[int, str]:
        try:
            text = (agent.base / "site/index.html").read_text()
        except OSError:
            return 503, "no release"
        return (500 if "broken" in text else 200), text

    service.answer = answer
    service.open()


@pytest.mark.smoke
def test_a_broken_release_is_rolled_back_and_the_next_good_one_comes_live(
    agents: Agents, repository: GitRepository, release: Publish, service: Service, registered: dict[str, Any]
) -> None:
    agent = agents(health_timeout=0.5, **registered).start()
    serve_from(service, agent)
    first = repository.head
    agent.wait_outcome(release())
    broken = repository.commit({"index.html": "broken\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], status["commitId"]) == ("rolled_back", first)
    assert "status 500, expected 200" in status["message"]
    assert first in status["message"]
    assert agent.live() == first
    mended = repository.commit({"index.html": "mended\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], status["commitId"], status.get("message")) == ("active", mended, None)
    assert status["previousCommitId"] == first
    assert broken != agent.live() == mended


def test_a_generation_that_failed_is_not_tried_again_by_a_restarted_agent(
    agents: Agents, repository: GitRepository, release: Publish, service: Service, registered: dict[str, Any]
) -> None:
    agent = agents(health_timeout=0.5, **registered).start()
    serve_from(service, agent)
    first = repository.head
    agent.wait_outcome(release())
    repository.commit({"index.html": "broken\n"})
    generation = release()
    before = agent.wait_outcome(generation)
    tries = agent.log.count(f"checking, generation={generation}")
    agent.end()
    agent.start()
    after = agent.wait_outcome(generation)
    assert (after["state"], after["message"]) == ("rolled_back", before["message"])
    assert agent.log.count(f"checking, generation={generation}") == tries == 1
    assert agent.live() == first
    assert agent.wait_outcome(release())["state"] == "rolled_back", "the same release published anew is tried anew"
    assert agent.live() == first


def test_a_first_release_has_nothing_to_go_back_to_and_waits_for_its_service(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    service: Service,
    registered: dict[str, Any],
    registrations: Callable[[], dict[str, list[str]]],
) -> None:
    agent = agents(health_timeout=0.2, **registered).start()
    generation = release()
    wait_for(
        lambda: "not healthy within 0.2 s" in (agent.status.get("message") or ""), "the status says what is missing"
    )
    assert (agent.status["state"], agent.status["generation"]) == ("checking", generation)
    assert agent.live() == repository.head
    assert registrations() == {}
    service.open()
    status = agent.wait_outcome(generation)
    assert (status["state"], status.get("message")) == ("active", None)
    wait_for(registrations, "the service is registered")


def test_a_release_that_waits_for_its_health_gives_way_to_a_newer_one_at_once(
    agents: Agents, repository: GitRepository, release: Publish, service: Service, registered: dict[str, Any]
) -> None:
    agent = agents(health_timeout=600, **registered).start()
    serve_from(service, agent)
    agent.wait_outcome(release())
    repository.commit({"index.html": "broken\n"})
    release()
    wait_for(lambda: agent.status["state"] == "checking", "the broken release is being checked")
    mended = repository.commit({"index.html": "mended\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], status["commitId"]) == ("active", mended)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_an_agent_that_is_ended_during_the_check_goes_on_with_the_release_after_its_restart(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    service: Service,
    registered: dict[str, Any],
    number: signal.Signals,
) -> None:
    agent = agents(health_timeout=600, **registered).start()
    serve_from(service, agent)
    agent.wait_outcome(release())
    service.close()
    second = repository.commit({"index.html": "two\n"})
    generation = release()
    wait_for(lambda: agent.status["state"] == "checking", "the release is being checked")
    assert agent.end(number) == 0
    assert agent.live() == second
    agent.start()
    wait_for(lambda: agent.log.count(f"checking, generation={generation} ") == 2, "it is being checked again")
    service.open()
    assert agent.wait_outcome(generation)["state"] == "active"
    assert agent.live() == second
    assert "rolled_back" not in agent.log


def test_a_release_that_is_interrupted_during_the_check_does_not_bring_the_old_one_back(
    agents: Agents, repository: GitRepository, release: Publish, service: Service, registered: dict[str, Any]
) -> None:
    agent = agents(health_timeout=600, **registered).start()
    serve_from(service, agent)
    agent.wait_outcome(release())
    repository.commit({"index.html": "broken\n"})
    release()
    wait_for(lambda: agent.status["state"] == "checking", "the broken release is being checked")
    repository.commit({"index.html": "mended\n"})
    assert agent.wait_outcome(release())["state"] == "active"
    assert "rolled_back" not in agent.log
