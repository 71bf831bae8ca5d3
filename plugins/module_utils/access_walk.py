# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closes the znodes of an application to everybody except its roles, or opens them, while all clients keep working.

The order is that of Kafka's migration: clients that create znodes are told first, by the access record, then existing
znodes are walked and set until nothing differs. To open it, the record says so first, and is deleted at the end.
It may be interrupted at any point: the next run continues.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from .access import (
    ALL,
    DELETE,
    OPEN,
    READ,
    SECURED,
    AccessRecord,
    Acl,
    Grant,
    Principal,
    is_replaceable,
    may_be_of_roles,
    merged,
    perms_of_anybody,
)
from .connection import KAZOO_IMPORT_ERROR, Overtaken, ZooKeeperError, translated
from .identity import identities
from .records import OWN, AgentStatus, AppPaths, InvalidRecord
from .znode_names import ancestors, child
from .znode_values import own_ids
from .zookeeper import READ_TIMEOUT

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import (
        BadVersionError,
        InvalidACLError,
        KazooException,
        NoAuthError,
        NodeExistsError,
        NoNodeError,
    )
    from kazoo.protocol.states import ZnodeStat

AT_ONCE = 500
"""How many znodes are requested at once."""
MOST_COMPARED = 4_000_000
"""How many comparisons of ACL entries one batch may cost a server: it compares each entry with each other one, and
answers no heartbeat until it has."""
PAUSE = 0.25
"""Seconds between two looks at what agents have read."""
PASSES = 10
"""How often the tree is walked: a client that has not seen the record may create something behind the walk."""


SINCE = (0, 2)
"""The first version whose agents respect the roles."""


MARKS = ("agents", "roster", "history")
"""Children that an application in use has: the first, and at least one other."""


class Seen(NamedTuple):
    """A znode as it was found: its ACL, the version of that, and the session that owns it, 0 for none."""

    path: str
    acl: Acl
    aversion: int
    owner: int


class AclChange(NamedTuple):
    """A znode whose ACL is to be changed, and the new one."""

    seen: Seen
    acl: Acl


class Look(NamedTuple):
    """What a walk has found or changed.

    `refused` are the znodes that publishers may not read or not change: their creators keep them to themselves.
    `others` are applications below this one, which are left as they are.
    """

    changes: list[AclChange]
    refused: list[str]
    others: list[str]


class Recorded(NamedTuple):
    """The access record as it was found, None if there is none that counts; its version, -1 for none.

    It `is_doubtful` if others than publishers may have written it, in an application that was closed by hand.
    """

    access: AccessRecord | None
    version: int = -1
    is_doubtful: bool = False


def directories(app: AppPaths, access: AccessRecord) -> list[str]:
    """The directories that exist from the start, so that nobody else creates them: parents first."""
    own = [app.root, app.agents, app.roster, app.history, app.rollouts, app.bad_commits]
    return [path for root in (*own, *access.registries, *access.values) for path in [*ancestors(root)[1:], root]]


def trees(app: AppPaths, access: AccessRecord) -> list[str]:
    """The roots of what belongs to an application, none of them below another."""
    roots = sorted({app.root, *access.registries, *access.values})
    return [root for root in roots if not any(root.startswith(f"{other}/") for other in roots)]


def read_access(client: KazooClient, app: AppPaths) -> Recorded:
    """The access record. Raises `ZooKeeperError`.

    One that others than publishers may write or replace does not count: it was left there while the application was
    open, or closed by hand, or it was never closed completely.
    """
    with translated(app.access):
        client.sync(app.root)
        try:
            data, stat = client.get(app.access)
            own, root = (client.get_acls(path)[0] for path in (app.access, app.root))
            if not may_be_of_roles(own) or not may_be_of_roles(root):
                return Recorded(None, stat.version, is_doubtful=not is_replaceable(root))
        except NoNodeError:
            return Recorded(None)
    try:
        return Recorded(AccessRecord.from_node(data), stat.version)
    except InvalidRecord as exc:
        raise ZooKeeperError(f"{app.access}: {exc}; delete it, then run this again", path=app.access) from exc


def check_is_publisher(client: KazooClient, access: AccessRecord, options: Mapping[str, Any]) -> None:
    """Raise `ZooKeeperError` if this connection could not undo the securing. `options` are the connection's."""
    own, hashed = identities(client), {Principal(*who) for who in own_ids(options)}
    # The server does not tell hashes: the user of a publisher may have another password.
    exact = [who for who in access.publishers if not hashed or who.scheme != "digest" or who in hashed]
    known, named = ({f"{who.scheme} {user_of(who)}" for who in some} for some in (exact, access.publishers))
    if own and not known.intersection(own) and not any(who.startswith("super") for who in own):
        raise ZooKeeperError(
            f"publishers: none of them is this connection, which to the server is {', '.join(own)}"
            f"{', with another password' if named.intersection(own) else ''}: it could change nothing "
            "afterwards; connect as a publisher"
        )


