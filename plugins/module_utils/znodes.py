# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing znodes to their desired state: read, planned, committed.

Everything that matters is read in two pipelined rounds, and differences are committed in one transaction. If somebody
else's transaction was faster, everything is read and planned again.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.access import acl_bytes
from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    Overtaken,
    ZooKeeperError,
    explain,
    is_outage,
    translated,
)
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import ancestors, parent, walk
from ansible_collections.zoo.deploy.plugins.module_utils.znode_options import DesiredZnode
from ansible_collections.zoo.deploy.plugins.module_utils.znode_plan import (
    CurrentZnode,
    Step,
    Tree,
    ZnodePlan,
    plan,
    with_acls,
)
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import (
    acl_in_diff,
    stat_fields,
    value_fields,
    value_in_diff,
)
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import (
    Node,
    children,
    list_many,
    read_many,
)

try:
    from kazoo import exceptions as kazoo_errors
except ImportError:  # `connect` reports it before anything here needs it
    kazoo_errors = None

ATTEMPTS = 9
"""How often a transaction is tried that others keep overtaking."""
FIRST_PAUSE = 0.02
"""The most seconds before the second attempt, doubled before each further one; random, because of many writers."""
MAX_TRANSACTION_BYTES = 1_040_000
"""The most bytes of a request, slightly below ZooKeeper's jute.maxbuffer of 1,048,575 bytes."""
MOST_PATHS = 20
"""How many created parents or deleted descendants a diff names."""
MAX_THINNING = 1000
"""A subtree of more znodes is thinned out first, at most this many per transaction."""


def converge(
    client: Any,
    wanted: Sequence[DesiredZnode],
    *,
    check: bool,
    timeout: float,
    acl_of: Callable[[str], tuple[Any, ...] | None] = lambda _path: None,
) -> list[dict[str, Any]]:
    """Bring the znodes to their desired state, all or none; with `check`, only predict the results.

    What is created without an ACL gets the one from `acl_of` for its path; None is the server's open one.

    The result has an entry for each, in the order of `wanted`: `changed`, `path`, `diff`, for an existing znode
    `value`, `encoding` and `stat`, and for one that a transaction changed its `zxid`. `timeout` is in seconds, for one
    answer of the ensemble. Raises `ZooKeeperError`.
    """
    begun: list[ZnodePlan] = []
    for attempt in range(ATTEMPTS):
        time.sleep(random.uniform(0, FIRST_PAUSE * 2 ** (attempt - 1)) if attempt else 0)  # noqa: S311  # no secret
        planned: list[ZnodePlan] = []
        try:
            planned = [with_acls(one, acl_of) for one in plan(wanted, read(client, wanted, timeout))]
            idle = check or not any(one.changed for one in planned)
            if check:
                _batches(planned, client.chroot)  # refuses what no transaction holds
                _check_chroot(client, planned, timeout)
            results = predict_results(planned) if idle else commit(client, planned, timeout)
        except ZooKeeperError as exc:
            begun = begun or (planned if exc.details.get("changed") else [])
            if begun:
                exc.details["changed"] = True
            if not isinstance(exc, Overtaken):
                raise
            overtaken = exc
        else:
            return format_results(_continued(begun, planned), results)
    raise ZooKeeperError(f"{overtaken}; tried {ATTEMPTS} times, run again when it is quiet there", **overtaken.details)


def _check_chroot(client: Any, planned: Sequence[ZnodePlan], timeout: float) -> None:
    """Raise if the chroot is to be created but its parent is missing: only its last segment can be created."""
    above = parent(client.chroot) if client.chroot else "/"
    if above == "/" or not any(step.path == "/" and step.verb == "create" for one in planned for step in one.steps):
        return
    outside = copy.copy(client)
    outside.chroot = ""
    if _without_value(outside.exists_async(above), above, timeout) is None:
        raise _chroot_refusal(client)


def _continued(begun: Sequence[ZnodePlan], planned: Sequence[ZnodePlan]) -> Sequence[ZnodePlan]:
    """The plan, relative to the attempt that had begun to thin out a subtree."""
    return [then._replace(after=now.after) if then.thinning else now for then, now in zip(begun or planned, planned)]


