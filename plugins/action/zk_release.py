# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of `zk_release`: it shows how far the fleet is while the module waits for it.

The module publishes and waits for the first seconds; after them it is run again, a few seconds at a time, to wait for
what is published already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.zoo.deploy.plugins.module_utils.fleet import WAITING_OPTIONS
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import listed, reason_of
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus
from ansible_collections.zoo.deploy.plugins.module_utils.releases import NOTHING

PATIENCE = 10.0
"""Seconds between two lines of progress."""
PAUSE = 1.0
"""Seconds before the module is run again that an outage has ended early."""
FLEET = ("agents", "failed_agents", "pending_agents", "lost_agents", "converged")
"""What the module knows better each time that it has seen the fleet."""
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
        options = expecting(self._task.args)
        limit = self._limit(options)

        def run(changed: dict[str, Any]) -> dict[str, Any]:
            return dict(self._execute_module("zoo.deploy.zk_release", {**options, **changed}, task_vars=task_vars))

        if limit is None:
            return {**result, **run({})}
        return {**result, **wait_on(run({"wait_timeout": min(limit, PATIENCE), "_told": []}), limit, run)}

    def _limit(self, options: dict[str, Any]) -> float | None:
        """Seconds to wait; None where nothing is waited for, or where the module is to refuse the options itself."""
        limit = options.get("wait_timeout")
        try:
            waits = boolean(options.get("wait", True)) and not self._task.check_mode
            return float(WAITING_OPTIONS["wait_timeout"]["default"] if limit is None else limit) if waits else None
        except (TypeError, ValueError):
            return None


def expecting(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with an `only_if` that is null said in words: the generation where nothing is published is null."""
    return {**options, **({"only_if": NOTHING} if "only_if" in options and options["only_if"] is None else {})}


def wait_on(result: dict[str, Any], limit: float, run: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Run the module again while its wait has timed out, until `limit` seconds after the publication; the result then.

    An ensemble that does not answer has timed out too.
    """
    began = time.monotonic()
    published = began - result.get("elapsed", 0.0)
    told: list[str] = []
    stuck_since: float | None = None
    while result.get("timed_out") and began - published < limit:
        left = limit - (began - published)
        seconds = min(left, PATIENCE)
        stuck_since = (stuck_since or began) if is_stuck(result) else None
        for line in progress(result, began - published, told):
            display.display(line)
        told = [*told, *(reason for reason in reasons(result) if reason not in told)]
        given = {
            **{name: result[name] for name in ("generation", "commit_id")},
            "agents": seen(result),
            "left": left,
            "stuck": 0.0 if stuck_since is None else began - stuck_since,
        }
        result = combined(result, run({"wait_timeout": seconds, "_published": given, "_told": told}))
        spent = time.monotonic() - began
        if result.get("timed_out") and spent < seconds:
            time.sleep(min(PAUSE, left - spent))
        began = time.monotonic()
        result["elapsed"] = round(began - published, 3)
    return result


def seen(result: dict[str, Any]) -> list[str]:
    """The names of all agents that were live at some time; those waited for too: an outage leaves no others."""
    names = {agent["name"] for agent in result.get("agents", [])}
    return sorted(names.union(result.get("lost_agents", []), result.get("pending_agents", [])))


def combined(before: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """What the module had published, and what became of the wait later: of the fleet, what was last seen."""
    kept = {key: value for key, value in before.items() if key not in {"msg", "exception", "failed", "timed_out"}}
    fleet = FLEET if "agents" in later else ()
    known = {key: later[key] for key in (*fleet, "timed_out", "msg", "exception") if key in later}
    warnings = list(dict.fromkeys([*before.get("warnings", []), *later.get("warnings", [])]))
    return {**kept, **known, "failed": later.get("failed", False), **({"warnings": warnings} if warnings else {})}


def statuses(result: dict[str, Any], which: str) -> dict[str, AgentStatus]:
    """The statuses of the agents that a list in the result names, as far as they were read."""
    known = {agent["name"]: agent for agent in result.get("agents", [])}
    return {name: AgentStatus.from_object(known[name]) for name in result.get(which, []) if name in known}


def is_stuck(result: dict[str, Any]) -> bool:
    """Whether nobody who is waited for can go on."""
    pending = statuses(result, "pending_agents")
    return bool(pending) and all(status.waits_for for status in pending.values())


def reasons(result: dict[str, Any]) -> dict[str, list[str]]:
    """Why agents have failed, or try again, and which."""
    waiting = {name: status for name, status in statuses(result, "pending_agents").items() if status.waits_for}
    why: dict[str, list[str]] = {}
    for name, status in sorted({**waiting, **statuses(result, "failed_agents")}.items()):
        reason = reason_of(status)
        if reason:
            why.setdefault(reason, []).append(name)
    return why


def progress(result: dict[str, Any], seconds: float, told: Collection[str] = ()) -> list[str]:
    """How far the fleet is, and who is waited for, in a line; one more for each reason that is not among the `told`."""
    if "agents" not in result:
        return [f"{seconds:5.0f} s  {result.get('msg')}"]
    states = {agent["name"]: agent["state"] + (", held" if agent.get("held") else "") for agent in result["agents"]}
    pending = result["pending_agents"]
    named = ", ".join(f"{name} is {states.get(name, 'gone')}" for name in pending[:NAMED])
    more = f" and {len(pending) - NAMED} more" if len(pending) > NAMED else ""
    proved = len(states) - len(pending) - len(result["failed_agents"])
    waited = f"; {named}{more}" if named else "; fewer than min_agents"
    line = f"{seconds:5.0f} s  {proved} of {len(states)} agents have proved {result['commit_id'][:10]}{waited}"
    news = [f"{listed(names)}: {reason}" for reason, names in reasons(result).items() if reason not in told]
    return [line, *(f"{'':9}{text}" for text in news)]
