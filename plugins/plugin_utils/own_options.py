# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection options of lookup and inventory, as strict as those of a module.

Ansible itself takes whatever it does not know as a boolean for false, and an empty environment variable for a value:
TLS, or its checks, would be off. It takes an empty path for the current directory, and a template for the name of a
file in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.path import unfrackpath

from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    CONNECTION_OPTIONS,
    ZooKeeperError,
    environment_variable,
)

BOOLEANS = [name for name, spec in CONNECTION_OPTIONS.items() if spec["type"] == "bool"]
TEXTS = [name for name, spec in CONNECTION_OPTIONS.items() if spec["type"] == "str"]
PATHS = [name for name, spec in CONNECTION_OPTIONS.items() if spec["type"] == "path"]


def forget_empty_variables() -> None:
    """Remove empty environment variables, before Ansible reads them into a plugin's options."""
    for variable in map(environment_variable, CONNECTION_OPTIONS):
        if os.environ.get(variable) == "":
            del os.environ[variable]


def converted(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with booleans converted, numbers as strings, paths absolute, and None for an empty path.

    Raises `ZooKeeperError` if one is not of its type, as the result of a template may not be.
    """
    if not isinstance(options["hosts"], (str, Sequence, type(None))):
        raise ZooKeeperError(f"hosts: expected host:port, or a list of such, got {options['hosts']!r}")
    kinds = ((BOOLEANS, _boolean), (TEXTS, _text), (PATHS, _path))
    return {**options, **{name: convert(name, options[name]) for names, convert in kinds for name in names}}


def _boolean(name: str, value: Any) -> bool:
    try:
        return bool(boolean(value))
    except TypeError:
        raise ZooKeeperError(f"{name}: expected true or false, got {value!r}") from None


def _text(name: str, value: Any) -> str | None:
    """Also for a number, such as a template's password; any other result is not shown, since it may be a secret."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ZooKeeperError(f"{name}: expected a string")
    return str(value)


def _path(name: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ZooKeeperError(f"{name}: expected the path of a file, got {value!r}")
    return str(unfrackpath(value, follow=False))
