"""What an agent shows of itself: the command `status`, and the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from kazoo.client import KazooClient

from support.agent import SOURCE, Agent, publish
from support.ports import free_ports
from support.repository import GitRepository
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
Registrations = Callable[[], dict[str, list[str]]]


def status_of(agent: Agent, *words: str) -> str:
    """What `python -m zoo_watcher status` prints on the agent's host."""
    command = [sys.executable, "-m", "zoo_watcher", "status", "--config", str(agent.root / "agent.json"), *words]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def test_status_reports_what_is_live_while_the_agent_runs_and_after(
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


@pytest.mark.parametrize("config", [b"{", None])
def test_an_agent_that_finds_no_release_published_reports_which_is_live(
    deployed: Agents, repository: GitRepository, zk: KazooClient, app: str, config: bytes | None
) -> None:
    agent = deployed()
    agent.end()
    if config is None:
        zk.delete(f"{app}/config")
    else:
        publish(zk, app, config)
    agent.start().wait_live()
    status = wait_for(lambda: agent.status if config is None or agent.status["state"] == "failed" else None, "it looks")
    expected = "idle" if config is None else "failed"
    assert (status["state"], status.get("commitId")) == (expected, repository.head)


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_status_shows_a_place_whose_name_is_not_valid_utf8(
    deployed: Agents, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    agent = deployed()
    os.symlink(os.readlink(agent.base / "site"), os.fsencode(agent.base) + b"/site-\xff")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    told = status_of(agent, *words)
    assert "site-\N{REPLACEMENT CHARACTER}" in (str(json.loads(told)) if words else told)


def test_a_terminal_that_lacks_a_character_gets_it_as_an_escape(
    deployed: Agents, release: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = deployed()
    agent.wait_outcome(release(relativePath="日本"))
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    for words in (["hold", "--reason", "für 日本"], ["status"], ["release"]):
        done = agent.control(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert words == ["release"] or "\\u65e5\\u672c" in done.stdout


def test_status_of_a_host_without_anything_is_valid_too(agents: Agents) -> None:
    agent = agents()
    agent.configure()
    report = json.loads(status_of(agent, "--json"))
    assert (report["running"], report["live"], report["status"]) == (False, {}, None)


def test_the_log_describes_a_deployment_in_five_lines_with_generation_and_commit(
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
    states = [line.partition(f", {key}")[0].split()[-1] for line in story]
    assert states == ["fetching", "staging", "activating", "checking", "active"]


def test_the_status_names_the_members_that_are_tried_and_the_last_error(agents: Agents) -> None:
    (port,) = free_ports(1)
    agent = agents(hosts=f"127.0.0.1:{port}").start()
    report = wait_for(
        lambda: next(
            (
                report
                for report in [json.loads(status_of(agent, "--json"))]
                if (report["status"] or {}).get("trying", {}).get("error")
            ),
            None,
        ),
        "the error is told",
    )
    assert report["status"]["trying"]["members"] == [f"127.0.0.1:{port}"]
    assert "Connection refused" in report["status"]["trying"]["error"]
    (line,) = [line for line in status_of(agent).splitlines() if line.startswith("tries ")]
    assert line.startswith(f"tries       127.0.0.1:{port}; last error: ")
