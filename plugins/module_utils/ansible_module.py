# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules take from Ansible. Nothing else in `module_utils` imports it."""

from __future__ import annotations

import getpass
import os
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib
from ansible.module_utils.errors import AnsibleFallbackNotFound

from .connection import CONNECTION_OPTIONS, MissingLibraryError, ZooKeeperError, environment_variable
from .znode_names import printable


def from_environment(*variables: str) -> str:
    """The value of the first of these variables that is set, as an option's fallback; an empty one does not count."""
    value = env_fallback(*variables)
    if not value:
        raise AnsibleFallbackNotFound
    return str(value)


ARGSPEC: dict[str, dict[str, Any]] = {
    name: {**spec, "fallback": (from_environment, [environment_variable(name)])}
    for name, spec in CONNECTION_OPTIONS.items()
}
"""The connection options, for `AnsibleModule(argument_spec=...)`."""


DEEPEST = 100
"""How deep a result may be nested; Ansible itself fails at about 400."""
TOO_DEEP = "(nested too deeply to be returned)"
FOR_PEOPLE = frozenset({"msg", "foreseen", "degraded"})
"""What playbooks print of a result: a string, or a list of them."""
_NUMBERS = frozenset({int, float, bool, type(None)})


def returnable(value: Any, levels: int = DEEPEST) -> Any:
    """A result that Ansible accepts, whatever others have written into what was read.

    A lone surrogate becomes an escape, and what is nested too deeply becomes a string that says so. Otherwise Ansible
    would refuse the whole result of a task, which may have changed something.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
    if not isinstance(value, (dict, list, tuple)):
        return value
    if not levels:
        return TOO_DEEP
    # A number needs no call: there may be millions.
    if isinstance(value, dict):
        return {
            returnable(key): inner if type(inner) in _NUMBERS else returnable(inner, levels - 1)
            for key, inner in value.items()
        }
    return [inner if type(inner) in _NUMBERS else returnable(inner, levels - 1) for inner in value]


class ZnodeModule(AnsibleModule):
    """A module whose results name znodes: Ansible takes any `path` in a result for a file and describes that one.

    Its messages and results may contain what was read from a znode, and Ansible prints messages unchanged.
    """

    _is_read = False
    """Whether the options are known, and which of them are secret; Ansible forgets that when it refuses one."""

    def __init__(self, **about: Any) -> None:
        super().__init__(**about)
        self._is_read = True

    def exit_json(self, **result: Any) -> None:
        """Exit with this result; what is for people in it is made safe for a terminal."""
        said = {name: _harmless(result[name]) for name in FOR_PEOPLE.intersection(result)}
        super().exit_json(**returnable({**result, **said}))

    def add_path_info(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The result unchanged."""
        return kwargs

    def fail_json(self, msg: str, **result: Any) -> None:
        """Exit with an error message, made safe for a terminal."""
        if not self._is_read:
            result["invocation"] = {}
        super().fail_json(msg=_one_line(msg), **returnable(result))

    def warn(self, warning: str, **options: Any) -> None:
        """Warn, with a message made safe for a terminal."""
        super().warn(_one_line(warning), **options)

    def fail(self, exc: Exception, **result: Any) -> None:
        """Exit with the error; the details of a `ZooKeeperError` go into the result."""
        message = str(exc)
        if isinstance(exc, MissingLibraryError):
            message = missing_required_lib(exc.library, reason=f"for {exc.purpose}" if exc.purpose else None)
        details = exc.details if isinstance(exc, ZooKeeperError) else {}
        # Earlier steps may have something to report.
        self.fail_json(**{**result, **details, "msg": message})


def _harmless(said: object) -> object:
    if isinstance(said, list):
        return [_harmless(text) for text in said]
    return _one_line(said) if isinstance(said, str) else said


def _one_line(text: object) -> str:
    line = " ".join(str(text).splitlines())
    return printable("".join(" " if letter.isspace() else letter for letter in line))


def elapsed(begin: float) -> float:
    """Seconds since `begin`, on the monotonic clock."""
    return round(time.monotonic() - begin, 3)


def user_and_host() -> str:
    """The user who runs this, and the host; the user's number if it has no name here, as in a container."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
