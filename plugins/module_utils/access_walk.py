# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closes the znodes of an application to all but its roles, or opens them, while everybody goes on working.

The order is that of Kafka's migration: who creates something is told first, by the record of access, then what is there
is walked and set, until nothing differs. To open it, the record says so first, and is deleted at the end.
It may be cut off anywhere: the next run goes on.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from .access import ALL, DELETE, OPEN, SECURED, AccessRecord, Acl, Grant, Principal, is_open, merged
from .connection import KAZOO_IMPORT_ERROR, Overtaken, ZooKeeperError, translated
from .identity import identities
from .records import AgentStatus, AppPaths, InvalidRecord
from .znode_names import ancestors, child
from .znode_values import own_ids
from .zookeeper import READ_TIMEOUT

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import BadVersionError, NoAuthError, NodeExistsError, NoNodeError

AT_ONCE = 500
"""How many znodes are asked for at once."""
PAUSE = 0.25
"""Seconds between two looks at what agents have read."""
PASSES = 10
"""How often the tree is walked: somebody may create something behind the walk who has not seen the record yet."""


SINCE = (0, 2)
"""The version whose agents keep to the roles, and later ones."""


class Seen(NamedTuple):
    """A znode as it was found: its ACL and the version of that, and the session that holds it, 0 for none."""

    path: str
    acl: Acl
    aversion: int
    owner: int


class AclChange(NamedTuple):
    """A znode whose ACL is to be another one."""

    seen: Seen
    acl: Acl


def directories(app: AppPaths, access: AccessRecord) -> list[str]:
    """What is there from the start, so that nobody else makes it: parents first."""
    own = [app.root, app.agents, app.roster, app.history, app.rollouts, app.bad_commits]
    return [path for root in (*own, *access.registries, *access.values) for path in [*ancestors(root)[1:], root]]


def trees(app: AppPaths, access: AccessRecord) -> list[str]:
    """The roots of what belongs to an application, none of them below another."""
    roots = sorted({app.root, *access.registries, *access.values})
    return [root for root in roots if not any(root.startswith(f"{other}/") for other in roots)]


def read_access(client: KazooClient, app: AppPaths) -> tuple[AccessRecord | None, int]:
    """The record of access, None where there is none, and its version. Raises `ZooKeeperError`.

    One that anybody may write says nothing: somebody has left it there while the application was open.
    """
    with translated(app.access):
        client.sync(app.root)
        try:
            data, stat = client.get(app.access)
            if is_open(client.get_acls(app.access)[0]):
                return None, stat.version
        except NoNodeError:
            return None, -1
    try:
        return AccessRecord.from_node(data), stat.version
    except InvalidRecord as exc:
        raise ZooKeeperError(f"{app.access}: {exc}; delete it, then run this again", path=app.access) from exc


def check_is_publisher(client: KazooClient, access: AccessRecord, options: Mapping[str, Any]) -> None:
    """Raise a `ZooKeeperError` where who secures an application could not undo that. `options` are the connection's."""
    own, hashed = identities(client), {Principal(*who) for who in own_ids(options)}
    # The server tells no hash: the user of a publisher may have another password.
    exact = [who for who in access.publishers if not hashed or who.scheme != "digest" or who in hashed]
    known = {f"{who.scheme} {user_of(who)}" for who in exact}
    if own and not known.intersection(own) and not any(who.startswith("super") for who in own):
        raise ZooKeeperError(
            f"publishers: none of them is this connection, which to the server is {', '.join(own)}"
            f"{', with another password' if len(exact) < len(access.publishers) else ''}: it could change nothing "
            "afterwards; connect as a publisher"
        )


def prove_publisher(client: KazooClient, app: AppPaths, access: AccessRecord) -> None:
    """Have the server show that it takes this connection for a publisher, before anything is closed.

    An id may be written in a way that never matches, as with the hash of another algorithm. Raises `ZooKeeperError`.
    """
    with translated(app.root):
        above = [app.root, *reversed(ancestors(app.root))]
        parent = next((path for path in above if client.exists(path)), "/")
        probe = child(parent, f"access-{uuid.uuid4().hex}")
        transaction = client.transaction()
        transaction.create(probe, acl=[Grant(ALL, who) for who in access.publishers])
        transaction.set_data(probe, b"")
        transaction.delete(probe)
        results = transaction.commit()
    # What else it is refused for is told by what is really to be done.
    if isinstance(results[1], NoAuthError):
        raise ZooKeeperError(
            "publishers: the server takes this connection for none of them, so it could change nothing afterwards; "
            "where servers hash digest users by another algorithm than SHA-1, give user:hash",
            path=app.root,
        )


