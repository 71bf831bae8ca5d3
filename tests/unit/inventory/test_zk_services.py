"""The inventory plugin: what it takes back if a name turns out to belong to another source, and its warnings."""

from __future__ import annotations

import pytest
from ansible.inventory.data import InventoryData

from ansible_collections.zoo.deploy.plugins.inventory.zk_services import MOST_WARNINGS, InventoryModule, _Names


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


@pytest.mark.parametrize(
    ("problems", "verbosity", "shown", "rest"),
    [
        (MOST_WARNINGS, 0, MOST_WARNINGS, []),
        (MOST_WARNINGS + 1, 0, MOST_WARNINGS, ["and 1 more like these; -v shows all of them"]),
        (10_000, 0, MOST_WARNINGS, ["and 9,980 more like these; -v shows all of them"]),
        (10_000, 1, 10_000, []),
    ],
)
def test_thousands_of_warnings_are_counted_unless_ansible_is_verbose(
    monkeypatch: pytest.MonkeyPatch, problems: int, verbosity: int, shown: int, rest: list[str]
) -> None:
    warnings = list[str]()
    module = InventoryModule()
    monkeypatch.setattr(module.display, "verbosity", verbosity)
    monkeypatch.setattr(module.display, "warning", warnings.append)
    texts = [f"/service/{number}: left out" for number in range(problems)]
    module._warn(texts)
    assert warnings == [*texts[:shown], *rest]
