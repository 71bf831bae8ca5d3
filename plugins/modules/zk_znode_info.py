# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module `zoo.deploy.zk_znode_info`."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_znode_info
short_description: Read znodes from ZooKeeper, or wait until they meet a condition
version_added: 0.1.0
author:
  - zoo.deploy contributors (@zoo-deploy)
description:
  - Reads value, stat, ACL and children of one or many znodes, and of the znodes below them, in as few round trips as
    possible.
  - Waits, if requested, until a condition holds. It uses ZooKeeper's watches and also checks once a minute, because a
    server does not notify a client that may not read the znode at the moment of the change.
  - A missing znode is not an error; see RV(exists).
extends_documentation_fragment:
  - zoo.deploy.zookeeper
attributes:
  check_mode:
    description: Can run in check mode and return the changed status without modifying anything.
    support: full
    details:
      - The module changes nothing. It waits in check mode as well.
  diff_mode:
    description: Returns details on what has changed, or would change in check mode.
    support: N/A
    details:
      - The module changes nothing.
  platform:
    description: Where the module runs.
    platforms: posix
    support: full
options:
  path:
    description:
      - The znode's absolute path, without a trailing slash.
      - One of O(path) and O(paths) is needed.
    type: str
    aliases: [name]
  paths:
    description: Several znodes at once.
    type: list
    elements: str
  depth:
    description: How many levels below each znode are read as well, into RV(descendants).
    type: int
    default: 0
  max_znodes:
    description: With O(depth), how many znodes there may be below each one; the task fails if there are more.
    type: int
    default: 1000
  values:
    description:
      - Whether values are returned. With V(false), names, stats and ACLs are returned, and values are read only for
        O(wait_for).
    type: bool
    default: true
  wait_for:
    description:
      - Wait until all of these conditions hold, at one moment and for each of the znodes.
      - The result is what was read at that moment.
    type: dict
    suboptions:
      state:
        description: V(present) waits until the znode exists, V(absent) until it does not.
        type: str
        choices: [present, absent]
        default: present
      key:
        description:
          - The znode holds JSON that has this key, given as names separated by dots, such as V(pool.max), or as a list
            if a name contains a dot. A number is the position in a list, from 0.
        type: raw
      value:
        description:
          - The znode holds this value. A dictionary, a list, a number or a boolean is compared as JSON.
          - With O(wait_for.key), that key has this value.
        type: raw
      min_children:
        description: The znode has at least this many children.
        type: int
      newer_than:
        description: The znode's value was set by a later transaction than this one, an RV(stat.mzxid) from before.
        type: int
  wait_timeout:
    description:
      - How many seconds to wait before the task fails.
      - A connection that is lost during the wait is not a failure if it comes back in that time. Only the first one
        must be established within O(connect_timeout).
    type: float
    default: 60.0
notes:
  - Values are returned; for secret values, set O(values=false), or C(no_log) on the task.
  - The hash in the id of a V(digest) ACL entry is never returned; it is shown as C(x).
  - If JSON is nested deeper than about 90 levels, the rest is replaced by a string that says so. Half a character (a
    lone surrogate) is replaced by its escape. Ansible accepts neither from a module.
seealso:
  - module: zoo.deploy.zk_znode
  - plugin: zoo.deploy.zk_znode
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Read a configuration
  zoo.deploy.zk_znode_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/database
  register: database # database.json.port is 5432

- name: Read several, some of which may not exist
  zoo.deploy.zk_znode_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    paths: [/config/shop, /config/shop-old]
  register: shops

- name: Read everything below, two levels deep
  zoo.deploy.zk_znode_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config
    depth: 2

- name: Wait until three servers are registered
  zoo.deploy.zk_znode_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /service/shop
    wait_for:
      min_children: 3
    wait_timeout: 120

- name: Wait until a key of a value exists and is true
  zoo.deploy.zk_znode_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/shop
    wait_for:
      key: migration.done
      value: true

- name: List the znodes without their values, which may be secret
  zoo.deploy.zk_znode_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config
    depth: 2
    values: false

