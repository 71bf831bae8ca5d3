"""P4: reading a registry of 10,000 children on an open connection, against one by one and a bare socket."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from kazoo.client import KazooClient

from bench.harness import BenchError, Comparison, Sample, Side, goal, timed
from bench.raw_client import RawClient
from bench.workbench import Registry, Workbench

SIZE, QUICK = 10_000, 1_000
Reader = Callable[[], list[tuple[str, bytes, int]]]
"""A function that lists a registry and reads the path, value and mzxid of every child."""


@goal("P4")
def registry_of_ten_thousand(bench: Workbench) -> Iterator[Comparison]:
    """`read_many` against a loop of kazoo's `get`, and against a bare multiRead."""
    size = bench.sized(SIZE, QUICK)
    registry = bench.registry(size)
    member = bench.ensemble.members[0]
    client = KazooClient(hosts=f"127.0.0.1:{member.client_port}")
    client.start(timeout=20)
    try:
        ours, same = timed(_ours(client, registry)), partial(_same_nodes, size)
        yield Comparison("P4", f"{size:,} reads; one by one", 0.01, ours, timed(_serial(client, registry)), same)
        yield Comparison("P4", f"{size:,} reads; raw multiRead", 1.1, ours, _raw(member.client_port, registry), same)
    finally:
        client.stop()
        client.close()


def _ours(client: KazooClient, registry: Registry) -> Reader:
    zookeeper = importlib.import_module("ansible_collections.zoo.deploy.plugins.module_utils.zookeeper")

    def read() -> list[Any]:
        paths = [f"{registry.path}/{child}" for child in client.get_children(registry.path)]
        return [(node.path, node.data, node.stat.mzxid) for node in zookeeper.read_many(client, paths)]

    return read


def _serial(client: KazooClient, registry: Registry) -> Reader:
    def read() -> list[tuple[str, bytes, int]]:
        found = []
        for child in client.get_children(registry.path):
            path = f"{registry.path}/{child}"
            data, stat = client.get(path)
            found.append((path, data, stat.mzxid))
        return found

    return read


def _raw(port: int, registry: Registry) -> Side:
    def side() -> Sample:
        with contextlib.closing(RawClient("127.0.0.1", port)) as client:
            return timed(partial(read, client))()

    def read(client: RawClient) -> list[tuple[str, bytes, int]]:
        paths = [f"{registry.path}/{child}" for child in client.children(registry.path)]
        return [(path, data, stat[1]) for path, (data, stat) in zip(paths, client.read(paths))]

    return side


def _same_nodes(size: int, ours: list[tuple[str, bytes, int]], yardstick: list[tuple[str, bytes, int]]) -> None:
    if len(ours) != size or sorted(ours) != sorted(yardstick):
        different = sorted(set(ours) ^ set(yardstick))
        raise BenchError(f"{len(ours)} znodes against {len(yardstick)}, such as {different[:2]}")
