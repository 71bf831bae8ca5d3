"""The examples in the documentation are ones that modules, roles and playbooks accept."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from support.documents import DOCUMENTS, ROOT, blocks

MODULE = re.compile(r"zoo\.deploy\.(zk_\w+)")
MODULES = "ansible_collections.zoo.deploy.plugins.modules"
SPECS = {path.stem for path in (ROOT / "plugins" / "modules").glob("zk_*.py")}
ROLE_VARIABLE = re.compile(r"(?:watcher|zookeeper|loadbalancer|git_hook)_\w+")
PLAYBOOK_VARIABLE = re.compile(r"-e '?(?:\{\"?)?(zoo_\w+|loadbalancer_\w+|watcher_\w+)")


def mappings(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in an example."""
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from mappings(value)


def known_variables() -> set[str]:
    """The variables of all roles and playbooks."""
    specs = [yaml.safe_load(path.read_text()) for path in ROOT.glob("roles/*/meta/argument_specs.yml")]
    roles = {name for spec in specs for name in spec["argument_specs"]["main"]["options"]}
    return roles | set(re.findall(r"^\| `(zoo_\w+)`", (ROOT / "playbooks/README.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_task_has_options_that_its_module_accepts(path: Path) -> None:
    for example in map(yaml.safe_load, blocks(path, "yaml")):
        for mapping in mappings(example):
            for key, options in mapping.items():
                found = MODULE.fullmatch(str(key))
                if found and found[1] in SPECS and isinstance(options, dict):
                    spec = importlib.import_module(f"{MODULES}.{found[1]}").argument_spec()
                    assert ArgumentSpecValidator(spec).validate(options).error_messages == [], mapping


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_variable_is_one_of_a_role_or_of_a_playbook(path: Path) -> None:
    known = known_variables()
    examples = list(map(yaml.safe_load, blocks(path, "yaml")))
    named = {str(key) for mapping in mappings(examples) for key in mapping}
    given = {key for key in named if ROLE_VARIABLE.fullmatch(key)}
    assert given | set(PLAYBOOK_VARIABLE.findall(path.read_text(encoding="utf-8"))) <= known
