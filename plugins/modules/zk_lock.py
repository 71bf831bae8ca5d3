#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock an application, so that nothing is published to it, or unlock it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_lock
short_description: Lock an application, so that nothing is published to it, or unlock it
version_added: 0.2.0
description:
  - While somebody holds the lock of an application, M(zoo.deploy.zk_release) and the git hook publish nothing to it and
    promote no rollout; they fail, and say who has locked it, since when, until when and why.
  - A rollback is never locked out, nor is pausing or halting a rollout. A rollout that is under way goes on, but for a
    step that waits for its gates; these are asked once it is unlocked.
  - A lock with an end expires by itself, by the clock of whoever publishes.
  - M(zoo.deploy.zk_release_info) returns the lock.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Says who would hold the lock, and fails where somebody else does; writes nothing.
  diff_mode:
    support: full
    description: Shows the lock before and after.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble, so it mostly runs on the controller.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
  state:
    description:
      - V(present) locks the application. Who holds the lock already keeps it, with another reason or end where these
        differ. It fails where somebody else holds it, unless it has expired.
      - V(absent) unlocks it. It fails where somebody else holds the lock, unless it has expired.
    type: str
    choices: [present, absent]
    default: present
  reason:
    description: Why, as whoever is locked out is told. Required with O(state=present).
    type: str
  expires_after:
    description:
      - After what time the lock expires, seconds, or a number with V(s), V(m), V(h) or V(d), as in V(30m).
      - It begins anew with each task. Without it and without O(expires_at), the lock has no end; an empty value is
        refused.
    type: str
  expires_at:
    description: When the lock expires, RFC 3339, as in V(2026-11-29T18:00:00+01:00).
    type: str
  by:
    description:
      - Who locks or unlocks. Who has the same name holds the same lock.
      - Where it is not given, it is the user and the host where the module runs.
    type: str
  force:
    description:
      - Take the lock over from whoever holds it, or unlock it for them. A warning and RV(broken) say whose it was.
    type: bool
    default: false
seealso:
  - module: zoo.deploy.zk_release
  - module: zoo.deploy.zk_release_info
"""

EXAMPLES = r"""
- name: Nothing is published while the database is migrated, for two hours at the most
  zoo.deploy.zk_lock:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    reason: database migration
    expires_after: 2h

- name: It is done
  zoo.deploy.zk_lock:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    state: absent

- name: Nothing is published until the holidays are over
  zoo.deploy.zk_lock:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    reason: holidays
    expires_at: "2027-01-03T08:00:00+01:00"
    by: operations

- name: Unlock what somebody has locked who can't be asked
  zoo.deploy.zk_lock:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    state: absent
    force: true
"""

RETURN = r"""
lock:
  description: The lock as it is now, as RV(zoo.deploy.zk_release_info#module:lock); null where nobody holds it.
  returned: success, and on failure where somebody else holds it
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
  description: The lock that O(force) has taken from somebody else.
  returned: where somebody else held it
  type: dict
msg:
  description: Who holds the lock, since when, until when and why; or that nobody does.
  returned: always
  type: str
"""

import json
from datetime import datetime
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.access_rule import kept_closed
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
    """Have the lock held, or not; the module's result."""
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
    """What the lock is to have. Raises `Locked` where somebody else holds it, unless forced."""
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
        with connect(module.params) as client, kept_closed(client, app, module.params):
            result = converge(client, module.params, module.check_mode)
    except (ZooKeeperError, InvalidRecord) as exc:
        module.fail(exc)
    if "broken" in result:
        module.warn(f"{AppPaths(module.params['app']).lock}: {result['broken']['says']}; broken by force")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
