# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Znodes as a playbook describes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import InvalidRecord, ancestors, check_path
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import (
    AclEntry,
    AclId,
    MergePatch,
    Value,
    normalized,
    own_ids,
    read_acl,
    read_merge,
    read_value,
)

INHERITED = ("state", "encoding", "merge", "recursive", "parents", "sequence", "acl")
"""The task's options that an entry of `znodes` takes over if it does not set them itself."""


class DesiredZnode(NamedTuple):
    """A znode's desired state. `value`, `version` and `acl` are None if the playbook does not set them.

    A `secret` value is in no result and no diff, nor is the one that it replaces. `own` are the `own_ids` of the
    connection.
    """

    path: str
    present: bool = True
    value: Value | MergePatch | None = None
    secret: bool = False
    recursive: bool = False
    parents: bool = True
    version: int | None = None
    acl: tuple[AclEntry, ...] | None = None
    own: frozenset[AclId] = frozenset()
    sequence: bool = False

    @classmethod
    def from_options(cls, given: Mapping[str, Any], connection: Mapping[str, Any]) -> DesiredZnode:
        """From the options of one znode. Raises a `ZooKeeperError` that names the path."""
        path = _checked(given["path"])
        if given["src"] is not None:
            raise ZooKeeperError(
                f"{path}: src is read by the action plugin of this module, which was not run", path=path
            )
        secret = given["secret_value"] is not None
        value = _text(given["secret_value"], path) if secret else given["value"]
        wanted = cls(
            path=path,
            present=given["state"] == "present",
            value=(read_merge if given["merge"] else read_value)(value, given["encoding"], path),
            secret=secret,
            recursive=bool(given["recursive"]),
            parents=bool(given["parents"]),
            version=given["version"],
            acl=None if given["acl"] is None else read_acl(given["acl"], connection, path),
            own=frozenset() if given["acl"] is None else own_ids(connection),
            sequence=bool(given["sequence"]),
        )
        wanted.check()
        return wanted

    def check(self) -> None:
        """Raise a `ZooKeeperError` if the options contradict each other."""
        why = None
        if not self.present and (self.value or self.acl or self.sequence):
            why = "value, acl and sequence go with state present only"
        elif not self.present and self.path == "/":
            why = "the root can't be deleted"
        elif self.sequence and isinstance(self.value, MergePatch):
            why = "sequence makes a new znode, so there is nothing to merge into; leave one of them out"
        elif self.sequence and self.version is not None:
            why = "sequence makes a new znode, so there is no version to compare; leave one of them out"
        elif self.version is not None and self.version < 0:
            why = f"version: expected 0 or more, got {self.version}"
        if why:
            raise ZooKeeperError(f"{self.path}: {why}", path=self.path)

    def has_acl(self, acl: Iterable[Any]) -> bool:
        """Whether an ACL that was read is the desired one."""
        return set(normalized(self.acl or (), self.own)) == set(normalized(acl, self.own))

    @property
    def turn(self) -> tuple[bool, int]:
        """The order in a transaction: deletions first, bottom up; then creations, top down."""
        depth = len(ancestors(self.path))
        return (self.present, depth if self.present else -depth)


def desired_znodes(options: Mapping[str, Any]) -> list[DesiredZnode]:
    """The znodes that a task's options describe, one or a list. Raises `ZooKeeperError`."""
    if options["znodes"] is None:
        return [DesiredZnode.from_options(options, options)]
    wanted = [DesiredZnode.from_options(_completed(given, options), options) for given in options["znodes"]]
    _check_together(wanted)
    return wanted


def _completed(given: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: task[name] if given[name] is None else given[name] for name in INHERITED}
    if chosen["state"] == "absent":
        chosen.update(acl=given["acl"], sequence=given["sequence"])
    if given["value"] is None and given["secret_value"] is None:
        chosen.update(merge=given["merge"])
    return {**given, **chosen}


def _check_together(wanted: Sequence[DesiredZnode]) -> None:
    if not wanted:
        raise ZooKeeperError("znodes: expected at least one entry")
    absent = {one.path for one in wanted if not one.present}
    seen: set[str] = set()
    for one in wanted:
        if one.path in seen and not one.sequence:
            raise ZooKeeperError(f"znodes: {one.path} is named twice", path=one.path)
        if not one.sequence:
            seen.add(one.path)
        gone = absent.intersection(ancestors(one.path))
        if one.present and gone:
            raise ZooKeeperError(f"znodes: {one.path} can't be present, because {min(gone)} is to be absent")


def _text(secret: Any, path: str) -> Any:
    """The secret, unless it is a collection: Ansible would hide every string in that, wherever it occurs."""
    if isinstance(secret, (Mapping, list)):
        how = "use the filter to_json, or b64encode and encoding base64"
        raise ZooKeeperError(f"{path}: secret_value: expected text, got a {type(secret).__name__}; {how}", path=path)
    return secret


def _checked(path: str) -> str:
    try:
        return check_path(path)
    except InvalidRecord as exc:
        raise ZooKeeperError(str(exc)) from exc
