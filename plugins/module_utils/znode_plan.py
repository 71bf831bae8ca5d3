# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operations that bring znodes to their desired state.

Pure: a plan knows only what was read, and finds out what ZooKeeper would refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.access import acl_bytes
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import ancestors, parent
from ansible_collections.zoo.deploy.plugins.module_utils.znode_options import DesiredZnode
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import AclEntry


class CurrentZnode(NamedTuple):
    """A znode as it was read, or as the plan leaves it. `data` is None if it was not, or may not be, read.

    `aversion` is that of `acl`, if it was read. `stat` is None for a new znode, and if ZooKeeper (3.9 and later) hides
    it for lack of read permission; then the number of children is unknown.
    """

    data: bytes | None = None
    stat: Any = None
    acl: tuple[Any, ...] | None = None
    children: int = 0
    aversion: int = -1


class Tree:
    """The znodes that were read, None for missing ones; and the descendants of those to be deleted.

    A plan changes it as its steps will change the ensemble.
    """

    def __init__(self, nodes: dict[str, CurrentZnode | None]) -> None:
        self.nodes = nodes
        self.descendants: dict[str, list[str]] = {}

    def holds(self, path: str) -> bool:
        """Whether the znode exists, as far as is known."""
        return self.nodes.get(path, CurrentZnode()) is not None

    def put(self, path: str, znode: CurrentZnode) -> None:
        """Note that the znode exists now."""
        if not self.holds(path):
            self._count(parent(path), 1)
        self.nodes[path] = znode

    def remove(self, path: str) -> None:
        """Note that the znode is deleted now."""
        self._count(parent(path), -1)
        self.nodes[path] = None

    def _count(self, path: str, change: int) -> None:
        above = self.nodes.get(path)
        if above is not None:
            self.nodes[path] = above._replace(children=above.children + change)


class Step(NamedTuple):
    """One operation of a transaction: `create`, `set`, `check` or `delete`. `unseen` marks a znode without a stat."""

    verb: str
    path: str
    data: bytes = b""
    version: int = -1
    acl: tuple[Any, ...] | None = None
    sequence: bool = False
    unseen: bool = False

    @property
    def size(self) -> int:
        """Its bytes in a request, possibly slightly more."""
        return 100 + len(self.path.encode()) + len(self.data) + acl_bytes(self.acl or ())


class ZnodePlan(NamedTuple):
    """The steps for one desired znode, its state before and after. `place` is its index among all desired ones.

    `thinning` are steps that may be committed before the others if one packet can't hold all; `acl` is a change that
    no transaction can hold.
    """

    place: int
    wanted: DesiredZnode
    before: CurrentZnode | None
    after: CurrentZnode | None
    steps: tuple[Step, ...] = ()
    thinning: tuple[Step, ...] = ()
    acl: tuple[AclEntry, ...] | None = None

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.steps or self.acl)

    @property
    def written(self) -> bool:
        """Whether a transaction changes the znode, rather than only checking its version."""
        return any(step.verb != "check" for step in self.steps)


def plan(wanted: Sequence[DesiredZnode], tree: Tree) -> list[ZnodePlan]:
    """The plans for each of `wanted`, in the order of their turns. Changes `tree`. Raises `ZooKeeperError`."""
    in_turn = sorted(enumerate(wanted), key=lambda entry: entry[1].turn)
    return [_plan_one(place, one, tree) for place, one in in_turn]


def with_acls(planned: ZnodePlan, acl_of: Callable[[str], tuple[Any, ...] | None]) -> ZnodePlan:
    """The plan, with the ACL from `acl_of` for whatever is created without one."""
    return planned._replace(
        steps=tuple(
            step._replace(acl=acl_of(step.path)) if step.verb == "create" and step.acl is None else step
            for step in planned.steps
        )
    )


def _plan_one(place: int, one: DesiredZnode, tree: Tree) -> ZnodePlan:
    before = None if one.sequence else tree.nodes[one.path]
    if before is None:
        return _plan_new(place, one, tree) if one.present else ZnodePlan(place, one, None, None)
    if one.present:
        return _plan_change(place, one, before, tree)
    return _plan_absent(place, one, before, tree)