def user_of(who: Principal) -> str:
    """An identity as the server tells it: without the hash."""
    return who.id.split(":", 1)[0] if who.scheme == "digest" else who.id


def find_changes(client: KazooClient, app: AppPaths, access: AccessRecord) -> list[AclChange]:
    """Whose ACL is not as it is to be, parents first. Raises `ZooKeeperError`."""
    seen = list(_walk(client, trees(app, access)))
    for one in seen:
        if one.owner and access.state == SECURED and not access.names_registry_of(app, one.path):
            raise ZooKeeperError(
                f"registries: {one.path} is a registration, and {one.path.rpartition('/')[0]} is not among them; name "
                "it, or nobody could register there any more",
                path=one.path,
            )
    names = {one.owner: last_name(one.path) for one in seen if one.owner and one.path.startswith(f"{app.agents}/")}
    kept = {app.access} if access.state == OPEN else set()  # its hashes are for nobody else, to the end

    def wanted(one: Seen) -> Acl:
        return access.acl(app, one.path, ephemeral=bool(one.owner), host=names.get(one.owner))

    changes = (AclChange(one, wanted(one)) for one in seen if one.path not in kept)
    return [change for change in changes if change.seen.acl != merged(change.acl)]


def last_name(path: str) -> str:
    """The last name in a path."""
    return path.rpartition("/")[2]


def _walk(client: KazooClient, roots: Sequence[str]) -> Iterator[Seen]:
    """Every znode of these trees, parents first."""
    level = list(roots)
    while level:
        names: list[str] = []
        for start in range(0, len(level), AT_ONCE):
            paths = level[start : start + AT_ONCE]
            pending = [(path, client.get_acls_async(path), client.get_children_async(path)) for path in paths]
            for path, acl, children in pending:
                with translated(path), contextlib.suppress(NoNodeError):
                    entries, stat = acl.get(timeout=READ_TIMEOUT)
                    names += [child(path, name) for name in children.get(timeout=READ_TIMEOUT)]
                    yield Seen(path, merged(entries), stat.aversion, stat.ephemeralOwner)
        level = names


def write_record(client: KazooClient, app: AppPaths, access: AccessRecord, version: int) -> None:
    """Tell whoever creates something. Raises `ZooKeeperError`."""
    acls = replace(access, state=SECURED) if access.publishers else access
    _create(client, app, acls, [*ancestors(app.root)[1:], app.root])
    with translated(app.access):
        try:
            if version < 0:
                client.create(app.access, access.to_node(), acl=list(acls.acl(app, app.access)))
            else:
                # From then on nobody else writes it, and what was written before is told by the version.
                client.set_acls(app.access, list(acls.acl(app, app.access)))
                client.set(app.access, access.to_node(), version)
        except (NodeExistsError, BadVersionError, NoNodeError) as exc:
            raise Overtaken(f"{app.access}: changed meanwhile; run it again") from exc


def create_directories(client: KazooClient, app: AppPaths, access: AccessRecord) -> None:
    """Make what is to be there from the start. Raises `ZooKeeperError`."""
    _create(client, app, access, directories(app, access))


def _create(client: KazooClient, app: AppPaths, access: AccessRecord, paths: Sequence[str]) -> None:
    for path in paths:
        with translated(path), contextlib.suppress(NodeExistsError):
            if client.exists(path) is None:
                client.create(path, acl=list(access.acl(app, path)))


def take_back(client: KazooClient, app: AppPaths, before: AccessRecord | None) -> None:
    """Record again what was recorded before. Raises `ZooKeeperError`."""
    if before is None:
        delete_record(client, app)
        return
    with translated(app.access):
        client.set(app.access, before.to_node())
        client.set_acls(app.access, list(replace(before, state=SECURED).acl(app, app.access)))


