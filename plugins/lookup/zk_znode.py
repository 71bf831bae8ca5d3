# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup `zoo.deploy.zk_znode`."""

from __future__ import annotations

DOCUMENTATION = r"""
name: zk_znode
short_description: The values of znodes in ZooKeeper
version_added: 0.1.0
author:
  - zoo.deploy contributors (@zoo-deploy)
description:
  - Reads the value of each znode that is named, on the controller.
  - All terms of one lookup are read over one connection, in one round trip.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
  - zoo.deploy.zookeeper_plugin
options:
  _terms:
    description: Absolute paths of znodes.
    type: list
    elements: str
    required: true
  json:
    description: Decode the values as JSON; one that is none is an error.
    type: bool
    default: false
  default:
    description:
      - What is returned for a znode that is not there. It may be C(none).
      - Where it is not given, a znode that is not there is an error.
    type: raw
notes:
  - Values come from outside and are never treated as templates.
  - A value that is no UTF-8 is an error; M(zoo.deploy.zk_znode_info) reads it as base64.
seealso:
  - module: zoo.deploy.zk_znode
  - module: zoo.deploy.zk_znode_info
"""

EXAMPLES = r"""
# With the variable zk_hosts, or ZK_HOSTS in the controller's environment, hosts need not be given.
- name: A value
  ansible.builtin.debug:
    msg: "{{ lookup('zoo.deploy.zk_znode', '/config/motd') }}"

- name: A part of a value that is JSON
  ansible.builtin.debug:
    msg: "{{ lookup('zoo.deploy.zk_znode', '/config/database', json=true).host }}"

- name: A value that may not be there
  ansible.builtin.debug:
    msg: "{{ lookup('zoo.deploy.zk_znode', '/config/colour', default='green') }}"

- name: Several values, each an item
  ansible.builtin.debug:
    msg: "{{ item }}"
  loop: "{{ query('zoo.deploy.zk_znode', '/config/a', '/config/b', hosts='zk1:2181,zk2:2181/business') }}"
"""

RETURN = r"""
_raw:
  description: The value of each znode, as text, or decoded with O(json=true).
  type: list
  elements: raw
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import InvalidRecord, check_path
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import parse_json
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import Node, connect, read_many


class LookupModule(LookupBase):
    """The values of znodes. Ansible itself takes what a lookup returns for data, never for a template."""

    def run(self, terms: Sequence[Any], variables: Any = None, **kwargs: Any) -> list[Any]:
        """The value of each znode in `terms`. Raises `AnsibleLookupError`."""
        self.set_options(var_options=self._connection_variables(variables or {}), direct=kwargs)
        try:
            paths = [_path(term) for term in self._flatten(terms)]
            with connect(self.get_options()) as client:
                client.sync_async("/")
                nodes = read_many(client, paths, self.get_option("connect_timeout"))
            default = {"default": self.get_option("default")} if "default" in kwargs else {}
            return [_value(path, node, as_json=self.get_option("json"), **default) for path, node in zip(paths, nodes)]
        except (ZooKeeperError, InvalidRecord) as exc:
            raise AnsibleLookupError(str(exc)) from None  # Ansible would print each cause's text once more

    def _connection_variables(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Those that set options; Ansible hands them to a lookup as they were written, templates and all."""
        names = [entry["name"] for option in self.option_definitions.values() for entry in option.get("vars", [])]
        return {name: self._templar.template(variables[name]) for name in names if name in variables}


def _path(term: Any) -> str:
    if not isinstance(term, str):
        raise ZooKeeperError(f"expected the path of a znode, got {term!r}")
    return check_path(term)


def _value(path: str, node: Node | ZooKeeperError | None, *, as_json: bool, **default: Any) -> Any:
    if isinstance(node, ZooKeeperError):
        raise node
    if node is None and not default:
        raise ZooKeeperError(f"{path}: no such znode (NoNode); create it, or give a default")
    if node is None:
        return default["default"]
    try:
        return parse_json(node.data) if as_json else node.data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ZooKeeperError(f"{path}: not UTF-8 at byte {exc.start}; read it with zoo.deploy.zk_znode_info") from exc
    except ValueError as exc:
        raise ZooKeeperError(f"{path}: not JSON: {exc}") from exc
