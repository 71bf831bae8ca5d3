# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a host as one of a few kinds, the worst first: a page groups, counts and draws hosts by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.fleet_files import files_of
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import FAILURES, RETURNED, RETURNING
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_report import WAITING as WAITING_STATES


class Kind(NamedTuple):
    """A kind of hosts. `name` names its symbol and colours; `says` is the predicate for one host, and for several.

    `status.yml` would ask a person to look at a kind that `needs_attention`.
    """

    name: str
    title: str
    says: tuple[str, str]
    needs_attention: bool = False


FAILED = Kind("failed", "Failed", ("has failed", "have failed"), needs_attention=True)
MISSING = Kind("missing", "Missing", ("is missing", "are missing"), needs_attention=True)
STUCK = Kind("stuck", "Can't go on", ("can't go on", "can't go on"), needs_attention=True)
DEGRADED = Kind("degraded", "Degraded", ("is degraded", "are degraded"), needs_attention=True)
DRIFTED = Kind("drifted", "Drifted", ("has drifted", "have drifted"), needs_attention=True)
WENT_BACK = Kind("back", "Rolled back", ("rolled back", "rolled back"))
UNDER_WAY = Kind("moving", "Under way", ("is under way", "are under way"))
WAITS = Kind("waiting", "Waiting", ("waits", "wait"))
UP_TO_DATE = Kind("proved", "Up to date", ("is up to date", "are up to date"))
KINDS = (FAILED, MISSING, STUCK, DEGRADED, DRIFTED, WENT_BACK, UNDER_WAY, WAITS, UP_TO_DATE)
ON_THE_WAY = frozenset({"queued", "fetching", "staging", "draining", "activating", "checking"})


def kind_of(
    status: AgentStatus, generation: int | None, rollout: Mapping[str, Any], *, came_back: bool = False
) -> Kind:
    """The kind of a live host: the first that applies. `came_back`: its rollout rolled it back though it is sound."""
    state = ((rollout.get("hosts") or {}).get(status.name) or {}).get("state")
    proved = generation is not None and status.converged(generation)
    gave_up = generation is not None and status.gave_up(generation)
    is_stuck = generation is not None and status.generation == generation and bool(status.waits_for)
    rules = (
        (came_back or (state == RETURNED and not proved and not gave_up), WENT_BACK),
        (gave_up or (state in FAILURES and not proved), FAILED),
        (is_degraded(status), DEGRADED),
        (proved, UP_TO_DATE),
        (is_stuck, STUCK),
        (status.state in ON_THE_WAY or state == RETURNING, UNDER_WAY),
        (generation is None or (bool(rollout) and status.state in WAITING_STATES), WAITS),
    )
    return next((kind for applies, kind in rules if applies), DRIFTED)


def is_degraded(status: AgentStatus) -> bool:
    """Whether anything other than the release is not as it should be."""
    failed = any(file.state == "failed" for file in files_of(status).values())
    return bool(status.controls or (isinstance(status.troubles, list) and status.troubles) or failed)
