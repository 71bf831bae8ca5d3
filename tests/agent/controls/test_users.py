"""Who may do what on a host: anybody may look, only the agent's user and root, acting as that user, may control."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.agent import SOURCE, Agent
from support.waiting import wait_for

Agents = Callable[..., Agent]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")

AS_USER = """\
import os, pwd, sys
# Python itself may be where only root reads: all that is needed of it is loaded before.
from zoo_watcher import __main__, command_line, control_commands, status_report
command_line.parser().parse_args(sys.argv[2:])
user = pwd.getpwnam(sys.argv.pop(1))
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
sys.exit(__main__.main())
"""
CAPABILITY = "+dac_override"
"""Lets an agent run a Python that only root may read."""
AS_DAEMON = [
    *("setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups"),
    *(f"--inh-caps={CAPABILITY}", f"--ambient-caps={CAPABILITY}"),
]


def run_as(user: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What `zoo-watcher` prints and returns for a user."""
    environment = {key: value for key, value in os.environ.items() if key != "SUDO_USER"}
    return subprocess.run(
        [sys.executable, "-c", AS_USER, user, *words],
        check=False,
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(SOURCE)},
    )


@pytest.fixture
def tmp_path(open_path: Path) -> Path:
    """A directory that users other than root can reach too."""
    return open_path


@pytest.fixture
def daemons(agents: Agents) -> Iterator[Agent]:
    """An agent that runs as daemon, with a configuration for root and daemon only, as the role installs it."""
    agent = agents()
    config = agent.configure()
    agent.base.mkdir()
    user = pwd.getpwnam("daemon")
    for path, mode, owner in ((agent.root, 0o755, 0), (config, 0o640, 0), (agent.base, 0o755, user.pw_uid)):
        path.chmod(mode)
        os.chown(path, owner, user.pw_gid)
    config.with_suffix(".base").symlink_to(agent.base)
    yield agent
    agent.kill()


def start(agent: Agent) -> None:
    """Start the agent as daemon."""
    command = [*AS_DAEMON, sys.executable, "-m", "zoo_watcher", "run", "--config", str(agent.root / "agent.json")]
    with (agent.root / "agent.log").open("ab") as log:
        agent.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(SOURCE)})
    agent.wait_live()


def test_an_ordinary_user_sees_the_status_and_is_told_what_could_not_be_read(daemons: Agent) -> None:
    start(daemons)
    config = str(daemons.root / "agent.json")
    assert daemons.control("hold", "--reason", "disk swap").returncode == 0
    done = run_as("nobody", "status", "--config", config)
    assert (done.returncode, done.stderr) == (0, f"zoo-watcher: not read: {config}: Permission denied\n")
    assert "agent       server1, running\n" in done.stdout
    assert f"app         {daemons.app}\n" in done.stdout
    assert ": disk swap\n" in done.stdout
    report = json.loads(run_as("nobody", "status", "--config", config, "--json").stdout)
    assert (report["name"], report["app"], report["held"]["reason"]) == ("server1", daemons.app, "disk swap")
    assert run_as("daemon", "status", "--config", config).stderr == ""


def test_a_base_that_an_ordinary_user_may_not_read_is_reported(daemons: Agent) -> None:
    daemons.base.chmod(0o700)
    config = daemons.root / "agent.json"
    done = run_as("nobody", "status", "--config", str(config))
    assert (done.returncode, done.stderr) == (
        0,
        f"zoo-watcher: not read: {config}: Permission denied; {daemons.base}: Permission denied\n",
    )
    assert not {"held", "drained"} & set(done.stdout.split()), "what can't be read is not said"
    config.with_suffix(".base").unlink()
    done = run_as("nobody", "status", "--config", str(config))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("run this with sudo\n")


@pytest.mark.parametrize(
    "words", [["hold", "--reason", "x"], ["release"], ["drain", "--reason", "x"], ["undrain"], ["retry"]]
)
def test_an_ordinary_user_is_told_to_use_sudo_and_changes_nothing(daemons: Agent, words: list[str]) -> None:
    start(daemons)
    assert daemons.control("hold", "--reason", "mine").returncode == 0
    assert daemons.control("drain", "--reason", "mine").returncode == 0
    before = daemons.status
    done = run_as("nobody", *words, "--config", str(daemons.root / "agent.json"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"zoo-watcher: {daemons.base}/.zoo: permission denied; run this as root, with sudo\n"
    assert daemons.status == before


@pytest.mark.parametrize("user", ["root", "daemon"])
def test_root_and_the_agents_own_user_control_it_and_what_they_write_is_the_agents(daemons: Agent, user: str) -> None:
    start(daemons)
    config = str(daemons.root / "agent.json")
    os.umask(0o077)
    try:
        done = run_as(user, "drain", "--reason", "disk swap", "--config", config)
    finally:
        os.umask(0o022)
    assert (done.returncode, done.stderr) == (0, ""), daemons.log
    assert done.stdout.endswith(f" by {user}: disk swap; nothing is registered\n")
    controls = daemons.base / ".zoo/controls"
    for path, mode in ((controls, 0o755), (controls / "drained", 0o644)):
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (pwd.getpwnam("daemon").pw_uid, mode)
    assert run_as(user, "undrain", "--config", config).returncode == 0
    wait_for(lambda: "drained" not in daemons.status, "it is undrained")


def test_what_the_agents_user_puts_in_the_way_makes_root_write_nothing_elsewhere(
    daemons: Agent, tmp_path: Path
) -> None:
    start(daemons)
    config = str(daemons.root / "agent.json")
    valuable = tmp_path / "valuable"
    valuable.write_text("root's")
    controls = daemons.base / ".zoo/controls"
    assert daemons.control("undrain").returncode == 0
    (controls / "held").symlink_to(valuable)
    done = run_as("root", "hold", "--reason", "x", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert valuable.read_text() == "root's"
    assert not (controls / "held").is_symlink()
    (controls / "held").unlink()
    controls.rmdir()
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    controls.symlink_to(theirs)
    done = run_as("root", "hold", "--reason", "x", "--config", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert list(theirs.iterdir()) == []
