"""What an agent's log and `zoo-watcher status` tell a person about a deployment."""

from __future__ import annotations

import re
from collections.abc import Callable

from support.agent import Agent
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
SECONDS = r"\d+\.\d\d s"


def told(agent: Agent, generation: int) -> list[tuple[str, str]]:
    """The level and message of each line about a generation or a check."""
    lines = [line.split(" ", 2)[1:] for line in agent.log.splitlines()]
    about = [line for line in lines if f"generation={generation}" in line[-1] or line[-1].startswith("check ")]
    return [(line[0], line[1]) for line in about]


def test_a_deployment_that_succeeds_takes_five_lines_and_the_last_has_the_seconds_of_its_steps(
    agents: Agents, release: Publish, repository: GitRepository, service: Service, app: str
) -> None:
    service.open()
    check = {"type": "http", "path": "/health"}
    agent = agents(services=[{"path": f"{app}/s", "port": service.port, "check": check}]).start().wait_live()
    generation = release()
    agent.wait_outcome(generation)
    wait_for(lambda: f"active, generation={generation}" in agent.log, "it is told")
    lines = told(agent, generation)
    assert {level for level, _words in lines} == {"INFO"}
    states = [words.partition(",")[0] for _level, words in lines]
    assert states == ["fetching", "staging", "activating", "checking", "active"]
    steps = f"fetching {SECONDS}, staging {SECONDS}, activating {SECONDS}, checking {SECONDS}"
    assert re.search(rf"commit={repository.head}: {steps}$", lines[-1][1]), lines[-1]
    shown = agent.run("status", "--config", str(agent.root / "agent.json")).stdout
    assert re.search(rf"(?m)^steps +{steps}$", shown), shown
    assert re.search(r"(?m)^back to +nothing$", shown), shown


def test_empty_lines_of_a_hook_are_not_logged(agents: Agents, release: Publish) -> None:
    script = "echo first; yes '' | head -c 1000; echo '  '; echo '  last'"
    agent = agents(hooks={"after_activate": ["/bin/sh", "-c", script]}).start()
    generation = release()
    agent.wait_outcome(generation)
    begin = f"hook after_activate, generation={generation}: "
    assert [line.partition(begin)[2] for line in agent.log.splitlines() if begin in line] == ["first", "  last"]


def test_a_failing_check_is_a_warning_immediately_and_the_rollback_is_an_error(
    agents: Agents, release: Publish, repository: GitRepository, service: Service, app: str
) -> None:
    service.open()
    first = repository.head
    check = {"type": "http", "path": "/health", "interval": 0.2}
    services = [{"path": f"{app}/s", "port": service.port, "check": check}]
    agent = agents(services=services, health_timeout=3).start().wait_live()
    agent.wait_outcome(release())
    repository.commit({"index.html": "broken\n"})
    broken = "broken"
    service.answer = lambda: (404, broken) if broken in (agent.base / "site/index.html").read_text() else (200, "fine")
    generation = release()
    wait_for(lambda: "check fails: " in agent.log, "the check that fails is told")
    # It is reported before it has had any effect.
    assert "rolling back" not in agent.log
    agent.wait_outcome(generation)
    wait_for(lambda: "ERROR rolled_back" in agent.log, "the outcome is told")
    lines = told(agent, generation)
    # A check that was under way when the release went live belongs to the previous one, and may fail too.
    wrong = list(dict.fromkeys(line for line in lines if line[0] != "INFO"))
    assert [level for level, _words in wrong] == ["WARNING", "ERROR", "ERROR"], lines
    why = f"http 127.0.0.1:{service.port}/health: status 404, expected 200"
    warning, going, back = (words for _level, words in wrong)
    assert warning == f"check fails: {why}"
    assert going == f"rolling back to {first}, generation={generation}: not healthy within 3 s: {why}"
    assert back.startswith(f"rolled_back, generation={generation} commit={repository.head}: not healthy within 3 s: ")
    assert ("INFO", f"check passes again: port {service.port}") in lines
    # The status has how long the step took, for anybody who looks at the fleet.
    status = agent.status
    assert (status["state"], status["failedStep"]["step"]) == ("rolled_back", "checking")
    assert status["failedStep"]["seconds"] >= 3
    assert "checking" not in status["timings"]
    shown = agent.run("status", "--config", str(agent.root / "agent.json")).stdout
    assert re.search(rf"(?m)^steps +fetching .*, checking FAILED after {SECONDS}$", shown), shown
    assert "failedStep" not in agent.wait_outcome(release(first))


def test_a_fetch_that_is_tried_again_and_again_takes_one_line_per_attempt(agents: Agents, release: Publish) -> None:
    agent = agents().start().wait_live()
    generation = release("f" * 40)

    def tries() -> list[tuple[str, str]]:
        return [line for line in told(agent, generation) if line[0] == "WARNING"]

    wait_for(lambda: len(tries()) > 1, "it was tried again")
    assert [line for line in tries() if not re.search(r"was it pushed\?; tried again in \d+ s$", line[1])] == []
    assert agent.status["waitsFor"] == "commit"
