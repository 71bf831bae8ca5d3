"""The next playbook: its hosts are what is registered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hosts.lab.lab import Lab
from hosts.watcher.server import REGISTRY, SERVERS
from support.playbook import ROOT


@pytest.mark.parametrize("version", ["38", "39"])
def test_what_is_registered_is_the_inventory(lab: Lab, tmp_path: Path, version: str) -> None:
    (ensemble,) = lab.named([f"zk{version}"])
    expected = {host.name: host.address for host in lab.named([name for name in SERVERS if name.endswith(version)])}
    source = tmp_path / "zk_services.yml"
    plugin = {"plugin": "zoo.deploy.zk_services", "hosts": f"{ensemble.address}:2181", "registries": [REGISTRY]}
    source.write_text(json.dumps(plugin))
    command = Path(sys.executable).with_name("ansible-inventory")
    listed = subprocess.run([str(command), "-i", str(source), "--list"], cwd=ROOT, check=True, capture_output=True)
    hosts = json.loads(listed.stdout)["_meta"]["hostvars"]
    # Values read from ZooKeeper are marked as unsafe: they are never templates.
    assert {name: found["ansible_host"]["__ansible_unsafe"] for name, found in hosts.items()} == expected
