"""A provider that Dubbo's own Python client registers, in the inventory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from kazoo.client import KazooClient

from support.ensemble import Ensemble
from support.inventory import EXAMPLES, ROOT, Inventory
from support.ports import free_ports
from support.waiting import wait_for

PROGRAM = ROOT / "tests" / "support" / "dubbo_provider.py"


@contextmanager
def provider(server: str, interface: str, port: int) -> Iterator[None]:
    """Provide `interface` during the block. It is registered a moment later."""
    command = [sys.executable, str(PROGRAM), server, interface, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def test_the_inventory_finds_what_dubbos_own_client_registers(
    ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    interface = f"org.example.{app.rpartition('-')[2]}"
    providers = f"/dubbo/{interface}/providers"
    # The client accepts only one server as its registry, not a list.
    with provider(ensemble.hosts.partition(",")[0], interface, port):
        wait_for(lambda: zk.exists(providers) and zk.get_children(providers), "the provider is registered")
        example = yaml.safe_load((EXAMPLES / "dubbo2.zk_services.yml").read_text())
        inventory = Inventory(tmp_path, ensemble.hosts)
        found = inventory.read(**{**example, **inventory.options})
    assert found.said == (
        "[WARNING]: 127.0.0.1: that is Ansible's name for the controller, so the host is 127.0.0.1@127.0.0.1; "
        "override_hosts has it replaced"
    )
    host = found.hosts["127.0.0.1@127.0.0.1"]
    assert (host["zk_address"], host["zk_port"]) == ("127.0.0.1", port)
    assert host["zk_service"]["protocol"] == "tri"
    assert host["zk_service"]["parameters"]["service"] == interface
