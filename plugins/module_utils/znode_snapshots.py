# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Znodes as they are at one moment, and waiting, by watch, until they meet a condition."""

from __future__ import annotations

import itertools
import json
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
    READ_AGAIN,
    Listing,
    Node,
    checked,
    children,
    list_many,
    read_many,
)

try:
    from kazoo import exceptions as kazoo_errors
    from kazoo.handlers.threading import KazooTimeoutError
except ImportError:  # `connect` reports it before anything here needs it
    kazoo_errors = None

SHORTEST_READ = 0.5
"""Seconds that a read may take in any case, even at the end of a wait."""
LOOKS = 9
"""How often a znode is read that others keep changing meanwhile."""


class ZnodeSnapshot(NamedTuple):
    """One znode at a moment; `stat` is None if it did not exist."""

    path: str
    stat: Any = None
    data: bytes = b""
    children: tuple[str, ...] = ()
    acl: tuple[Any, ...] = ()

    def fields(self, *, values: bool = True) -> dict[str, Any]:
        """Its form in a module's result, with or without its value."""
        if self.stat is None:
            return {"path": self.path, "exists": False}
        more = {"children": sorted(self.children), "acl": acl_fields(self.acl)}
        return {**node_fields(Node(self.path, self.data, self.stat), values=values), "exists": True, **more}


def node_fields(node: Node, *, values: bool = True) -> dict[str, Any]:
    """`path` and `stat` of a znode, and with `values` its `value` and `encoding`, and `json` if it is JSON."""
    if not values:
        return {"path": node.path, "stat": stat_fields(node.stat)}
    try:
        decoded = {"json": parse_json(node.data)}
    except ValueError:
        decoded = {}
    return {"path": node.path, **value_fields(node.data), **decoded, "stat": stat_fields(node.stat)}


class Condition(NamedTuple):
    """What is waited for. Everything that is given must hold at the same moment.

    With a `key`, the names that lead to it in JSON, `value` is that of the key. `shows` is whether a message may quote
    a znode's value.
    """

    present: bool = True
    key: tuple[str, ...] = ()
    value: Value | None = None
    min_children: int = 0
    newer_than: int | None = None
    shows: bool = True

    @classmethod
    def from_options(cls, given: Mapping[str, Any], *, shows: bool = True) -> Condition:
        """From the option `wait_for`. Raises `ZooKeeperError`."""
        made = cls(
            present=given["state"] == "present",
            key=_read_key(given["key"]),
            value=read_value(given["value"], "text", "wait_for"),
            min_children=given["min_children"] or 0,
            newer_than=given["newer_than"],
            shows=shows,
        )
        if not made.present and made != cls(present=False, shows=shows):
            raise ZooKeeperError("wait_for: a znode that is absent has no value, key, children or zxid; leave them out")
        return made

    def unmet(self, znode: ZnodeSnapshot) -> str:
        """Why `znode` does not meet it, for a message; empty if it does."""
        if znode.stat is None or not self.present:
            there = znode.stat is not None
            return "" if there == self.present else f"is {_state(there)}, expected {_state(self.present)}"
        why = self._unmet_by_value(znode.data)
        if why:
            return why
        if len(znode.children) < self.min_children:
            return f"has {len(znode.children)} children, expected {self.min_children} or more"
        if self.newer_than is not None and znode.stat.mzxid <= self.newer_than:
            return f"was last set by transaction {znode.stat.mzxid}, expected one after {self.newer_than}"
        return ""

    def _unmet_by_value(self, data: bytes) -> str:
        name = ".".join(self.key)
        try:
            held = _held_at(self.key, data) if self.key else data
        except (ValueError, RecursionError):
            return f"is not JSON, so it has no key {name}"
        except LookupError:
            return f"has no key {name}"
        if self.value is None or self.value.matches(held):
            return ""
        if not self.shows:
            return f"has another value at the key {name}" if self.key else "holds another value"
        what = f"has the key {name} as" if self.key else "holds"
        return f"{what} {_brief(held)}, expected {_brief(self.value.data)}"


def _read_key(given: Any) -> tuple[str, ...]:
    """The names that lead to a key: from a list, or a string with dots between them, which may begin with one."""
    if given is None:
        return ()
    # An index in a list, which YAML turns into a number.
    given = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
    names = given.removeprefix(".").split(".") if isinstance(given, str) else given
    if isinstance(names, list):
        names = [str(name) if isinstance(name, int) else name for name in names]
    if not isinstance(names, list) or not names or not all(name and isinstance(name, str) for name in names):
        expected = "expected names with dots between them, or a list of names"
        raise ZooKeeperError(f"wait_for: key: {expected}, got {quote(given, 40)}")
    return tuple(names)


