"""What ansible-builder reads of the collection, and the definition that the guide shows."""

from __future__ import annotations

from typing import Any

import yaml

from support.documents import ROOT, blocks

GUIDE = ROOT / "docs" / "guides" / "automation-controller.md"


def read(name: str) -> dict[str, Any]:
    """A YAML file of the collection."""
    return dict(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))


def test_what_the_collection_needs_is_in_files_of_its_own_directory_that_are_installed() -> None:
    """`ansible-builder introspect` joins each with the collection's directory, and fails on a list."""
    needs = read("meta/execution-environment.yml")["dependencies"]
    assert needs.keys() == {"python", "system"}
    assert [name for name in needs.values() if not (ROOT / name).is_file()] == []
    assert set(needs.values()) & set(read("galaxy.yml")["build_ignore"]) == set()


def test_the_definition_of_the_guide_installs_this_collection() -> None:
    definition = yaml.safe_load(blocks(GUIDE, "yaml")[0])
    assert definition["version"] == 3
    assert definition["dependencies"]["galaxy"]["collections"] == [
        {"name": f"{read('galaxy.yml')['repository']}.git", "type": "git"}
    ]
