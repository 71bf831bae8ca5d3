# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup `zoo.deploy.config_znodes`."""

from __future__ import annotations

DOCUMENTATION = r"""
name: config_znodes
short_description: A directory of files, or nested dictionaries, as entries for zk_znode
version_added: 0.1.0
author:
  - zoo.deploy contributors (@zoo-deploy)
description:
  - Returns the list that the option C(znodes) of M(zoo.deploy.zk_znode) takes, so that a whole configuration is one
    task, one transaction and one diff.
  - Does not connect to the ensemble; the playbook C(zoo.deploy.config) does the rest.
options:
  _terms:
    description: The znode below which everything is placed. Only one.
    type: str
    required: true
  directory:
    description:
      - A directory on the controller. A file becomes a znode with the file's bytes, a sub-directory a znode with
        children.
      - A relative path is searched for as P(ansible.builtin.file#lookup) searches for one, in C(files) of the role and
        in the role, then in C(files) next to the playbook and next to the playbook itself, and last in the directory
        where C(ansible-playbook) was started.
      - Files encrypted with Ansible Vault are decrypted, and their values appear in no diff, no result and no log of
        the module.
      - Entries named C(.git) are left out; everything else is published.
      - One of O(directory) and O(values) is required.
    type: str
  values:
    description:
      - A key becomes a znode with the value; a string as it is, a list, a number or a boolean as JSON, null as empty.
      - A key that is not a string, such as V(8080) or V(yes), is refused at any depth; quote it.
      - A nested dictionary becomes a znode with children. To store one as a single value in JSON, give it as a string,
        with the filter P(ansible.builtin.to_json#filter).
      - A value encrypted with Ansible Vault (C(!vault)), even in a list, appears in no diff, no result and no log of
        the module. A value that is composed from one, or is in a variables file that is encrypted as a whole, is not
        recognized as secret, and neither is a value that once was encrypted and no longer is. Before ansible-core 2.19,
        a value that a template refers to is not recognized either.
    type: raw
  there:
    description:
      - Znodes that exist now, each as its path or as in RV(zoo.deploy.zk_znode_info#module:descendants). Those that are
        neither in the configuration nor above a znode of it are returned as absent. One that has a value, and is only
        above znodes of the configuration, is returned as empty.
      - An ephemeral znode, and an entry of an application's C(history), C(rollouts) or C(bad), is refused instead,
        because no configuration created it. So is a znode with one of the names that an application uses for itself
        (see O(app)), because it may be the application's.
    type: list
    elements: raw
    default: []
  app:
    description:
      - The znode of the application. A path is refused if it is this one, above it, or in the application's own
        C(config), C(history), C(policy), C(rollouts), C(bad), C(agents), C(roster) or C(lock).
    type: str
    default: /app/business
seealso:
  - module: zoo.deploy.zk_znode
"""

EXAMPLES = r"""
- name: A directory's files as znodes
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    recursive: true
    znodes: "{{ query('zoo.deploy.config_znodes', '/config/shop', directory='files/shop') }}"

- name: The directory files/shop of a role, named in its tasks
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    recursive: true
    znodes: "{{ query('zoo.deploy.config_znodes', '/config/shop', directory='shop') }}"

- name: Variables as znodes
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    recursive: true
    znodes: "{{ query('zoo.deploy.config_znodes', '/config/shop', values=shop) }}"
  vars:
    shop:
      limits: {orders: 100, items: 20}
      colour: green
"""

RETURN = r"""
_raw:
  description: Entries for O(zoo.deploy.zk_znode#module:znodes).
  type: list
  elements: dict
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import InvalidRecord, check_path
from ansible_collections.zoo.deploy.plugins.plugin_utils.config_znodes import (
    check_place,
    deletions,
    from_directory,
    from_values,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.content import read_content


class LookupModule(LookupBase):
    """Entries for `zk_znode`."""

    def run(self, terms: Sequence[Any], variables: Any = None, **kwargs: Any) -> list[Any]:
        """The entries, deletions last. Raises `AnsibleLookupError`."""
        self.set_options(var_options=variables, direct=kwargs)
        try:
            path = _path(terms)
            check_place(path, self.get_option("app"))
            entries = self._entries(path, variables or {})
            return [*entries, *deletions(entries, self.get_option("there"))]
        except InvalidRecord as exc:
            raise AnsibleLookupError(str(exc)) from None  # Ansible would repeat the message of each cause

    def _entries(self, path: str, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        directory, values = self.get_option("directory"), self.get_option("values")
        if (directory is None) == (values is None):
            raise InvalidRecord("expected one of directory and values")
        if values is not None:
            return from_values(path, values)
        return from_directory(path, self._find(directory, variables), partial(read_content, self._loader))

    def _find(self, directory: str, variables: Mapping[str, Any]) -> str:
        """The absolute path of a directory. Raises `InvalidRecord`."""
        found = self.find_file_in_search_path(variables, "files", directory, ignore_missing=True)
        if found:
            return str(found)
        path = os.path.expanduser(directory)
        if os.path.isabs(path) or os.path.exists(path):
            return os.path.abspath(path)
        where = f"in files/ of the role or the playbook, beside them, or in {os.getcwd()}"
        raise InvalidRecord(f"{directory}: no such directory {where}")


def _path(terms: Sequence[Any]) -> str:
    if len(terms) != 1 or not isinstance(terms[0], str):
        raise InvalidRecord("expected the path of one znode")
    path = check_path(terms[0])
    if path == "/":
        raise InvalidRecord("path: expected a znode below the root, such as /config/shop")
    return path
