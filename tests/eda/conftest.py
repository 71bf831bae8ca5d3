"""Fixtures of the event source's suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient

from eda.source import Source
from faults.support.proxy import Proxy
from support.ensemble import Ensemble

SENTINEL = "/sentinel"
"""A znode private to each test; its event `present` shows that every watch is set."""


@pytest.fixture
def watch(ensemble: Ensemble, zk: KazooClient, app: str) -> Iterator[Callable[..., Source]]:
    """A function that starts a source and waits until it has read everything. Sources are stopped after the test."""
    made: list[Source] = []

    def make(**args: Any) -> Source:
        sentinel = f"{app}{SENTINEL}"
        zk.ensure_path(sentinel)
        data = [*args.pop("data", []), sentinel]
        given = {"hosts": ensemble.hosts, "initial": True, "connect_timeout": 8, "data": data, **args}
        made.append(Source(**given).start())
        made[-1].one(change="present", path=sentinel)
        return made[-1]

    yield make
    for source in made:
        source.stop()


@pytest.fixture
def proxy(ensemble: Ensemble) -> Iterator[Proxy]:
    """A connection to the ensemble that can be cut."""
    made = Proxy(ensemble.members[0].client_port)
    yield made
    made.close()


@pytest.fixture
def proxied(proxy: Proxy) -> dict[str, Any]:
    """The arguments of a source that can reach the ensemble only through the proxy."""
    return {"hosts": f"127.0.0.1:{proxy.port}"}
