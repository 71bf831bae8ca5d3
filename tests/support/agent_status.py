"""Statuses of agents that do not run."""

from __future__ import annotations

from typing import Any

from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, AppPaths


def report(client: KazooClient, paths: AppPaths, name: str, state: str, generation: int | None, **keys: Any) -> None:
    """Write the status of an agent."""
    data = AgentStatus(name=name, state=state, generation=generation, **keys).to_node()
    if client.exists(paths.agent(name)):
        client.set(paths.agent(name), data)
    else:
        client.create(paths.agent(name), data, ephemeral=True, makepath=True)
