"""The agent as a Python package: its wheel is installed without the role."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.ensemble import Ensemble
from support.playbook import ROOT
from support.repository import GitRepository
from support.waiting import wait_for


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel of this tree and its dependencies installed."""
    directory = tmp_path_factory.mktemp("package")
    wheels, environment = directory / "dist", directory / "environment"
    for words in (
        ["build", "--quiet", "--wheel", "--out-dir", str(wheels), str(ROOT)],
        ["venv", "--quiet", "--python", sys.executable, str(environment)],
    ):
        subprocess.run(["uv", *words], check=True)
    (wheel,) = wheels.glob("zoo_watcher-*.whl")
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", str(environment), str(wheel)], check=True)
    return environment


def test_an_agent_that_pip_has_installed_deploys_what_is_published(
    installed: Path,
    tmp_path: Path,
    ensemble: Ensemble,
    zk: KazooClient,
    app: str,
    release: Callable[..., int],
    repository: GitRepository,
) -> None:
    agent = Agent(tmp_path, ensemble.hosts, app, zk)
    bare = {"PATH": os.environ["PATH"]}
    program = str(installed / "bin" / "zoo-watcher")
    config = str(agent.configure())
    checked = subprocess.run(
        [program, "check", "--config", config], check=True, capture_output=True, text=True, env=bare
    )
    assert checked.stdout.startswith(f"{config}: valid, app={app} ")
    process = subprocess.Popen([program, "run", "--config", config], env=bare)
    try:
        release()
        wait_for(lambda: agent.live() == repository.head, "what is published is live")
        wait_for(lambda: agent.status.get("state") == "active", "the status says so")
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_the_package_brings_its_man_page_and_its_completion(installed: Path) -> None:
    source = ROOT / "roles" / "watcher" / "files" / "share"
    for path in ("man/man1/zoo-watcher.1", "bash-completion/completions/zoo-watcher"):
        assert (installed / "share" / path).read_text() == (source / path).read_text()
