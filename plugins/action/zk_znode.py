# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of `zk_znode`: it reads the files that `src` names, and checks keys before they become JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import InvalidRecord, quote
from ansible_collections.zoo.deploy.plugins.plugin_utils.content import Content, check_json, read_content

OTHERS = ("value", "secret_value", "encoding")
"""What can't be given together with `src`."""


class ActionModule(ActionBase):
    """Runs `zoo.deploy.zk_znode`."""

    _supports_async = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module, with the contents of files in place of their names."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            options = with_contents(self._task.args, self._read)
        except InvalidRecord as exc:
            return {**result, "failed": True, "msg": str(exc)}
        in_background = bool(self._task.async_val) and not self._connection.has_native_async
        done = self._execute_module("zoo.deploy.zk_znode", options, task_vars=task_vars, wrap_async=in_background)
        if not in_background:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return {**result, **done}

    def _read(self, name: str) -> Content:
        try:
            path = self._find_needle("files", name)
        except AnsibleError:  # its message has a line for each place searched
            where = "" if name.startswith(("/", "~")) else " in files/ of the role or the playbook, nor beside them"
            raise InvalidRecord(f"{name}: no such file{where}") from None
        if os.path.isdir(path):
            raise InvalidRecord(
                f"{path}: is a directory; the lookup zoo.deploy.config_znodes turns its files into entries"
            )
        return read_content(self._loader, path)


def with_contents(options: Mapping[str, Any], read: Callable[[str], Content]) -> dict[str, Any]:
    """The options with the contents of files as values. What is not an entry at all is left to the module.

    Raises `InvalidRecord`.
    """
    if options.get("src") is not None and options.get("znodes") is not None:
        raise InvalidRecord("src: belongs to one znode; give each entry of znodes its own")
    given = _with_content(options, read)
    if isinstance(given.get("znodes"), list):
        given["znodes"] = [_with_content(one, read) if isinstance(one, Mapping) else one for one in given["znodes"]]
    return given


def _with_content(options: Mapping[str, Any], read: Callable[[str], Content]) -> dict[str, Any]:
    """One znode's options, with the content of the file that `src` names instead of `src`."""
    given = {name: value for name, value in options.items() if name != "src"}
    check_json(given.get("value"), f"{given.get('path', given.get('name'))}: value")
    name = options.get("src")
    if name is None:
        return given
    if not isinstance(name, str) or not name:
        raise InvalidRecord(f"src: expected the path of a file, got {quote(name)}")
    if any(given.get(other) is not None for other in OTHERS):
        raise InvalidRecord(f"src: {name} is written as it is; leave out {', '.join(OTHERS)}")
    try:
        return {**given, **read(name).options()}
    except InvalidRecord as exc:
        raise InvalidRecord(f"src: {exc}") from None
