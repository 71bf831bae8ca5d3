"""Every list of the registry formats agrees with `formats.py`; each failure says what to add where.

A new format is a reader in formats.py, an entry of its own in tests/support/registry_entries.py and an example.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.zoo.deploy.plugins.inventory import zk_services
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Registry
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.formats import FORMATS
from support.registry_entries import AS_WRITTEN

ROOT = Path(__file__).resolve().parents[4]
EXAMPLES = "docs/examples/inventory"
OF_NO_SOFTWARE = {"auto", "seed", "host_port"}
"""Formats that the README need not name, because they are not those of other software."""


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_in_the_documentation_of_the_inventory_plugin(name: str) -> None:
    line = f"V({name}) reads {FORMATS[name].summary}."
    described = yaml.safe_load(zk_services.DOCUMENTATION)["options"]["registries"]["description"]
    assert line in described, f"add to the option registries in plugins/inventory/zk_services.py:\n      - {line}"


def test_no_other_format_is_in_the_documentation_of_the_inventory_plugin() -> None:
    described = yaml.safe_load(zk_services.DOCUMENTATION)["options"]["registries"]["description"]
    documented = [line[2:].partition(")")[0] for line in described if line.startswith("V(") and ") reads " in line]
    assert documented == list(FORMATS), "plugins/inventory/zk_services.py lists the formats in the order of formats.py"


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - {"auto"}))
def test_a_format_has_an_entry_as_its_software_writes_it(name: str) -> None:
    formats = {entry.format for entry in AS_WRITTEN}
    assert name in formats, (
        f'add a child to AS_WRITTEN in tests/support/registry_entries.py: WrittenEntry("{name}", ...)'
    )


@pytest.mark.parametrize(("example", "name"), {entry.example: entry.format for entry in AS_WRITTEN}.items())
def test_an_entry_has_an_example_of_its_format(example: str, name: str) -> None:
    path = ROOT / EXAMPLES / f"{example}.zk_services.yml"
    assert path.is_file(), f"add {EXAMPLES}/{path.name}, an inventory file with format: {name}"
    assert Registry.from_option(yaml.safe_load(path.read_text())["registries"][0]).format == name


def test_every_example_is_of_an_entry_or_of_auto() -> None:
    examples = {path.name.removesuffix(".zk_services.yml") for path in (ROOT / EXAMPLES).iterdir()}
    expected = {entry.example for entry in AS_WRITTEN} | {"auto"}
    assert examples == expected, (
        f"{EXAMPLES} has a file for each entry of tests/support/registry_entries.py, and no other"
    )
    options = yaml.safe_load((ROOT / EXAMPLES / "auto.zk_services.yml").read_text())
    assert Registry.from_option(options["registries"][0]).format == "auto"


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - OF_NO_SOFTWARE))
def test_the_readme_names_the_software_of_a_format(name: str) -> None:
    readme = (ROOT / "README.md").read_text().lower()
    assert name in readme, f'add {name} to what README.md says that the inventory reads ("Find the servers")'
