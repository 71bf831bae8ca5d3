"""What is live and was never proved is proved, whatever is published by the time the agent is started again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.agent import Agent, publish
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
BREAK: dict[str, Callable[[KazooClient, str], Any]] = {
    "garbage": lambda zk, app: publish(zk, app, b"garbage"),
    "deleted": lambda zk, app: zk.delete(f"{app}/config"),
}
"""What nothing can be deployed by."""


class Unproved:
    """A host whose agent has ended while the second release was checked."""

    def __init__(self, agent: Agent, repository: GitRepository, release: Publish, service: Service) -> None:
        self.agent = agent
        self.first = repository.head
        self.second = repository.commit({"index.html": "two\n"})
        service.answer = lambda: (500, "") if agent.live() == self.second else (200, "")
        self.generation = release()
        wait_for(lambda: self._said("checking"), "it is checked")
        self.service = service

    def end(self, number: signal.Signals) -> None:
        """End the agent; when it is started again, it is soon found whether the service is healthy."""
        self.agent.end(number)
        self.agent.config["health_timeout"] = 0.5

    def _said(self, state: str) -> bool:
        return f"{state}, generation={self.generation} commit={self.second}" in self.agent.log

    def wait_rolled_back(self) -> None:
        """Wait until the host has gone back."""
        wait_for(lambda: self._said("rolled_back"), "it goes back")
        assert self.agent.live() == self.first

    def wait_proved(self) -> None:
        """Wait until the second release is proved."""
        wait_for(lambda: self._said("active"), "it is proved")
        assert self.agent.live() == self.second


@pytest.fixture
def unproved(deployed: Agents, repository: GitRepository, release: Publish, service: Service) -> Unproved:
    """The agent runs still."""
    return Unproved(deployed(health_timeout=600), repository, release, service)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("how", BREAK)
def test_with_nothing_that_can_be_deployed_an_agent_that_is_restarted_goes_back_from_what_is_not_healthy(
    unproved: Unproved, zk: KazooClient, app: str, how: str, number: signal.Signals
) -> None:
    unproved.end(number)
    generation = BREAK[how](zk, app)
    unproved.agent.start()
    unproved.wait_rolled_back()
    if how == "garbage":
        status = unproved.agent.wait_outcome(generation)
        assert status["state"] == "failed"
        assert "not valid" in status["message"]
    else:
        assert unproved.agent.wait_outcome(unproved.generation)["state"] == "rolled_back"
    unproved.agent.end()
    unproved.agent.start().wait_live()
    assert unproved.agent.log.count(f"rolled_back, generation={unproved.generation}") == 1, "once is enough"


def test_with_nothing_that_can_be_deployed_an_agent_that_is_restarted_proves_what_is_healthy(
    unproved: Unproved, zk: KazooClient, app: str
) -> None:
    unproved.end(signal.SIGTERM)
    unproved.service.answer = lambda: (200, "")
    generation = publish(zk, app, b"garbage")
    unproved.agent.start()
    unproved.wait_proved()
    assert unproved.agent.wait_outcome(generation)["commitId"] == unproved.second


def test_a_held_agent_that_is_restarted_goes_back_from_what_is_not_healthy_though_something_newer_is_published(
    unproved: Unproved, repository: GitRepository, release: Publish
) -> None:
    unproved.end(signal.SIGTERM)
    assert unproved.agent.control("hold", "--reason", "disk swap").returncode == 0
    third = repository.commit({"index.html": "three\n"})
    newer = release()
    unproved.agent.start()
    unproved.wait_rolled_back()
    status = unproved.agent.wait_outcome(unproved.generation)
    assert (status["state"], status["held"]["reason"]) == ("rolled_back", "disk swap")
    unproved.service.answer = lambda: (200, "")
    assert unproved.agent.control("release").returncode == 0
    assert unproved.agent.wait_outcome(newer)["state"] == "active"
    assert unproved.agent.live() == third


def test_a_hold_that_cancels_a_newer_release_before_its_activation_has_what_is_live_proved(
    unproved: Unproved, repository: GitRepository, release: Publish
) -> None:
    unproved.agent.end()
    unproved.agent.config["health_timeout"] = 2
    unproved.agent.start()
    wait_for(lambda: unproved.agent.log.count(f"checking, generation={unproved.generation}") == 2, "it is checked")
    repository.commit({"index.html": "three\n"})
    newer = release(url=f"{repository.url}-is-not-here")
    wait_for(lambda: f"fetching, generation={newer}" in unproved.agent.log, "it is fetched")
    assert unproved.agent.control("hold", "--reason", "disk swap").returncode == 0
    unproved.wait_rolled_back()
    assert unproved.agent.wait_outcome(unproved.generation)["state"] == "rolled_back"
