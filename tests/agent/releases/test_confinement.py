"""What git could do on a host if a server had taken it over: neither read credentials nor write outside the base."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from zoo_watcher.host import landlock

GIT = """\
#!{python}
import json, os, socket, sys
from pathlib import Path

def read(path):
    return lambda: open(path, "rb").read(1)

def read_memory(pid):
    lines = [line.split() for line in open(f"/proc/{{pid}}/maps")]
    begin = next(int(words[0].partition("-")[0], 16) for words in lines if words[-1] == "[heap]")
    with open(f"/proc/{{pid}}/mem", "rb") as memory:
        memory.seek(begin)
        memory.read(1)

def run(path):
    path.write_text("#!/bin/sh\\n")
    path.chmod(0o755)
    os.posix_spawn(path, [str(path)], {{}})

def attempt(act):
    try:
        act()
    except OSError as exc:
        return exc.strerror
    return "done"

if "fetch" in sys.argv:
    agent = int(Path(f"/proc/{{os.getppid()}}/stat").read_text().rpartition(")")[2].split()[1])
    base = Path(os.environ["GIT_DIR"]).parents[1]
    root = base.parent
    host, port = {server!r}.rsplit(":", 1)
    made = {{
        "read the configuration": attempt(read(root / "agent.json")),
        "read a copy of the configuration": attempt(read(root / "agent.json.1~")),
        "read a credential": attempt(read(root / "credentials/digest_password")),
        "read a password in a file that a variable names": attempt(read(root / "password")),
        "read the session": attempt(read(root / "run/session.json")),
        "read the agent's memory": attempt(lambda: read_memory(agent)),
        "write beside the base": attempt((root / "new").touch),
        "change a file beside the base": attempt(lambda: open(root / "agent.log", "a")),
        "run a file below the base": attempt(lambda: run(base / "program")),
        "send the agent a signal": attempt(lambda: os.kill(agent, 0)),
        "connect to the ensemble": attempt(lambda: socket.create_connection((host, int(port))).close()),
        "read what else is there": attempt(read(root / "agent.log")),
        "read its own file": attempt(read(__file__)),
        "variables": [name for name in os.environ if name.startswith(("CREDENTIALS_", "RUNTIME_", "ZK_"))],
    }}
    (base / "attempts.json").write_text(json.dumps(made))
os.execv({git!r}, ["git", *sys.argv[1:]])
"""
DENIED = "Permission denied"
NOT_PERMITTED = "Operation not permitted"


def taken_over(directory: Path, server: str) -> str:
    """A value of PATH whose git makes the attempts when it fetches, and then does what git does."""
    directory.mkdir()
    git = directory / "git"
    git.write_text(GIT.format(python=sys.executable, git=shutil.which("git"), server=server))
    git.chmod(0o755)
    return f"{directory}:/usr/bin:/bin"


@pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")
def test_git_can_read_no_credential_and_write_only_below_the_base(
    tmp_path: Path, agents: Callable[..., Agent], release: Callable[..., int]
) -> None:
    agent = agents(digest_username="agent", credentials=["digest_password"])
    for name in ("credentials/digest_password", "run/other", "agent.json.1~", "password"):
        (agent.root / name).parent.mkdir(parents=True, exist_ok=True)
        (agent.root / name).write_text("secret")
    generation = release()
    agent.start(
        PATH=taken_over(tmp_path / "bin", agent.hosts.split(",")[0]),
        CREDENTIALS_DIRECTORY=str(agent.root / "credentials"),
        RUNTIME_DIRECTORY=str(agent.root / "run"),
        ZK_SASL_PASSWORD_FILE=str(agent.root / "password"),
        ZK_SASL_PASSWORD="s3cret",
    )
    assert agent.wait_outcome(generation)["state"] == "active"
    assert (agent.root / "run/session.json").exists()
    made: dict[str, Any] = json.loads((agent.base / "attempts.json").read_text())
    known = landlock.version()
    assert made == {
        "read the configuration": DENIED,
        "read a copy of the configuration": DENIED,
        "read a credential": DENIED,
        "read a password in a file that a variable names": DENIED,
        "read the session": DENIED,
        "read the agent's memory": DENIED,
        "write beside the base": DENIED,
        "change a file beside the base": DENIED,
        "run a file below the base": DENIED,
        "send the agent a signal": NOT_PERMITTED if known >= landlock.SCOPED else "done",
        "connect to the ensemble": DENIED if known >= landlock.CONNECTS else "done",
        "read what else is there": "done",
        "read its own file": "done",
        "variables": [],
    }
