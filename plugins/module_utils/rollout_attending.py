# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a publisher shares with a controller that attends a rollout: the options, and the plan."""

from __future__ import annotations

from typing import Any

from .rollout_plan import InvalidRollout, read_plan
from .rollout_records import RolloutRecord

GATE_OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "command": {"type": "raw"},
    "environment": {"type": "dict", "no_log": True},
    "url": {"type": "str", "no_log": True},
    "headers": {"type": "dict", "no_log": True},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
    "status_code": {"type": "list", "elements": "int", "default": [200]},
    "matches": {"type": "str"},
    "json": {
        "type": "dict",
        "options": {
            "path": {"type": "raw", "required": True},
            "equals": {"type": "raw"},
            "at_least": {"type": "float"},
            "at_most": {"type": "float"},
        },
    },
    "timeout": {"type": "float", "default": 30.0},
}
"""A gate. The action plugin reads it, and sends none to a host."""
ATTENDING_OPTIONS: dict[str, dict[str, Any]] = {
    "gates": {"type": "list", "elements": "dict", "options": GATE_OPTIONS},
    "notify": {"type": "raw", "no_log": True},
    "_gated": {"type": "bool", "default": False},
    "_attended": {"type": "bool", "default": False},
    "_asks": {"type": "bool", "default": False},
    "_locked_out": {"type": "bool", "default": False},
    "_proving": {"type": "list", "elements": "str", "default": []},
    "_command": {
        "type": "dict",
        "options": {
            "verb": {"type": "str", "required": True},
            "by": {"type": "str", "required": True},
            "reason": {"type": "str", "required": True},
            "moves": {"type": "int", "required": True},
        },
    },
}
"""The options for attending a rollout, in the form of Ansible's argument specs."""


def gated(content: Any) -> Any:
    """A `rollout` to be published by somebody who has gates: each step except the last waits for them.

    If any step has `gate: true`, the plan stays as it is; in an unattended rollout, gates are asked during soaks.
    Raises `InvalidRollout` if they could never be asked.
    """
    plan = read_plan(content)
    if plan is None or len(plan.steps) == 1:
        raise InvalidRollout(
            "gates: the rollout has no steps between which they could be asked; "
            "give it some, as in {'steps': [{'hosts': 1}]}, or leave out gates"
        )
    if plan.unattended:
        hasty = [number for number, step in enumerate(plan.steps[:-1]) if not step.soak]
        if hasty:
            raise InvalidRollout(
                f"gates: rollout.steps[{hasty[0]}] has no soak, and in an unattended rollout they are asked while one "
                "lasts; give it some seconds"
            )
        return content
    if any(step.gate for step in plan.steps):
        return content
    own = content["steps"][: len(plan.steps) - 1]
    return {**content, "steps": [*({**step, "gate": True} for step in own), *content["steps"][len(own) :]]}


def why_ungated(state: RolloutRecord) -> str | None:
    """The warning that a rollout promoted with gates no longer asks any; None if it does, or is at its end."""
    plan = state.parsed_plan()
    later = plan.steps[state.step : -1]
    if not later or plan.unattended or any(step.gate for step in later):
        return None
    return (
        "the rollout asks no gates any more: they were asked before this promotion, and its later steps open "
        "without them; to have them asked once more, pause it before (pause.yml), and promote it with the gates"
    )
