#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read an application's release, its rollout, what was published before, and who may or may not publish."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_release_info
short_description: Read an application's desired release and its history from ZooKeeper
version_added: 0.1.0
description:
  - Reads the desired release and the state of its rollout, the earlier releases with the outcome of each, and the lock
    of the application.
  - M(zoo.deploy.zk_fleet_info) returns the servers' status, and also waits for them.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Never changes anything.
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
  - module: zoo.deploy.zk_lock
  - module: zoo.deploy.zk_release
  - module: zoo.deploy.zk_fleet_info
"""

EXAMPLES = r"""
- name: Read the published release
  zoo.deploy.zk_release_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
  register: deployed

- name: Show where its servers get it from
  ansible.builtin.debug:
    msg: "{{ deployed.release.url }} at {{ deployed.release.commitId }}"
"""

RETURN = r"""
generation:
  description: The number of the current publication; null if nothing is published.
  returned: success
  type: int
release:
  description: The desired release; null if there is no valid one.
  returned: success
  type: dict
problem:
  description: What is wrong with the data of C(<app>/config); null if nothing is.
  returned: success
  type: str
lock:
  description: The lock that prevents publications; null if there is none.
  returned: success
  type: dict
  contains:
    by:
      description: Who has locked the application; null if that can't be read.
      type: str
      returned: always
    since:
      description: Since when, RFC 3339; null if that can't be read.
      type: str
      returned: always
    until:
      description: Until when, RFC 3339; null if it does not expire.
      type: str
      returned: always
    reason:
      description: The reason; null if that can't be read.
      type: str
      returned: always
    expired:
      description: Whether it has expired and no longer has an effect.
      type: bool
      returned: always
    problem:
      description: What is wrong with the data of C(<app>/lock), which still counts as a lock then; null if nothing is.
      type: str
      returned: always
    says:
      description: All of that in a sentence.
      type: str
      returned: always
open:
  description:
    - Whether anybody who reaches the ensemble can deploy, because the ACL of O(app), or of C(<app>/config), lets
      everybody write. M(zoo.deploy.zk_access) closes it. Null if there is no such application.
  returned: success
  type: bool
  sample: false
rollout:
  description: The state of the desired release's rollout.
  returned: if it has one
  type: dict
  contains:
    phase:
      description: C(running), C(soaking), C(paused), C(halted), C(rolling_back), C(done) or C(rolled_back).
      type: str
      returned: always
    step:
      description: The open step, counted from 1.
      type: int
      returned: always
    steps:
      description: How many steps there are.
      type: int
      returned: always
    moves:
      description: How often the phase or the step has changed.
      type: int
      returned: always
    waits_for:
      description: C(gates) while it is paused until the gates of its step are checked; else empty.
      type: str
      returned: always
    proving:
      description:
        - The hosts that had proved the release and are proving it again, for example after a boot. Until they have, no
          soak ends and no further step opens.
      type: list
      elements: str
      returned: always
    says:
      description: What it waits for, or how it ended, in a sentence.
      type: str
      returned: always
    places:
      description: How many hosts may be in progress at once.
      type: int
      returned: always
    fleet:
      description: How many hosts there were at the last count.
      type: int
      returned: always
    counts:
      description: How many hosts are in each state of RV(rollout.hosts). States without hosts are left out.
      type: dict
      returned: always
      sample: {proved: 3, failed: 1}
    since:
      description: When the phase or the step last changed, RFC 3339.
      type: str
      returned: always
    bad:
      description: Why its commit is marked as bad.
      type: str
      returned: if it is, once the rollout has stopped
    by:
      description: The person who set this phase; empty if it was none.
      type: str
      returned: always
    reason:
      description: The reason for the phase; empty if there is none to give.
      type: str
      returned: always
    from:
      description: The commit that hosts run while they wait; null if there is none.
      type: str
      returned: always
    plan:
      description: C(rollout) as published, or as in the policy.
      type: raw
      returned: always
    hosts:
      description:
        - The state of each host, by its name. A host that is missing here was not admitted.
        - Each has C(state) (C(admitted), C(urgent), C(proved), C(failed), C(lost), C(returning) or C(returned)),
          C(since), C(step), the step in which it was admitted, counted from 1, and C(message) if known.
      type: dict
      returned: always
      sample: {web1: {state: proved, since: "2026-11-24T10:15:30+00:00", step: 1}}
