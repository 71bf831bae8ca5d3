# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules say of znodes: what became of each, and how a diff shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.znode_plan import Found, Planned
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import (
    acl_fields,
    stat_fields,
    value_fields,
    value_in_diff,
)

SHOWN_PATHS = 20
"""How many created parents or deleted descendants a diff names."""


def told(planned: Sequence[Planned], results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results with `changed` and `diff`, in the order in which the znodes were given."""
    whole = [{"changed": one.changed, **result, "diff": diff(one)} for one, result in zip(planned, results)]
    places = [one.place for one in planned]
    return [whole[turn] for turn in sorted(range(len(whole)), key=places.__getitem__)]


def forecast(planned: Sequence[Planned]) -> list[dict[str, Any]]:
    """The results as they would be, as far as that is known before."""
    return [outcome(one, one.wanted.path, one.before and one.before.stat) for one in planned]


def outcome(one: Planned, path: str, stat: Any) -> dict[str, Any]:
    """One result: `path`, and where the znode is there `value`, `encoding` and `stat`, as far as they are known."""
    result: dict[str, Any] = {"path": path}
    if one.after is not None and one.after.data is not None:
        result.update(value_fields(one.after.data))
    if one.after is not None and stat is not None:
        result["stat"] = stat_fields(stat)
    return result


def diff(one: Planned) -> dict[str, Any]:
    """`before` and `after` of one znode, as Ansible's diff mode shows them."""
    before, after = _side(one, one.before), _side(one, one.after)
    if one.after is None and one.changed:
        before.update(_listed("descendants", [step.path for step in (*one.thinning, *one.steps[:-1])]))
    if one.before is None and one.changed:
        after.update(_listed("parents", [step.path for step in one.steps[:-1]]))
    return {"before_header": one.wanted.path, "after_header": one.wanted.path, "before": before, "after": after}


def _listed(name: str, paths: Sequence[str]) -> dict[str, Any]:
    more = [f"and {len(paths) - SHOWN_PATHS} more"] if len(paths) > SHOWN_PATHS else []
    return {name: [*sorted(paths)[:SHOWN_PATHS], *more]} if paths else {}


def _side(one: Planned, found: Found | None) -> dict[str, Any]:
    if found is None:
        return {"state": "absent"}
    acl = {"acl": acl_fields(found.acl)} if one.wanted.acl and found.acl is not None else {}
    as_json = one.wanted.value is not None and one.wanted.value.canonical is not None
    return {"state": "present", "value": value_in_diff(found.data, as_json), **acl}
