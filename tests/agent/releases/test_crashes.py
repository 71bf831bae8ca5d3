"""A release that takes the agent down is tried once more, then given up. A deliberate end does not count."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
GIVEN_UP = "given up: the agent died 2 times while this release was being activated or checked"


def test_a_release_that_takes_the_agent_down_twice_gives_way_to_the_previous_one(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents(hooks={"after_activate": ["/bin/sh", "-c", "! grep -q deadly index.html || kill -9 $PPID"]}).start()
    first = repository.head
    agent.wait_outcome(release())
    deadly = repository.commit({"index.html": "deadly\n"})
    generation = release()
    for _crash in range(2):
        assert agent.process is not None
        assert agent.process.wait(20) == -signal.SIGKILL
        assert agent.live() == deadly
        agent.start()
    status = agent.wait_outcome(generation)
    assert (status["state"], status["commitId"], agent.live()) == ("rolled_back", first, first)
    assert status["message"] == f"{GIVEN_UP}; rolled back to {first}"
    mended = repository.commit({"index.html": "mended\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("active", mended)


@pytest.mark.parametrize("signal", ["USR2", "HUP"])
@pytest.mark.parametrize("hook", ["before_activate", "after_activate"])
def test_a_hook_that_restarts_the_agent_each_time_is_given_up_after_many(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path, hook: str, signal: str
) -> None:
    notes = tmp_path / "notes"
    script = f'echo "$0 $ZOO_COMMIT" >> {notes}; kill -{signal} $PPID; sleep 0.3'
    agent = agents().start()
    first = repository.head
    agent.wait_outcome(release())
    agent.end()
    names = (hook, "before_rollback")
    agent.config["hooks"] = {name: ["/bin/sh", "-c", script, name] for name in names}
    second = repository.commit({"index.html": "two\n"})
    generation = release()
    agent.start()
    notes.touch()

    def has_come_to_an_end() -> bool:
        if agent.process is not None and agent.process.poll() is not None:
            agent.start()
        assert len(notes.read_text().splitlines()) < 15
        # Whatever the outcome, the agent that reports it does not end.
        status = agent.status
        return status.get("generation") == generation and status.get("state") in {"failed", "rolled_back"}

    wait_for(has_come_to_an_end, "it is given up", 90)
    runs = [line.split() for line in notes.read_text().splitlines()]
    assert runs[:9] == [[hook, second]] * 8 + [["before_rollback", second]], agent.log
    assert all(run == ["after_activate", first] for run in runs[9:]), runs
    assert len(runs) <= 10
    assert agent.live() == first
    assert "the agent was stopped or restarted 8 times after hooks or units were run" in agent.status["message"]
    assert "does one of them restart the agent?" in agent.status["message"]
    agent.end()
    agent.config["hooks"] = {}
    third = repository.commit({"index.html": "three\n"})
    agent.start()
    assert (agent.wait_outcome(release())["state"], agent.live()) == ("active", third)


def test_restarts_of_the_agent_while_a_hook_runs_do_not_blame_the_release(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    notes.touch()
    wait = f"until test -e {gate}; do sleep 0.1; done; sleep 0.5; exit 1"
    script = f"echo >> {notes}; test $(wc -l < {notes}) -gt 7 || {{ {wait}; }}"
    agent = agents(hooks={"after_activate": ["/bin/sh", "-c", script]}).start()
    generation = release()

    def has_begun(number: int) -> bool:
        return len(notes.read_text()) == number

    for number in range(1, 8):
        wait_for(partial(has_begun, number), "the hook runs")
        assert agent.process is not None
        agent.process.send_signal(signal.SIGUSR2)
        wait_for(partial(has, agent, "handing over", number), "the agent ends")
        gate.touch()
        agent.process.wait(20)
        gate.unlink()
        agent.start()
    assert (agent.wait_outcome(generation)["state"], agent.live()) == ("active", repository.head)


def test_a_hook_that_takes_the_agent_down_during_the_rollback_too_is_not_run_for_ever(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    deadly, notes = tmp_path / "deadly", tmp_path / "notes"
    script = f'echo "$0 $ZOO_COMMIT" >> {notes}; test ! -e {deadly} || kill -9 $PPID'
    hooks = {name: ["/bin/sh", "-c", script, name] for name in ("after_activate", "before_rollback")}
    agent = agents(hooks=hooks).start()
    first = repository.head
    agent.wait_outcome(release())
    deadly.touch()
    notes.unlink()
    second = repository.commit({"index.html": "two\n"})
    generation = release()
    for _crash in range(4):
        assert agent.process is not None
        assert agent.process.wait(20) == -signal.SIGKILL
        agent.start()
    status = agent.wait_outcome(generation)
    assert (status["state"], status["commitId"], agent.live()) == ("failed", first, first)
    assert status["message"] == (
        f"{GIVEN_UP}; hook before_rollback not run: the agent died while rolling back; "
        f"rolled back to {first}; the agent ended before after_activate and the units were done"
    )
    hooks_run = [f"after_activate {second}"] * 2 + [f"before_rollback {second}", f"after_activate {first}"]
    assert notes.read_text().splitlines() == hooks_run
    deadly.unlink()
    mended = repository.commit({"index.html": "mended\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("active", mended)


def has(agent: Agent, text: str, times: int) -> bool:
    """Whether the agent has logged a string exactly this many times."""
    return agent.log.count(text) == times


def test_only_an_abrupt_end_counts_and_a_first_release_that_is_given_up_stays_live(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    registered: dict[str, Any],
    tmp_path: Path,
) -> None:
    notes = tmp_path / "notes"
    hooks = {"after_activate": ["/bin/sh", "-c", f"echo used >> {notes}"]}
    agent = agents(health_timeout=600, hooks=hooks, **registered).start()
    generation = release()
    ends = (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL)
    for number, end in enumerate(ends, start=1):
        begun = f"checking, generation={generation} "
        wait_for(partial(has, agent, begun, number), "it is being checked")
        agent.end(end)
        agent.start()
    status = agent.wait_outcome(generation)
    assert (status["state"], agent.live()) == ("failed", repository.head)
    assert status["message"] == f"{GIVEN_UP}; there is no earlier release to go back to"
    assert notes.read_text().count("used") == len(ends), "the host is left as it is"


def test_a_hook_that_takes_the_agent_down_before_it_leaves_an_unproved_release_is_not_run_for_ever(
    deployed: Agents, repository: GitRepository, release: Publish, service: Service, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    agent = deployed(health_timeout=600)
    first = repository.head
    second = repository.commit({"index.html": "two\n"})
    service.answer = lambda: (500, "") if agent.live() == second else (200, "")
    generation = release()
    wait_for(partial(has, agent, f"checking, generation={generation} ", 1), "it is live, and checked")
    agent.end()
    agent.config["health_timeout"] = 0.1
    agent.config["hooks"] = {"before_rollback": ["/bin/sh", "-c", f"echo $ZOO_COMMIT >> {notes}; kill -9 $PPID"]}
    repository.commit({"index.html": "three\n"})
    newer = release(url=f"{repository.url}-is-not-here")
    agent.start()
    for _crash in range(3):
        assert agent.process is not None
        assert agent.process.wait(20) == -signal.SIGKILL
        assert agent.live() == second
        agent.start()
    wait_for(lambda: agent.live() == first, "it goes back")
    assert notes.read_text().split() == [second] * 3
    wait_for(lambda: agent.status["state"] == "fetching", "the newer one is tried on")
    assert agent.status["generation"] == newer
    assert f"checking, generation={generation} commit={second}: {GIVEN_UP}; hook before_rollback not run" in agent.log
    assert f"{second}, which was live: {GIVEN_UP}" in agent.status["message"]