history:
  description: The published releases, the newest first, at most 50.
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
      description: The release; null if its data is not valid.
      type: dict
      returned: always
    problem:
      description: What is wrong with its data; null if nothing is.
      type: str
      returned: always
    outcome:
      description:
        - Its outcome, as far as recorded. C(proved) means by the whole fleet, according to a publisher that waited or
          to its rollout. Otherwise, a release with a rollout has C(halted) or C(rolled back), C(done with failures) for
          a rollback with more failures than its plan accepts or if every host failed, C(done on no host) if no host was
          to have it because all were held, and the desired release has C(rolling out), C(paused) or C(rolling back).
        - Also C(rolled back from) if the next publication rolled back from it, and C(bad) if its commit is marked as
          bad.
      type: list
      elements: str
      returned: always
      sample: [halted, rolled back from, bad]
"""

import contextlib
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.access import is_open
from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule
from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    KAZOO_IMPORT_ERROR,
    ZooKeeperError,
    translated,
)
from ansible_collections.zoo.deploy.plugins.module_utils.lock import read_lock, right_now
from ansible_collections.zoo.deploy.plugins.module_utils.records import DEFAULT_APP, AppPaths, InvalidRecord
from ansible_collections.zoo.deploy.plugins.module_utils.release_outcomes import outcomes
from ansible_collections.zoo.deploy.plugins.module_utils.releases import HistoryEntry, read_history, read_published
from ansible_collections.zoo.deploy.plugins.module_utils.rollouts import bad_commits, read_rollouts, rollout_result
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import READ_TIMEOUT, connect, missing_chroot

if KAZOO_IMPORT_ERROR is None:
    from kazoo.exceptions import NoAuthError, NoNodeError


def gather(client: Any, app: str) -> dict[str, Any]:
    """Everything the ensemble knows about an application's releases."""
    paths = AppPaths(app)
    published, history = read_published(client, paths), read_history(client, paths)
    words = outcomes(history, published.generation, read_rollouts(client, paths), bad_commits(client, paths))
    return {
        "generation": published.generation,
        "release": published.release.to_object() if published.release else None,
        "problem": published.problem,
        "lock": read_lock(client, paths).to_object(right_now()),
        "open": can_anybody_deploy(client, paths),
        **rollout_result(client, paths, published.generation),
        "history": [{**describe(entry), "outcome": outcome} for entry, outcome in zip(history, words)],
    }


def can_anybody_deploy(client: Any, app: AppPaths) -> bool | None:
    """Whether anybody may write or replace what hosts deploy; None if there is no such application.

    Raises `ZooKeeperError`.
    """
    found = []
    # The root is closed first: if that was interrupted, the znodes that steer hosts may still be open.
    deciding = (app.root, app.config, app.history, app.rollouts, app.policy)
    pending = {path: client.get_acls_async(path) for path in deciding}
    for path, request in pending.items():
        with translated(path), contextlib.suppress(NoNodeError):
            try:
                found.append(is_open(request.get(timeout=READ_TIMEOUT)[0]))
            except NoAuthError:
                found.append(False)
    return any(found) if found else None


def describe(entry: HistoryEntry) -> dict[str, Any]:
    """A publication, as in the result."""
    return {
        "entry": entry.name,
        "generation": entry.generation,
        "release": entry.release.to_object() if entry.release else None,
        "problem": entry.problem,
    }


def argument_spec() -> dict[str, Any]:
    """The options of the task."""
    return {**ARGSPEC, "app": {"type": "str", "default": DEFAULT_APP}}


def main() -> None:
    """Run the module."""
    module = ZnodeModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        with connect(module.params) as client:
            result = gather(client, module.params["app"])
            missing = "" if result["history"] or result["release"] else missing_chroot(client)
    except (ZooKeeperError, InvalidRecord) as exc:
        module.fail(exc)
    if missing:
        module.warn(missing)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
