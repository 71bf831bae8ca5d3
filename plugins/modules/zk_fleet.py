#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take hosts out of the roster of an application, or into it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_fleet
short_description: Take hosts out of the roster of a fleet, or into it
version_added: 0.2.0
description:
  - The roster of an application has an entry for each host that belongs to its fleet. A host of the roster without a
    live agent is missing, and every wait for the fleet names it.
  - An agent makes its own entry at its start. The role P(zoo.deploy.watcher#role) with C(watcher_state=absent), and
    C(scale_in.yml) with C(zoo_remove=true), take it away.
  - This module takes out of the roster a host that will not come back, and into it one that is expected and was never
    there.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Says who would be taken out or in; writes nothing.
  diff_mode:
    support: full
    description: Shows the names in the roster before and after.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble, so it mostly runs on the controller.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
  names:
    description: The names of the hosts' agents, as RV(zoo.deploy.zk_fleet_info#module:missing_agents) has them.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(absent) takes them out of the roster. It fails, and changes nothing, where one of them is live, because its
        agent would make the entry again with its next session.
      - Of more than 500 names, 500 at a time are taken in or out, all of them or none; fewer are taken in where
        M(zoo.deploy.zk_access) has given hundreds of identities a role, as each entry's ACL has all of them. Where it
        fails in between, the result says so as RV(ignore:changed), and the next run does the rest.
      - V(present) takes them into the roster. Until their agents are live, they are missing.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: zoo.deploy.zk_fleet_info
  - module: zoo.deploy.zk_release
"""

EXAMPLES = r"""
- name: A host that will not come back is not missed any more
  zoo.deploy.zk_fleet:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    names: [server3]
    state: absent

- name: See who is missing
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
  register: fleet

- name: Nobody who is missing will come back
  zoo.deploy.zk_fleet:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    names: "{{ fleet.missing_agents }}"
    state: absent

- name: Two servers are missing until they are there
  zoo.deploy.zk_fleet:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    names: [server5, server6]
"""

RETURN = r"""
added:
  description: Those of O(names) that were not in the roster, and are now.
  returned: success
  type: list
  elements: str
removed:
  description: Those of O(names) that were in the roster, and are not any more.
  returned: success
  type: list
  elements: str
roster:
  description: The names of all hosts in the roster now.
  returned: success
  type: list
  elements: str
  sample: [server1, server2]
"""

from collections.abc import Sequence
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.access_rule import kept_closed
from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    DEFAULT_APP,
    AppPaths,
    InvalidRecord,
    check_node_name,
)
from ansible_collections.zoo.deploy.plugins.module_utils.releases import begin_anew, now
from ansible_collections.zoo.deploy.plugins.module_utils.roster import (
    RosterChange,
    apply_change,
    entry_acl_bytes,
    plan_change,
)
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    return {
        **ARGSPEC,
        "app": {"type": "str", "default": DEFAULT_APP},
        "names": {"type": "list", "elements": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def converge(client: Any, options: dict[str, Any], check: bool, acl_size: int = 0) -> dict[str, Any]:
    """Have the hosts in the roster, or not; the module's result."""
    paths = AppPaths(options["app"])
    for name in options["names"]:
        check_node_name(name, "names")

    begun: list[RosterChange] = []

    def attempt() -> RosterChange:
        change = plan_change(client, paths, options["names"], present=options["state"] == "present")
        try:
            if not check:
                apply_change(client, paths, change, now(), acl_size)
        except ZooKeeperError as exc:
            begun.extend([change] if exc.details.get("changed") else [])
            raise
        return change._replace(before=begun[0].before) if begun else change

    try:
        change = begin_anew(attempt)
    except ZooKeeperError as exc:
        exc.details.update({"changed": True} if begun else {})
        raise
    return {
        "changed": change.before != change.after,
        "added": change.added,
        "removed": change.removed,
        "roster": change.after,
        "diff": {"before": as_lines(change.before), "after": as_lines(change.after)},
    }


def as_lines(names: Sequence[str]) -> str:
    """The names as a diff shows them."""
    return "".join(f"{name}\n" for name in names)


def main() -> None:
    """Run the module."""
    module = ZnodeModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        app = AppPaths(module.params["app"])
        with connect(module.params) as client, kept_closed(client, app, module.params) as rule:
            result = converge(client, module.params, module.check_mode, entry_acl_bytes(rule))
    except (ZooKeeperError, InvalidRecord) as exc:
        module.fail(exc)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