- name: Wait until somebody sets the value again
  zoo.deploy.zk_znode_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/database
    wait_for:
      newer_than: "{{ database.stat.mzxid }}"

- name: Wait until a lock is gone
  zoo.deploy.zk_znode_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /locks/migration
    wait_for:
      state: absent
"""

RETURN = r"""
path:
  description: The znode's path.
  returned: when O(path) is given
  type: str
  sample: /config/database
exists:
  description: Whether it exists.
  returned: when O(path) is given
  type: bool
  sample: true
value:
  description: Its value.
  returned: if RV(exists), with O(values)
  type: str
  sample: '{"host": "db1.example.org", "port": 5432}'
encoding:
  description: V(text), or V(base64) if the value is not UTF-8.
  returned: with RV(value)
  type: str
  sample: text
json:
  description: Its value, decoded.
  returned: with RV(value), if that is JSON
  type: raw
  sample:
    host: db1.example.org
    port: 5432
stat:
  description: Its stat.
  returned: if RV(exists)
  type: dict
  contains:
    czxid:
      description: The transaction that created the znode.
      type: int
      sample: 4294967310
    mzxid:
      description: The transaction that last set its value.
      type: int
      sample: 4294967312
    pzxid:
      description: The transaction that last added or removed a child.
      type: int
      sample: 4294967310
    ctime:
      description: When it was created, in milliseconds since 1970.
      type: int
      sample: 1795298400123
    mtime:
      description: When its value was last set, in milliseconds since 1970.
      type: int
      sample: 1795298400456
    version:
      description: How often its value has been set.
      type: int
      sample: 1
    cversion:
      description: How often its children have changed.
      type: int
      sample: 0
    aversion:
      description: How often its ACL has been set.
      type: int
      sample: 0
    ephemeral_owner:
      description: The session that owns it; 0 if it is persistent.
      type: int
      sample: 0
    data_length:
      description: The size of its value in bytes.
      type: int
      sample: 41
    num_children:
      description: How many children it has.
      type: int
      sample: 0
children:
  description: The names of its children, sorted.
  returned: if RV(exists)
  type: list
  elements: str
  sample: [replica-1, replica-2]
acl:
  description: Its ACL, in the form of the option C(acl) of M(zoo.deploy.zk_znode).
  returned: if RV(exists)
  type: list
  elements: dict
  contains:
    scheme:
      description: The scheme, such as V(world) or V(digest).
      type: str
      returned: always
    id:
      description: The identity, in the form of the scheme; the hash of a V(digest) entry is C(x).
      type: str
      returned: always
    perms:
      description: What is allowed.
      type: list
      elements: str
      returned: always
  sample:
    - scheme: world
      id: anyone
      perms: [read]
descendants:
  description: The znodes below, by path.
  returned: if RV(exists), with O(depth)
  type: list
  elements: dict
  contains:
    path:
      description: Its path.
      type: str
      returned: always
    value:
      description: Its value.
      type: str
      returned: with O(values)
    encoding:
      description: V(text), or V(base64) if the value is not UTF-8.
      type: str
      returned: with O(values)
    json:
      description: Its value, decoded.
      type: raw
      returned: if RV(descendants[].value) is JSON
    stat:
      description: Its stat, like RV(stat).
      type: dict
      returned: always
  sample:
    - path: /config/database/replica-1
      value: ready
      encoding: text
      stat: {czxid: 4294967320, mzxid: 4294967320, version: 0}
