# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup `zoo.deploy.zk_znode`."""

from __future__ import annotations

DOCUMENTATION = r"""
name: zk_znode
short_description: The values of znodes in ZooKeeper, or of the znodes below them
version_added: 0.1.0
author:
  - zoo.deploy contributors (@zoo-deploy)
description:
  - Reads the value of each named znode, on the controller.
  - All terms of one lookup are read in one round trip.
  - All lookups of one task on one host share a session with the ensemble, including those in a template and in the
    items of a loop. The next task has its own session, because Ansible forks a process for each.
extends_documentation_fragment:
  - zoo.deploy.zookeeper_plugin
  - zoo.deploy.zookeeper
options:
  _terms:
    description: Absolute paths of znodes.
    type: list
    elements: str
    required: true
  json:
    description:
      - Decode the values as JSON; a value that is not JSON is an error.
      - With O(children) or O(recursive), an empty value is C(none), because most znodes with children are empty.
    type: bool
    default: false
  children:
    description:
      - For each znode, return a dictionary of its children's values by name, instead of its own value.
      - For a znode without children, the dictionary is empty.
    type: bool
    default: false
  recursive:
    description:
      - For each znode, return a dictionary of all values below it, instead of its own value. The keys are the paths
        relative to that znode, such as C(limits/orders). It is sorted by path, so parents come first.
      - The znode's own value is not included. Only one of O(children) and O(recursive) can be given.
    type: bool
    default: false
  max_znodes:
    description: With O(children) or O(recursive), how many znodes there may be below each one; more are an error.
    type: int
    default: 1000
  default:
    description:
      - The value to return for a missing znode. It may be C(none).
      - Without it, a missing znode is an error.
    type: raw
notes:
  - Values come from outside and are never treated as templates.
  - A value that is not UTF-8 is an error; M(zoo.deploy.zk_znode_info) reads it as base64.
seealso:
  - module: zoo.deploy.zk_znode
  - module: zoo.deploy.zk_znode_info
"""

EXAMPLES = r"""
# With the variable zk_hosts, or ZK_HOSTS in the controller's environment, the option hosts is not required.
- name: A value
  ansible.builtin.debug:
    msg: "{{ lookup('zoo.deploy.zk_znode', '/config/motd') }}"

- name: A part of a value that is JSON
  ansible.builtin.debug:
    msg: "{{ lookup('zoo.deploy.zk_znode', '/config/database', json=true).host }}"

- name: A value that may not exist
  ansible.builtin.debug:
    msg: "{{ lookup('zoo.deploy.zk_znode', '/config/colour', default='green') }}"

- name: Several values, one per item
  ansible.builtin.debug:
    msg: "{{ item }}"
  loop: "{{ query('zoo.deploy.zk_znode', '/config/a', '/config/b', hosts='zk1:2181,zk2:2181/business') }}"

- name: One item for each child of a znode
  ansible.builtin.debug:
    msg: "{{ item.key }} is at {{ item.value }}"
  loop: "{{ lookup('zoo.deploy.zk_znode', '/config/databases', children=true) | dict2items }}"

- name: One value of a whole configuration
  ansible.builtin.debug:
    msg: "{{ shop['limits/orders'] }}"
  vars:
    shop: "{{ lookup('zoo.deploy.zk_znode', '/config/shop', recursive=true, json=true) }}"
"""

RETURN = r"""
_raw:
  description:
    - For each term, the znode's value, as a string, or decoded with O(json=true).
    - With O(children) or O(recursive), for each term, a dictionary of such values, by name or by path below the znode.
  type: list
  elements: raw
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import (
    InvalidRecord,
    check_path,
    child,
    printable,
)
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import parse_json
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import Node, checked, read_many
from ansible_collections.zoo.deploy.plugins.plugin_utils.kept_sessions import ask
from ansible_collections.zoo.deploy.plugins.plugin_utils.own_options import converted, forget_empty_variables

with contextlib.suppress(ImportError):  # `ask` reports it
    from kazoo.exceptions import NoNodeError


class LookupModule(LookupBase):
    """The values of znodes. Ansible itself takes what a lookup returns as data, never as a template."""

    def run(self, terms: Sequence[Any], variables: Any = None, **kwargs: Any) -> list[Any]:
        """The value of each znode in `terms`, or the values below it. Raises `AnsibleLookupError`."""
        forget_empty_variables()
        self.set_options(var_options=self._connection_variables(variables or {}), direct=kwargs)
        try:
            self._check_options()
            paths = [_path(term) for term in self._flatten(terms)]
            default = {"default": self.get_option("default")} if "default" in kwargs else {}
            return ask(converted(self.get_options()), lambda client: self._read(client, paths, default))
        except (ZooKeeperError, InvalidRecord) as exc:
            raise AnsibleLookupError(printable(str(exc))) from None  # Ansible would repeat each cause

    def _check_options(self) -> None:
        if self.get_option("children") and self.get_option("recursive"):
            raise ZooKeeperError("expected one of children and recursive, got both")

    def _connection_variables(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables that set options; Ansible passes them to a lookup as written, templates included."""
        names = [entry["name"] for option in self.option_definitions.values() for entry in option.get("vars", [])]
        return {name: self._templar.template(variables[name]) for name in names if name in variables}

    def _read(self, client: Any, paths: Sequence[str], default: Mapping[str, Any]) -> list[Any]:
        client.sync_async("/")
        nodes = map(checked, read_many(client, paths, self.get_option("connect_timeout")))
        return [
            _instead(path, default) if node is None else self._found(client, node) for path, node in zip(paths, nodes)
        ]

    def _found(self, client: Any, node: Node) -> Any:
        """The value of a znode, or the values below it."""
        as_json = self.get_option("json")
        if not self.get_option("children") and not self.get_option("recursive"):
            return _value(node, as_json=as_json)
        # Ansible recompiles every file of a collection at each start, so what few need is imported here.
        from ansible_collections.zoo.deploy.plugins.module_utils.znode_snapshots import below  # noqa: PLC0415

        depth = 1 if self.get_option("children") else None
        limit, timeout = self.get_option("max_znodes"), self.get_option("connect_timeout")
        start = len(child(node.path, ""))
        return {
            one.path[start:]: None if as_json and not one.data else _value(one, as_json=as_json)
            for one in below(client, node.path, depth, limit, timeout)
        }


def _path(term: Any) -> str:
    if not isinstance(term, str):
        raise ZooKeeperError(f"expected the path of a znode, got {term!r}")
    return check_path(term)


def _instead(path: str, default: Mapping[str, Any]) -> Any:
    if not default:
        why = f"{path}: no such znode (NoNode); create it, or give a default"
        raise ZooKeeperError(why, path=path) from NoNodeError()
    return default["default"]


def _value(node: Node, *, as_json: bool) -> Any:
    try:
        return parse_json(node.data) if as_json else node.data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ZooKeeperError(
            f"{node.path}: not UTF-8 at byte {exc.start}; read it with zoo.deploy.zk_znode_info"
        ) from exc
    except ValueError as exc:
        raise ZooKeeperError(f"{node.path}: not JSON: {exc}") from exc
