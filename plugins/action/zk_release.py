# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of `zk_release`: it shows how far the fleet is while the module waits for it.

The module publishes and waits for the first seconds; after them it is `zk_release_info` that waits, a few seconds at a
time, for what is published already.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.zoo.deploy.plugins.module_utils.connection import CONNECTION_OPTIONS
from ansible_collections.zoo.deploy.plugins.module_utils.releases import SUPERSEDED
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import WAITING_OPTIONS

PATIENCE = 10.0
"""Seconds between two lines of progress."""
INFO_OPTIONS = (*CONNECTION_OPTIONS, "app", "min_agents", "max_failures")
"""The options that `zk_release_info` takes too."""
INFO_RESULTS = ("agents", "failed_agents", "pending_agents", "lost_agents", "timed_out", "msg", "exception")
"""What `zk_release_info` knows better than the module did before."""
NAMED = 5
"""How many of the agents that are waited for a line of progress names."""

display = Display()


class ActionModule(ActionBase):
    """Runs `zoo.deploy.zk_release`."""

    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and wait on where it has not waited for all of `wait_timeout`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        options = dict(self._task.args)
        begin = time.monotonic()
        limit = self._limit(options)
        if limit is None:
            return {**result, **self._execute_module("zoo.deploy.zk_release", options, task_vars=task_vars)}
        first = {**options, "wait_timeout": min(limit, PATIENCE)}
        result.update(self._execute_module("zoo.deploy.zk_release", first, task_vars=task_vars))
        while result.get("timed_out") and time.monotonic() - begin < limit:
            display.display(progress(result, time.monotonic() - begin))
            left = limit - (time.monotonic() - begin)
            self._wait_on(result, options, min(max(left, 0.0), PATIENCE), task_vars)
            result["elapsed"] = round(time.monotonic() - begin, 3)
        return result

    def _limit(self, options: dict[str, Any]) -> float | None:
        """Seconds to wait; None where nothing is waited for, or where the module is to refuse the options itself."""
        try:
            waits = boolean(options.get("wait", True)) and not self._task.check_mode
            return float(options.get("wait_timeout") or WAITING_OPTIONS["wait_timeout"]["default"]) if waits else None
        except (TypeError, ValueError):
            return None

    def _wait_on(
        self, result: dict[str, Any], options: dict[str, Any], seconds: float, task_vars: dict[str, Any] | None
    ) -> None:
        """Wait for what is published already; the result becomes what is known then."""
        arguments = {key: value for key, value in options.items() if key in INFO_OPTIONS}
        arguments.update(wait=True, wait_timeout=seconds)
        info = self._execute_module("zoo.deploy.zk_release_info", arguments, task_vars=task_vars)
        if "agents" in info and info.get("generation") != result["generation"]:
            info = {"msg": SUPERSEDED, "failed": True}
        for key in INFO_RESULTS:
            result.pop(key, None)
        result.update({key: info[key] for key in INFO_RESULTS if key in info}, failed=info.get("failed", False))


def progress(result: dict[str, Any], seconds: float) -> str:
    """One line: how far the fleet is, and who is waited for."""
    states = {agent["name"]: agent["state"] + (", held" if agent.get("held") else "") for agent in result["agents"]}
    pending = result["pending_agents"]
    named = ", ".join(f"{name} is {states.get(name, 'gone')}" for name in pending[:NAMED])
    more = f" and {len(pending) - NAMED} more" if len(pending) > NAMED else ""
    proved = len(states) - len(pending) - len(result["failed_agents"])
    waited = f"; {named}{more}" if named else ""
    return f"{seconds:5.0f} s  {proved} of {len(states)} agents have proved {result['commit_id'][:10]}{waited}"