znodes:
  description: The same return values for each of O(paths), in their order.
  returned: when O(paths) is given
  type: list
  elements: dict
  contains:
    path:
      description: Its path.
      type: str
      returned: always
    value:
      description: Its value.
      type: str
      returned: if it exists, with O(values)
    encoding:
      description: V(text), or V(base64) if the value is not UTF-8.
      type: str
      returned: if it exists, with O(values)
    json:
      description: Its value, decoded.
      type: raw
      returned: if RV(znodes[].value) is JSON
    stat:
      description: Its stat, like RV(stat).
      type: dict
      returned: if it exists
    exists:
      description: Whether it exists.
      type: bool
      returned: always
    children:
      description: The names of its children, sorted.
      type: list
      elements: str
      returned: if it exists
    acl:
      description: Its ACL, like RV(acl).
      type: list
      elements: dict
      returned: if it exists
      contains:
        scheme:
          description: The scheme, such as V(world) or V(digest).
          type: str
          returned: always
        id:
          description: The identity, in the form of the scheme; the hash of a V(digest) entry is C(x).
          type: str
          returned: always
        perms:
          description: What is allowed.
          type: list
          elements: str
          returned: always
    descendants:
      description: The znodes below, like RV(descendants).
      type: list
      elements: dict
      returned: if it exists, with O(depth)
      contains:
        path:
          description: Its path.
          type: str
          returned: always
        value:
          description: Its value.
          type: str
          returned: with O(values)
        encoding:
          description: V(text), or V(base64) if the value is not UTF-8.
          type: str
          returned: with O(values)
        json:
          description: Its value, decoded.
          type: raw
          returned: if its value is JSON
        stat:
          description: Its stat, like RV(stat).
          type: dict
          returned: always
  sample:
    - {path: /config/shop, exists: true, value: "", encoding: text, children: [], acl: [], stat: {version: 0}}
    - {path: /config/shop-old, exists: false}
elapsed:
  description: How many seconds the wait took.
  returned: with O(wait_for)
  type: float
  sample: 1.32
"""

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule, elapsed
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError, check_amounts
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import InvalidRecord, check_path
from ansible_collections.zoo.deploy.plugins.module_utils.znode_snapshots import (
    Condition,
    ZnodeSnapshot,
    below,
    node_fields,
    take,
    wait,
)
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect

WAIT_SPEC: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "key": {"type": "raw", "no_log": False},
    "value": {"type": "raw"},
    "min_children": {"type": "int"},
    "newer_than": {"type": "int"},
}


def argument_spec() -> dict[str, dict[str, Any]]:
    """The options of the task."""
    return {
        **ARGSPEC,
        "path": {"type": "str", "aliases": ["name"]},
        "paths": {"type": "list", "elements": "str"},
        "depth": {"type": "int", "default": 0},
        "max_znodes": {"type": "int", "default": 1000},
        "values": {"type": "bool", "default": True},
        "wait_for": {"type": "dict", "options": WAIT_SPEC},
        "wait_timeout": {"type": "float", "default": 60.0},
    }


def gather(options: Mapping[str, Any]) -> dict[str, Any]:
    """The module's result. Raises `ZooKeeperError`, `InvalidRecord`."""
    several = options["paths"] is not None
    paths = [check_path(path) for path in (options["paths"] if several else [options["path"]])]
    values, given = options["values"], options["wait_for"]
    condition = None if given is None else Condition.from_options(given, shows=values)
    check_amounts(options, "depth", "wait_timeout")
    outage = max(options["connect_timeout"], 0.0 if condition is None else options["wait_timeout"])
    with connect(options, outage) as client:
        began = time.monotonic()
        if condition is None:
            snapshots, waited = take(client, paths, options["connect_timeout"], values=values), {}
        else:
            snapshots = wait(client, paths, condition, options["wait_timeout"])
            waited = {"elapsed": elapsed(began)}
        znodes = [{**znode.fields(values=values), **_descendants(client, znode, options)} for znode in snapshots]
    return {**({"znodes": znodes} if several else znodes[0]), **waited}


def _descendants(client: Any, snapshot: ZnodeSnapshot, options: Mapping[str, Any]) -> dict[str, Any]:
    if snapshot.stat is None or not options["depth"]:
        return {}
    limits = (options["depth"], options["max_znodes"], options["connect_timeout"])
    nodes = below(client, snapshot.path, *limits, values=options["values"])
    return {"descendants": [node_fields(node, values=options["values"]) for node in nodes]}


def main() -> None:
    """Run the module."""
    module = ZnodeModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("path", "paths")],
        required_one_of=[("path", "paths")],
        supports_check_mode=True,
    )
    try:
        result = gather(module.params)
    except (ZooKeeperError, InvalidRecord) as exc:
        module.fail(exc)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
