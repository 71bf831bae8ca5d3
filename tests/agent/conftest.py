"""Fixtures of the agent's tests."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from support.agent import Agent, publish
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for


@pytest.fixture
def registered(app: str, service: Service) -> dict[str, Any]:
    """The configuration of an agent that registers `service` below `<app>/service`, checked every 50 ms."""
    check = {"type": "http", "interval": 0.05, "timeout": 1, "fall": 1}
    return {"services": [{"path": f"{app}/service", "port": service.port, "address": "192.0.2.7", "check": check}]}


@pytest.fixture
def release(zk: KazooClient, app: str, repository: GitRepository) -> Callable[..., int]:
    """Publishes a commit of the repository, its head by default, with further keys, and returns the generation."""

    def make(commit_id: str | None = None, **keys: Any) -> int:
        return publish(
            zk,
            app,
            {"url": repository.url, "commitId": commit_id or repository.head, "relativePath": "site", **keys},
        )

    return make


@pytest.fixture
def serving(
    agents: Callable[..., Agent],
    registered: dict[str, Any],
    service: Service,
    registrations: Callable[[], dict[str, list[str]]],
) -> Callable[..., Agent]:
    """Starts an agent whose open `service` is registered, with further keys of its configuration."""

    def start(**config: Any) -> Agent:
        agent = agents(**registered, **config).start()
        service.open()
        wait_for(registrations, "it is registered")
        return agent

    return start


@pytest.fixture
def deployed(
    agents: Callable[..., Agent],
    registered: dict[str, Any],
    service: Service,
    release: Callable[..., int],
    registrations: Callable[[], dict[str, list[str]]],
) -> Callable[..., Agent]:
    """Starts an agent that has the repository's head live, and its open `service` registered."""

    def start(**config: Any) -> Agent:
        agent = agents(**registered, **config).start()
        service.open()
        agent.wait_outcome(release())
        wait_for(registrations, "it is registered")
        return agent

    return start


@pytest.fixture
def registrations(zk: KazooClient, app: str) -> Callable[[], dict[str, list[str]]]:
    """Reads what is registered below `<app>/service`, by name."""

    def read() -> dict[str, list[str]]:
        if not zk.exists(f"{app}/service"):
            return {}
        values = {}
        for name in zk.get_children(f"{app}/service"):
            # One may be deleted between the two reads.
            with contextlib.suppress(NoNodeError):
                values[name] = json.loads(zk.get(f"{app}/service/{name}")[0])
        return values

    return read