def _held_at(key: Sequence[str], data: bytes) -> bytes:
    """The value of a key in JSON, in a znode's form. Raises `LookupError`, or `ValueError` if it is not JSON."""
    found = parse_json(data)
    for name in key:
        found = _inside(found)[name]
    return found.encode("utf-8", "replace") if isinstance(found, str) else json.dumps(found).encode()


def _inside(value: Any) -> Mapping[str, Any]:
    """The contents of a value, by key or index."""
    if isinstance(value, list):
        return dict(zip(map(str, itertools.count()), value))
    return value if isinstance(value, dict) else {}


def _state(there: bool) -> str:
    return "present" if there else "absent"


def _brief(data: bytes) -> str:
    return quote(value_fields(data)["value"], 40)


def take(
    client: Any, paths: Sequence[str], timeout: float, watch: Any = None, *, values: bool = True
) -> list[ZnodeSnapshot]:
    """All of `paths` in one pipelined round; `watch`, a function, is called at the next change to each.

    Without `values`, they are not requested. `timeout` is in seconds, for each answer.
    Raises `ZooKeeperError`.
    """
    client.sync_async("/")
    requests = [(path, _ask(client, path, values, watch)) for path in paths]
    return [_snapshot(client, path, reads, timeout, values) for path, reads in requests]


def _ask(client: Any, path: str, values: bool, watch: Any = None) -> list[Any]:
    """The requests for a snapshot; with `watch`, a watch is set even if the znode does not exist yet."""
    if watch:
        client.exists_async(path, watch=watch)
    node = [client.get_async(path)] if values else []
    return [*node, client.get_children_async(path, watch=watch, include_data=True), client.get_acls_async(path)]


def _snapshot(client: Any, path: str, reads: Sequence[Any], timeout: float, values: bool) -> ZnodeSnapshot:
    """The answers, if they belong together when the children were read; otherwise the znode is read again."""
    for _look in range(LOOKS):
        with translated(path):
            try:
                *node, (names, stat), (acl, acl_stat) = (read.get(timeout=timeout) for read in reads)
            except kazoo_errors.NoNodeError:
                return ZnodeSnapshot(path)
        data = node[0][0] if node else b""
        stats = [*(one for _data, one in node), acl_stat]
        if all((one.czxid, one.mzxid, one.aversion) == (stat.czxid, stat.mzxid, stat.aversion) for one in stats):
            break
        reads = _ask(client, path, values)
    return ZnodeSnapshot(path, stat, data or b"", tuple(names), tuple(acl))


def wait(client: Any, paths: Sequence[str], condition: Condition, seconds: float) -> list[ZnodeSnapshot]:
    """The snapshots in which every one of `paths` met `condition`. Raises `ZooKeeperError` after `seconds`.

    Losing a connection or session meanwhile is not an error if another one is opened in time.
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
        if left <= 0 or not (changed.wait(min(left, READ_AGAIN)) or left > READ_AGAIN):
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


def below(client: Any, path: str, depth: int | None, limit: int, timeout: float, *, values: bool = True) -> list[Node]:
    """The znodes down to `depth` levels below `path`, or all, by path; without `values`, they are empty.

    Raises `ZooKeeperError`, also if there are more than `limit`.
    """
    nodes: list[Node] = []
    look, read = (list_many, read_many) if values else (_list_only, _read_stats)
    levels = walk([path], lambda level: map(children, look(client, level, timeout)))
    for level in itertools.islice(levels, depth):
        if len(nodes) + len(level) > limit:
            raise ZooKeeperError(f"{path}: more than {limit} znodes below it; raise max_znodes", path=path)
        nodes += filter(None, map(checked, read(client, level, timeout)))
    return sorted(nodes)


def _list_only(client: Any, paths: Sequence[str], timeout: float) -> list[Listing | ZooKeeperError | None]:
    """As `list_many`, but no value is sent."""
    requests = [client.get_children_async(path, include_data=True) for path in paths]
    return [_listing(path, request, timeout) for path, request in zip(paths, requests)]


def _listing(path: str, request: Any, timeout: float) -> Listing | None:
    with translated(path):
        try:
            names, stat = request.get(timeout=timeout)
        except kazoo_errors.NoNodeError:
            return None
    return Listing(path, names, stat)


def _read_stats(client: Any, paths: Sequence[str], timeout: float) -> list[Node | ZooKeeperError | None]:
    """As `read_many`, but no value is sent: the nodes are empty."""
    listings = map(checked, _list_only(client, paths, timeout))
    return [one and Node(one.path, b"", one.stat) for one in listings]
