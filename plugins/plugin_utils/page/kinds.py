# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How it is with a host, in one of a few kinds, the worst first: what a page groups, counts and draws hosts by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.fleet_files import files_of
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import FAILURES, RETURNED, RETURNING

from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_report import WAITING as WAITING_STATES


class Kind(NamedTuple):
    """A kind of hosts. `name` is also that of its symbol and its colours; `says` is what one of them, or several do.

    A kind that `needs_attention` is one that `status.yml` would have a person look at.
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
WENT_BACK = Kind("back", "Went back", ("went back", "went back"))
UNDER_WAY = Kind("moving", "Under way", ("is under way", "are under way"))
WAITS = Kind("waiting", "Waiting", ("waits", "wait"))
UP_TO_DATE = Kind("proved", "Up to date", ("is up to date", "are up to date"))
KINDS = (FAILED, MISSING, STUCK, DEGRADED, DRIFTED, WENT_BACK, UNDER_WAY, WAITS, UP_TO_DATE)
ON_THE_WAY = frozenset({"queued", "fetching", "staging", "draining", "activating", "checking"})


def kind_of(
    status: AgentStatus, generation: int | None, rollout: Mapping[str, Any], *, came_back: bool = False
) -> Kind:
    """The kind of a live host; `came_back` where its rollout took it back, and not a failure of its own."""
    entry = (rollout.get("hosts") or {}).get(status.name) or {}
    state = entry.get("state")
    proved = generation is not None and status.converged(generation)
    if came_back or (not proved and state == RETURNED and not _gave_up(status, generation)):
        return WENT_BACK
    if _gave_up(status, generation) or (not proved and state in FAILURES):
        return FAILED
    if is_degraded(status):
        return DEGRADED
    if proved:
        return UP_TO_DATE
    if generation is not None and status.generation == generation and status.waits_for:
        return STUCK
    if status.state in ON_THE_WAY or state == RETURNING:
        return UNDER_WAY
    return WAITS if generation is None or (rollout and status.state in WAITING_STATES) else DRIFTED


def _gave_up(status: AgentStatus, generation: int | None) -> bool:
    return generation is not None and status.gave_up(generation)


def is_degraded(status: AgentStatus) -> bool:
    """Whether something is not as it should be beside the release."""
    failed = any(file.state == "failed" for file in files_of(status).values())
    return bool(status.controls or (isinstance(status.troubles, list) and status.troubles) or failed)
