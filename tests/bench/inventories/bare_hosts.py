"""The least that adds hosts with variables to an inventory, from a list in memory: the floor of P1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.inventory import BaseInventoryPlugin

DOCUMENTATION = """
name: bare_hosts
short_description: Hosts from a list
description: The floor of P1.
options:
  plugin: {description: The name of this plugin., required: true}
  list: {description: A file with the variables of each host., type: str, required: true}
  group: {description: The group of the hosts., type: str, required: true}
"""


class InventoryModule(BaseInventoryPlugin):
    """All hosts of the list, in one group."""

    NAME = "bare_hosts"

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the hosts."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        group = inventory.add_group(self.get_option("group"))
        hosts = json.loads(Path(self.get_option("list")).read_text())
        for host, variables in hosts.items():
            inventory.add_host(host, group=group)
            for name, value in variables.items():
                inventory.set_variable(host, name, value)
