"""An agent that gets its password from systemd: it is in no file that the agent keeps, and survives a reload."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from support.agent import Agent
from support.waiting import wait_for

SECRET = "s3cret-of-the-unit"


@pytest.fixture
def zk_options() -> dict[str, object]:
    """Logs the tests' clients in as the agent's user."""
    return {"auth_data": [("digest", f"agent:{SECRET}")]}


@pytest.fixture
def agent(agents: Callable[..., Agent], zk: KazooClient, app: str, tmp_path: Path) -> Agent:
    """A running agent with its credentials, in an application that nobody else may use."""
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "digest_password").write_text(f"{SECRET}\n")
    zk.create(app, acl=[make_digest_acl("agent", SECRET, all=True)], makepath=True)
    made = agents(digest_username="agent", credentials=["digest_password"])
    made.start(CREDENTIALS_DIRECTORY=str(tmp_path / "credentials"))
    return made.wait_live()


def test_it_logs_in_and_keeps_the_password_only_in_memory(agent: Agent) -> None:
    assert agent.process
    process = Path(f"/proc/{agent.process.pid}")
    kept = [path for path in agent.root.rglob("*") if path.is_file()]
    assert agent.root / "agent.json" in kept
    for path in (*kept, process / "cmdline", process / "environ"):
        assert SECRET.encode() not in path.read_bytes(), path


def test_it_still_has_the_password_after_a_reload(agent: Agent) -> None:
    assert agent.process
    agent.config["log_level"] = "debug"
    agent.configure()
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: agent.log.count("session SyncConnected") == 2, "it has begun anew")
    agent.wait_live()
    assert SECRET not in agent.log


def test_a_check_says_that_there_are_no_credentials(agents: Callable[..., Agent]) -> None:
    made = agents(digest_username="agent", credentials=["digest_password"])
    done = Agent.run("check", "--config", str(made.configure()))
    assert done.returncode != 0
    assert "credentials: CREDENTIALS_DIRECTORY is not set" in done.stdout + done.stderr
    assert json.loads(made.configure().read_text())["credentials"] == ["digest_password"]