def prove_roles(client: KazooClient, app: AppPaths, access: AccessRecord) -> None:
    """Have the server prove that it accepts this connection as a publisher, and all identities, before closing.

    An id may be in a form that never matches, such as the hash of another algorithm. Raises `ZooKeeperError`.
    """
    publishers = [Grant(ALL, who) for who in access.publishers]
    others = [Grant(READ, who) for who in (*access.all_agents, *access.readers)]
    schemes = sorted({entry.id.scheme for entry in others})
    with translated(app.root):
        above = [app.root, *reversed(ancestors(app.root))]
        parent = next((path for path in above if client.exists(path)), "/")
        probe = child(parent, f"access-{uuid.uuid4().hex}")
        transaction = client.transaction()
        transaction.create(probe, acl=publishers)
        transaction.set_data(probe, b"")
        transaction.delete(probe)
        for scheme in schemes:
            transaction.create(probe, acl=[*publishers, *(entry for entry in others if entry.id.scheme == scheme)])
            transaction.delete(probe)
        results = transaction.commit()
    # Any other refusal shows in the real operation.
    if isinstance(results[1], NoAuthError):
        raise ZooKeeperError(
            "publishers: the server takes this connection for none of them, so it could change nothing afterwards; "
            "where servers hash digest users by another algorithm than SHA-1, give user:hash",
            path=app.root,
        )
    of_publishers = " or ".join(sorted({who.scheme for who in access.publishers}))
    for tried, result in zip([of_publishers, *schemes], [results[0], *results[3::2]]):
        if isinstance(result, InvalidACLError):
            raise ZooKeeperError(
                f"{tried}: the servers take no identity of this scheme, or none as one is written here (InvalidACL); "
                "set them up for it, or name others; nothing is closed",
                path=app.root,
            )


def user_of(who: Principal) -> str:
    """An identity as the server tells it: without the hash."""
    return who.id.split(":", 1)[0] if who.scheme == "digest" else who.id


def find_changes(client: KazooClient, app: AppPaths, access: AccessRecord) -> Look:
    """The znodes whose ACLs differ from the wanted ones, parents first. Raises `ZooKeeperError`."""
    found: list[Seen] = []
    refused: list[str] = []
    for one in _walk(client, trees(app, access)):
        if isinstance(one, Seen):
            found.append(one)
        else:
            refused.append(one)
    others = applications_below(app, access, (one.path for one in found))
    named = [*access.registries, *access.values]

    def is_left(path: str) -> bool:
        return is_below_any(path, others) and not is_below_any(path, named)

    seen = [one for one in found if not is_left(one.path)]
    for one in seen:
        if one.owner and access.state == SECURED and not access.names_registry_of(app, one.path):
            raise ZooKeeperError(
                f"registries: {one.path} is a registration, and {one.path.rpartition('/')[0]} is not among them; name "
                "it, or nobody could register there any more",
                path=one.path,
            )
    names = {one.owner: last_name(one.path) for one in seen if one.owner and one.path.startswith(f"{app.agents}/")}
    kept = {app.access} if access.state == OPEN else set()  # its hashes are for nobody else, until the end

    def wanted(one: Seen) -> Acl:
        return access.acl(app, one.path, ephemeral=bool(one.owner), host=names.get(one.owner))

    changes = (AclChange(one, wanted(one)) for one in seen if one.path not in kept)
    differing = [change for change in changes if change.seen.acl != merged(change.acl)]
    return Look(differing, [path for path in refused if not is_left(path)], others)


def applications_below(app: AppPaths, access: AccessRecord, paths: Iterable[str]) -> list[str]:
    """The applications below this one, which has these `paths`; none where an agent could have faked one."""
    own = [*(f"{app.root}/{name}" for name in OWN), *access.registries, *access.values]
    names: dict[str, set[str]] = {}
    for path in paths:
        parent, _slash, name = path.rpartition("/")
        if name in MARKS and parent.startswith(f"{app.root}/") and not is_below_any(parent, own):
            names.setdefault(parent, set()).add(name)
    return sorted(parent for parent, marks in names.items() if "agents" in marks and len(marks) > 1)


def is_below_any(path: str, roots: Iterable[str]) -> bool:
    """Whether it is one of the roots, or below one."""
    return any(f"{path}/".startswith(f"{root}/") for root in roots)


def last_name(path: str) -> str:
    """The last name in a path."""
    return path.rpartition("/")[2]


