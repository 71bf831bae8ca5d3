"""The scenario's hosts, for its tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from hosts.lab.lab import Lab
from hosts.watcher.server import SERVERS, Server
from support.client import connected


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The lab of molecule's hosts."""
    return Lab(os.environ.get("LAB", "molecule"))


@pytest.fixture(scope="session")
def servers(lab: Lab) -> Iterator[dict[str, Server]]:
    """The web servers by name."""
    with contextlib.ExitStack() as stack:
        ensembles = {
            host.name: stack.enter_context(connected(f"{host.address}:2181")) for host in lab.named(["zk38", "zk39"])
        }
        yield {host.name: Server(host, ensembles[f"zk{host.name[-2:]}"]) for host in lab.named(SERVERS)}


@pytest.fixture(autouse=True)
def settled(servers: dict[str, Server]) -> None:
    """Let every test start with servers that run what is published."""
    for server in servers.values():
        server.settle()
