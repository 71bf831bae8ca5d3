# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module `zoo.deploy.zk_ensemble_info`."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_ensemble_info
short_description: Show the state of each member of a ZooKeeper ensemble
version_added: 0.2.0
author:
  - zoo.deploy contributors (@zoo-deploy)
description:
  - Asks every member of O(hosts) separately, all at the same time, for its mode, version, last transaction, znodes,
    sessions and latency, and returns whether they form a whole ensemble.
  - A member that is down, or does not serve, is not a failure; RV(members[].problem) has the reason. The task fails
    only if its options are wrong.
  - Members are asked with the four-letter words V(srvr), which every member answers, and V(mntr), which it answers only
    if C(4lw.commands.whitelist) in its C(zoo.cfg) contains it. If not, its AdminServer is asked, which ZooKeeper runs
    by default. If that gives no answer either, the values that only these two know are left out.
  - The module does not log in and does not need kazoo. Login options are accepted, so that the group
    V(zoo.deploy.zookeeper) of C(module_defaults) can have them, but not used.
  - A member has O(connect_timeout) seconds to answer.
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
  admin_port:
    description:
      - The port of each member's AdminServer, C(admin.serverPort) in C(zoo.cfg). It has two seconds to answer.
      - With V(0), it is not asked.
    type: int
    default: 8080
  admin_tls:
    description: Use TLS for the AdminServers, with the files and the checks of O(tls).
    type: bool
    default: false
  wait_timeout:
    description:
      - For how many seconds to ask the members again, until RV(whole). V(0) means to ask only once.
      - An ensemble that is not whole by then is not a failure.
    type: float
    default: 0.0
seealso:
  - module: zoo.deploy.zk_znode_info
  - name: ZooKeeper Administrator's Guide
    description: Four-letter words, and the AdminServer.
    link: https://zookeeper.apache.org/doc/current/zookeeperAdmin.html
"""

EXAMPLES = r"""
- name: Show which member leads, and which are down
  zoo.deploy.zk_ensemble_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
  register: ensemble # ensemble.leader is zk2:2181

- name: Continue only if the ensemble is whole within a minute
  zoo.deploy.zk_ensemble_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    wait_timeout: 60
  register: ensemble
  failed_when: not ensemble.whole | default(false)

- name: Members with TLS only, by their addresses
  zoo.deploy.zk_ensemble_info:
    hosts: [10.0.0.11:2281, 10.0.0.12:2281, 10.0.0.13:2281]
    tls: true
    tls_ca: /etc/ssl/zookeeper/ca.pem
    tls_cert: /etc/ssl/zookeeper/client.pem
    tls_check_hostname: false
"""

RETURN = r"""
whole:
  description:
    - Whether every member serves, one leads, and each has every transaction that any had at the first look.
    - A single standalone member is whole, too.
  returned: success
  type: bool
  sample: false
problem:
  description: Why RV(whole) is false; empty if it is true.
  returned: success
  type: str
  sample: "zk3:2181: no answer: [Errno 111] Connection refused"
leader:
  description: The member that leads; none if no member does, or if several claim to.
  returned: success
  type: str
  sample: zk2:2181
members:
  description: The answers of the members, in the order of O(hosts).
  returned: success
  type: list
  elements: dict
  contains:
    member:
      description: The member, as in O(hosts).
      type: str
      returned: always
      sample: zk2:2181
    problem:
      description: Why nothing is known about it, in its own words if it has answered.
      type: str
      returned: if the member does not serve, or can't be asked
      sample: This ZooKeeper instance is not currently serving requests
    admin_problem:
      description: Why the AdminServer gave no answer.
      type: str
      returned: if the member serves, may not answer V(mntr), and its AdminServer gave no answer
      sample: "port 8080: [Errno 111] Connection refused"
    mode:
      description: V(leader), V(follower), V(observer), V(standalone) or V(read-only).
      type: str
      returned: if the member serves
      sample: leader
    version:
      description: ZooKeeper's version.
      type: str
      returned: if the member serves
      sample: 3.8.0
    zxid:
      description: The last transaction that the member has.
      type: int
      returned: if the member serves
      sample: 4294967312
    znodes:
      description: How many znodes it has.
      type: int
      returned: if the member serves
      sample: 27
    connections:
      description: How many connections it has, including this one.
      type: int
      returned: if the member serves
      sample: 12
    outstanding:
      description: How many requests wait for an answer.
      type: int
      returned: if the member serves
      sample: 0
    latency:
      description: Milliseconds from a request to its answer, since the member's start.
      type: dict
      returned: if the member serves
      contains:
        min:
          description: The minimum.
          type: float
          sample: 0.0
        avg:
          description: The mean.
          type: float
          sample: 0.4
        max:
          description: The maximum.
          type: float
          sample: 21.0
    sessions:
      description: How many sessions the ensemble has, as far as this member knows.
      type: int
      returned: as RV(members[].watches); ZooKeeper 3.6 and later
      sample: 30
    watches:
      description: How many watches it keeps for its clients.
      type: int
      returned: if the member serves, and answers V(mntr) or has an AdminServer that answers
      sample: 96
    ephemerals:
      description: How many ephemeral znodes there are.
      type: int
      returned: as RV(members[].watches)
      sample: 10
    data_size:
      description: The approximate size of paths and values in bytes.
      type: int
      returned: as RV(members[].watches)
      sample: 20480
    synced_followers:
      description: How many followers are in sync with the leader.
      type: int
      returned: as RV(members[].watches), for a leader
      sample: 2
elapsed:
  description: How many seconds the wait took.
  returned: success
  type: float
  sample: 0.02
"""

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule, elapsed
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError, check_amounts
from ansible_collections.zoo.deploy.plugins.module_utils.ensemble import look
from ansible_collections.zoo.deploy.plugins.module_utils.member import Question, addresses


def argument_spec() -> dict[str, dict[str, Any]]:
    """The options of the task."""
    return {
        **ARGSPEC,
        "admin_port": {"type": "int", "default": 8080},
        "admin_tls": {"type": "bool", "default": False},
        "wait_timeout": {"type": "float", "default": 0.0},
    }


def gather(options: Mapping[str, Any]) -> dict[str, Any]:
    """The module's result. Raises `ZooKeeperError` if the options are wrong."""
    check_amounts(options, "connect_timeout", "wait_timeout")
    began = time.monotonic()
    found = look(addresses(options), Question.from_options(options), options["wait_timeout"])
    return {**found, "elapsed": elapsed(began)}


def main() -> None:
    """Run the module."""
    module = ZnodeModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = gather(module.params)
    except ZooKeeperError as exc:
        module.fail(exc)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
