# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roster of an application: hosts are taken into it, or out of it, by a person.

An agent makes its own entry; `fleet.py` tells who of the roster is missing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .connection import KAZOO_IMPORT_ERROR, Overtaken, ZooKeeperError, explain, translated
from .fleet import live_names, roster_names
from .fleet_outcome import listed
from .records import AppPaths, RosterEntry

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import (
        KazooException,
        NodeExistsError,
        NoNodeError,
        RolledBackError,
        RuntimeInconsistency,
    )

MOST_AT_ONCE = 500
MOST_BYTES = 900_000
"""How many hosts one transaction takes in or out, and how many bytes they may have: a server takes 1 MB."""


class RosterChange(NamedTuple):
    """Who was in the roster, and who is after the change, by name and sorted."""

    before: Sequence[str]
    after: Sequence[str]

    @property
    def added(self) -> list[str]:
        """Who comes into it."""
        return sorted(set(self.after).difference(self.before))

    @property
    def removed(self) -> list[str]:
        """Who leaves it."""
        return sorted(set(self.before).difference(self.after))


def plan_change(client: KazooClient, paths: AppPaths, names: Iterable[str], *, present: bool) -> RosterChange:
    """What it takes to have these hosts in the roster, or not. Raises `ZooKeeperError`, as where one is live."""
    before, wanted = roster_names(client, paths), set(names)
    if present:
        return RosterChange(before, sorted(wanted.union(before)))
    live = sorted(wanted.intersection(live_names(client, paths)))
    if live:
        verb = "is" if len(live) == 1 else "are"
        raise ZooKeeperError(
            f"{paths.roster}: {listed(live)} {verb} live, and would be in the roster again with the next session; stop "
            "the agent first"
        )
    return RosterChange(before, sorted(set(before) - wanted))


def apply_change(client: KazooClient, paths: AppPaths, change: RosterChange, since: str) -> None:
    """Make the change: up to `MOST_AT_ONCE` hosts in a transaction, all of them or none.

    Raises `Overtaken` where somebody else changed one of the entries. The detail `changed` of an error says whether
    some were taken in or out before.
    """
    if change.added:
        with translated(paths.roster):
            client.ensure_path(paths.roster)
    begun = False
    for names in _cut([*change.added, *change.removed], len(client.chroot + paths.roster)):
        try:
            _apply(client, paths, names, set(change.added), since)
        except ZooKeeperError as exc:
            exc.details["changed"] = begun
            raise
        begun = True


def _cut(names: Sequence[str], parent: int) -> Iterator[list[str]]:
    """The hosts of each transaction; below a path of so many characters."""
    batch: list[str] = []
    size = 0
    for name in names:
        # A character has at most 4 bytes in a path, and 12 in an entry.
        more = 200 + 4 * parent + len(name.encode()) + len(json.dumps(name))
        if batch and (len(batch) == MOST_AT_ONCE or size + more > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += more
    if batch:
        yield batch


def _apply(client: KazooClient, paths: AppPaths, names: Sequence[str], added: Collection[str], since: str) -> None:
    """Take those into the roster that are to be added, the others out of it, in one transaction."""
    with translated(paths.roster):
        transaction = client.transaction()
        for name in names:
            if name in added:
                transaction.create(paths.roster_entry(name), RosterEntry(name=name, since=since).to_node())
            else:
                transaction.delete(paths.roster_entry(name))
        results: list[Any] = transaction.commit()
    for name, result in zip(names, results):
        if isinstance(result, (NodeExistsError, NoNodeError)):
            raise Overtaken(f"{paths.roster_entry(name)}: changed meanwhile")
        if isinstance(result, KazooException) and not isinstance(result, (RolledBackError, RuntimeInconsistency)):
            raise ZooKeeperError(f"{paths.roster_entry(name)}: {explain(result)}", path=paths.roster_entry(name))
