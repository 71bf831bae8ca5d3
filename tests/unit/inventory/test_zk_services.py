"""What the inventory plugin removes again if a name turns out to be taken."""

from __future__ import annotations

from ansible.inventory.data import InventoryData

from ansible_collections.zoo.deploy.plugins.inventory.zk_services import InventoryModule, _Names


def test_a_group_that_is_removed_again_is_neither_above_nor_below_a_group_of_another_source() -> None:
    inventory = InventoryData()
    for name in ("colours", "web"):
        inventory.add_group(name)
    inventory.add_host("static", "web")
    before = _Names(groups=set(inventory.groups), hosts=set(inventory.hosts))
    inventory.add_group("blue")
    inventory.add_child("colours", "blue")
    inventory.add_child("blue", "web")
    module = InventoryModule()
    module.inventory = inventory
    module._remove_all_but(before)
    inventory.add_host("later", "web")
    inventory.reconcile_inventory()
    assert not inventory.groups["colours"].child_groups
    groups = {name: {group.name for group in host.get_groups()} for name, host in inventory.hosts.items()}
    assert groups == {"static": {"all", "web"}, "later": {"all", "web"}}
