"""An agent that is not root gives files to other users by its capabilities, which its commands do not have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from support.agent import SOURCE, Agent
from support.files import Host
from support.waiting import wait_for

Agents = Callable[..., Agent]

CAPABILITIES = "+chown,+fowner,+dac_override"
AS_DAEMON = [
    *("setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups"),
    *(f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}", f"--bounding-set=-all,{CAPABILITIES}"),
]


@pytest.fixture
def tmp_path(open_path: Path) -> Path:
    """A directory that users other than root can reach too."""
    return open_path


@pytest.fixture
def unprivileged(agents: Agents, zk: KazooClient, app: str, tmp_path: Path) -> Iterator[Host]:
    """A host whose agent runs as daemon with the capabilities of the role's unit, once `start` has started it."""
    host = Host(agents, zk, f"{app}/mxn", tmp_path / "etc")
    yield host
    host.agent.kill()


def start(host: Host) -> None:
    """Start the agent as daemon."""
    command = [*AS_DAEMON, sys.executable, "-m", "zoo_watcher", "run", "--config", str(host.agent.configure())]
    with (host.agent.root / "agent.log").open("ab") as log:
        host.agent.process = subprocess.Popen(
            command, stdout=log, stderr=log, env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"}
        )


def test_an_agent_that_is_not_root_writes_a_file_only_for_root_and_its_commands_have_no_capabilities(
    unprivileged: Host,
) -> None:
    host = unprivileged
    host.write("a.conf", b"one")
    host.write("conf.d/sub/b.conf", b"two")
    tell = ["sh", "-c", "id -un; grep Cap[EPA] /proc/self/status"]
    root = {"owner": "root", "group": "root", "mode": "0600"}
    host.add("a.conf", **root, validate=["grep", "-q", "one", "%s"], on_change=tell, on_delete="remove")
    host.add("conf.d", **root, format="directory", validate=["test", "-s", "%s/sub/b.conf"], on_delete="remove")
    start(host)
    host.wait_proved("a.conf")
    host.wait_proved("conf.d")
    for name, mode in (("a.conf", 0o600), ("conf.d/sub/b.conf", 0o600), ("conf.d/sub", 0o700), ("conf.d", 0o700)):
        found = host.dest(name).stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (mode, 0, 0)
    wait_for(lambda: "on_change sh succeeded" in host.agent.log, "it has acted")
    output = [line.split(": ", 1)[1] for line in host.agent.log.splitlines() if " on_change sh: " in line]
    assert output == ["daemon", *(f"{kind}:\t{0:016x}" for kind in ("CapPrm", "CapEff", "CapAmb"))]
    assert host.agent.process is not None
    before = host.dest("a.conf").stat()
    host.agent.end()
    start(host)
    host.wait_proved("a.conf")
    assert host.dest("a.conf").stat().st_ino == before.st_ino, "what only root may read is compared all the same"
    host.delete("a.conf")
    host.delete("conf.d")
    host.wait_proved("a.conf", "missing")
    host.wait_proved("conf.d", "missing")
    assert list(host.etc.iterdir()) == []
