# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection options of lookup and inventory, as strict as those of a module.

Ansible itself takes whatever it does not know as a boolean for false, and an empty environment variable for a value:
TLS, or what it checks, would be off.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    CONNECTION_OPTIONS,
    ZooKeeperError,
    environment_variable,
)

BOOLEANS = [name for name, spec in CONNECTION_OPTIONS.items() if spec["type"] == "bool"]


def forget_empty_variables() -> None:
    """Let an empty environment variable be none; before Ansible reads them into a plugin's options."""
    for variable in map(environment_variable, CONNECTION_OPTIONS):
        if os.environ.get(variable) == "":
            del os.environ[variable]


def with_booleans(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, those that are true or false as booleans. Raises `ZooKeeperError` where one is neither."""
    return {**options, **{name: _boolean(name, options[name]) for name in BOOLEANS}}


def _boolean(name: str, value: Any) -> bool:
    try:
        return bool(boolean(value))
    except TypeError:
        raise ZooKeeperError(f"{name}: expected true or false, got {value!r}") from None
