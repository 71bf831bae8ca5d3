"""The least that makes hosts from a registry: an inventory plugin with kazoo and no options, the yardstick of P2."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.inventory import BaseInventoryPlugin
from kazoo.client import KazooClient

DOCUMENTATION = """
name: bare_services
short_description: Hosts from a registry, by kazoo alone
description: The yardstick of P2.
options:
  plugin: {description: The name of this plugin., required: true}
  hosts: {description: The ensemble., type: str, required: true}
  path: {description: The registry., type: str, required: true}
  group: {description: The group of its hosts., type: str, required: true}
"""


class InventoryModule(BaseInventoryPlugin):
    """One host for each registration, named after its child."""

    NAME = "bare_services"

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Read the registry and add its hosts."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        registry, group = self.get_option("path"), inventory.add_group(self.get_option("group"))
        client = KazooClient(hosts=self.get_option("hosts"))
        client.start()
        try:
            reads = {child: client.get_async(f"{registry}/{child}") for child in client.get_children(registry)}
            registrations = {child: json.loads(read.get()[0]) for child, read in reads.items()}
        finally:
            client.stop()
            client.close()
        for child, (address, port) in registrations.items():
            host = inventory.add_host(child, group=group)
            values = {"id": child, "path": f"{registry}/{child}", "service": [address, port]}
            for name, value in {**values, "address": address, "port": int(port)}.items():
                inventory.set_variable(host, f"zk_{name}", value)
            inventory.set_variable(host, "ansible_host", address)
