# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of an event of `zk_watch`: plain JSON values that a rule engine accepts, and no templates.

ansible-rulebook passes an event to a playbook as extra vars, which Ansible takes for templates: a value like
`{{ lookup('pipe', 'id') }}` would run on the controller. So no string in an event contains the start of a template.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import parse_json, value_fields
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.formats import MAX_DEPTH
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.registrations import Registration, session_id

_TEMPLATE = re.compile(r"\{[{%#]|#jinja2:")
"""Where a template begins; the last one, at the beginning of a string, sets other delimiters for its templates."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_template(text: str) -> bool:
    """Whether Ansible would take a part of `text` for a template."""
    return _TEMPLATE.search(text) is not None


def znode_event(kind: str, change: str, path: str, **fields: Any) -> dict[str, Any]:
    """An event about the znode at `path`."""
    return {"zk": {"type": kind, "change": change, "path": path, **fields}}


def session_event(change: str, session: int) -> dict[str, Any]:
    """An event about the session with this id: `connected`, `suspended` or `lost`."""
    return {"zk": {"type": "session", "change": change, "session": session_id(session)}}


def service_event(change: str, registry: str, service: Registration) -> dict[str, Any]:
    """An event about a service; its keys are the inventory's variables without `zk_`.

    What the service itself reports, such as `service`, the decoded data, or `role`, is null if it can't be in an event.
    """
    own = {key[3:]: value for key, value in service.variables.items() if key.startswith("zk_") and key != "zk_age"}
    fields = {key: value if _fits(value) else None for key, value in own.items()}
    del fields["path"]
    fields.update(registry=registry, group=service.group, name=service.name)
    return znode_event("service", change, service.variables["zk_path"], **fields)


def event_value(data: bytes) -> dict[str, Any]:
    """`value`, `encoding`, and `json` if it is JSON, as in `zk_znode_info`.

    A value with a template is sent in base64, and any string in `json` that is one becomes null.
    """
    fields: dict[str, Any] = value_fields(data)
    if fields["encoding"] == "text" and is_template(fields["value"]):
        fields = {"value": base64.b64encode(data).decode("ascii"), "encoding": "base64"}
    try:
        value = _without_templates(parse_json(data))
    except ValueError:
        return fields
    return {**fields, "json": value} if _fits(value) else fields


def _without_templates(value: Any, levels: int = MAX_DEPTH + 1) -> Any:
    """`value` with null for each string that is a template, except where it is nested too deeply for an event."""
    if isinstance(value, str):
        return None if is_template(value) else value
    if levels and isinstance(value, dict):
        return {key: _without_templates(inner, levels - 1) for key, inner in value.items()}
    if levels and isinstance(value, list):
        return [_without_templates(inner, levels - 1) for inner in value]
    return value


def _fits(value: Any) -> bool:
    """Whether `value` can be in an event.

    The rule engine refuses an event with anything nested too deeply, infinite, or a number that is too long.
    """
    level = [value]
    for _depth in range(MAX_DEPTH + 1):
        if not all(map(_is_plain, level)):
            return False
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return True
    return False


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return not is_template(value) and not _SURROGATE.search(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _inside(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []
