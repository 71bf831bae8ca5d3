# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mistakes in the variables of a role.

Ansible checks them too, but prints the whole specification.
It does not look inside a variable of type `raw`.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: variable_mistakes
short_description: What is wrong with the variables of a role
version_added: 0.2.0
author:
  - zoo.deploy contributors (@zoo-deploy)
description:
  - Returns one line for each mistake in the variables, according to the argument specification of a role, such as a
    value of a wrong type, one that is not among the choices, or a key that a dictionary does not have, with the key
    that was probably meant. The roles of this collection use it.
positional: options
options:
  _input:
    description: The variables by their names. Variables that are not in the specification are ignored.
    type: dict
    required: true
  options:
    description:
      - The C(options) of an entry point of an argument specification. If one of them has C(options) itself, its
        variable is a list of dictionaries with the type V(list), and a dictionary otherwise.
      - The value of an option with C(no_log) is not shown.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what is wrong
  ansible.builtin.debug:
    msg: "{{ {'site_files': [{'pth': '/etc/motd'}]} | zoo.deploy.variable_mistakes(spec) }}"
  vars:
    spec: {site_files: {type: list, elements: raw, options: {path: {type: str, required: true}}}}
"""

RETURN = r"""
_value:
  description: A sentence for each mistake.
  type: list
  elements: str
"""

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible.module_utils.common.parameters import DEFAULT_TYPE_VALIDATORS

from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import quote


def variable_mistakes(values: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence for each mistake."""
    return [mistake for name, option in options.items() for mistake in _variable_mistakes(name, values, option)]


def _variable_mistakes(name: str, values: Mapping[str, Any], option: Mapping[str, Any]) -> Iterator[str]:
    """The mistakes in a variable. As in Ansible, `None` unsets only what has neither a default nor choices."""
    value = values.get(name)
    if value is None and option.get("required"):
        yield f"{name} is missing"
    elif "options" in option:
        yield from _mistakes(name, value, option) if value not in (None, "") else ()
    elif value is not None or (name in values and ("default" in option or "choices" in option)):
        yield from _leaf_mistakes(name, value, option)


def _mistakes(where: str, value: Any, option: Mapping[str, Any]) -> Iterator[str]:
    """The mistakes in a given value."""
    if "options" not in option:
        yield from _leaf_mistakes(where, value, option)
    elif option["type"] != "list":
        yield from _key_mistakes(where, value, option["options"])
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _key_mistakes(f"{where}[{number}]", entry, option["options"])
    else:
        yield f"{where}: expected a list{_got(value, option['options'])}"


def _key_mistakes(where: str, value: Any, options: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The mistakes in a dictionary."""
    if not isinstance(value, Mapping):
        yield f"{where}: expected a dictionary{_got(value, options)}"
        return
    for key in value:
        if key not in options:
            near = difflib.get_close_matches(str(key), options, n=1)
            meant = f"did you mean {near[0]}" if near else f"expected one of {', '.join(sorted(options))}"
            yield f"{where}: no such key {quote(key)}; {meant}"
    for key, option in options.items():
        if value.get(key) is not None:
            yield from _mistakes(f"{where}.{key}", value[key], option)
        elif option.get("required"):
            yield f"{where}: the key {key} is missing"


def _got(value: Any, options: Mapping[str, Mapping[str, Any]]) -> str:
    """The value given instead of one with these options, for a message; empty if one of them is a secret."""
    return "" if any(option.get("no_log") for option in options.values()) else f", got {quote(value)}"


def _leaf_mistakes(where: str, value: Any, option: Mapping[str, Any]) -> Iterator[str]:
    """The mistakes in a value, by its type and its choices."""
    kind = option.get("type", "str")
    got = "" if option.get("no_log") else f", got {quote(value)}"
    try:
        found = DEFAULT_TYPE_VALIDATORS[kind](value)
        if kind == "list" and "elements" in option:
            found = [DEFAULT_TYPE_VALIDATORS[option["elements"]](entry) for entry in found]
    except (TypeError, ValueError):
        yield f"{where}: expected a value of the type {kind}{got}"
        return
    entries, number = (found, "some") if kind == "list" else ([found], "one")
    choices = option.get("choices", entries)
    if not all(entry in choices for entry in entries):
        yield f"{where}: expected {number} of {', '.join(map(str, choices))}{got}"


class FilterModule:
    """The filter, in the form that Ansible loads."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """The filter by its name."""
        return {"variable_mistakes": variable_mistakes}