def read(client: Any, wanted: Sequence[DesiredZnode], timeout: float) -> Tree:
    """The desired znodes, all above them, and all below those to be deleted. Raises `ZooKeeperError`."""
    named = {one.path: one for one in wanted if not one.sequence}
    above = {path for one in wanted for path in ancestors(one.path)} - set(named)
    client.sync_async("/")  # later reads are answered after it, so there is no need to wait
    # First and alone: a server that does not know this request ends the connection, and all other requests with it.
    nodes = dict(zip(named, read_many(client, list(named), timeout)))
    stats = {path: client.exists_async(path) for path in above}
    acls = {path: client.get_acls_async(path) for path, one in named.items() if one.acl is not None}
    tree = Tree({path: _without_value(request, path, timeout) for path, request in stats.items()})
    for path, one in named.items():
        current = _current(client, one, nodes[path], timeout)
        if current and path in acls:
            acl, aversion = _acl(acls[path], path, timeout)
            current = current._replace(acl=acl, aversion=aversion)
        tree.nodes[path] = current
        if current and one.recursive and not one.present:
            tree.descendants[path] = descendants(client, path, timeout)
    return tree


def _answer(request: Any, path: str, timeout: float) -> Any:
    with translated(path):
        return request.get(timeout=timeout)


def _without_value(request: Any, path: str, timeout: float) -> CurrentZnode | None:
    """The answer to `exists`. From ZooKeeper 3.9 on, a znode without read permission has no stat, but it does exist."""
    with translated(path):
        try:
            stat = request.get(timeout=timeout)
        except kazoo_errors.NoAuthError:
            return CurrentZnode()
    return None if stat is None else CurrentZnode(stat=stat, children=stat.numChildren)


def _current(client: Any, one: DesiredZnode, node: Node | ZooKeeperError | None, timeout: float) -> CurrentZnode | None:
    """A znode as read. That its value may not be read is only an error if it is to be set."""
    if isinstance(node, ZooKeeperError) and one.value is not None:
        raise node
    if isinstance(node, ZooKeeperError):
        return _without_value(client.exists_async(one.path), one.path, timeout)
    return None if node is None else CurrentZnode(node.data, node.stat, children=node.stat.numChildren)


def _acl(request: Any, path: str, timeout: float) -> tuple[tuple[Any, ...], int]:
    """An ACL and its version."""
    try:
        acl, stat = request.get(timeout=timeout)
    except kazoo_errors.NoNodeError:  # deleted since; the transaction will find out
        return (), -1
    except kazoo_errors.ZookeeperError as exc:
        raise ZooKeeperError(f"{path}: the ACL can't be read: {explain(exc)}", path=path) from exc
    return tuple(acl), stat.aversion


def descendants(client: Any, path: str, timeout: float) -> list[str]:
    """Every znode below `path`, children before their parents. Raises `ZooKeeperError`."""
    levels = walk([path], lambda level: map(children, list_many(client, level, timeout)))
    return [one for level in levels for one in level][::-1]


def commit(client: Any, planned: Sequence[ZnodePlan], timeout: float) -> list[dict[str, Any]]:
    """Carry out the plan; a result for each. Raises `Overtaken`, or a `ZooKeeperError` that another try won't fix.

    The error's detail `changed` tells whether a part had been done: some of a large subtree deleted, the values
    written, or some of the ACLs set.
    """
    begun = False
    try:
        *thinned, steps = _batches(planned, client.chroot)
        for batch in thinned:
            _commit_steps(client, batch, timeout)
            begun = True
        answers = _commit_steps(client, steps, timeout)
        zxid = client.last_zxid  # a transaction's answer carries its own; no other request is pending
        begun = begun or any(one.written for one in planned)
        for _path in _set_acls(client, planned, timeout):
            begun = True
    except ZooKeeperError as exc:
        exc.details["changed"] = begun
        raise
    own = iter(answers[len(answers) - sum(len(one.steps) for one in planned) :])
    results = _format_committed(client, planned, own, zxid, timeout)
    return [{**result, "zxid": zxid} if one.written else result for one, result in zip(planned, results)]


def _batches(planned: Sequence[ZnodePlan], chroot: str) -> list[list[Step]]:
    """The transactions: one if possible; otherwise several for the thinning, and then one for all the rest."""
    thinning = [step for one in planned for step in one.thinning]
    steps = [step for one in planned for step in one.steps]
    size = _size(steps, chroot)
    if len(thinning) <= MAX_THINNING and _size(thinning, chroot) + size <= MAX_TRANSACTION_BYTES:
        return [thinning + steps]
    if size > MAX_TRANSACTION_BYTES:
        acls = sum(acl_bytes(step.acl or ()) for step in steps)
        of_them = f", {acls} of them ACLs" if acls else ""
        what = f"znodes: {len(steps)} changes of {size} bytes together{of_them}"
        raise ZooKeeperError(f"{what}; one transaction holds {MAX_TRANSACTION_BYTES}, so use several tasks")
    return [*_cut(thinning, chroot), steps]


