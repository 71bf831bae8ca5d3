"""What the role watcher does if an agent that it has installed gets no session: the role's task, without systemd.

tests/agent/session/test_lifecycle.py shows that a real agent reports which members it tries.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.playbook import ROOT, Run, run_playbook

ROLE = ROOT / "roles" / "watcher"
SYSTEMCTL = "#!/bin/sh\nprintf 'ActiveState=active\\nResult=success\\nExecMainStartTimestampMonotonic=0\\n'\n"
TRYING = {"members": ["zk1.invalid:2181"], "error": "Cannot resolve zk1.invalid: Name or service not known"}


def first_session() -> dict[str, Any]:
    """The task of the role that waits for the first session."""
    (task,) = [
        task
        for task in yaml.safe_load((ROLE / "tasks/present.yml").read_text())
        if task["name"] == "Wait for the first session"
    ]
    return {**task, "ansible.builtin.include_tasks": str(ROLE / "tasks" / task["ansible.builtin.include_tasks"])}


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    """A function that runs the task for an agent's status, with variables of the role, and returns the run."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL)
    (programs / "systemctl").chmod(0o755)
    (tmp_path / "files").symlink_to(ROLE / "files")
    status = tmp_path / "base/.zoo/status.json"
    status.parent.mkdir(parents=True)

    def run(said: dict[str, Any], *, connected: bool = False, **variables: Any) -> Run:
        status.write_text(json.dumps({"version": "1", **said}))
        given = {
            "watcher_base": str(tmp_path / "base"),
            "watcher_python": sys.executable,
            "_watcher_version": "1",
            "_watcher_report": {"connected": connected},
            **variables,
        }
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [first_session()]}
        files = [str(ROLE / part / "main.yml") for part in ("defaults", "vars")]
        (tmp_path / "play.yml").write_text(json.dumps([{**play, "vars_files": files}]))
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        return Run.of(run_playbook(tmp_path / "play.yml", "-e", json.dumps(given), env={"PATH": path}))

    return run


def test_a_first_install_with_a_wrong_address_fails_with_the_members_and_the_reason(ask: Any) -> None:
    run = ask({"session": "Disconnected", "trying": TRYING}, watcher_first_session_timeout=0.2)
    assert run.failed == 1, run.output
    assert (
        "zoo-watcher@business.service runs, but within 0.2 s it has no session with the ensemble; it tries "
        "zk1.invalid:2181: Cannot resolve zk1.invalid: Name or service not known; set watcher_hosts right, or "
        "watcher_first_session_timeout to 0 where the ensemble comes later"
    ) in run.output


@pytest.mark.parametrize(
    ("said", "variables"),
    [
        ({"session": "SyncConnected"}, {}),
        ({"session": "Disconnected"}, {"watcher_first_session_timeout": 0}),
        ({"session": "Disconnected"}, {"connected": True}),
        ({"session": "Disconnected"}, {"watcher_manage_service": False}),
    ],
    ids=["there is one", "the ensemble comes later", "it was connected before", "nobody has started it"],
)
def test_otherwise_the_role_goes_on(ask: Any, said: dict[str, Any], variables: dict[str, Any]) -> None:
    run = ask(said, **variables)
    assert run.failed == 0, run.output
