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
  - Makes the list that the option C(znodes) of M(zoo.deploy.zk_znode) takes, so that a whole configuration is one
    task, one transaction and one diff.
  - Reads no ensemble; the playbook C(zoo.deploy.config) does the rest.
options:
  _terms:
    description: The znode below which everything is to be; one.
    type: str
    required: true
  directory:
    description:
      - A directory on the controller. A file is a znode that holds the file's bytes, a sub-directory is a znode with
        deeper ones.
      - A relative path is looked for as P(ansible.builtin.file#lookup) looks for one; in C(files) of the role and in
        the role, in C(files) beside the playbook and beside it. Last comes the directory where C(ansible-playbook) was
        started.
      - Files of Ansible Vault are decrypted, and their values are in no diff, no result and no log of the module.
      - What is named C(.git) is left out, all else is published.
      - One of O(directory) and O(values) is needed.
    type: str
  values:
    description:
      - A key is a znode that holds the value; text as it is, a list, a number or a boolean as JSON, null as nothing.
      - A key that is no text, such as V(8080) or V(yes), is refused, wherever in them; quote it.
      - A nested dictionary is a znode with deeper ones. Where one is to be a single value in JSON, give it as text,
        with the filter P(ansible.builtin.to_json#filter).
      - A value of Ansible Vault (C(!vault)), also in a list, is in no diff, no result and no log of the module. What is
        put together of one, or is in a file of variables that is encrypted as a whole, is not known to be secret;
        before ansible-core 2.19 nor is what a template names. Nor is what was vaulted, and is not any more.
    type: raw
  there:
    description:
      - Znodes that are there now, each by its path or as RV(zoo.deploy.zk_znode_info#module:descendants) has it. Those
        that the configuration does not have, and that are not above one that it has, are to be absent in what is
        returned; one that has a value, and is only above others in the configuration, is to be empty.
      - An ephemeral znode and an entry of an application's C(history), C(rollouts) or C(bad) are refused instead; no
        configuration made them. So is what is called as an application's own (see O(app)), which may be one.
    type: list
    elements: raw
    default: []
  app:
    description:
      - The znode of the application. A path is refused that is this one, or above it, or in its own C(config),
        C(history), C(policy), C(rollouts), C(bad), C(agents), C(roster) or C(lock).
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
        """The entries, those that delete at the end. Raises `AnsibleLookupError`."""
        self.set_options(var_options=variables, direct=kwargs)
        try:
            path = _path(terms)
            check_place(path, self.get_option("app"))
            entries = self._entries(path, variables or {})
            return [*entries, *deletions(entries, self.get_option("there"))]
        except InvalidRecord as exc:
            raise AnsibleLookupError(str(exc)) from None  # Ansible would print each cause's text once more

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