def _size(steps: Sequence[Step], chroot: str) -> int:
    """Bytes of the steps in a request, which has the chroot before each path."""
    return sum(step.size for step in steps) + len(steps) * len(chroot.encode())


def _cut(steps: Sequence[Step], chroot: str) -> Iterator[list[Step]]:
    batch: list[Step] = []
    size = 0
    for step in steps:
        more = _size([step], chroot)
        if len(batch) == MAX_THINNING or size + more > MAX_TRANSACTION_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(step)
        size += more
    yield batch


def _commit_steps(client: Any, steps: Sequence[Step], timeout: float) -> list[Any]:
    """One transaction; the answer to each step."""
    if not steps:
        return []
    request = client.transaction()
    for step in steps:
        _add(request, step)
    answers = _answer(request.commit_async(), steps[-1].path, timeout)
    for step, answer in zip(steps, answers):
        bystander = isinstance(answer, (kazoo_errors.RolledBackError, kazoo_errors.RuntimeInconsistency))
        if isinstance(answer, Exception) and not bystander:
            raise _refusal(client, step, answer) from answer
    return list(answers)


def _add(request: Any, step: Step) -> None:
    if step.verb == "create":
        request.create(step.path, step.data, acl=step.acl, sequence=step.sequence)
    elif step.verb == "set":
        request.set_data(step.path, step.data, step.version)
    elif step.verb == "check":
        request.check(step.path, step.version)
    else:
        request.delete(step.path, step.version)


def _chroot_refusal(client: Any) -> ZooKeeperError:
    return ZooKeeperError(
        f"hosts: the parent of the chroot {client.chroot} does not exist; create {parent(client.chroot)} first"
    )


def _refusal(client: Any, step: Step, exc: Exception) -> ZooKeeperError:
    if step.path == "/" and isinstance(exc, kazoo_errors.NoNodeError):
        return _chroot_refusal(client)
    if step.unseen and isinstance(exc, kazoo_errors.NotEmptyError):
        return ZooKeeperError(f"{step.path}: {explain(exc)}", path=step.path)
    passing = ("NodeExistsError", "NoNodeError", "NotEmptyError", "BadVersionError")
    if isinstance(exc, tuple(getattr(kazoo_errors, name) for name in passing)):
        return Overtaken(f"{step.path}: another client changed it first ({type(exc).__name__[:-5]})", path=step.path)
    return ZooKeeperError(f"{step.path}: {explain(exc)}", path=step.path)


def _set_acls(client: Any, planned: Sequence[ZnodePlan], timeout: float) -> Iterator[str]:
    """Set the ACLs that differ; yields the paths of those that are set. Raises the first refusal at the end.

    If one was overtaken, it is worth another look only if there is nothing else to do.
    """
    requests = [
        (one.wanted.path, client.set_acls_async(one.wanted.path, list(one.acl), one.before.aversion))
        for one in planned
        if one.acl and one.before
    ]
    alone = len(requests) == 1 and not any(one.written for one in planned)
    refused = []
    for path, request in requests:
        try:
            _answer(request, path, timeout)
        except ZooKeeperError as exc:
            refused.append((path, exc))
        else:
            yield path
    for path, why in refused:
        overtaken = isinstance(why.__cause__, (kazoo_errors.BadVersionError, kazoo_errors.NoNodeError))
        if alone and overtaken:
            raise Overtaken(
                f"{path}: another client changed it first ({type(why.__cause__).__name__[:-5]})", path=path
            ) from why
        raise ZooKeeperError(f"{why}{_acl_then(why)}", path=path) from why


def _acl_then(why: ZooKeeperError) -> str:
    """The ACL of a znode whose new one could not be set, for the end of a message; unknown after an outage."""
    if is_outage(why):
        return ""
    overtaken = isinstance(why.__cause__, kazoo_errors.BadVersionError)
    return "; another client has set its ACL" if overtaken else "; its ACL is as it was"


