"""A directory of Capistrano or Ansistrano becomes an agent's base, as docs/guides/deployers.md describes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.agent import Agent
from support.documents import ROOT
from support.repository import GitRepository

Agents = Callable[..., Agent]
Publish = Callable[..., int]

FORMER = "releases/20150120114500"


@pytest.fixture
def agent(agents: Agents) -> Agent:
    """An agent, not started yet, whose base is such a directory: a release, a shared directory, `current`."""
    agent = agents(
        shared_paths=["log", "config/database.yml"],
        hooks={"after_activate": ["/bin/sh", "-c", "! grep -q broken index.html"]},
    )
    (agent.base / FORMER).mkdir(parents=True)
    (agent.base / "shared/log").mkdir(parents=True)
    (agent.base / "shared/log/web.log").write_text("written before\n", encoding="utf-8")
    (agent.base / "shared/config").mkdir()
    (agent.base / "shared/config/database.yml").write_text("host: db1\n", encoding="utf-8")
    (agent.base / FORMER / "log").symlink_to("../../shared/log")
    (agent.base / "current").symlink_to(FORMER)
    return agent


def take_over(base: Path) -> None:
    """Run the commands that the page gives for each host before the role is applied."""
    page = (ROOT / "docs/guides/deployers.md").read_text(encoding="utf-8")
    commands = [line.removeprefix("$ ") for line in page.splitlines() if line.startswith("$ mkdir")]
    subprocess.run(["sh", "-ec", *commands], cwd=base, check=True)
    assert (base / "current/log/web.log").exists()


def test_the_first_release_takes_the_place_of_current_and_has_what_was_shared(
    agent: Agent, repository: GitRepository, release: Publish
) -> None:
    take_over(agent.base)
    agent.start()
    assert agent.wait_outcome(release(relativePath="current"))["state"] == "active"
    assert agent.live("current") == repository.head
    assert (agent.base / "current/log/web.log").read_text(encoding="utf-8") == "written before\n"
    assert (agent.base / "current/config/database.yml").read_text(encoding="utf-8") == "host: db1\n"
    assert (agent.base / FORMER).is_dir()


def test_a_first_release_that_fails_stays_live_until_somebody_puts_the_former_one_back(
    agent: Agent, repository: GitRepository, release: Publish
) -> None:
    take_over(agent.base)
    repository.commit({"index.html": "broken\n"})
    agent.start()
    assert agent.wait_outcome(release(relativePath="current"))["state"] == "failed"
    assert agent.live("current") == repository.head
    subprocess.run(["ln", "-sfn", FORMER, "current"], cwd=agent.base, check=True)
    repository.commit({"index.html": "mended\n"})
    assert agent.wait_outcome(release(relativePath="current"))["state"] == "active"
    assert agent.live("current") == repository.head
