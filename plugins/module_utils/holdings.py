# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What znodes hold, as far as the files that agents keep like them have to follow."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .fleet import demand
from .fleet_files import FileProof, Holding
from .records import AppPaths, InvalidRecord
from .znode_names import ancestors, walk
from .zookeeper import ZooKeeperError, checked, list_many, translated


def prove_files(client: Any, holdings: Sequence[Holding], subject: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Wait, as the options of `WAITING` say, until every live agent of `app` has the files.

    Returns what a module returns of it; where the fleet did not prove it, that is in the `ZooKeeperError`'s details.
    """
    return demand(client, application(options), FileProof(holdings, subject), options)


def application(options: Mapping[str, Any]) -> AppPaths:
    """The znodes of `app`. Raises `ZooKeeperError` where it can't be an application's."""
    try:
        return AppPaths(options["app"])
    except InvalidRecord as exc:
        raise ZooKeeperError(str(exc)) from exc


def held_after(client: Any, results: Sequence[Mapping[str, Any]]) -> list[Holding]:
    """What znodes hold after `znodes.converge` has given these results. Raises `ZooKeeperError`."""
    found = []
    for result in results:
        if "stat" in result:
            found.append(Holding(result["path"], "value", result["stat"]["mzxid"]))
        elif "zxid" in result:
            found.append(Holding(result["path"], "nothing", result["zxid"]))
        else:
            found += _held_by_none(client, result["path"])
    return found


def held_now(client: Any, paths: Sequence[str]) -> list[Holding]:
    """What the znodes and all below them hold; asks the leader, so that the last write is seen. `ZooKeeperError`."""
    with translated(None):
        client.sync("/")
    found: list[Holding] = []

    def list_level(level: list[str]) -> Iterator[list[str]]:
        for path, answer in zip(level, list_many(client, level)):
            listing = checked(answer)
            if listing is not None:
                found.append(Holding(path, "value", listing.stat.mzxid))
                found.append(Holding(path, "children", listing.stat.pzxid))
            elif path in paths:
                found.extend(_held_by_none(client, path))
            yield listing.names if listing else []

    collections.deque(walk(paths, list_level), maxlen=0)
    return found


def _held_by_none(client: Any, path: str) -> Iterator[Holding]:
    """Of a znode that is not there: nothing since nobody knows when, and what is above it not since later than this."""
    yield Holding(path, "nothing", 0)
    for above in reversed(ancestors(path)):
        with translated(above):
            stat = client.exists(above)
        if stat is not None:
            yield Holding(above, "children", stat.pzxid)
            return


def named(paths: Sequence[str]) -> str:
    """Some znodes, for the beginning of a message."""
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
