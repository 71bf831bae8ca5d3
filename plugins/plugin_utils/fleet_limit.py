# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a long wait for a fleet is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.fleet import WAITING_OPTIONS
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import UNANSWERED
from ansible_collections.zoo.deploy.plugins.module_utils.records import InvalidRecord
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import (
    DONE,
    FINAL,
    ROLLING_BACK,
    RUNNING,
    SOAKING,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_plan import Plan, read_plan

UNLIMITED = 30 * 24 * 3600.0
"""Seconds to wait where nobody has set a limit and something else does: as long as anything of a rollout may last."""
CARRIED_OUT = frozenset({RUNNING, SOAKING, ROLLING_BACK})
"""The phases in which a rollout goes on by its agents only."""


class Limit:
    """When a long wait is over: after some seconds, or where nobody is live who could carry the rollout out."""

    def __init__(self, seconds: float, *, by_rollout: bool) -> None:
        self._seconds = seconds
        self._by_rollout = by_rollout
        self._deadline = Plan().progress_deadline
        self._deserted = 0.0
        self._deserted_at: float | None = None

    def left(self, result: Mapping[str, Any], latest: Mapping[str, Any], passed: float) -> float:
        """Seconds that are left after those that have passed; `latest` is what the last turn has seen."""
        if not self._by_rollout:
            return self._seconds - passed
        self._seconds = limit_by_rollout(result, self._seconds)
        self._deadline = progress_deadline(result)
        self._note(latest, passed)
        return 0.0 if self._is_deserted else self._seconds - passed

    def why_over(self) -> dict[str, Any]:
        """The message of a rollout that nobody carries out; nothing where it is not over for that."""
        if not self._is_deserted:
            return {}
        nobody = f"for {self._deadline:g} s (progressDeadline), no agent has been live that could carry out the rollout"
        todo = "start zoo-watcher on its hosts, which then continue by themselves; status.yml shows it"
        return {"failed": True, "msg": f"{nobody}: {todo}"}

    @property
    def _is_deserted(self) -> bool:
        return self._deserted >= self._deadline

    def _note(self, latest: Mapping[str, Any], passed: float) -> None:
        """Count the seconds between two looks that found nobody; an outage is no look."""
        since, self._deserted_at = self._deserted_at, None
        if not is_seen(latest):
            return
        if latest["agents"] or (latest.get("rollout") or {}).get("phase") not in CARRIED_OUT:
            self._deserted = 0.0
            return
        self._deserted += 0.0 if since is None else passed - since
        self._deserted_at = passed


def progress_deadline(result: Mapping[str, Any]) -> float:
    """How long a rollout may come no further, in seconds; the default where its plan can't be read."""
    try:
        plan = read_plan((result.get("rollout") or {}).get("plan"))
    except InvalidRecord:
        plan = None
    return (plan or Plan()).progress_deadline


def is_seen(result: Mapping[str, Any]) -> bool:
    """Whether a turn has seen the fleet, the ensemble having answered."""
    return "agents" in result and UNANSWERED not in str(result.get("msg"))


def limit_by_rollout(result: Mapping[str, Any], limit: float) -> float:
    """The limit; none while there is a rollout, which has deadlines of its own, and soaks as long as it says.

    Who is left when it has ended is waited for as long as without one.
    """
    phase = (result.get("rollout") or {}).get("phase", DONE)
    if phase not in FINAL:
        return UNLIMITED
    default = float(WAITING_OPTIONS["wait_timeout"]["default"])
    return float(result["elapsed"]) + default if limit == UNLIMITED else limit
