"""`playbooks/scale_in.yml` from the removal of the agents on: the roster, and the report at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient

from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook

Play = Callable[..., tuple[int, str]]
PLAYBOOK = ROOT / "playbooks" / "scale_in.yml"


@pytest.fixture
def play(ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path) -> Play:
    """Runs the playbook's last tasks for the servers web1 and web2, of three in the roster."""
    for name in ("web1", "web2", "web3"):
        zk.create(f"{app}/roster/{name}", b"{}", makepath=True)
    # What an earlier task notes about each server.
    own = {"registries": [], "drain_seconds": 0}
    hosts = {name: {"ansible_connection": "local", "_zoo_own": {"name": name, **own}} for name in ("web1", "web2")}
    common = {"watcher_hosts": ensemble.hosts, "watcher_app": app}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))

    def run(*more: str, **variables: Any) -> tuple[int, str]:
        known = {"zoo_target": "all", "_zoo_sessions": ["web1", "web2"]}
        given = ["-e", json.dumps({**known, **variables})]
        words = ["-i", str(tmp_path / "hosts.yml"), "--start-at-task", "Take the servers out of the roster"]
        done = run_playbook(PLAYBOOK, *words, *given, *more)
        return done.returncode, done.stdout + done.stderr

    return run


def test_servers_that_are_removed_leave_the_roster_and_others_stay(play: Play, zk: KazooClient, app: str) -> None:
    code, said = play()
    assert code == 0, said
    assert "; still in the roster" in said
    assert play("--check", zoo_remove=True)[0] == 0
    assert len(zk.get_children(f"{app}/roster")) == 3
    code, said = play(zoo_remove=True)
    assert code == 0, said
    assert "the host is unreachable; its registrations are withdrawn; out of the roster" in said
    assert zk.get_children(f"{app}/roster") == ["web3"]


def test_servers_leave_the_roster_before_anything_that_takes_long() -> None:
    """During a soak, a host in the roster that has proved the release and has no live agent counts as a failure."""
    (tasks,) = [play["tasks"] for play in yaml.safe_load(PLAYBOOK.read_text()) if play["name"] == "Remove the servers"]
    names = [task["name"] for task in tasks]
    assert names.index("Take the servers out of the roster") == names.index("Wait until each has left discovery") + 1
