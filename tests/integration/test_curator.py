"""Curator's own ServiceDiscovery and this collection read each other's registrations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kazoo.client import KazooClient

from support.agent import Agent
from support.curator import curator_instance, lacking
from support.ensemble import Ensemble
from support.inventory import EXAMPLES, Inventory
from support.service import Service
from support.waiting import wait_for

REASON = lacking()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


def test_curator_finds_what_an_agent_registers_and_the_inventory_what_curator_does(
    agents: Callable[..., Agent], ensemble: Ensemble, zk: KazooClient, app: str, service: Service, tmp_path: Path
) -> None:
    path = f"{app}/discovery"
    ours = {"path": f"{path}/orders", "port": service.port, "address": "192.0.2.7", "format": "curator"}
    service.open()
    agents(services=[{**ours, "check": {"type": "tcp", "interval": 0.05}}]).start()
    wait_for(lambda: zk.exists(f"{path}/orders/server1"), "the agent has registered")
    with curator_instance(ensemble.hosts, path, "payments", "p1", "192.0.2.8", 8443) as found:
        assert found == [f"orders server1 192.0.2.7 {service.port} true\n", "payments p1 192.0.2.8 8443 true\n"]
        inventory = Inventory(tmp_path, f"{ensemble.hosts}{app}")
        example = yaml.safe_load((EXAMPLES / "curator.zk_services.yml").read_text())
        read = inventory.read(**{**example, **inventory.options})
    assert read.said == ""
    assert (read.groups["orders"], read.groups["payments"]) == ({"192.0.2.7"}, {"192.0.2.8"})
    assert read.groups["type_dynamic"] == {"192.0.2.7", "192.0.2.8"}
    payments = read.hosts["192.0.2.8"]
    assert (payments["zk_id"], payments["zk_port"]) == ("p1", 8443)
    assert payments["zk_service"]["payload"] == "From Curator"
    assert zk.get_children(f"{path}/payments") == []
