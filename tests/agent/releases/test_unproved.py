"""A live release that was never proved is proved, whatever is published by the time the agent is started again."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
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
"""Ways to leave nothing published that can be deployed."""


class Unproved:
    """A host whose agent is checking the second release, which is not healthy."""

    def __init__(self, agent: Agent, repository: GitRepository, release: Publish, service: Service) -> None:
        self.agent = agent
        self.first = repository.head
        self.second = repository.commit({"index.html": "two\n"})
        service.answer = lambda: (500, "") if agent.live() == self.second else (200, "")
        self.generation = release()
        wait_for(lambda: self._said("checking"), "it is checked")
        self.service = service

    def end(self, number: signal.Signals) -> None:
        """End the agent, and shorten `health_timeout` so that the next one soon knows whether it is healthy."""
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
    """A host with an unproved release, whose agent is still running."""
    return Unproved(deployed(health_timeout=600), repository, release, service)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("how", BREAK)
def test_with_nothing_to_deploy_a_restarted_agent_rolls_back_a_release_that_is_not_healthy(
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


def test_with_nothing_to_deploy_a_restarted_agent_proves_a_release_that_is_healthy(
    unproved: Unproved, zk: KazooClient, app: str
) -> None:
    unproved.end(signal.SIGTERM)
    unproved.service.answer = lambda: (200, "")
    generation = publish(zk, app, b"garbage")
    unproved.agent.start()
    unproved.wait_proved()
    assert unproved.agent.wait_outcome(generation)["commitId"] == unproved.second


def test_a_restarted_held_agent_rolls_back_an_unhealthy_release_though_a_newer_one_is_published(
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


def test_after_a_hold_cancels_a_newer_release_before_its_activation_the_live_one_is_checked(
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


def test_what_is_live_is_checked_where_the_previous_release_is_published_again_and_fails(
    deployed: Agents, repository: GitRepository, release: Publish, service: Service, tmp_path: Path
) -> None:
    refuse = tmp_path / "refuse"
    hooks = {"before_activate": ["/bin/sh", "-c", f"! test -e {refuse}"]}
    unproved = Unproved(deployed(health_timeout=2, hooks=hooks), repository, release, service)
    refuse.touch()
    generation = release(unproved.first)
    wait_for(lambda: "rolled back to" in unproved.agent.wait_outcome(generation)["message"], "it goes back")
    status = unproved.agent.status
    assert (status["state"], status["commitId"]) == ("failed", unproved.first)
    assert status["message"] == (
        f"hook before_activate ended with status 1; {unproved.second}, which was live: not healthy within 2 s: "
        f"http 127.0.0.1:{service.port}/: status 500, expected 200; rolled back to {unproved.first}"
    )
    assert unproved.agent.live() == unproved.first


def test_hooks_run_for_a_release_that_is_published_again_even_where_a_restart_interrupts_them(
    deployed: Agents, repository: GitRepository, release: Publish, service: Service, tmp_path: Path
) -> None:
    gate, notes = tmp_path / "gate", tmp_path / "notes"
    gate.touch()
    script = f"echo begun $ZOO_COMMIT >> {notes}; until test -e {gate}; do sleep 0.05; done; echo used >> {notes}"
    agent = deployed(health_timeout=600, hooks={"after_activate": ["/bin/sh", "-c", script]})
    unproved = Unproved(agent, repository, release, service)
    gate.unlink()
    generation = release(unproved.first)
    begun = f"begun {unproved.first}"
    wait_for(lambda: notes.read_text().splitlines()[-1] == begun, "its hook is run again")
    agent.end(signal.SIGUSR2)
    gate.touch()
    assert agent.start().wait_outcome(generation)["state"] == "active"
    assert notes.read_text().splitlines()[-3:] == [begun, begun, "used"]


MISSING = "f" * 40
"""A commit that no repository has: it is fetched again and again."""


def test_what_is_live_at_one_place_is_checked_where_a_release_for_another_cannot_be_fetched(
    deployed: Agents, repository: GitRepository, release: Publish, service: Service
) -> None:
    unproved = Unproved(deployed(health_timeout=3), repository, release, service)
    newer = release(MISSING, relativePath="elsewhere")
    wait_for(lambda: unproved.agent.live() == unproved.first, "it goes back")
    went = f"{unproved.second}, which was live: not healthy within 3 s"
    wait_for(lambda: went in unproved.agent.status.get("message", ""), "the status says so")
    status = unproved.agent.status
    assert (status["state"], status["generation"]) == ("fetching", newer)


def test_what_is_live_is_checked_where_the_git_server_of_a_newer_release_does_not_answer(
    unproved: Unproved, repository: GitRepository, release: Publish
) -> None:
    unproved.end(signal.SIGTERM)
    third = repository.commit({"index.html": "three\n"})
    unproved.agent.config["allowed_schemes"] = ["file", "git"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        newer = release(url=f"git://127.0.0.1:{silent.getsockname()[1]}/site.git")
        unproved.agent.start()
        unproved.wait_rolled_back()
        told = f"fetching, generation={newer} commit={third}"
        wait_for(lambda: unproved.agent.log.count(told) > 1, "the newer one is fetched after that")
    assert f"{told}: not fetched and staged yet, and what is live is to be proved" in unproved.agent.log


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGKILL])
def test_what_is_live_at_one_place_is_not_forgotten_where_a_release_for_another_was_begun(
    unproved: Unproved, release: Publish, tmp_path: Path, number: signal.Signals
) -> None:
    begun = tmp_path / "begun"
    unproved.end(signal.SIGTERM)
    unproved.agent.config["hooks"] = {"before_activate": ["/bin/sh", "-c", f"touch {begun}; sleep 60"]}
    release(unproved.first, relativePath="elsewhere")
    unproved.agent.start()
    wait_for(begun.exists, "the newer one is about to be activated")
    unproved.agent.end(number)
    unproved.agent.config["hooks"] = {}
    release(MISSING, relativePath="elsewhere")
    unproved.agent.start()
    wait_for(lambda: unproved.agent.live() == unproved.first, "it goes back")


def test_what_is_live_is_checked_where_a_newer_release_waits_for_the_disk(
    unproved: Unproved, repository: GitRepository, release: Publish
) -> None:
    # A release that was proved on this host before is already on the disk.
    agent, staging = unproved.agent, unproved.agent.base / ".zoo/staging"
    third = repository.commit({"index.html": "three\n"})
    unproved.service.answer = lambda: (200, "")
    agent.wait_outcome(release(third))
    agent.wait_outcome(release(unproved.first))
    unproved.service.answer = lambda: (500, "") if agent.live() == unproved.second else (200, "")
    second = release(unproved.second)
    wait_for(lambda: f"checking, generation={second} " in agent.log, "it is checked")
    unproved.end(signal.SIGUSR2)
    release(third)
    if subprocess.run(["mount", "--bind", staging, staging], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    subprocess.run(["mount", "-o", "remount,ro,bind", staging], check=True)
    try:
        agent.start()
        going = (
            f"not healthy within 0.5 s: http 127.0.0.1:{unproved.service.port}/: status 500, expected 200; rolling back"
        )
        wait_for(lambda: going in agent.status.get("message", ""), "it is found not healthy")
        wait_for(lambda: "Read-only file system; tried again" in agent.status.get("message", ""), "it waits")
    finally:
        subprocess.run(["umount", "-l", staging], check=True)
    wait_for(lambda: agent.live() == third, "the newer one goes live as soon as it can")


class SlowHook:
    """An after_activate hook that waits for a gate, and records when it begins and when it is done."""

    def __init__(self, directory: Path) -> None:
        self.gate, self._notes = directory / "gate", directory / "notes"
        self.gate.touch()
        script = f"echo begun $ZOO_COMMIT >> {self._notes}; until test -e {self.gate}; do sleep 0.05; done"
        self.hooks = {"after_activate": ["/bin/sh", "-c", f"{script}; echo used $ZOO_COMMIT >> {self._notes}"]}

    @property
    def notes(self) -> list[str]:
        """What the hook has recorded."""
        return self._notes.read_text().splitlines()

    def has_begun(self, commit_id: str, times: int) -> bool:
        """Whether it has been run this many times for a commit."""
        return self.notes.count(f"begun {commit_id}") == times

    def wait(self, note: str) -> None:
        """Wait until this is the last note."""
        wait_for(lambda: self.notes[-1] == note, note)


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[SlowHook]:
    """A `SlowHook`, whose gate opens when the test ends, for those that an agent has left behind."""
    made = SlowHook(tmp_path)
    yield made
    made.gate.touch()


def test_a_hold_during_the_proof_of_what_is_live_does_not_leave_it_unproved(
    deployed: Agents,
    repository: GitRepository,
    release: Publish,
    service: Service,
    zk: KazooClient,
    app: str,
    hook: SlowHook,
) -> None:
    agent = deployed(health_timeout=0.5, hooks=hook.hooks)
    first = repository.head
    second = repository.commit({"index.html": "two\n"})
    service.answer = lambda: (500, "") if agent.live() == second else (200, "")
    hook.gate.unlink()
    generation = release()
    hook.wait(f"begun {second}")
    agent.end(signal.SIGUSR2)
    publish(zk, app, b"garbage")
    agent.start()
    wait_for(partial(hook.has_begun, second, 2), "what is live is proved")
    repository.commit({"index.html": "three\n"})
    release()
    # The hold comes when the newer release has cancelled the proof while its hook still runs.
    wait_for(lambda: f"cancelled, generation={generation} commit={second}" in agent.log, "it is cancelled")
    assert agent.control("hold", "--reason", "disk swap").returncode == 0
    hook.gate.touch()
    wait_for(lambda: f"rolled_back, generation={generation} commit={second}" in agent.log, "it goes back")
    assert agent.live() == first


PUBLISH: dict[str, Callable[[KazooClient, str, Publish], Any]] = {
    "missing": lambda _zk, _app, release: release(MISSING),
    "garbage": lambda zk, app, _release: publish(zk, app, b"garbage"),
}


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGKILL])
@pytest.mark.parametrize("then", PUBLISH)
def test_a_rollback_that_a_restart_has_interrupted_is_finished(
    deployed: Agents,
    repository: GitRepository,
    release: Publish,
    service: Service,
    zk: KazooClient,
    app: str,
    hook: SlowHook,
    number: signal.Signals,
    then: str,
) -> None:
    unproved = Unproved(deployed(health_timeout=2, hooks=hook.hooks), repository, release, service)
    hook.gate.unlink()
    hook.wait(f"begun {unproved.first}")
    assert unproved.agent.live() == unproved.first
    unproved.agent.end(number)
    hook.gate.touch()
    PUBLISH[then](zk, app, release)
    unproved.agent.start()
    hook.wait(f"used {unproved.first}")
    if then == "garbage":
        wait_for(lambda: f"rolled_back, generation={unproved.generation} " in unproved.agent.log, "it is finished")
    assert hook.notes.count(f"used {unproved.second}") == 1


def test_leaving_an_unproved_release_is_finished_where_a_restart_has_interrupted_it(
    deployed: Agents, repository: GitRepository, release: Publish, service: Service, hook: SlowHook
) -> None:
    unproved = Unproved(deployed(health_timeout=2, hooks=hook.hooks), repository, release, service)
    hook.gate.unlink()
    newer = release(MISSING)
    hook.wait(f"begun {unproved.first}")
    unproved.agent.end(signal.SIGUSR2)
    hook.gate.touch()
    unproved.agent.start()
    hook.wait(f"used {unproved.first}")

    def is_told() -> bool:
        status = unproved.agent.status
        told = f"rolled back to {unproved.first}" in (status.get("message") or "")
        return told and (status["state"], status["generation"]) == ("fetching", newer)

    wait_for(is_told, "it is told while the newer one is fetched")


def test_a_hook_that_takes_the_agent_down_while_it_finishes_a_rollback_is_not_run_for_ever(
    deployed: Agents, repository: GitRepository, release: Publish, service: Service, hook: SlowHook
) -> None:
    unproved = Unproved(deployed(health_timeout=1, hooks=hook.hooks), repository, release, service)
    agent = unproved.agent
    hook.gate.unlink()
    release(MISSING)
    for times in range(1, 3):
        # The first run was that of its deployment.
        wait_for(partial(hook.has_begun, unproved.first, 1 + times), "it is used again")
        agent.end(signal.SIGKILL)
        agent.start()
    wait_for(lambda: "after_activate and the units were not done for it" in agent.status.get("message", ""), "told")
    assert hook.has_begun(unproved.first, 3)


def test_a_hook_that_a_restart_has_interrupted_is_run_again_before_the_check_for_a_newer_release(
    deployed: Agents, repository: GitRepository, release: Publish, hook: SlowHook
) -> None:
    agent = deployed(health_timeout=1, hooks=hook.hooks)
    hook.gate.unlink()
    second = repository.commit({"index.html": "two\n"})
    release()
    hook.wait(f"begun {second}")
    agent.end(signal.SIGUSR2)
    hook.gate.touch()
    release(MISSING)
    agent.start()
    hook.wait(f"used {second}")
    wait_for(lambda: agent.status["state"] == "fetching", "the newer one is tried on")
    assert agent.live() == second


def test_why_an_unproved_release_cannot_be_left_is_in_the_status_while_a_newer_one_is_fetched(
    agents: Agents, registered: dict[str, Any], repository: GitRepository, release: Publish
) -> None:
    agent = agents(**registered, health_timeout=1).start()
    first = repository.head
    generation = release()
    wait_for(lambda: f"checking, generation={generation} " in agent.log, "it is checked")
    release(MISSING)
    said = f"{first}, which was live: not healthy within 1 s: "
    wait_for(lambda: said in agent.status.get("message", ""), "the status says so")
    assert agent.status["state"] == "fetching"
    assert "there is no earlier release to go back to" in agent.status["message"]


@pytest.mark.parametrize("what", ["former", "newer"])
def test_a_release_that_breaks_the_host_at_another_place_is_left_before_a_newer_one_is_blamed(
    deployed: Agents, repository: GitRepository, release: Publish, service: Service, what: str
) -> None:
    agent = deployed(health_timeout=3)
    first, elsewhere = repository.head, agent.base / "elsewhere"
    service.answer = lambda: (500, "") if elsewhere.exists() else (200, "")
    repository.commit({"index.html": "two\n"})
    sick = release(relativePath="elsewhere")
    wait_for(lambda: f"checking, generation={sick} " in agent.log, "it is live, and checked")
    wanted = first if what == "former" else repository.commit({"index.html": "three\n"})
    status = agent.wait_outcome(release(wanted))
    assert (status["state"], status["commitId"]) == ("active", wanted)
    assert not elsewhere.exists()


def test_what_is_published_and_deleted_before_it_is_live_is_not_deployed(
    deployed: Agents, repository: GitRepository, release: Publish, zk: KazooClient, app: str, hook: SlowHook
) -> None:
    agent = deployed(hooks={"before_activate": hook.hooks["after_activate"]})
    first = repository.head
    second = repository.commit({"index.html": "two\n"})
    hook.gate.unlink()
    release()
    hook.wait(f"begun {second}")
    zk.delete(f"{app}/config")
    hook.gate.touch()
    wait_for(lambda: agent.status["state"] == "idle", "it is cancelled")
    assert agent.live() == first


@pytest.mark.parametrize("healthy", [True, False])
def test_the_check_of_the_earlier_release_is_finished_by_the_next_agent_after_a_crash(
    deployed: Agents, repository: GitRepository, release: Publish, service: Service, healthy: bool
) -> None:
    agent = deployed(health_timeout=3)
    first, second = repository.head, repository.commit({"index.html": "two\n"})
    broken = {second}
    service.answer = lambda: (500, "") if agent.live() in broken else (200, "")
    generation = release()
    wait_for(lambda: agent.live() == second, "it is live")
    broken.add(first)
    wait_for(lambda: f"rolled back to {first}" in agent.log, "the earlier release is checked")
    agent.end(signal.SIGKILL)
    if healthy:
        broken.remove(first)
    status = agent.start().wait_outcome(generation)
    assert (status["state"], status["commitId"]) == ("rolled_back" if healthy else "failed", first)
    assert ("the earlier release is not healthy" in status["message"]) is not healthy
