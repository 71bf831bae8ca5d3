"""The role on running servers: nothing to change, and a newer version of the collection."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kazoo.protocol.states import WatchedEvent

from hosts.watcher.server import SERVERS, Server
from support.playbook import ROOT

PARTS = ("galaxy.yml", "meta", "plugins", "roles")
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0 ", re.MULTILINE)
NEWER = "99.0.0"
UPGRADED = ("bookworm-38", "trixie-39")


def converge(collections: Path, *words: str) -> dict[str, int]:
    """Converge again with the collection in `collections`, and return the number of changes on each host."""
    playbook = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]) / "converge.yml"
    inventory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "inventory"
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(playbook), *words],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_FORCE_COLOR": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = {host: int(changed) for host, changed in RECAP.findall(done.stdout)}
    assert done.returncode == 0, done.stdout + done.stderr
    return found


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A collections directory with a newer version of this one."""
    copy = tmp_path / "ansible_collections" / "zoo" / "deploy"
    copy.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, copy / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy / part)
    manifest = copy / "galaxy.yml"
    manifest.write_text(re.sub(r"(?m)^version: .*$", f"version: {NEWER}", manifest.read_text()))
    return tmp_path


def test_check_mode_finds_nothing_to_change() -> None:
    found = converge(ROOT / "collections", "--check")
    assert {name: found[name] for name in SERVERS} == dict.fromkeys(SERVERS, 0)


def test_an_upgrade_of_the_agent_triggers_no_event_on_the_registrations(
    newer: Path, servers: dict[str, Server]
) -> None:
    events: list[WatchedEvent] = []
    before = {}
    upgraded = [servers[name] for name in UPGRADED]
    for server in upgraded:
        assert server.status()["version"] != NEWER
        before[server.name] = server.zk.exists(server.registration, watch=events.append)
        server.zk.get_children(server.registration.rpartition("/")[0], watch=events.append)
    found = converge(newer, "--limit", ",".join(UPGRADED))
    assert all(found[name] > 0 for name in UPGRADED)
    for server in upgraded:
        server.settle()
        assert server.status()["version"] == NEWER
        assert server.zk.exists(server.registration) == before[server.name]
    assert events == []
