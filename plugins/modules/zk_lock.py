#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock an application, so that nothing can be published to it, or unlock it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_lock
short_description: Lock an application, so that nothing is published to it, or unlock it
version_added: 0.2.0
description:
  - While somebody holds the lock of an application, M(zoo.deploy.zk_release) and the git hook publish nothing to it and
    promote no rollout. They fail and report who has locked it, since when, until when and why.
  - A lock never prevents a rollback, or pausing or halting a rollout. A rollout in progress continues, except at a step
    that waits for its gates; these are checked after the application is unlocked.
  - A lock with an expiry expires on its own, by the publisher's clock.
  - M(zoo.deploy.zk_release_info) returns the lock.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Reports who would hold the lock, and fails if somebody else does; writes nothing.
  diff_mode:
    support: full
    description: Shows the lock before and after.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble, so it usually runs on the controller.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
  state:
    description:
      - V(present) locks the application. If you already hold the lock, you keep it, and its reason and expiry are
        updated. It fails if somebody else holds the lock, unless that has expired.
      - V(absent) unlocks it. It fails if somebody else holds the lock, unless that has expired.
    type: str
    choices: [present, absent]
    default: present
  reason:
    description: The reason, shown to publishers that the lock stops. Required with O(state=present).
    type: str
  expires_after:
    description:
      - How long until the lock expires, in seconds, or a number with V(s), V(m), V(h) or V(d), as in V(30m).
      - The time starts again with each task. Without it and without O(expires_at), the lock does not expire; an empty
        value is refused.
    type: str
  expires_at:
    description: When the lock expires, RFC 3339, as in V(2026-11-29T18:00:00+01:00).
    type: str
  by:
    description:
      - Who locks or unlocks. Everybody with the same name holds the same lock.
      - Defaults to the user and the host where the module runs.
    type: str
  force:
    description:
      - Take over, or remove, a lock that somebody else holds. A warning and RV(broken) show whose it was.
    type: bool
    default: false
seealso:
  - module: zoo.deploy.zk_release
  - module: zoo.deploy.zk_release_info
"""

EXAMPLES = r"""
- name: Prevent publications while the database is migrated, for at most two hours
  zoo.deploy.zk_lock:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    reason: database migration
    expires_after: 2h

- name: Unlock after the migration
  zoo.deploy.zk_lock:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    state: absent

- name: Prevent publications until the holidays are over
  zoo.deploy.zk_lock:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    reason: holidays
    expires_at: "2027-01-03T08:00:00+01:00"
    by: operations

- name: Remove the lock of somebody who can't be asked
  zoo.deploy.zk_lock:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    state: absent
    force: true
"""

RETURN = r"""
lock:
  description: The present lock, as in RV(zoo.deploy.zk_release_info#module:lock); null if nobody holds it.
  returned: success, and on failure if somebody else holds it
  type: dict
  sample:
    by: ann@controller
    since: "2026-11-29T08:00:00+00:00"
    until: "2026-11-29T10:00:00+00:00"
    reason: database migration
    expired: false
    problem: null
    says: >-
      locked by ann@controller since 2026-11-29T08:00:00+00:00 until 2026-11-29T10:00:00+00:00: database migration
broken:
  description: The lock of somebody else that O(force) took over or removed.
  returned: if somebody else held it
  type: dict
msg:
  description: Who holds the lock, since when, until when and why; or that nobody does.
  returned: always
  type: str
"""

import json
from datetime import datetime
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.access_rule import kept_closed, warning
from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule, user_and_host
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.lock import (
    LONGEST_SHOWN,
    Lock,
    LockRecord,
    check_may_unlock,
    end_of_lock,
    plan_lock,
    read_lock,
    right_now,
    write_lock,
)
from ansible_collections.zoo.deploy.plugins.module_utils.records import DEFAULT_APP, AppPaths, InvalidRecord
from ansible_collections.zoo.deploy.plugins.module_utils.releases import begin_anew
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    return {
        **ARGSPEC,
        "app": {"type": "str", "default": DEFAULT_APP},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "reason": {"type": "str"},
        "expires_after": {"type": "str"},
        "expires_at": {"type": "str"},
        "by": {"type": "str"},
        "force": {"type": "bool", "default": False},
    }


def converge(client: Any, options: dict[str, Any], check: bool) -> dict[str, Any]:
    """Take the lock, or release it; the module's result."""
    paths, now, by = AppPaths(options["app"]), right_now(), options["by"] or user_and_host()
    wanted = wanted_lock(options, by, now) if options["state"] == "present" else None

    def attempt() -> tuple[Lock, LockRecord | None]:
        before = read_lock(client, paths)
        after = planned(before, wanted, by, now, force=options["force"])
        if not check and is_change(before, after):
            write_lock(client, before, after)
        return before, after

    before, after = begin_anew(attempt)
    return describe(before, after, by, now)


def wanted_lock(options: dict[str, Any], by: str, now: datetime) -> LockRecord:
    """The lock that the options ask for. Raises `InvalidRecord`."""
    if not (options["reason"] or "").strip():
        raise InvalidRecord("reason: say why, for whoever is locked out")
    for option, text in (("reason", options["reason"]), ("by", by)):
        if len(text) > LONGEST_SHOWN:
            raise InvalidRecord(f"{option}: expected at most {LONGEST_SHOWN} characters, got {len(text)}")
    until = end_of_lock(options["expires_after"], options["expires_at"], now)
    return LockRecord(options["reason"].strip(), by, now.isoformat(timespec="seconds"), until)


def planned(before: Lock, wanted: LockRecord | None, by: str, now: datetime, *, force: bool) -> LockRecord | None:
    """The content that the lock is to have. Raises `Locked` if somebody else holds it, unless forced."""
    if wanted is not None:
        return plan_lock(before, wanted, now, force=force)
    check_may_unlock(before, by, now, force=force)
    return None


def is_change(before: Lock, after: LockRecord | None) -> bool:
    """Whether there is anything to write."""
    return after != before.record or before.problem is not None


def describe(before: Lock, after: LockRecord | None, by: str, now: datetime) -> dict[str, Any]:
    """The module's result."""
    lock = Lock(before.path, record=after)
    is_others = before.holds(now) and (before.record is None or before.record.by != by)
    return {
        "changed": is_change(before, after),
        "lock": lock.to_object(now),
        "msg": f"{before.path}: {lock.describe(now)}",
        "diff": {"before": pretty(before), "after": pretty(lock)},
        **({"broken": before.to_object(now)} if is_others else {}),
    }


def pretty(lock: Lock) -> str:
    """The lock as a diff shows it."""
    if lock.problem:
        return f"{lock.problem}\n"
    return f"{json.dumps(lock.record.to_object(), indent=2)}\n" if lock.record else ""


def main() -> None:
    """Run the module."""
    module = ZnodeModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[("expires_after", "expires_at")],
        required_if=[("state", "present", ["reason"])],
        supports_check_mode=True,
    )
    try:
        app = AppPaths(module.params["app"])
        with connect(module.params) as client, kept_closed(client, app, module.params) as rule:
            result = converge(client, module.params, module.check_mode)
    except (ZooKeeperError, InvalidRecord) as exc:
        module.fail(exc)
    if "broken" in result:
        module.warn(f"{AppPaths(module.params['app']).lock}: {result['broken']['says']}; broken by force")
    if rule.is_new and result["changed"]:
        module.warn(str(warning(rule)))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