def _format_committed(
    client: Any, planned: Sequence[ZnodePlan], answers: Iterator[Any], zxid: int, timeout: float
) -> list[dict[str, Any]]:
    """A result for each. The value's part of its stat is the transaction's: another client may have written since."""
    moved = {parent(step.path) for one in planned for step in one.steps if step.verb in {"create", "delete"}}
    pending = []
    for one in planned:
        answer = [None, *(next(answers) for _step in one.steps)][-1]
        path = answer if isinstance(answer, str) and one.wanted.sequence else one.wanted.path
        fresh = one.after is not None and (one.before is None or one.acl is not None or path in moved)
        pending.append((one, path, answer, client.exists_async(path) if fresh else None))
    return [
        format_result(
            one, path, _stat_now(one, answer, _asked(request, path, timeout), zxid) if request else _stat(one, answer)
        )
        for one, path, answer, request in pending
    ]


def _asked(request: Any, path: str, timeout: float) -> Any:
    """A stat after the transaction; None if the connection is lost, since the transaction is done anyway."""
    try:
        current = _without_value(request, path, timeout)
    except ZooKeeperError as exc:
        if not is_outage(exc):
            raise
        return None
    return current and current.stat


def _stat_now(one: ZnodePlan, answer: Any, now: Any, zxid: int) -> Any:
    """The stat `now`, with the version and the transaction of the value that the task knows, not of a later one."""
    if now is None:
        return None
    if one.before is None:
        made = now._replace(version=0, mzxid=now.czxid, mtime=now.ctime, dataLength=len(one.steps[-1].data))
        return made if now.czxid == zxid else None
    own = _stat(one, answer)
    if own is None or own.czxid != now.czxid:
        return own
    return now._replace(version=own.version, mzxid=own.mzxid, mtime=own.mtime, dataLength=own.dataLength)


def _stat(one: ZnodePlan, answer: Any) -> Any:
    written = one.steps and one.steps[-1].verb == "set"
    return answer if written else one.before and one.before.stat


def format_results(planned: Sequence[ZnodePlan], results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results with `changed` and `diff`, in the order in which the znodes were given."""
    whole = [{"changed": one.changed, **result, "diff": diff(one)} for one, result in zip(planned, results)]
    places = [one.place for one in planned]
    return [whole[turn] for turn in sorted(range(len(whole)), key=places.__getitem__)]


def predict_results(planned: Sequence[ZnodePlan]) -> list[dict[str, Any]]:
    """The expected results, as far as they are known in advance."""
    return [format_result(one, one.wanted.path, one.before and one.before.stat) for one in planned]


def format_result(one: ZnodePlan, path: str, stat: Any) -> dict[str, Any]:
    """One result: `path`, and if the znode exists `value`, `encoding` and `stat`, as far as they are known."""
    result: dict[str, Any] = {"path": path}
    if one.after is not None and one.after.data is not None and not one.wanted.secret:
        result.update(value_fields(one.after.data))
    if one.after is not None and stat is not None:
        result["stat"] = stat_fields(stat)
    return result


def diff(one: ZnodePlan) -> dict[str, Any]:
    """`before` and `after` of one znode, as Ansible's diff mode shows them."""
    before, after = _side(one, one.before), _side(one, one.after)
    if one.after is None and one.changed:
        before.update(_list_paths("descendants", [step.path for step in (*one.thinning, *one.steps[:-1])]))
    if one.before is None and one.changed:
        after.update(_list_paths("parents", [step.path for step in one.steps[:-1]]))
    return {"before_header": one.wanted.path, "after_header": one.wanted.path, "before": before, "after": after}


def _list_paths(name: str, paths: Sequence[str]) -> dict[str, Any]:
    more = [f"and {len(paths) - MOST_PATHS} more"] if len(paths) > MOST_PATHS else []
    return {name: [*sorted(paths)[:MOST_PATHS], *more]} if paths else {}


def _side(one: ZnodePlan, znode: CurrentZnode | None) -> dict[str, Any]:
    if znode is None:
        return {"state": "absent"}
    acl = {"acl": acl_in_diff(znode.acl)} if one.wanted.acl and znode.acl is not None else {}
    return {"state": "present", **_value_in_diff(one, znode), **acl}


def _value_in_diff(one: ZnodePlan, znode: CurrentZnode) -> dict[str, Any]:
    """The value of one side. A deleted znode's value is left out: it may have been a secret."""
    if one.after is None:
        return {}
    if one.wanted.secret:
        changes = one.before is not None and znode is one.after and znode.data != one.before.data
        return {"value": "(secret, another one)" if changes else "(secret)"}
    as_json = one.wanted.value is not None and one.wanted.value.is_json
    return {"value": value_in_diff(znode.data, as_json)}
