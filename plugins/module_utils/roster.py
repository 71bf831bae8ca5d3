# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roster of an application: a person adds hosts to it, or removes them.

An agent creates its own entry; `fleet.py` tells which hosts of the roster are missing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .access import Rule, acl_bytes
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
"""How many hosts one transaction adds or removes, and their most bytes: a server takes 1 MB."""


class RosterChange(NamedTuple):
    """The hosts in the roster before and after the change, as sorted names."""

    before: Sequence[str]
    after: Sequence[str]

    @property
    def added(self) -> list[str]:
        """The hosts that are added."""
        return sorted(set(self.after).difference(self.before))

    @property
    def removed(self) -> list[str]:
        """The hosts that are removed."""
        return sorted(set(self.before).difference(self.after))


def plan_change(client: KazooClient, paths: AppPaths, names: Iterable[str], *, present: bool) -> RosterChange:
    """The change that adds these hosts to the roster, or removes them. Raises `ZooKeeperError`, e.g. if one is live."""
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


def entry_acl_bytes(rule: Rule) -> int:
    """The bytes of the ACL of an entry that is created by this rule."""
    return acl_bytes(rule.acl(rule.app.roster_entry("any"), ephemeral=False) or ())


def apply_change(client: KazooClient, paths: AppPaths, change: RosterChange, since: str, acl_size: int = 0) -> None:
    """Make the change: up to `MOST_AT_ONCE` hosts per transaction, all of them or none.

    `acl_size` is the length of the ACL that each new entry gets. Raises `Overtaken` if somebody else changed one of
    the entries. An error's detail `changed` tells whether some were added or removed before it.
    """
    if change.added:
        with translated(paths.roster):
            client.ensure_path(paths.roster)
    begun = False
    each = 200 + 4 * len(client.chroot + paths.roster) + (acl_size if change.added else 0)
    for names in _cut([*change.added, *change.removed], each):
        try:
            _apply(client, paths, names, set(change.added), since)
        except ZooKeeperError as exc:
            exc.details["changed"] = begun
            raise
        begun = True


def _cut(names: Sequence[str], each: int) -> Iterator[list[str]]:
    """The hosts of each transaction; each has `each` bytes in addition to its name."""
    batch: list[str] = []
    size = 0
    for name in names:
        # A character has at most 4 bytes in a path, and 12 in an entry.
        more = each + len(name.encode()) + len(json.dumps(name))
        if batch and (len(batch) == MOST_AT_ONCE or size + more > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += more
    if batch:
        yield batch


def _apply(client: KazooClient, paths: AppPaths, names: Sequence[str], added: Collection[str], since: str) -> None:
    """Add the hosts in `added` to the roster, and remove the others, in one transaction."""
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
