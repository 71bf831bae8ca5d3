# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outcome of a deployment on one host, on one line. Pure: an agent is its status, as a module returns it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.connection import MOST
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import listed

from .plain_text import SHORT, plain

PROVED = "proved"
FAILED = "failed"
RETURNED = "returned"
BACK = frozenset({"returning", RETURNED})
"""The states of hosts that the rollout rolls back. A host that failed can have them too; it has a failed step."""
GONE = "gone"
KINDS = (FAILED, GONE, RETURNED, PROVED)
"""A host's possible outcomes, in the order in which a person wants to know them."""
MOST_NEWS = 10
"""How many hosts' outcomes follow a line of progress; if there are more, one line has all of a kind."""
_UPPER = {FAILED: "FAILED"}
"""The form of outcomes that nobody should miss."""
STEPS = ("fetching", "staging", "before_activate", "activating", "after_activate", "checking")
"""The steps of a deployment whose seconds are shown, in their order."""


def outcomes(result: Mapping[str, Any]) -> dict[str, str]:
    """The outcome of each agent that has one, by name, as the module last saw it."""
    if "agents" not in result:
        return {}
    failed = set(result.get("failed_agents", []))
    pending = set(result.get("pending_agents", [])) - failed
    known = {
        agent["name"]: FAILED if agent["name"] in failed else PROVED
        for agent in result["agents"]
        if agent["name"] not in pending
    }
    rollout = result.get("rollout") or {}
    entries, why = rollout.get("hosts") or {}, str(rollout.get("reason"))
    names = {agent["name"] for agent in result["agents"] if not agent.get("failedStep")}
    # The reason begins with the host whose failure was one too many.
    sound = {name for name in names if not why.startswith(f"{name} failed")}
    back = {name for name in sound.intersection(failed, entries) if entries[name].get("state") in BACK}
    return {**known, **dict.fromkeys(back, RETURNED), **dict.fromkeys(result.get("lost_agents", []), GONE)}


def news(result: Mapping[str, Any], shown: Mapping[str, str]) -> list[str]:
    """The outcomes that were not `shown`, hosts in trouble first; if there are many, one line has all of a kind."""
    known = {agent["name"]: agent for agent in result.get("agents", [])}
    changed = {name: one for name, one in outcomes(result).items() if shown.get(name) != one}
    order = sorted(changed, key=lambda name: (KINDS.index(changed[name]), name))
    if len(order) <= MOST_NEWS:
        return [f"{plain(name)}  {course(known.get(name, {}), changed[name])}" for name in order]
    kinds = {kind: [name for name in order if changed[name] == kind] for kind in KINDS}
    return [f"{plain(listed(names))}  {_UPPER.get(kind, kind)}" for kind, names in kinds.items() if names]


def course(agent: Mapping[str, Any], outcome: str) -> str:
    """The steps of a deployment with their seconds, and the outcome."""
    back = f"back on {short(agent.get('commitId'))}"
    if outcome == GONE:
        return "gone: its agent is not live any more"
    if outcome == RETURNED:
        return f"{RETURNED}  {back}"
    timings = agent.get("timings")
    known = timings if isinstance(timings, Mapping) else {}
    steps = [f"{step} {known[step]:.2f} s" for step in STEPS if _is_seconds(known.get(step))]
    if outcome == PROVED:
        return "  ".join([*steps, PROVED])
    return "  ".join([*steps, _failure(agent), *([back] if agent.get("state") == "rolled_back" else [])])


def _failure(agent: Mapping[str, Any]) -> str:
    """The step that has failed, and after how many seconds, if the agent reports that."""
    failed = agent.get("failedStep")
    if not isinstance(failed, Mapping) or failed.get("step") not in STEPS:
        return "FAILED"
    seconds = f" {failed['seconds']:.2f} s" if _is_seconds(failed.get("seconds")) else ""
    return f"{failed['step']} FAILED{seconds}"


def _is_seconds(value: Any) -> bool:
    """Whether it is a number that can be seconds; another program may have written anything."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MOST


def short(commit_id: object) -> str:
    """A commit as shown in a line; `-` for none."""
    return plain(commit_id)[:SHORT] if isinstance(commit_id, str) and commit_id else "-"
