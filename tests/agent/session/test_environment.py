"""An agent in a container: variables tell how to reach the ensemble, and nothing else gets its password."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from support.agent import Agent
from support.waiting import wait_for
from zoo_watcher.releases.apply_process import OF_A_REPOSITORY

SECRET = "s3cret-of-the-container"
IGNORING = """\
import runpy, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
runpy.run_module("zoo_watcher", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def zk_options() -> dict[str, object]:
    """Logs the tests' clients in as the agent's user."""
    return {"auth_data": [("digest", f"agent:{SECRET}")]}


@pytest.fixture
def agent(agents: Callable[..., Agent], zk: KazooClient, app: str, tmp_path: Path) -> Agent:
    """An agent with neither members nor credentials in its configuration, in an application that requires a login."""
    zk.ensure_path("/app")
    zk.create(app, acl=[make_digest_acl("agent", SECRET, all=True)])
    show = ["/bin/sh", "-c", f"cat /proc/$$/environ > {tmp_path}/hook"]
    check = {"type": "command", "command": ["/bin/sh", "-c", f"cat /proc/$$/environ > {tmp_path}/check"]}
    service = {"path": f"{app}/service", "port": 9, "check": check}
    made = agents(session_timeout=None, hooks={"after_activate": show}, services=[service])
    made.config["hosts"] = None
    return made


def variables(agent: Agent, **further: str) -> dict[str, str]:
    """The environment variables of the container."""
    return {"ZK_HOSTS": agent.hosts, "ZK_SESSION_TIMEOUT": "4", "ZK_DIGEST_USERNAME": "agent", **further}


def noting_git(agent: Agent) -> str:
    """A value of PATH whose git records its environment and that of the apply process, and then does what git does."""
    (agent.root / "bin").mkdir(parents=True)
    agent.base.mkdir()
    git = agent.root / "bin/git"
    git.write_text(
        f'#!/bin/sh\ncat /proc/$PPID/environ /proc/$$/environ >> {agent.base}/git\nexec {shutil.which("git")} "$@"\n'
    )
    git.chmod(0o755)
    return f"{agent.root}/bin{os.pathsep}{os.environ['PATH']}"


def test_none_of_its_child_processes_has_its_password(
    agent: Agent, release: Callable[..., int], tmp_path: Path
) -> None:
    generation = release()
    agent.start(**variables(agent, ZK_DIGEST_PASSWORD=SECRET, PATH=noting_git(agent)))
    assert agent.wait_outcome(generation)["state"] == "active"
    assert agent.process
    shown = [tmp_path / "hook", tmp_path / "check", agent.base / "git"]
    for path in shown:
        assert f"ZK_HOSTS={agent.hosts}".encode() in path.read_bytes(), path
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in (*kept, Path(f"/proc/{agent.process.pid}/cmdline")):
        assert SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("in_file", [False, True])
def test_it_still_has_its_credentials_after_a_reload(agent: Agent, in_file: bool) -> None:
    agent.root.mkdir(parents=True)
    (agent.root / "password").write_text(f"{SECRET}\n")
    given = {"ZK_DIGEST_PASSWORD_FILE": str(agent.root / "password")} if in_file else {"ZK_DIGEST_PASSWORD": SECRET}
    agent.start(**variables(agent, **given)).wait_live()
    assert agent.process
    agent.config["log_level"] = "debug"
    agent.configure()
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: agent.log.count("session SyncConnected") == 2, "it has begun anew")
    agent.wait_live()
    assert SECRET not in agent.log


def test_a_check_names_the_variable_that_is_wrong(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZK_HOSTS", "zk1:2181")
    monkeypatch.setenv("ZK_TLS", "perhaps")
    done = Agent.run("check", "--config", str(agent.configure()))
    assert done.returncode == 2
    assert done.stderr == f'{agent.root}/agent.json: ZK_TLS: expected true or false, got "perhaps"\n'


def test_its_child_processes_can_fail_though_its_parent_ignores_sigchld(
    agents: Callable[..., Agent], release: Callable[..., int]
) -> None:
    agent = agents(hooks={"before_activate": ["false"]})
    agent.program = ("-c", IGNORING)
    assert agent.start().wait_outcome(release())["state"] == "failed"
    assert "before_activate" in agent.status["message"]


def test_the_repository_of_a_git_hook_that_starts_it_is_not_used(
    agents: Callable[..., Agent], release: Callable[..., int], tmp_path: Path
) -> None:
    said = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True).stdout
    names = {*OF_A_REPOSITORY, *said.split()} - {"GIT_CONFIG_COUNT"}
    elsewhere = {name: str(tmp_path / "elsewhere") for name in names}
    assert agents().start(**elsewhere).wait_outcome(release())["state"] == "active"
    assert not (tmp_path / "elsewhere").exists()
