# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Znodes as they are at one moment, and waiting until they are as a condition says, by watch."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError, translated
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import quote, walk
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import (
    Value,
    acl_fields,
    parse_json,
    read_value,
    stat_fields,
    value_fields,
)
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import (
    Node,
    checked,
    children,
    list_many,
    read_many,
)

try:
    from kazoo import exceptions as kazoo_errors
    from kazoo.handlers.threading import KazooTimeoutError
except ImportError:  # `connect` says so before anything here needs it
    kazoo_errors = None

SHORTEST_READ = 0.5
"""Seconds that a read may take in any case, also one at the end of a wait."""


class ZnodeSnapshot(NamedTuple):
    """One znode as it was; `stat` is None where there was none."""

    path: str
    stat: Any = None
    data: bytes = b""
    children: tuple[str, ...] = ()
    acl: tuple[Any, ...] = ()

    def fields(self) -> dict[str, Any]:
        """As a module returns it."""
        if self.stat is None:
            return {"path": self.path, "exists": False}
        more = {"children": sorted(self.children), "acl": acl_fields(self.acl)}
        return {**node_fields(Node(self.path, self.data, self.stat)), "exists": True, **more}


def node_fields(node: Node) -> dict[str, Any]:
    """`path`, `value`, `encoding` and `stat` of a znode, and `json` where the value is JSON."""
    try:
        decoded = {"json": parse_json(node.data)}
    except ValueError:
        decoded = {}
    return {"path": node.path, **value_fields(node.data), **decoded, "stat": stat_fields(node.stat)}


class Condition(NamedTuple):
    """What is waited for. All that is given must hold at one moment."""

    present: bool = True
    value: Value | None = None
    min_children: int = 0
    newer_than: int | None = None

    @classmethod
    def from_options(cls, given: Mapping[str, Any]) -> Condition:
        """From the option `wait_for`. Raises `ZooKeeperError`."""
        made = cls(
            present=given["state"] == "present",
            value=read_value(given["value"], "text", "wait_for"),
            min_children=given["min_children"] or 0,
            newer_than=given["newer_than"],
        )
        if not made.present and made != cls(present=False):
            raise ZooKeeperError("wait_for: a znode that is absent has no value, children or zxid; leave them out")
        return made

    def unmet(self, znode: ZnodeSnapshot) -> str:
        """Why `znode` does not meet it, for a message; empty where it does."""
        if znode.stat is None or not self.present:
            there = znode.stat is not None
            return "" if there == self.present else f"is {_state(there)}, expected {_state(self.present)}"
        if self.value is not None and not self.value.matches(znode.data):
            return f"holds {_brief(znode.data)}, expected {_brief(self.value.data)}"
        if len(znode.children) < self.min_children:
            return f"has {len(znode.children)} children, expected {self.min_children} or more"
        if self.newer_than is not None and znode.stat.mzxid <= self.newer_than:
            return f"was last set by transaction {znode.stat.mzxid}, expected one after {self.newer_than}"
        return ""


def _state(there: bool) -> str:
    return "present" if there else "absent"


def _brief(data: bytes) -> str:
    return quote(value_fields(data)["value"], 40)


def take(client: Any, paths: Sequence[str], timeout: float, watch: Any = None) -> list[ZnodeSnapshot]:
    """All of `paths` in one pipelined round; with `watch`, a function, it is told of the next change to each.

    `timeout` is in seconds, for each answer. Raises `ZooKeeperError`.
    """
    client.sync_async("/")
    requests = []
    for path in paths:
        if watch:  # leaves a watch also where there is no znode yet
            client.exists_async(path, watch=watch)
        reads = (client.get_async(path), client.get_children_async(path, watch=watch), client.get_acls_async(path))
        requests.append((path, reads))
    return [_snapshot(path, reads, timeout) for path, reads in requests]


def _snapshot(path: str, reads: Sequence[Any], timeout: float) -> ZnodeSnapshot:
    with translated(path):
        try:
            (data, stat), children, (acl, _stat) = (read.get(timeout=timeout) for read in reads)
        except kazoo_errors.NoNodeError:
            return ZnodeSnapshot(path)
    return ZnodeSnapshot(path, stat, data or b"", tuple(children), tuple(acl))


def wait(client: Any, paths: Sequence[str], condition: Condition, seconds: float) -> list[ZnodeSnapshot]:
    """The snapshots in which every one of `paths` met `condition`. Raises `ZooKeeperError` after `seconds`.

    A connection or session that is lost meanwhile is no error as long as another one comes in time.
    """
    deadline = time.monotonic() + seconds
    changed = threading.Event()
    client.add_listener(lambda _state: changed.set())
    while True:
        changed.clear()
        left = max(deadline - time.monotonic(), SHORTEST_READ)
        snapshots, why = _look(client, paths, condition, left, lambda _event: changed.set())
        if not why:
            return snapshots
        left = deadline - time.monotonic()
        if left <= 0 or not changed.wait(left):
            raise ZooKeeperError(f"{why}; not within {seconds:g} s")


def _look(
    client: Any, paths: Sequence[str], condition: Condition, timeout: float, watch: Any
) -> tuple[list[ZnodeSnapshot], str]:
    """The snapshots, and why they do not meet the condition."""
    try:
        snapshots = take(client, paths, timeout, watch)
    except ZooKeeperError as exc:
        passing = (kazoo_errors.ConnectionLoss, kazoo_errors.SessionExpiredError, KazooTimeoutError)
        if isinstance(exc.__cause__, passing):
            return [], str(exc)
        raise
    reasons = ((znode.path, condition.unmet(znode)) for znode in snapshots)
    return snapshots, next((f"{path}: {why}" for path, why in reasons if why), "")


def below(client: Any, path: str, depth: int | None, limit: int, timeout: float) -> list[Node]:
    """The znodes down to `depth` levels below `path`, or all, by path. Raises `ZooKeeperError`, also for too many."""
    nodes: list[Node] = []
    levels = walk([path], lambda level: map(children, list_many(client, level, timeout)))
    for level in itertools.islice(levels, depth):
        if len(nodes) + len(level) > limit:
            raise ZooKeeperError(f"{path}: more than {limit} znodes below it; raise max_znodes", path=path)
        nodes += filter(None, map(checked, read_many(client, level, timeout)))
    return sorted(nodes)
