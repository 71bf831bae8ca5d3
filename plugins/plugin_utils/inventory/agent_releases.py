# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every host of an application runs, from the statuses of its agents."""

from __future__ import annotations

from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    AgentStatus,
    AppPaths,
    InvalidRecord,
    check_commit_id,
    quote,
)
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import Node, list_many, read_many


def read_agent_releases(client: Any, app: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """By an agent's name: its `commit`, `generation`, `state`, and whether that is a `drift` from what is published.

    The second value has a message per unreadable status. Raises `ZooKeeperError`, also if `app` is not a znode path.
    """
    try:
        paths = AppPaths(app)
    except InvalidRecord as exc:
        raise ZooKeeperError(f"app: {exc}") from exc
    (agents,) = list_many(client, [paths.agents])
    if isinstance(agents, ZooKeeperError):
        raise agents
    names = sorted(agents.names) if agents else []
    config, *nodes = read_many(client, [paths.config, *(paths.agent(name) for name in names)])
    if isinstance(config, ZooKeeperError):
        raise config
    generation = config.stat.mzxid if config else None
    releases: dict[str, dict[str, Any]] = {}
    problems = [] if agents else [f"{paths.agents}: no such znode, so no host has zk_release"]
    for name, node in zip(names, nodes):
        try:
            if isinstance(node, Node):
                releases[name] = _release(AgentStatus.from_node(node.data), generation)
        except InvalidRecord as exc:
            problems.append(f"{paths.agent(name)}: no agent's status, {exc}")
        if isinstance(node, ZooKeeperError):
            problems.append(str(node))
    return releases, problems


def _release(status: AgentStatus, generation: int | None) -> dict[str, Any]:
    """The variable `zk_release` of a host. Raises `InvalidRecord`: another program may have written anything."""
    if not isinstance(status.generation, (int, type(None))):
        raise InvalidRecord(f"generation: expected a whole number, got {quote(status.generation)}")
    return {
        "commit": None if status.commit_id is None else check_commit_id(status.commit_id),
        "generation": status.generation,
        "state": status.state,
        "drift": generation is None or not status.converged(generation),
    }
