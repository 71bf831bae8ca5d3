# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last good answer of the registries, as it is kept in a cache of Ansible's: plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Child, Kept, Reading, Registry

_VERSION = 1


def to_cache(hosts: str, registries: Sequence[Registry], kept: Sequence[Kept | None]) -> dict[str, Any]:
    """The answer as a cache plugin takes it. `hosts` is the ensemble's connection string."""
    entries = {
        _key(registry): {
            "live": one.live,
            "directories": dict(one.reading.directories),
            "children": [
                [
                    child.path,
                    list(child.segments),
                    child.data.decode("latin-1"),
                    child.created,
                    child.modified,
                    child.owner,
                ]
                for child in one.reading.children
            ],
            "problems": list(one.reading.problems),
        }
        for registry, one in zip(registries, kept)
        if one is not None
    }
    return {"version": _VERSION, "hosts": hosts, "registries": entries}


def from_cache(hosts: str, registries: Sequence[Registry], found: Any) -> list[Kept | None]:
    """What a cache has for each registry, None where it has nothing of this ensemble and this registry."""
    try:
        if found["version"] != _VERSION or found["hosts"] != hosts:
            return [None] * len(registries)
        return [_kept(found["registries"].get(_key(registry))) for registry in registries]
    except (AttributeError, KeyError, TypeError, ValueError):  # whatever it is, it isn't an answer of ours
        return [None] * len(registries)


def _key(registry: Registry) -> str:
    return f"{registry.path} {registry.format}"


def _kept(entry: Mapping[str, Any] | None) -> Kept | None:
    if entry is None:
        return None
    children = [
        Child(str(path), tuple(segments), data.encode("latin-1"), int(created), int(modified), int(owner))
        for path, segments, data, created, modified, owner in entry["children"]
    ]
    return Kept(Reading(dict(entry["directories"]), children, list(entry["problems"])), int(entry["live"]))
