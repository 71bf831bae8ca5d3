"""The parts of the collection that connect to an ensemble, and the error that each reports if it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eda.source import Source
from support.agent import PYTHON_PATH, Agent
from support.inventory import Inventory
from support.lookups import LookupFailed, lookups
from support.module import run_module
from support.playbook import ROOT
from support.repository import GitRepository
from support.waiting import wait_for

HOOK = ROOT / "roles" / "git_hook" / "files" / "program"
SECONDS = 3.0
"""The time within which a part has to have a session."""
Options = Mapping[str, Any]
"""The connection options of a task."""


def by_module(name: str, options: Options, **further: Any) -> str:
    """A module's error; empty if there is none."""
    result = run_module(ROOT / "plugins" / "modules" / f"{name}.py", connect_timeout=SECONDS, **options, **further)
    return str(result["msg"]) if result.get("failed") else str(result.get("problem", ""))


def by_lookup(options: Options, _directory: Path) -> str:
    """The lookup's error; empty if there is none."""
    with lookups({}) as process:
        try:
            process.run("zoo.deploy.zk_znode", ["/"], {}, connect_timeout=SECONDS, **options)
        except LookupFailed as exc:
            return str(exc)
    return ""


def by_inventory(options: Options, directory: Path) -> str:
    """The inventory's standard error."""
    inventory = Inventory(directory, "")
    inventory.options.pop("hosts")
    return inventory.read(registries=["/zookeeper/quota"], connect_timeout=SECONDS, **options).said


def by_event_source(options: Options, _directory: Path) -> str:
    """The error that ends the event source before it sends an event; empty if it sends one."""
    source = Source(session=True, initial=True, connect_timeout=SECONDS, **options).start()
    try:
        wait_for(lambda: source.events or source.error, "the source has a session, or has ended")
    finally:
        source.stop()
    return "" if source.events else str(source.error)


def by_agent(options: Options, directory: Path) -> str:
    """The error that keeps an agent from a session; empty if it has one."""
    agent = Agent(directory / "agent", "", "/app/parts", None, config=dict(options))
    agent.start(PYTHONPATH=os.pathsep.join([PYTHON_PATH, os.environ.get("PYTHONPATH", "")]))

    def outcome() -> str:
        """`SyncConnected`, or the error; empty before either."""
        try:
            status = json.loads((agent.base / ".zoo" / "status.json").read_text())
        except (OSError, ValueError):
            return ""
        tries = status.get("trying", {})
        return str(tries.get("error", "")) if tries else str(status["session"])

    try:
        said = wait_for(outcome, f"the agent says how it is connected; its log is {agent.root / 'agent.log'}")
    finally:
        agent.kill()
    return "" if said == "SyncConnected" else said


def by_hook(options: Options, directory: Path) -> str:
    """The git hook's output for a push that it cannot publish; empty if it can."""
    repository = GitRepository.create(directory / "pushed")
    # Each with an application of its own: an authenticated client restricts one that it creates to itself.
    branch = {"branch": "main", "app": f"/app/{directory.name}", "relative_path": "site"}
    config = directory / "hook.json"
    keys = {**options, "hosts": [options["hosts"]], "connect_timeout": SECONDS}
    config.write_text(json.dumps({"url": repository.url, "branches": [branch], **keys}))
    done = run_hook(config, repository)
    return done.stdout + done.stderr if done.returncode else ""


def run_hook(config: Path, repository: GitRepository, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the git hook's program as git does after a push to a repository's `main`."""
    return subprocess.run(
        [sys.executable, str(HOOK), "post-receive", "--config", str(config)],
        cwd=repository.path / ".git",
        input=f"{'0' * 40} {repository.head} refs/heads/main\n",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


PARTS: dict[str, Callable[[Options, Path], str]] = {
    "module": lambda options, _directory: by_module("zk_znode_info", options, path="/"),
    "zk_ensemble_info": lambda options, _directory: by_module("zk_ensemble_info", options),
    "lookup": by_lookup,
    "inventory": by_inventory,
    "event source": by_event_source,
    "agent": by_agent,
    "git hook": by_hook,
}
"""Each takes its options and a directory of its own, and returns its error; empty if it has a session."""
CONFIGURED = {"agent", "git hook"}
"""The parts with a configuration file, whose options no environment variable replaces."""
