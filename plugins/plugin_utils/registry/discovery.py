# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is registered now: the children of every registry, read in bulk.

The parents are listed first, level by level if a path has a `*`, then all their children are read. If there is an
earlier reading, one pass over its znodes tells whether it still holds: a parent with the same `pzxid` has the same
children. Those are read again, because a change of a child's data does not show in its parent.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import InvalidRecord, check_path, quote
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import (
    Node,
    list_many,
    read_many,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.formats import FORMATS

_GENERIC = frozenset({"children", "ids", "instances", "live_nodes", "members", "nodes", "providers", "rs"})
"""Last segments that do not name a service: /brokers/ids, /hbase/rs, /dubbo/com.example.Api/providers."""


class InvalidRegistry(ValueError):
    """An invalid entry of the option `registries`; the message says which and why."""


class Registry(NamedTuple):
    """One entry of the option `registries`: a path (a `*` stands for any part of one segment), a format and a group.

    `listener` selects one of an entry's listeners, in a format that has several; empty for the format's own choice.
    """

    path: str
    format: str = "auto"
    group: str | None = None
    listener: str = ""

    @classmethod
    def from_option(cls, option: Any) -> Registry:
        """The registry in one entry: a path, or `{"path", "format", "group", "listener"}`. Raises `InvalidRegistry`."""
        entry = {"path": option} if isinstance(option, str) else option
        if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
            raise InvalidRegistry(
                f"registries: expected a path, or a mapping with path, format, group and listener, got {quote(option)}"
            )
        _check_names(entry)
        try:
            path = check_path(str(entry["path"]))
        except InvalidRecord as exc:
            raise InvalidRegistry(f"registries: {exc}") from exc
        group = entry.get("group")
        return cls(
            path,
            str(entry.get("format") or "auto"),
            None if group is None else str(group),
            str(entry.get("listener") or ""),
        )

    def group_of(self, segments: Sequence[str]) -> str:
        """The group, not yet a safe name, of what is below `segments`, the parts that a `*` stood for.

        A `*` in `group` stands for the segment that its counterpart in the path matched. Without `group` it is the last
        matched segment, or the path's last one that is not generic.
        """
        if self.group is not None:
            left = iter(segments)
            return re.sub(r"\*", lambda _unused: next(left, "*"), self.group)
        if segments:
            return segments[-1]
        names = [name for name in self.path.split("/") if name]
        return next((name for name in reversed(names) if name not in _GENERIC), names[-1] if names else "root")

    def leader_of(self, path: str) -> str | None:
        """The znode that names the leader among a child and its siblings; None if the format has none."""
        name = FORMATS[self.format].leader
        return f"{path.rsplit('/', 2)[0]}/{name}" if name else None


def _check_names(entry: Mapping[Any, Any]) -> None:
    """Raise `InvalidRegistry` if a key in an entry of the option `registries` is invalid."""
    where = f"registries: {entry['path']}"
    unknown = sorted(set(map(str, entry)) - set(Registry._fields))
    if unknown:
        raise InvalidRegistry(f"{where} has an unknown key {', '.join(unknown)}")
    registry_format = entry.get("format") or "auto"
    if not isinstance(registry_format, str) or registry_format not in FORMATS:
        raise InvalidRegistry(f"{where}: format: expected one of {', '.join(FORMATS)}, got {quote(registry_format)}")
    for key in ("group", "listener"):
        name = entry.get(key)
        if name is not None and (not isinstance(name, str) or not name):
            raise InvalidRegistry(f"{where}: {key}: expected a name, got {quote(name)}")
    if entry.get("listener") and not FORMATS[registry_format].at_listener:
        having = ", ".join(name for name, known in FORMATS.items() if known.at_listener)
        raise InvalidRegistry(f"{where}: listener: expected with format {having} only, got format {registry_format}")


class Child(NamedTuple):
    """A child of a registry, as read. Times are in milliseconds since 1970; `owner` is the session's id, or 0.

    `segments` are what each `*` in the registry's path stood for.
    """

    path: str
    segments: tuple[str, ...]
    data: bytes
    created: int
    modified: int
    owner: int

    @property
    def name(self) -> str:
        """Its name below the registry."""
        return self.path.rpartition("/")[2]


class Reading(NamedTuple):
    """One registry as it was read: its children, and the `pzxid` of every parent that was listed.

    That is None for a missing parent. `problems` are messages for warnings. `leaders` has, by the path of the znode
    that names it, the name of the leading child; empty if there is none.
    """

    parents: Mapping[str, int | None]
    children: Sequence[Child]
    problems: Sequence[str] = ()
    leaders: Mapping[str, str] = MappingProxyType({})


def discover(client: Any, registries: Sequence[Registry], earlier: Sequence[Reading | None]) -> list[Reading]:
    """What every registry holds now, in order. A missing parent, or a child that can't be read, is a problem.

    `earlier` has for each registry an earlier reading of it, or None. Raises `ZooKeeperError` if a parent can't be
    listed, or the ensemble does not answer.
    """
    client.sync_async("/")  # answered before later requests: nothing older than this moment is read
    sound = [reading if reading and not reading.problems else None for reading in earlier]
    readings = _confirm(client, registries, sound)
    changed = [registry for registry, reading in zip(registries, readings) if reading is None]
    fresh = iter(_read_anew(client, changed)) if changed else iter(())
    return [reading or next(fresh) for reading in readings]


def _confirm(client: Any, registries: Sequence[Registry], earlier: Sequence[Reading | None]) -> list[Reading | None]:
    """The earlier readings brought up to date; None if a parent has changed."""
    paths = {path for registry, reading in zip(registries, earlier) if reading for path in _evidence(registry, reading)}
    if not paths:
        return [None] * len(registries)
    nodes = dict(zip(paths, read_many(client, list(paths))))
    return [_up_to_date(reading, nodes) if reading else None for reading in earlier]


def _evidence(registry: Registry, reading: Reading) -> Iterator[str]:
    """The znodes that must be read to know whether a reading still holds."""
    yield from reading.parents
    yield from reading.leaders
    if FORMATS[registry.format].reads_data:
        yield from (child.path for child in reading.children)


def _up_to_date(reading: Reading, nodes: Mapping[str, Any]) -> Reading | None:
    for path, pzxid in reading.parents.items():
        node = nodes[path]
        if isinstance(node, ZooKeeperError) or (node.stat.pzxid if node else None) != pzxid:
            return None
    children = []
    for child in reading.children:
        node = nodes.get(child.path, child)
        if node is None or isinstance(node, ZooKeeperError):
            return None
        children.append(child if node is child else _child(node, child.segments))
    if any(isinstance(nodes[path], ZooKeeperError) for path in reading.leaders):
        return None
    leaders = {path: _leader(nodes[path]) for path in reading.leaders}
    return Reading(reading.parents, children, reading.problems, leaders)


def _child(node: Node, segments: tuple[str, ...]) -> Child:
    return Child(node.path, segments, node.data, node.stat.ctime, node.stat.mtime, node.stat.ephemeralOwner)


def _leader(node: Node | None) -> str:
    return node.data.decode("utf-8", "replace") if node else ""


def _read_anew(client: Any, registries: Sequence[Registry]) -> list[Reading]:
    contents = [_list(client, registry) for registry in registries]
    nodes = iter(read_many(client, [path for content in contents for path in (*content.children, *content.leaders)]))
    return [
        _reading(
            content,
            list(itertools.islice(nodes, len(content.children))),
            list(itertools.islice(nodes, len(content.leaders))),
        )
        for content in contents
    ]


class _Contents(NamedTuple):
    """The contents of a registry.

    The parents (path and pzxid), the children's paths with what each `*` stood for, problems, and the paths of the
    znodes that name the leading child.
    """

    parents: dict[str, int | None]
    children: dict[str, tuple[str, ...]]
    problems: list[str]
    leaders: list[str]


def _list(client: Any, registry: Registry) -> _Contents:
    """List what a registry's path stands for, one level for each `*` and one for the children."""
    parents: dict[str, int | None] = {}
    children: dict[str, tuple[str, ...]] = {"": ()}
    for fixed, pattern in levels(registry.path):
        segments = {f"{path}{fixed}" or "/": segments for path, segments in children.items()}
        children = {}
        for path, listing in zip(segments, list_many(client, list(segments))):
            if isinstance(listing, ZooKeeperError):
                raise listing
            parents[path] = listing.stat.pzxid if listing else None
            for name in sorted(listing.names if listing else ()):
                if pattern is None or pattern.fullmatch(name):
                    below = f"{path.rstrip('/')}/{name}"
                    children[below] = (*segments[path], name) if pattern else segments[path]
    missing = [path for path in list(parents)[:1] if parents[path] is None]
    problems = [f"{path}: no such znode, so nothing is registered there" for path in missing]
    leaders = filter(None, dict.fromkeys(registry.leader_of(path) for path in children))
    return _Contents(parents, children, problems, list(leaders))


def levels(path: str) -> Iterator[tuple[str, re.Pattern[str] | None]]:
    """A path split after each segment with a `*`: the fixed part, and the pattern below it (None at the end)."""
    fixed = ""
    for segment in path.split("/")[1:]:
        if "*" in segment:
            yield fixed, re.compile(".*".join(re.escape(part) for part in segment.split("*")), re.DOTALL)
            fixed = ""
        elif segment:
            fixed += f"/{segment}"
    yield fixed, None


def _reading(
    contents: _Contents,
    nodes: Sequence[Node | ZooKeeperError | None],
    leaders: Sequence[Node | ZooKeeperError | None],
) -> Reading:
    problems = [f"{node}; left out" for node in nodes if isinstance(node, ZooKeeperError)]
    children = [
        _child(node, segments) for node, segments in zip(nodes, contents.children.values()) if isinstance(node, Node)
    ]
    by_path = {
        path: _leader(node) for path, node in zip(contents.leaders, leaders) if not isinstance(node, ZooKeeperError)
    }
    problems += [f"{node}; who leads is what each says itself" for node in leaders if isinstance(node, ZooKeeperError)]
    return Reading(contents.parents, children, [*contents.problems, *problems], by_path)