def _walk(client: KazooClient, roots: Sequence[str]) -> Iterator[Seen | str]:
    """Every znode of these trees, parents first; only its path if its ACL or its children may not be read."""
    level = list(roots)
    while level:
        names: list[str] = []
        for start in range(0, len(level), AT_ONCE):
            paths = level[start : start + AT_ONCE]
            pending = [(path, client.get_acls_async(path), client.get_children_async(path)) for path in paths]
            for path, acl, children in pending:
                with translated(path), contextlib.suppress(NoNodeError):
                    try:
                        entries, stat = acl.get(timeout=READ_TIMEOUT)
                        yield Seen(path, merged(entries), stat.aversion, stat.ephemeralOwner)
                        names += [child(path, name) for name in children.get(timeout=READ_TIMEOUT)]
                    except NoAuthError:
                        yield path
        level = names


def write_record(client: KazooClient, app: AppPaths, access: AccessRecord, found: Recorded) -> ZnodeStat:
    """Tell all creators of znodes; the stat of the record that this has written. Raises `ZooKeeperError`."""
    acls = replace(access, state=SECURED) if access.publishers else access
    acl = acls.acl(app, app.access)
    _create(client, app, acls, [*ancestors(app.root)[1:], app.root])
    with translated(app.access):
        try:
            if found.version < 0:
                client.create(app.access, access.to_node(), acl=list(acl))
                version = 0
            else:
                # From then on nobody else can write it. A change by another publisher shows in the version; what
                # anybody could write until now says nothing.
                client.set_acls(app.access, list(acl))
                version = client.set(app.access, access.to_node(), found.version if found.access else -1).version
            # While the root is open, anybody may replace it.
            data, stat = client.get(app.access)
            if (data, stat.version) == (access.to_node(), version):
                recorded, stat = client.get_acls(app.access)
                if merged(recorded) == merged(acl) and stat.version == version:
                    return stat
        except (NodeExistsError, BadVersionError, NoNodeError) as exc:
            raise overtaken(app) from exc
    raise overtaken(app)


def overtaken(app: AppPaths) -> Overtaken:
    """The error if another run has recorded other roles, or the same ones again: it takes over."""
    return Overtaken(f"{app.access}: changed meanwhile, as by another run; run it again")


def close(client: KazooClient, app: AppPaths, access: AccessRecord, written: ZnodeStat) -> Look:
    """Close existing znodes; `written` is the stat of the record. Raises `ZooKeeperError`."""
    create_directories(client, app, access)
    done = settle(client, app, access)
    with translated(app.access):
        stat = client.exists(app.access)
        if stat is not None and stat.czxid == written.czxid:
            if stat.mzxid != written.mzxid:
                raise overtaken(app)
            return done
        # Somebody has replaced it while the root was open. By now nobody can.
        transaction = client.transaction()
        if stat is not None:
            transaction.delete(app.access)
        transaction.create(app.access, access.to_node(), acl=list(access.acl(app, app.access)))
        if any(isinstance(result, KazooException) for result in transaction.commit()):
            raise overtaken(app)
    again = settle(client, app, access)
    return again._replace(changes=[*done.changes, *again.changes])


def create_directories(client: KazooClient, app: AppPaths, access: AccessRecord) -> None:
    """Create the directories that exist from the start. Raises `ZooKeeperError`."""
    _create(client, app, access, directories(app, access))


def _create(client: KazooClient, app: AppPaths, access: AccessRecord, paths: Sequence[str]) -> None:
    for path in paths:
        with translated(path), contextlib.suppress(NodeExistsError):
            if client.exists(path) is None:
                client.create(path, acl=list(access.acl(app, path)))


def take_back(client: KazooClient, app: AppPaths, before: AccessRecord | None, written: ZnodeStat) -> None:
    """Restore the former record, unless another run has recorded its own since. Raises `ZooKeeperError`."""
    with contextlib.suppress(Overtaken):
        check_is_recorded(client, app, written)
        if before is None:
            delete_record(client, app, written)
            return
        with translated(app.access), contextlib.suppress(NoNodeError, BadVersionError):
            client.set(app.access, before.to_node(), written.version)
            acl = replace(before, state=SECURED).acl(app, app.access)
            client.set_acls(app.access, list(acl), written.aversion)


def check_is_recorded(client: KazooClient, app: AppPaths, written: ZnodeStat) -> None:
    """Raise `Overtaken` if the record is no longer the one that this run has written."""
    with translated(app.access):
        stat = client.exists(app.access)
    if stat is None or stat.mzxid != written.mzxid:
        raise overtaken(app)


def await_agents(client: KazooClient, app: AppPaths, written: ZnodeStat, patience: float) -> list[str]:
    """Wait until each live agent has read the record; the agents that have not in time. Raises `ZooKeeperError`.

    This proves that they have the credentials of a role: nobody else may read it.
    """
    deadline = time.monotonic() + patience
    while True:
        check_is_recorded(client, app, written)
        late = [name for name, record in accesses(client, app).items() if record != written.mzxid]
        if not late or time.monotonic() >= deadline:
            return late
        time.sleep(PAUSE)


