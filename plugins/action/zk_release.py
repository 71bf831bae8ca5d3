# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of `zk_release`: it shows the fleet's progress while the module waits.

The module publishes and waits for the first seconds. Then it runs again, a few seconds at a time, to wait for what has
been published. Between these turns, `attendance` asks the gates and notifies of each change of phase. If it has to wait
for a lock first, a message is shown before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import BOOLEANS_FALSE, boolean
from ansible.plugins.action import ActionBase

from ansible_collections.zoo.deploy.plugins.module_utils.connection import MOST
from ansible_collections.zoo.deploy.plugins.module_utils.records import DEFAULT_APP
from ansible_collections.zoo.deploy.plugins.module_utils.releases import NOTHING
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.attendant import Attendant, command_about
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.options import (
    InvalidOption,
    read_gates,
    read_notification,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.fleet_turns import (
    PATIENCE,
    FleetTurn,
    limit_of,
    wait_on,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_show import Show
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.interrupted_wait import Waiting
from ansible_collections.zoo.deploy.plugins.plugin_utils.terminal import say

Run = Callable[[dict[str, Any]], dict[str, Any]]
"""Runs the module with these options changed."""


class ActionModule(ActionBase):
    """Runs `zoo.deploy.zk_release`."""

    _supports_async = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and keep waiting if it has not waited for all of `wait_timeout`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        options, silent = expecting(self._task.args), bool(self._task.no_log)
        try:
            attendant = attendant_of(options, silent=silent)
        except InvalidOption as exc:
            return {**result, "failed": True, "msg": str(exc)}
        given = {name: value for name, value in options.items() if name not in {"gates", "notify"}}
        given["_gated"] = attendant.has_gates and options.get("state") != "promoted"

        asks_gates = attendant.has_gates
        waiting = Waiting(asks_gates=asks_gates)

        def run(changed: dict[str, Any]) -> dict[str, Any]:
            done = dict(self._execute_module("zoo.deploy.zk_release", {**given, **changed}, task_vars=task_vars))
            publishes = not (changed.get("_asks") or self._task.check_mode)
            if publishes and (done.get("timed_out") or not done.get("failed")):
                waiting.note_published()
            return done

        if self._task.check_mode:
            return {**result, **run({})}
        show = Show(str(options.get("app") or DEFAULT_APP), silent=silent, asks_gates=asks_gates)
        begin = telling_of_lock(lock_timeout_of(options), run, silent=silent)
        with waiting:
            done = self._attended(options, attendant, begin, run, show)
        gates = {"gates": attendant.answers} if asks_gates else {}
        moved = {"changed": True} if attendant.has_moved_it else {}
        return {**result, **show.end(done), **moved, **gates, **({"rests": True} if rests(done) else {})}

    def _attended(
        self, options: Mapping[str, Any], attendant: Attendant, begin: Run, run: Run, show: Show
    ) -> dict[str, Any]:
        """The module's result; gates are asked before a promotion, and whenever the rollout waits for them."""
        asked: dict[str, Any] | None = None
        about = ""
        if attendant.has_gates and options.get("state") == "promoted":
            seen = begin({"_asks": True})
            if seen.get("failed"):
                return seen
            # If nothing can be promoted yet, no gate is asked, so a step that completes meanwhile stays closed.
            asked = attendant.command_for(seen, "promote") if seen["changed"] else command_about(seen, "promote")
            about = str(seen["generation"])
        limit = limit_of(options) if waits(options) else None
        turn: dict[str, Any] = {}
        if limit is not None:
            turn = {"wait_timeout": min(limit, PATIENCE), "_told": [], "_attended": attendant.attends}
        command = {"_command": asked, "only_if": about, "lock_timeout": 0}
        first = run({**turn, **command}) if asked else begin(turn)
        if asked and lock_timeout_of(options) and first.get("failed") and first.get("lock"):
            # Answers that the gates gave before somebody locked say nothing about the state after that.
            return self._attended(options, attendant, begin, run, show)
        first = attendant.explain(attendant.saw(first), asked)
        if limit is None:
            return first

        def wait_again(turn: FleetTurn) -> dict[str, Any]:
            attendant.check_parent()
            published = {name: first[name] for name in ("generation", "commit_id")}
            known = {"stuck": turn.stuck, "moves": turn.moves, "outcomes": turn.outcomes}
            given = {**published, **known, "agents": turn.agents, "left": turn.left}
            again = {"wait_timeout": turn.seconds, "_published": given, "_told": turn.told}
            attended = {"_attended": attendant.attends, "_locked_out": attendant.is_locked_out}
            asked = {"_proving": attendant.proving, "_command": attendant.next_command()}
            return attendant.saw(run({**again, **attended, **asked}))

        by_rollout = options.get("wait_timeout") is None
        return attendant.at_end(wait_on(first, limit, wait_again, show=show, by_rollout=by_rollout))


def waits(options: Mapping[str, Any]) -> bool:
    """Whether to wait for the fleet; false if the module is to refuse the option itself."""
    try:
        return bool(boolean(options.get("wait", True)))
    except TypeError:
        return False


def rests(result: Mapping[str, Any]) -> bool:
    """Whether a wait has ended because the rollout waits for a person, not because of a failure."""
    return result.get("converged") is False and not result.get("failed")


def lock_timeout_of(options: Mapping[str, Any]) -> float:
    """Seconds to wait for a lock; 0 if the module is to refuse the option itself."""
    try:
        seconds = float(options.get("lock_timeout") or 0)
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0 < seconds <= MOST else 0.0


def telling_of_lock(seconds: float, run: Run, *, silent: bool = False) -> Run:
    """`run`, which first reports a lock that it has to wait for: that may take `seconds`."""

    def begin(changed: dict[str, Any]) -> dict[str, Any]:
        if not seconds:
            return run(changed)
        found = run({**changed, "lock_timeout": 0})
        if not (found.get("failed") and found.get("lock")):
            return found
        if not silent:
            say(f"{found['lock']['says']}; waiting for that, {seconds:g} s at most")
        return run(changed)

    return begin


def attendant_of(options: Mapping[str, Any], *, silent: bool = False) -> Attendant:
    """The attendant of the rollout by these options. Raises `InvalidOption`."""
    gates, state = read_gates(options.get("gates")), options.get("state") or "published"
    if gates and state not in {"published", "promoted"}:
        raise InvalidOption(f"gates: not with the state {state}, which opens no step")
    if gates and state == "published" and str(options.get("wait", True)).lower() in BOOLEANS_FALSE:
        raise InvalidOption("gates: not with wait=false, for nobody would ask them")
    notification = read_notification(options.get("notify"))
    return Attendant(str(options.get("app") or DEFAULT_APP), gates, notification, silent=silent)


def expecting(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with a null `only_if` spelled out: null is the generation when nothing is published."""
    return {**options, **({"only_if": NOTHING} if "only_if" in options and options["only_if"] is None else {})}
