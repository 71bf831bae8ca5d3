# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of `zk_fleet_info`: it shows the fleet's progress while the module waits.

For the playbooks `status` and `watch`, it also writes the fleet to a file.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC
from ansible_collections.zoo.deploy.plugins.module_utils.records import DEFAULT_APP
from ansible_collections.zoo.deploy.plugins.plugin_utils.fleet_turns import PATIENCE, FleetTurn, limit_of, wait_on
from ansible_collections.zoo.deploy.plugins.plugin_utils.page.output import FleetFileError, FleetOutput
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_show import Show


class ActionModule(ActionBase):
    """Runs `zoo.deploy.zk_fleet_info`."""

    _supports_async = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, and keep waiting if it has not waited for all of `wait_timeout`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        options = dict(self._task.args)
        wanted = options.pop("_output", None)
        if not wanted or self._task.check_mode:
            return self._look(result, options, task_vars)
        app = str(options.get("app") or DEFAULT_APP)
        # Without a wait, they have just been read.
        read_again = partial(self._releases, options, task_vars) if limit_of(options) else dict
        try:
            output = FleetOutput(
                wanted["path"], wanted["format"], app, wanted["releases"], wanted.get("reload"), read_again
            )
            done = self._look(result, options, task_vars, output)
            is_written = output.finish(done)
        except FleetFileError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        return {**done, "written_to": output.path} if is_written else done

    def _releases(self, options: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """What is published now; empty if that can't be read."""
        given = {name: options[name] for name in ("app", *ARGSPEC) if name in options}
        found = dict(self._execute_module("zoo.deploy.zk_release_info", given, task_vars=task_vars))
        return {} if found.get("failed") else found

    def _look(
        self,
        result: dict[str, Any],
        options: dict[str, Any],
        task_vars: dict[str, Any] | None,
        output: FleetOutput | None = None,
    ) -> dict[str, Any]:
        """Run the module in turns, each of which is shown to the `output` as well."""
        release, files = options.get("wait_for_release"), options.get("wait_for_files")
        limit = limit_of(options)
        show = Show(str(options.get("app") or DEFAULT_APP), silent=bool(self._task.no_log))
        # Waiting for both means for one after the other, which the turns don't support.
        if self._task.async_val or limit is None or (release is None) == (not files):
            return {**result, **show.end(self._once(options, task_vars), tells=False)}

        def run(changed: dict[str, Any]) -> dict[str, Any]:
            given = {**options, **changed}
            seen = dict(self._execute_module("zoo.deploy.zk_fleet_info", given, task_vars=task_vars))
            if output:
                output.look(seen)
            return seen

        told: list[str] | None = None if files else []
        seconds = min(limit, PATIENCE)
        began = time.monotonic()
        first = run({"wait_timeout": seconds, "_turn": {"told": told}})
        first["elapsed"] = time.monotonic() - began

        def wait_again(turn: FleetTurn) -> dict[str, Any]:
            given = {
                "agents": turn.agents,
                "left": turn.left,
                "generation": None if files else first.get("generation"),
                "stuck": turn.stuck,
                "moves": turn.moves,
                "outcomes": turn.outcomes,
                "states": first.get("_states"),
                "told": None if files else turn.told,
            }
            return run({"wait_timeout": turn.seconds, "_turn": given})

        words, expected = ", ".join(names_in(files or [])), names_in(options.get("agents") or [])
        done = show.end(wait_on(first, limit, wait_again, words, expected, show), tells=False)
        return {**result, **{key: value for key, value in done.items() if key not in {"elapsed", "_states"}}}

    def _once(self, options: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Run the module unchanged, in the background if asked to."""
        in_background = bool(self._task.async_val) and not self._connection.has_native_async
        done = self._execute_module("zoo.deploy.zk_fleet_info", options, task_vars=task_vars, wrap_async=in_background)
        if not in_background:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return dict(done)


def names_in(option: Any) -> list[str]:
    """The entries of an option that is a list or a string with commas, as the module reads it."""
    if isinstance(option, str):
        return [one.strip() for one in option.split(",")]
    return [str(one) for one in (option if isinstance(option, list) else [option])]
