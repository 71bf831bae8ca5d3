# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last good answer of each registry, as stored in one of Ansible's caches: plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Child, Reading, Registry

_VERSION = 1
"""The version of the cached form, in which the parents are called `folders`; another form has another version."""


class LastGood(NamedTuple):
    """The last good answer of one registry: how it was read, how many entries of it were alive, and when that was.

    `at` is in seconds since 1970; 0 if nobody asks.
    """

    reading: Reading
    live: int
    at: float = 0.0


def to_cache(hosts: str, registries: Sequence[Registry], answers: Sequence[LastGood | None]) -> dict[str, Any]:
    """The answers in the form for a cache plugin. `hosts` is the ensemble's connection string."""
    entries = {
        _key(registry): {
            "live": answer.live,
            "at": answer.at,
            "folders": dict(answer.reading.parents),
            "children": [_child_to_cache(child) for child in answer.reading.children],
            "problems": list(answer.reading.problems),
            **({"leaders": dict(answer.reading.leaders)} if answer.reading.leaders else {}),
        }
        for registry, answer in zip(registries, answers)
        if answer is not None
    }
    return {"version": _VERSION, "hosts": hosts, "registries": entries}


def _child_to_cache(child: Child) -> list[Any]:
    data = child.data.decode("latin-1")
    return [child.path, list(child.segments), data, child.created, child.modified, child.owner]


def from_cache(hosts: str, registries: Sequence[Registry], cached: Any, since: float = 0.0) -> list[LastGood | None]:
    """What a cache has for each registry; None if it has nothing of this ensemble and this registry since then."""
    try:
        if cached["version"] != _VERSION or cached["hosts"] != hosts:
            return [None] * len(registries)
        return [_last_good(cached["registries"].get(_key(registry)), since) for registry in registries]
    except (AttributeError, KeyError, TypeError, ValueError):  # whatever it is, this plugin did not write it
        return [None] * len(registries)


def _key(registry: Registry) -> str:
    return f"{registry.path} {registry.format} {registry.listener}".rstrip()


def _last_good(entry: Mapping[str, Any] | None, since: float) -> LastGood | None:
    # Without a time, an earlier version wrote it, for which the age of the whole cache counted.
    if entry is None or entry.get("at", since) < since:
        return None
    children = [
        Child(str(path), tuple(segments), data.encode("latin-1"), int(created), int(modified), int(owner))
        for path, segments, data, created, modified, owner in entry["children"]
    ]
    return LastGood(
        Reading(dict(entry["folders"]), children, list(entry["problems"]), dict(entry.get("leaders", {}))),
        int(entry["live"]),
        float(entry.get("at", 0)),
    )
