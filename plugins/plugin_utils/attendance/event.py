# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gates and notifications are told of a rollout: a JSON object, and the same in variables of the environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LONGEST = 2_000
"""Characters of a variable: a system takes no more than so many bytes of one, and a reason may have any length."""
OF_ROLLOUT = ("phase", "step", "steps", "says", "reason", "by", "since", "from", "fleet", "counts")
"""What of `rollout`, as the module returns it, an event has."""
VARIABLES = {
    "ZOO_APP": "app",
    "ZOO_GENERATION": "generation",
    "ZOO_COMMIT": "commit_id",
    "ZOO_FROM": "from",
    "ZOO_PHASE": "phase",
    "ZOO_STEP": "step",
    "ZOO_STEPS": "steps",
    "ZOO_SAYS": "says",
    "ZOO_REASON": "reason",
    "ZOO_BY": "by",
}
"""The variables of the environment, and the keys of an event that they have."""


def event_of(app: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The event of how it is with the rollout in a result of the module."""
    about = {"app": app, **{key: result.get(key) for key in ("generation", "commit_id")}}
    return {**about, **{key: result["rollout"].get(key) for key in OF_ROLLOUT}}


def environment_of(event: Mapping[str, Any]) -> dict[str, str]:
    """The same as variables: each is one line, whatever a host or a person has written; empty for nothing."""
    texts = {name: "" if event.get(key) is None else str(event[key]) for name, key in VARIABLES.items()}
    return {name: "".join(one if one.isprintable() else " " for one in text[:LONGEST]) for name, text in texts.items()}


def text_of(event: Mapping[str, Any]) -> str:
    """The same as JSON, in one line."""
    return f"{json.dumps(event)}\n"
