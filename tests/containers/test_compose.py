"""The ensemble and the servers of `examples/container/compose.yaml`, run by podman-compose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.commands import BIN
from support.ensemble import JARS
from support.inventory import plain
from support.playbook import ROOT, surroundings_of
from support.podman import BASE, Podman
from support.waiting import wait_for

pytestmark = pytest.mark.skipif(shutil.which("podman-compose") is None, reason="podman-compose is not installed")
MEMBER = """\
set -eu
mkdir /data && cd /data
echo "$ZOO_MY_ID" > myid
printf '%s\\n' dataDir=/data tickTime=500 initLimit=20 syncLimit=10 admin.enableServer=false $ZOO_SERVERS > zoo.cfg
exec java -Xmx128m -XX:TieredStopAtLevel=1 -cp "$JARS" org.apache.zookeeper.server.quorum.QuorumPeerMain zoo.cfg
"""
"""Replaces the ZooKeeper image, which would need a registry: this machine's Java with the same variables."""


@pytest.fixture
def compose(podman: Podman, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """A function that runs `podman-compose` with the file and with this machine's ZooKeeper."""
    mounts = [Path("/usr"), Path("/etc/alternatives"), *Path("/etc").glob("java-*")]
    member = {
        "environment": {"JARS": JARS},
        "entrypoint": ["sh", "-c", MEMBER.replace("$", "$$")],
        "volumes": [f"{path}:{path}:ro" for path in mounts],
    }
    override = tmp_path / "override.yaml"
    override.write_text(json.dumps({"services": {f"zk{number}": member for number in (1, 2, 3)}}))
    podman.write_command(tmp_path / "bin")
    images = {"ZOOKEEPER_IMAGE": BASE, "SERVER_IMAGE": "localhost/zoo-nginx"}
    environment = {**os.environ, **images, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    files = [f"--file={ROOT}/examples/container/compose.yaml", f"--file={override}"]

    def run(*words: str) -> None:
        command = ["podman-compose", "--project-name=article", *files, *words]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 0, done.stdout

    yield run
    podman.clear()


def test_the_five_servers_are_discovered_in_the_ensemble_of_three(
    podman: Podman, compose: Callable[..., None], tmp_path: Path
) -> None:
    inventory = tmp_path / "test.zk_services.yml"
    hosts = [f"127.0.0.1:{port}" for port in (2181, 2182, 2183)]
    inventory.write_text(
        json.dumps({"plugin": "zoo.deploy.zk_services", "hosts": hosts, "registries": ["/service/business/what"]})
    )

    def discovered() -> set[tuple[str, int]]:
        command = [*podman.beside, str(BIN / "ansible-inventory"), f"--inventory={inventory}", "--list"]
        done = subprocess.run(command, env=surroundings_of(None), capture_output=True, text=True, check=False)
        servers = plain(json.loads(done.stdout))["_meta"]["hostvars"] if done.returncode == 0 else {}
        return {(server["zk_address"], server["zk_port"]) for server in servers.values()}

    compose("up", "--detach", "--no-build")
    five = {("127.0.0.1", port) for port in range(9095, 9100)}
    wait_for(lambda: discovered() == five, "five servers are discovered", 90)
    compose("stop", "web1")
    wait_for(lambda: discovered() == five - {("127.0.0.1", 9095)}, "the one that was stopped is not", 60)
