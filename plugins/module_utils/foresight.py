# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would happen to the fleet as it is now if a release were published or a rollout promoted; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .connection import KAZOO_IMPORT_ERROR
from .fleet import read_agents
from .records import AppPaths, Release
from .releases import ROLLOUT
from .rollout_phases import RUNNING
from .rollout_plan import read_plan
from .rollout_preview import LiveHost, Preview, describe_command, preview
from .rollout_records import LOST, RETURNING, HostEntry
from .rollout_steering import beginning
from .rollouts import Rollout, roster_labels

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient


def foresee(client: KazooClient, paths: AppPaths, release: Release, before: Release | None) -> Preview:
    """What would happen to the fleet if a release were published now in place of the one `before`.

    Raises `ZooKeeperError`, and `InvalidRecord` if its plan can't be followed.
    """
    content = release.extra.get(ROLLOUT)
    is_same_place = before is not None and before.relative_path == release.relative_path
    fleet, missing = read_hosts(client, paths, release.commit_id if is_same_place else None)
    if not read_plan(content):
        return preview(None, fleet, missing)
    state = beginning(client, paths, release, content)
    return preview(state.parsed_plan(), fleet, missing, state.places, size=state.fleet)


def foresee_command(client: KazooClient, paths: AppPaths, rollout: Rollout) -> dict[str, Any]:
    """A module's result for a command that would bring a rollout to this state, and for the rest if it continues."""
    state, plan = rollout.state, rollout.state.parsed_plan()
    fleet, missing = read_hosts(client, paths, str(state.release["commitId"]), rollout.entries)
    rest = preview(plan, fleet, missing, state.places, state.step, state.fleet, state.reached)
    said = describe_command(state, len(plan.steps), rest.changes)
    if state.phase != RUNNING:
        return {"foreseen": [said]}
    found = rest.to_result()
    return {**found, "foreseen": [said, *found["foreseen"]]}


def read_hosts(
    client: KazooClient, paths: AppPaths, commit_id: str | None, entries: Mapping[str, HostEntry] | None = None
) -> tuple[dict[str, LiveHost], list[str]]:
    """The live hosts by name, as a release of this commit would find them, and the names of the missing ones.

    None stands for a commit that no host has at its place.
    """
    states = {name: entry.state for name, entry in (entries or {}).items()}
    agents = read_agents(client, paths)
    roster = roster_labels(client, paths)
    hosts = {
        name: LiveHost(
            labels=roster.get(name, {}),
            has_it=commit_id is not None and status.commit_id == commit_id,
            is_held=status.held is not None,
            # A host that only leaves a bad release has no entry once it has returned.
            is_entered=states.get(name) not in {None, RETURNING},
            is_lost=states.get(name) == LOST,
        )
        for name, status in agents.items()
    }
    return hosts, sorted(set(roster).difference(agents))
