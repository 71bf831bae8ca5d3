#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an application should run, and what was published before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_release_info
short_description: Read an application's desired release and its history from ZooKeeper
version_added: 0.1.0
description:
  - Reads the desired release, and the releases that were published before.
  - What the servers say of it is told by M(zoo.deploy.zk_fleet_info), which also waits for them.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: N/A
    description: Changes nothing.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
seealso:
  - module: zoo.deploy.zk_release
  - module: zoo.deploy.zk_fleet_info
"""

EXAMPLES = r"""
- name: Read what is published
  zoo.deploy.zk_release_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
  register: deployed

- name: Where its servers get it from
  ansible.builtin.debug:
    msg: "{{ deployed.release.url }} at {{ deployed.release.commitId }}"
"""

RETURN = r"""
generation:
  description: The number of the publication that is desired now; null where nothing is published.
  returned: success
  type: int
release:
  description: The desired release; null where there is none that is valid.
  returned: success
  type: dict
problem:
  description: What is wrong with the data of C(<app>/config); null where nothing is.
  returned: success
  type: str
history:
  description: What was published, the newest first, at most 50.
  returned: success
  type: list
  elements: dict
  contains:
    entry:
      description: The name of its znode below C(<app>/history).
      type: str
      returned: always
    generation:
      description: Its generation.
      type: int
      returned: always
    release:
      description: The release; null where its data is not valid.
      type: dict
      returned: always
    problem:
      description: What is wrong with its data; null where nothing is.
      type: str
      returned: always
"""

from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.records import DEFAULT_APP, AppPaths, InvalidRecord
from ansible_collections.zoo.deploy.plugins.module_utils.releases import HistoryEntry, read_history, read_published
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect


def gather(client: Any, app: str) -> dict[str, Any]:
    """All that the ensemble knows of an application's releases."""
    paths = AppPaths(app)
    published = read_published(client, paths)
    return {
        "generation": published.generation,
        "release": published.release.to_object() if published.release else None,
        "problem": published.problem,
        "history": [describe(entry) for entry in read_history(client, paths)],
    }


def describe(entry: HistoryEntry) -> dict[str, Any]:
    """A publication as the result has it."""
    return {
        "entry": entry.name,
        "generation": entry.generation,
        "release": entry.release.to_object() if entry.release else None,
        "problem": entry.problem,
    }


def main() -> None:
    """Run the module."""
    spec = {**ARGSPEC, "app": {"type": "str", "default": DEFAULT_APP}}
    module = ZnodeModule(argument_spec=spec, supports_check_mode=True)
    try:
        with connect(module.params) as client:
            result = gather(client, module.params["app"])
    except (ZooKeeperError, InvalidRecord) as exc:
        module.fail(exc)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
