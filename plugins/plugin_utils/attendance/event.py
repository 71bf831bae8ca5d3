# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gates and notifications get about a rollout: a JSON object, and the same in environment variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LONGEST = 2_000
"""The most characters of a variable: a system limits its bytes, and a reason may have any length."""
OF_ROLLOUT = ("phase", "step", "steps", "says", "reason", "by", "since", "from", "fleet", "counts")
"""The keys of an event that come from the module's `rollout`."""
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
"""The environment variables, and the event's keys for their values."""


def event_of(app: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The event for the state of the rollout in a module's result."""
    about = {"app": app, **{key: result.get(key) for key in ("generation", "commit_id")}}
    return {**about, **{key: result["rollout"].get(key) for key in OF_ROLLOUT}}


def environment_of(event: Mapping[str, Any]) -> dict[str, str]:
    """The event as variables: each is one line, whatever a host or a person has written; empty for null."""
    texts = {name: "" if event.get(key) is None else str(event[key]) for name, key in VARIABLES.items()}
    return {name: "".join(one if one.isprintable() else " " for one in text[:LONGEST]) for name, text in texts.items()}


def text_of(event: Mapping[str, Any]) -> str:
    """The event as JSON on one line."""
    return f"{json.dumps(event)}\n"
