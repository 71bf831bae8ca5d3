"""A release that does not become healthy gives way to the previous one, and is not tried again."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from support.repository import GitRepository
from support.service import Service
from support.signer import Signer
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]

FAILS_WHERE_BROKEN = ["/bin/sh", "-c", "! grep -q broken index.html"]
"""A hook that fails for a release whose index.html has `broken`."""


def serve_from(service: Service, agent: Agent) -> None:
    """Let the service answer according to the live release: 500 where its index.html has `broken`."""

    def answer() -> tuple[int, str]:
        try:
            text = (agent.base / "site/index.html").read_text()
        except OSError:
            return 503, "no release"
        return (500 if "broken" in text else 200), text

    service.answer = answer
    service.open()


@pytest.fixture
def serving_release(
    agents: Agents, release: Publish, service: Service, registered: dict[str, Any]
) -> Callable[..., Agent]:
    """Starts an agent with the repository's head live, whose service answers according to the live release."""

    def start(**config: Any) -> Agent:
        agent = agents(**registered, **config).start()
        serve_from(service, agent)
        agent.wait_outcome(release())
        return agent

    return start


@pytest.mark.smoke
def test_a_broken_release_is_rolled_back_and_the_next_good_one_goes_live(
    serving_release: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = serving_release(health_timeout=0.5)
    first = repository.head
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
    serving_release: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = serving_release(health_timeout=0.5)
    first = repository.head
    repository.commit({"index.html": "broken\n"})
    generation = release()
    before = agent.wait_outcome(generation)
    tries = agent.log.count(f"activating, generation={generation}")
    agent.end()
    agent.start()
    after = agent.wait_outcome(generation)
    assert (after["state"], after["message"]) == ("rolled_back", before["message"])
    assert agent.log.count(f"activating, generation={generation}") == tries == 1
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
    assert agent.status["waitsFor"] == "health"
    assert agent.live() == repository.head
    assert registrations() == {}
    service.open()
    status = agent.wait_outcome(generation)
    assert (status["state"], status.get("message")) == ("active", None)
    assert "waitsFor" not in status
    wait_for(registrations, "the service is registered")


def test_a_release_that_waits_for_its_health_gives_way_to_a_newer_one_at_once(
    serving_release: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = serving_release(health_timeout=600)
    repository.commit({"index.html": "broken\n"})
    release()
    wait_for(lambda: agent.status["state"] == "checking", "the broken release is being checked")
    mended = repository.commit({"index.html": "mended\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], status["commitId"]) == ("active", mended)
    assert "rolled_back" not in agent.log, "the old one does not come back in between"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_an_agent_that_is_ended_during_the_check_goes_on_with_the_release_after_its_restart(
    serving_release: Agents, repository: GitRepository, release: Publish, service: Service, number: signal.Signals
) -> None:
    agent = serving_release(health_timeout=600)
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


def journal(agent: Agent) -> dict[str, Any]:
    """The agent's journal on its disk."""
    return dict(json.loads((agent.base / ".zoo/journal.json").read_text()))


def modify(agent: Agent, commit_id: str) -> None:
    """Change a file of a release directory."""
    page = agent.base / ".zoo/releases" / commit_id / "index.html"
    page.chmod(0o644)
    page.write_text("changed by somebody\n")


def test_a_rollback_makes_the_host_use_the_earlier_release_and_passes_it_to_the_hook(
    serving_release: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    script = f'echo "$0 $ZOO_COMMIT $ZOO_RELEASE $ZOO_PREVIOUS $PWD $ZOO_GENERATION" >> {notes}'
    hooks = {name: ["/bin/sh", "-c", script, name] for name in ("after_activate", "before_rollback")}
    agent = serving_release(health_timeout=0.5, hooks=hooks)
    first = repository.head
    broken = repository.commit({"index.html": "broken\n"})
    generation = release()
    assert agent.wait_outcome(generation)["state"] == "rolled_back"
    old, new = (str(agent.base / ".zoo/releases" / commit_id) for commit_id in (first, broken))
    assert [line.split() for line in notes.read_text().splitlines()[1:]] == [
        ["after_activate", broken, new, old, new, str(generation)],
        ["before_rollback", broken, new, old, new, str(generation)],
        ["after_activate", first, old, new, old, str(generation)],
    ]


def test_an_earlier_release_that_is_not_healthy_either_is_live_and_both_reasons_are_reported(
    serving_release: Agents, repository: GitRepository, release: Publish, service: Service
) -> None:
    agent = serving_release(health_timeout=0.5)
    first = repository.head
    service.answer = lambda: (502 if agent.live() == first else 500, "")
    repository.commit({"index.html": "two\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], status["commitId"], agent.live()) == ("failed", first, first)
    assert "status 500, expected 200" in status["message"]
    assert f"rolled back to {first}; the earlier release is not healthy within 0.5 s" in status["message"]
    assert "status 502, expected 200" in status["message"]


def test_a_hook_that_fails_for_the_earlier_release_too_is_reported_and_the_release_is_live(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"test ! -e {gate} || {{ cat index.html; exit 3; }}"
    agent = agents(hooks={"after_activate": ["/bin/sh", "-c", script]}).start()
    first = repository.head
    agent.wait_outcome(release())
    gate.touch()
    repository.commit({"index.html": "two\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("failed", first)
    assert status["message"] == (
        f"hook after_activate ended with status 3: two; rolled back to {first}; "
        "hook after_activate ended with status 3: one"
    )


def test_a_long_last_line_of_a_hook_leaves_room_for_the_reason(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    script = "! grep -q two index.html || { echo no database; head -c 5000 /dev/zero | tr '\\0' x; exit 7; }"
    agent = agents(hooks={"after_activate": ["/bin/sh", "-c", script]}).start()
    first = repository.head
    agent.wait_outcome(release())
    repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(release())["message"] == (
        f"hook after_activate ended with status 7: no database\n{'x' * 197}...; rolled back to {first}"
    )


def test_a_modified_release_is_passed_over_for_the_one_before_it(
    serving_release: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = serving_release(health_timeout=0.5)
    first = repository.head
    second = repository.commit({"index.html": "two\n"})
    agent.wait_outcome(release())
    modify(agent, second)
    repository.commit({"index.html": "broken\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], status["commitId"], agent.live()) == ("rolled_back", first, first)


def test_where_a_hook_has_changed_every_earlier_release_the_latest_comes_back_all_the_same(
    serving_release: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = serving_release(health_timeout=0.5)
    first = repository.head
    modify(agent, first)
    repository.commit({"index.html": "broken\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("rolled_back", first)


def test_an_earlier_release_that_these_signers_have_not_signed_does_not_come_back(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path, registered: dict[str, Any]
) -> None:
    agent = agents(hooks={}, **registered)
    agent.config["health_timeout"] = 0.5
    service_is_up = tmp_path / "up"
    service_is_up.touch()
    check = {"type": "command", "command": ["/bin/sh", "-c", f"test -e {service_is_up}"], "interval": 0.05}
    agent.config["services"][0]["check"] = check
    agent.start()
    agent.wait_outcome(release())
    agent.end()
    signer = Signer(tmp_path, "friend")
    signers = tmp_path / "signers"
    signers.write_text(signer.line)
    agent.config["require_signature"] = str(signers)
    agent.start().wait_live()
    signed = signer.commit(repository, "signed")
    service_is_up.unlink()
    record = {"url": repository.url, "commitId": signed, "relativePath": "site"}
    status = agent.wait_outcome(release(**signer.sign_record(agent.app, record, 1)))
    assert (status["state"], agent.live()) == ("failed", signed)
    assert "no earlier release may go live again" in status["message"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL])
def test_a_generation_that_failed_is_not_tried_again_where_the_agent_ends_while_it_checks_the_earlier_release(
    serving_release: Agents, repository: GitRepository, release: Publish, service: Service, number: signal.Signals
) -> None:
    agent = serving_release(health_timeout=0.5)
    first = repository.head
    agent.end()
    agent.config["health_timeout"] = 3
    agent.start().wait_live()
    service.answer = lambda: (500, "")
    repository.commit({"index.html": "broken\n"})
    generation = release()
    wait_for(lambda: f"rolled back to {first}" in (agent.status.get("message") or ""), "the earlier release is checked")
    assert (agent.status["state"], agent.status["commitId"]) == ("checking", first)
    agent.end(number)
    assert journal(agent)["failure"]["generation"] == generation
    agent.start()
    status = agent.wait_outcome(generation)
    assert (status["state"], status["commitId"], agent.live()) == ("failed", first, first)
    assert "the earlier release is not healthy" in status["message"], "it is checked on"
    assert agent.log.count(f"activating, generation={generation}") == 1


def test_a_newer_release_does_not_wait_for_the_health_of_an_earlier_one(
    serving_release: Agents, repository: GitRepository, release: Publish, service: Service
) -> None:
    agent = serving_release(health_timeout=600, hooks={"after_activate": FAILS_WHERE_BROKEN})
    first = repository.head
    service.answer = lambda: (500, "")
    repository.commit({"index.html": "broken\n"})
    release()
    wait_for(lambda: f"rolled back to {first}" in (agent.status.get("message") or ""), "the earlier release is checked")
    mended = repository.commit({"index.html": "mended\n"})
    service.answer = lambda: (200, "")
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("active", mended)


def answer_after_switch(service: Service, agent: Agent, *statuses: int, then: tuple[int, ...] = (200,)) -> None:
    """Let the service answer 200, and once `two` is live these statuses, then those of `then` over and over."""
    answers = itertools.chain(statuses, itertools.cycle(then))

    def answer() -> tuple[int, str]:
        return (next(answers) if "two" in (agent.base / "site/index.html").read_text() else 200), ""

    service.answer = answer


def test_a_check_that_fails_while_a_release_is_being_proved_restarts_the_soak(
    serving_release: Agents, repository: GitRepository, release: Publish, service: Service
) -> None:
    agent = serving_release(healthy_for=0.6)
    answer_after_switch(service, agent, 200, 200, 200, 500, 500, 500)
    second = repository.commit({"index.html": "two\n"})
    status = agent.wait_outcome(generation := release())
    assert (status["state"], status["commitId"], status.get("message")) == ("active", second, None)
    said = [line for line in agent.log.splitlines() if f"checking, generation={generation}" in line]
    assert [line.partition(f"{second}")[2] for line in said][-3:] == [
        ": healthy, proved in 0.6 s",
        f": not healthy for 0.6 s on end: http 127.0.0.1:{service.port}/: status 500, expected 200",
        ": healthy, proved in 0.6 s",
    ]


def test_a_release_whose_checks_fail_now_and_then_is_rolled_back_at_the_deadline_of_its_soak(
    serving_release: Agents, repository: GitRepository, release: Publish, service: Service
) -> None:
    agent = serving_release(healthy_for=1, health_timeout=0.5)
    first = repository.head
    answer_after_switch(service, agent, then=(200, 500))
    repository.commit({"index.html": "two\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("rolled_back", first)
    assert "not healthy for 1 s on end within 1.5 s: " in status["message"]
    assert "status 500, expected 200" in status["message"]


def test_an_agent_that_ends_during_the_soak_goes_on_with_the_proof(
    serving_release: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = serving_release()
    agent.end()
    agent.config["healthy_for"] = 600
    agent.start().wait_live()
    assert agent.wait_outcome(agent.status["generation"])["state"] == "active", "what was proved before need not last"
    repository.commit({"index.html": "two\n"})
    generation = release()
    wait_for(lambda: agent.status.get("message") == "healthy, proved in 600 s", "the soak has begun")
    agent.end(signal.SIGUSR2)
    agent.config["healthy_for"] = 0.2
    agent.start()
    assert agent.wait_outcome(generation)["state"] == "active"
    assert "checking, generation=" + f"{generation} commit={repository.head}: healthy, proved in 0.2 s" in agent.log
