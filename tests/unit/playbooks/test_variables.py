"""Every variable that a playbook reads or sets begins with `zoo_`, or is a role's or Ansible's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import jinja2.nodes
import pytest
import yaml

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
OURS = sorted(path for path in PLAYBOOKS.rglob("*") if path.suffix in {".yml", ".j2"})
NAMES = [str(path.relative_to(PLAYBOOKS)) for path in OURS]
PREFIXED = re.compile(r"_?zoo_")
ROLE = re.compile(r"_?(watcher|zookeeper|loadbalancer|git_hook)_")
MAGIC = re.compile(
    r"ansible_\w+|groups|hostvars|inventory_hostname|playbook_dir|omit|item|lookup|query|q|now|_|_raw_params"
)
"""What Ansible itself defines, the functions of its templates, and names of unused values."""
EXPRESSIONS = {"that", "when", "until", "changed_when", "failed_when"}
"""Keywords whose values are expressions without braces."""
README = PLAYBOOKS / "README.md"
JINJA = jinja2.Environment()


def reads(text: str) -> set[str]:
    """The variables that a template reads without setting them. Every filter and every test is known."""
    tree = JINJA.parse(text)
    JINJA.filters.update({node.name: str for node in tree.find_all(jinja2.nodes.Filter)})
    JINJA.tests.update({node.name: callable for node in tree.find_all(jinja2.nodes.Test)})
    return jinja2.meta.find_undeclared_variables(tree)


def texts(node: Any, *, bare: bool = False) -> Iterator[str]:
    """Every template below a node of YAML, bare expressions in braces."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from texts(value, bare=key in EXPRESSIONS)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value, bare=bare)
    elif isinstance(node, str):
        yield f"{{{{ {node} }}}}" if bare else node


def sets(node: Any) -> Iterator[str]:
    """Every variable that is set below a node of YAML: by `vars`, `register` and `set_fact`."""
    if isinstance(node, list):
        for value in node:
            yield from sets(value)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in {"vars", "ansible.builtin.set_fact"}:
                yield from value
            elif key == "register":
                yield value
            else:
                yield from sets(value)


def read_by(path: Path) -> set[str]:
    """The variables that a file reads."""
    content = path.read_text()
    if path.suffix == ".j2":
        return reads(content)
    return set().union(*map(reads, texts(yaml.safe_load(content))))


def set_by(path: Path) -> set[str]:
    """The variables that a file sets."""
    if path.suffix == ".j2":
        return set()
    content = yaml.safe_load(path.read_text())
    return set(content) if path.parent.name == "vars" else set(sets(content))


@pytest.mark.parametrize("path", OURS, ids=NAMES)
def test_every_variable_that_is_read_has_the_prefix_or_is_a_roles_or_ansibles(path: Path) -> None:
    foreign = [name for name in read_by(path) if not (PREFIXED.match(name) or ROLE.match(name))]
    assert [name for name in foreign if not MAGIC.fullmatch(name)] == []


@pytest.mark.parametrize("path", OURS, ids=NAMES)
def test_every_variable_that_is_set_has_the_internal_prefix_or_is_a_roles_or_ansibles(path: Path) -> None:
    allowed = re.compile(r"_zoo_|_?watcher_|ansible_python_interpreter$")
    assert [name for name in set_by(path) if not allowed.match(name)] == []


def test_an_internal_variable_is_never_read_without_being_set() -> None:
    read = set().union(*map(read_by, OURS))
    assert {name for name in read if name.startswith("_zoo_")} <= set().union(*map(set_by, OURS))


def test_the_table_lists_every_variable_that_a_user_may_set_and_no_other() -> None:
    public = {path for path in OURS if path.parent.name != "quickstart"}
    read = {name for path in public for name in read_by(path) if name.startswith("zoo_")}
    assert set(re.findall(r"^\| `(zoo_\w+)` \|", README.read_text(), re.MULTILINE)) == read


def test_what_is_read_is_seen_in_every_kind_of_text() -> None:
    play = [{"hosts": "{{ a }}", "tasks": [{"when": "b is defined", "x": {"that": ["c"]}, "loop": "{{ d | e(f=g) }}"}]}]
    assert set().union(*map(reads, texts(play))) == {"a", "b", "c", "d", "g"}
    assert set(sets([{"vars": {"h": 1}, "tasks": [{"block": [{"register": "i"}]}]}])) == {"h", "i"}
