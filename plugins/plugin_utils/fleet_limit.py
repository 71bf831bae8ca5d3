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
"""Seconds to wait if there is no limit except the rollout's own: as long as any part of a rollout may last."""
CARRIED_OUT = frozenset({RUNNING, SOAKING, ROLLING_BACK})
"""The phases in which only agents move a rollout."""


class Limit:
    """When a long wait is over: after some seconds, or if no live agent could carry out the rollout."""

    def __init__(self, seconds: float, *, by_rollout: bool) -> None:
        self._seconds = seconds
        self._by_rollout = by_rollout
        self._deadline = Plan().progress_deadline
        self._deserted = 0.0
        self._deserted_at: float | None = None

    def left(self, result: Mapping[str, Any], latest: Mapping[str, Any], passed: float) -> float:
        """Seconds left after those that have `passed`; `latest` is what the last turn has seen."""
        if not self._by_rollout:
            return self._seconds - passed
        self._seconds = limit_by_rollout(result, self._seconds)
        self._deadline = progress_deadline(result)
        self._note(latest, passed)
        return 0.0 if self._is_deserted else self._seconds - passed

    def why_over(self) -> dict[str, Any]:
        """The failure of a rollout that nobody carries out; empty if the wait is not over for that reason."""
        if not self._is_deserted:
            return {}
        nobody = f"for {self._deadline:g} s (progressDeadline), no agent has been live that could carry out the rollout"
        todo = "start zoo-watcher on its hosts, which then continue by themselves; status.yml shows it"
        return {"failed": True, "msg": f"{nobody}: {todo}"}

    @property
    def _is_deserted(self) -> bool:
        return self._deserted >= self._deadline

    def _note(self, latest: Mapping[str, Any], passed: float) -> None:
        """Count the seconds between two looks that found no agent; an outage is not a look."""
        since, self._deserted_at = self._deserted_at, None
        if not is_seen(latest):
            return
        if latest["agents"] or (latest.get("rollout") or {}).get("phase") not in CARRIED_OUT:
            self._deserted = 0.0
            return
        self._deserted += 0.0 if since is None else passed - since
        self._deserted_at = passed


def progress_deadline(result: Mapping[str, Any]) -> float:
    """How many seconds a rollout may make no progress; the default if its plan can't be read."""
    try:
        plan = read_plan((result.get("rollout") or {}).get("plan"))
    except InvalidRecord:
        plan = None
    return (plan or Plan()).progress_deadline


def is_seen(result: Mapping[str, Any]) -> bool:
    """Whether a turn has seen the fleet: the ensemble has answered."""
    return "agents" in result and UNANSWERED not in str(result.get("msg"))


def limit_by_rollout(result: Mapping[str, Any], limit: float) -> float:
    """The limit; none during a rollout, which has its own deadlines, and soaks as long as its plan says.

    After its end, the remaining agents are waited for as long as without a rollout.
    """
    phase = (result.get("rollout") or {}).get("phase", DONE)
    if phase not in FINAL:
        return UNLIMITED
    default = float(WAITING_OPTIONS["wait_timeout"]["default"])
    return float(result["elapsed"]) + default if limit == UNLIMITED else limit
