# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules take from Ansible. Nothing else in `module_utils` knows it."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from .connection import CONNECTION_OPTIONS, MissingLibraryError, ZooKeeperError

ARGSPEC: dict[str, dict[str, Any]] = {
    **CONNECTION_OPTIONS,
    "hosts": {**CONNECTION_OPTIONS["hosts"], "fallback": (env_fallback, ["ZK_HOSTS"])},
}
"""The connection options, for `AnsibleModule(argument_spec=...)`."""


class ZnodeModule(AnsibleModule):
    """A module whose results name znodes: Ansible takes any `path` in a result for a file and describes that one."""

    def add_path_info(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The result as it is."""
        return kwargs

    def fail(self, exc: Exception, **result: Any) -> None:
        """End with the error; the details of a `ZooKeeperError` go into the result."""
        message = str(exc)
        if isinstance(exc, MissingLibraryError):
            message = missing_required_lib(exc.library, reason=f"for {exc.purpose}" if exc.purpose else None)
        details = exc.details if isinstance(exc, ZooKeeperError) else {}
        self.fail_json(msg=message, **{**result, **details})


def elapsed(begin: float) -> float:
    """Seconds since `begin`, of the monotonic clock."""
    return round(time.monotonic() - begin, 3)