def accesses(client: KazooClient, app: AppPaths) -> dict[str, int | None]:
    """The access record that each live agent has read, as in its status. Raises `ZooKeeperError`."""
    return {name: status.access if status else None for name, status in _statuses(client, app).items()}


def _statuses(client: KazooClient, app: AppPaths) -> dict[str, AgentStatus | None]:
    """The statuses of the live agents, None for an invalid one. Raises `ZooKeeperError`."""
    found: dict[str, AgentStatus | None] = {}
    with translated(app.agents), contextlib.suppress(NoNodeError):
        names = sorted(client.get_children(app.agents))
        for start in range(0, len(names), AT_ONCE):
            pending = [(name, client.get_async(app.agent(name))) for name in names[start : start + AT_ONCE]]
            for name, request in pending:
                with contextlib.suppress(NoNodeError):
                    try:
                        found[name] = AgentStatus.from_node(request.get(timeout=READ_TIMEOUT)[0])
                    except InvalidRecord:
                        found[name] = None
                    except NoAuthError:
                        # A persistent znode that its creator keeps to itself is not an agent's.
                        stat = client.exists(app.agent(name))
                        if stat is not None and stat.ephemeralOwner:
                            found[name] = None
    return found


def set_acls(client: KazooClient, changes: Sequence[AclChange]) -> set[str]:
    """Set them in this order; the znodes that refuse. Those changed or deleted meanwhile are left to the next walk."""
    longest = max([1, *(len(one.acl) for one in changes)])
    at_once = max(1, min(AT_ONCE, MOST_COMPARED // longest**2))
    refused = set()
    for start in range(0, len(changes), at_once):
        chunk = changes[start : start + at_once]
        pending = [client.set_acls_async(one.seen.path, list(one.acl), one.seen.aversion) for one in chunk]
        for change, request in zip(chunk, pending):
            with translated(change.seen.path), contextlib.suppress(NoNodeError, BadVersionError):
                try:
                    request.get(timeout=READ_TIMEOUT)
                except NoAuthError:
                    refused.add(change.seen.path)
    return refused


def settle(client: KazooClient, app: AppPaths, access: AccessRecord) -> Look:
    """Walk and set until nothing differs except what may not be changed. Raises `ZooKeeperError`."""
    done: list[AclChange] = []
    refused: set[str] = set()
    for _number in range(PASSES):
        look = find_changes(client, app, access)
        changes = [change for change in look.changes if change.seen.path not in refused]
        if not changes:
            return look._replace(changes=done, refused=sorted(refused.union(look.refused)))
        if access.state == OPEN:
            # From below, and the application's own znode last: until that is open, the record tells what belongs to it.
            changes.reverse()
            changes.sort(key=lambda change: change.seen.path == app.root)
        refused |= set_acls(client, changes)
        done += [change for change in changes if change.seen.path not in refused]
    raise ZooKeeperError(
        f"{changes[0].seen.path}: {len(changes)} znodes still have another ACL after {PASSES} walks, as where agents "
        "or publishers of an older version go on; what is done stays; upgrade them, and run it again"
    )


def open_above(client: KazooClient, app: AppPaths, access: AccessRecord) -> list[str]:
    """The znodes above its trees in which anybody may delete: an empty tree could be replaced by somebody else's.

    The application's own znode is never empty. Raises `ZooKeeperError`.
    """
    places = [path for path in trees(app, access) if path != app.root]
    found = []
    for path in sorted({path.rpartition("/")[0] for path in places} - {""}):
        with translated(path), contextlib.suppress(NoNodeError, NoAuthError):
            if perms_of_anybody(client.get_acls(path)[0]) & DELETE:
                found.append(path)
    return found


def older_agents(client: KazooClient, app: AppPaths) -> list[str]:
    """The live agents of versions without roles: what they create is open, and they deploy what that says.

    Raises `ZooKeeperError`.
    """
    statuses = _statuses(client, app)
    return [name for name, status in statuses.items() if status and not knows_roles(status.version)]


def knows_roles(version: object) -> bool:
    """Whether an agent of a version respects the roles."""
    numbers = re.match(r"([0-9]+)\.([0-9]+)", str(version))
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= SINCE


def delete_record(client: KazooClient, app: AppPaths, written: ZnodeStat) -> None:
    """Delete the roles that this run has recorded. Raises `ZooKeeperError`, `Overtaken` if they are another run's."""
    with translated(app.access), contextlib.suppress(NoNodeError):
        try:
            client.delete(app.access, written.version)
        except BadVersionError as exc:
            raise overtaken(app) from exc