def await_agents(client: KazooClient, app: AppPaths, patience: float) -> list[str]:
    """Wait until each live agent has read the record; those that have not in time. Raises `ZooKeeperError`.

    So it is known that they have credentials, and those of a role: nobody else may read it.
    """
    with translated(app.access):
        stat = client.exists(app.access)
    deadline = time.monotonic() + patience
    while True:
        read = accesses(client, app)
        late = [name for name, record in read.items() if stat is None or record != stat.mzxid]
        if not late or time.monotonic() >= deadline:
            return late
        time.sleep(PAUSE)


def accesses(client: KazooClient, app: AppPaths) -> dict[str, int | None]:
    """Which record of access each live agent has read, as its status has it. Raises `ZooKeeperError`."""
    return {name: status.access if status else None for name, status in _statuses(client, app).items()}


def _statuses(client: KazooClient, app: AppPaths) -> dict[str, AgentStatus | None]:
    """The statuses of the live agents, None for one that is none. Raises `ZooKeeperError`."""
    found: dict[str, AgentStatus | None] = {}
    with translated(app.agents), contextlib.suppress(NoNodeError):
        names = sorted(client.get_children(app.agents))
        for start in range(0, len(names), AT_ONCE):
            pending = [(name, client.get_async(app.agent(name))) for name in names[start : start + AT_ONCE]]
            for name, request in pending:
                with contextlib.suppress(NoNodeError):
                    data = request.get(timeout=READ_TIMEOUT)[0]
                    try:
                        found[name] = AgentStatus.from_node(data)
                    except InvalidRecord:
                        found[name] = None
    return found


def set_acls(client: KazooClient, changes: Sequence[AclChange]) -> None:
    """Set them, in this order. What was changed or deleted meanwhile is left to the next walk."""
    for start in range(0, len(changes), AT_ONCE):
        chunk = changes[start : start + AT_ONCE]
        pending = [client.set_acls_async(one.seen.path, list(one.acl), one.seen.aversion) for one in chunk]
        for change, request in zip(chunk, pending):
            with translated(change.seen.path), contextlib.suppress(NoNodeError, BadVersionError):
                request.get(timeout=READ_TIMEOUT)


def settle(client: KazooClient, app: AppPaths, access: AccessRecord) -> list[AclChange]:
    """Walk and set until nothing differs; what was changed. Raises `ZooKeeperError`."""
    done: list[AclChange] = []
    for _number in range(PASSES):
        changes = find_changes(client, app, access)
        if not changes:
            return done
        # Closed from the top, opened from below: at no time is something open in what is closed.
        set_acls(client, changes if access.state == SECURED else changes[::-1])
        done += changes
    raise ZooKeeperError(
        f"{changes[0].seen.path}: {len(changes)} znodes still have another ACL after {PASSES} walks, as where agents "
        "or publishers of an older version go on; what is done stays; upgrade them, and run it again"
    )


def open_above(client: KazooClient, app: AppPaths, access: AccessRecord) -> list[str]:
    """Above which of its trees anybody may delete: one that is empty could be replaced by somebody's own.

    The application's own znode never is. Raises `ZooKeeperError`.
    """
    places = [path for path in trees(app, access) if path != app.root]
    found = []
    for path in sorted({path.rpartition("/")[0] for path in places} - {""}):
        with translated(path), contextlib.suppress(NoNodeError, NoAuthError):
            acl = client.get_acls(path)[0]
            if any(entry.id.scheme == "world" and entry.perms & DELETE for entry in acl):
                found.append(path)
    return found


def older_agents(client: KazooClient, app: AppPaths) -> list[str]:
    """The live agents of versions that know no roles: what they create is open, and they deploy what that says.

    Raises `ZooKeeperError`.
    """
    statuses = _statuses(client, app)
    return [name for name, status in statuses.items() if status and not knows_roles(status.version)]


def knows_roles(version: object) -> bool:
    """Whether an agent of a version keeps to the roles."""
    numbers = re.match(r"([0-9]+)\.([0-9]+)", str(version))
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= SINCE


def delete_record(client: KazooClient, app: AppPaths) -> None:
    """Forget the roles of an application that is open now."""
    with translated(app.access), contextlib.suppress(NoNodeError):
        client.delete(app.access)
