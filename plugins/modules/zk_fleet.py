#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove hosts from the roster of an application, or add them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_fleet
short_description: Remove hosts from the roster of a fleet, or add them to it
version_added: 0.2.0
description:
  - The roster of an application has an entry for each host that belongs to its fleet. A host of the roster without a
    live agent is missing, and every wait for the fleet reports it.
  - An agent creates its own entry when it starts. The role P(zoo.deploy.watcher#role) with C(watcher_state=absent), and
    C(scale_in.yml) with C(zoo_remove=true), remove it.
  - This module removes hosts that will not come back from the roster, and adds hosts that are expected but have never
    been live.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Reports which hosts would be removed or added; writes nothing.
  diff_mode:
    support: full
    description: Shows the names in the roster before and after.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble, so it usually runs on the controller.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
  names:
    description: The names of the hosts' agents, as in RV(zoo.deploy.zk_fleet_info#module:missing_agents).
    type: list
    elements: str
    required: true
  state:
    description:
      - V(absent) removes them from the roster. If one of them is live, it fails and changes nothing, because that agent
        would create the entry again with its next session.
      - If there are more than 500 names, 500 at a time are added or removed, all of them or none. Fewer are added at a
        time if M(zoo.deploy.zk_access) has given hundreds of identities a role, because each entry's ACL contains all
        of them. If it fails in between, RV(ignore:changed) in the result is true, and the next run does the rest.
      - V(present) adds them to the roster. They are missing until their agents are live.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: zoo.deploy.zk_fleet_info
  - module: zoo.deploy.zk_release
"""

EXAMPLES = r"""
- name: Stop expecting a host that will not come back
  zoo.deploy.zk_fleet:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    names: [server3]
    state: absent

- name: See which hosts are missing
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
  register: fleet

- name: Stop expecting all missing hosts
  zoo.deploy.zk_fleet:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    names: "{{ fleet.missing_agents }}"
    state: absent

- name: Expect two new servers, which are missing until they are live
  zoo.deploy.zk_fleet:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    names: [server5, server6]
"""

RETURN = r"""
added:
  description: Those of O(names) that were added to the roster.
  returned: success
  type: list
  elements: str
removed:
  description: Those of O(names) that were removed from the roster.
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

from ansible_collections.zoo.deploy.plugins.module_utils.access_rule import kept_closed, warning
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
    """Add the hosts to the roster, or remove them; the module's result."""
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
    if rule.is_new and result["changed"]:
        module.warn(str(warning(rule)))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
