"""What can be seen of an agent: the command `status`, Prometheus metrics, the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from support.agent import SOURCE, Agent
from support.ports import free_ports
from support.repository import GitRepository
from support.service import Service
from support.sight import scraped
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
Registrations = Callable[[], dict[str, list[str]]]


def status_of(agent: Agent, *words: str) -> str:
    """What `python -m zoo_watcher status` prints on the agent's host."""
    command = [sys.executable, "-m", "zoo_watcher", "status", "--config", str(agent.root / "agent.json"), *words]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def test_status_says_what_is_live_while_the_agent_runs_and_after(
    deployed: Agents, repository: GitRepository, app: str
) -> None:
    agent = deployed()
    generation = agent.status["generation"]
    report = wait_for(
        lambda: next(filter(lambda item: item["status"]["registered"], [json.loads(status_of(agent, "--json"))]), None),
        "the registration is told",
    )
    assert (report["running"], report["live"], report["healthy"]) == (
        True,
        {"site": repository.head},
        [repository.head],
    )
    assert (report["status"]["state"], report["status"]["generation"]) == ("active", generation)
    assert (report["status"]["session"], report["status"]["registered"]) == (
        "SyncConnected",
        [f"{app}/service/server1"],
    )
    assert f"site is {repository.head}" in status_of(agent)
    agent.end()
    assert json.loads(status_of(agent, "--json"))["running"] is False
    assert "server1, not running" in status_of(agent)


def test_status_of_a_host_without_anything_is_an_answer_too(agents: Agents) -> None:
    agent = agents()
    agent.configure()
    report = json.loads(status_of(agent, "--json"))
    assert (report["running"], report["live"], report["status"]) == (False, {}, None)


def test_metrics_tell_generation_state_session_steps_and_failures(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    (port,) = free_ports(1)
    agent = agents(metrics_port=port, hooks={"before_activate": ["/bin/sh", "-c", "test ! -e bad"]}).start()
    generation = release()
    agent.wait_outcome(generation)
    samples = wait_for(
        lambda: next(filter(lambda item: item['zoo_watcher_state{state="active"}'], [scraped(port)]), None),
        "it is active",
    )
    assert samples["zoo_watcher_generation"] == generation
    assert samples['zoo_watcher_state{state="failed"}'] == 0
    assert samples['zoo_watcher_session_state{state="SyncConnected"}'] == 1
    assert samples['zoo_watcher_deployments_total{outcome="active"}'] == 1
    assert samples['zoo_watcher_deploy_seconds{step="fetching"}'] > 0
    repository.commit({"bad": "\n"})
    agent.wait_outcome(release())
    samples = wait_for(
        lambda: next(filter(lambda item: item['zoo_watcher_state{state="failed"}'], [scraped(port)]), None), "it failed"
    )
    assert samples['zoo_watcher_deployments_total{outcome="failed"}'] == 1
    assert [value for name, value in samples.items() if name.startswith("zoo_watcher_failures_total{")] == [1]


def test_no_port_is_opened_where_no_metrics_are_wanted(agents: Agents, release: Publish) -> None:
    agent = agents().start()
    agent.wait_outcome(release())
    assert agent.process is not None
    listening = subprocess.run(["ss", "-Hltnp"], check=True, capture_output=True, text=True).stdout
    assert f"pid={agent.process.pid}," not in listening


def test_a_metrics_port_that_is_taken_is_one_line_and_exit_status_2(agents: Agents, service: Service) -> None:
    service.open()
    agent = agents(metrics_port=service.port).start()
    assert agent.process is not None
    assert agent.process.wait(20) == 2
    agent.process = None
    assert agent.log.splitlines() == [
        f"{agent.root}/agent.json: metrics_port: 127.0.0.1:{service.port}: Address already in use"
    ]


def test_the_log_tells_a_deployment_in_less_than_ten_lines_with_generation_and_commit(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents().start().wait_live()
    generation = release()
    agent.wait_outcome(generation)
    key = f"generation={generation} commit={repository.head}"
    story = wait_for(
        lambda: [line for line in agent.log.splitlines() if key in line] if f"active, {key}" in agent.log else None,
        "the log tells the end",
    )
    assert [line.split()[1].rstrip(",") for line in story] == [
        "fetching",
        "staging",
        "activating",
        "checking",
        "active",
    ]