def _plan_new(place: int, one: DesiredZnode, tree: Tree) -> ZnodePlan:
    if one.version is not None:
        raise _refused(
            one, f"no such znode (NoNode), so none with version {one.version}; leave version out to create it"
        )
    missing = [path for path in ancestors(one.path) if not tree.holds(path)]
    if missing and not one.parents:
        raise _refused(one, f"there is no {_named(missing[-1])} to be its parent (NoNode), and parents is false")
    above = parent((*missing, one.path)[0])
    if _is_ephemeral(tree.nodes.get(above)):
        raise _refused(one, f"an ephemeral znode can't have children (NoChildrenForEphemerals), and {above} is one")
    after = CurrentZnode(_value_over(one, b""), acl=one.acl)
    for path in missing:
        tree.put(path, CurrentZnode(b""))
    if not one.sequence:  # the server chooses the name of a sequential one
        tree.put(one.path, after)
    steps = [Step("create", path, acl=one.acl) for path in missing]
    made = Step("create", one.path, data=after.data or b"", acl=one.acl, sequence=one.sequence)
    return ZnodePlan(place, one, None, after, (*steps, made))


def _is_ephemeral(znode: CurrentZnode | None) -> bool:
    return bool(znode and znode.stat and znode.stat.ephemeralOwner)


def _value_over(one: DesiredZnode, data: bytes) -> bytes:
    """The new value of a znode that holds `data`. Raises `ZooKeeperError` if the two can't be merged."""
    try:
        return one.value.over(data) if one.value else data
    except ZooKeeperError as exc:
        raise _refused(one, str(exc)) from exc


def _named(path: str) -> str:
    return "chroot" if path == "/" else path


def _plan_change(place: int, one: DesiredZnode, before: CurrentZnode, tree: Tree) -> ZnodePlan:
    data = _value_over(one, before.data or b"")
    new_value = one.value is not None and data != (before.data or b"")
    new_acl = one.acl is not None and not one.has_acl(before.acl or ())
    if not new_value and not new_acl:
        return ZnodePlan(place, one, before, before)
    _check_version(one, before)
    after = before._replace(acl=one.acl or before.acl)
    step = None if one.version is None else Step("check", one.path, version=one.version)
    if new_value:
        after = after._replace(data=data)
        step = Step("set", one.path, data=data, version=_version(before))
    tree.put(one.path, after)
    return ZnodePlan(place, one, before, after, (step,) if step else (), acl=one.acl if new_acl else None)


def _plan_absent(place: int, one: DesiredZnode, before: CurrentZnode, tree: Tree) -> ZnodePlan:
    _check_version(one, before)
    if before.children and not one.recursive:
        some = "a child" if before.children == 1 else f"{before.children} children"
        raise _refused(one, f"the znode has {some} (NotEmpty); set recursive to delete everything below it too")
    below = [path for path in tree.descendants.get(one.path, []) if tree.holds(path)]
    # What is above another desired znode was read into the tree, and has to wait until that one is deleted.
    thinning = tuple(Step("delete", path) for path in below if path not in tree.nodes)
    steps = [Step("delete", path) for path in below if path in tree.nodes]
    for path in (*below, one.path):
        tree.remove(path)
    last = Step("delete", one.path, version=_version(before), unseen=before.stat is None)
    return ZnodePlan(place, one, before, None, (*steps, last), thinning=thinning)


def _version(before: CurrentZnode) -> int:
    """The version that was read: somebody else's change since then must not be overwritten."""
    return -1 if before.stat is None else int(before.stat.version)


def _check_version(one: DesiredZnode, before: CurrentZnode) -> None:
    if one.version is not None and before.stat is None:
        raise _refused(one, "permission denied (NoAuth) to see its version; leave version out")
    if one.version not in {None, before.stat and before.stat.version}:
        raise _refused(
            one,
            f"has version {before.stat.version}, expected {one.version} (BadVersion); read it again and decide anew",
        )


def _refused(one: DesiredZnode, why: str) -> ZooKeeperError:
    return ZooKeeperError(f"{one.path}: {why}", path=one.path)
