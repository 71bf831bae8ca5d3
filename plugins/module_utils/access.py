# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what with an application's znodes: its access record, and the ACL of each znode that follows from it.

Standard library only: the agent and the git hook ship this same file. It recognises kazoo's requests by their fields.
"""

from __future__ import annotations

import json
import re
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .records import OWN, AppPaths, InvalidRecord, check_path, parse_object, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
CHANGE = READ | WRITE | CREATE | DELETE
"""All permissions except changing the ACL."""
ALL = CHANGE | ADMIN
SECURED, OPEN = "secured", "open"
"""The states of an application: its znodes are for its roles, or for everybody."""
ROLES = ("publishers", "agents", "readers")
PLACES = ("registries", "values")
MOST_BYTES = 64_000
"""The most bytes of a record's identities: each request that creates znodes repeats them for each znode."""
_ALL_ADDRESSES = re.compile(r"[^/]*/[+-]?0+")
"""An id of the scheme ip in which no bit counts."""
_CREATING = {1, 15}
"""The types of kazoo's requests that create one znode."""
_TRANSACTION = 14
_EPHEMERAL = 1
"""The flag of a request that creates an ephemeral."""


class Principal(namedtuple("Principal", ("scheme", "id"))):
    """An identity: the scheme, and the id in it, as in an ACL."""

    __slots__ = ()

    scheme: str
    id: str


class Grant(namedtuple("Grant", ("perms", "id"))):
    """An entry of an ACL: what one identity may do."""

    __slots__ = ()

    perms: int
    id: Principal


Acl = tuple[Grant, ...]
ANYBODY: Acl = (Grant(ALL, Principal("world", "anyone")),)
CREATOR: Acl = (Grant(ALL, Principal("auth", "")),)
"""Everything for the creator: the server replaces this by the identities of the connection."""
BESIDE = Grant(READ | CREATE, Principal("world", "anyone"))
"""What anybody may do above an application: create a znode next to it, but not delete or replace anything."""
READABLE = Grant(READ, Principal("world", "anyone"))
"""The permission of anybody who may only read."""


@dataclass(frozen=True)
class AccessRecord:
    """The roles of an application. `hosts` has the identities of single agents by name; the others share `agents`.

    `registries` and `values` are the trees elsewhere that belong to it: of registrations, and of what agents render.
    """

    publishers: tuple[Principal, ...] = ()
    agents: tuple[Principal, ...] = ()
    readers: tuple[Principal, ...] = ()
    hosts: Mapping[str, tuple[Principal, ...]] = field(default_factory=dict)
    registries: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    state: str = SECURED

    @classmethod
    def from_node(cls, data: bytes | None) -> AccessRecord:
        """The record in a znode's value. Raises `InvalidRecord`."""
        content = parse_object(data)
        hosts = content.get("hosts", {})
        if not isinstance(hosts, dict):
            raise InvalidRecord(f"hosts: expected an object, got {quote(hosts)}")
        fields: dict[str, Any] = {role: _identities(content.get(role, []), role) for role in ROLES}
        fields["hosts"] = {str(name): _identities(ids, f"hosts.{name}") for name, ids in hosts.items()}
        fields.update({name: _paths(content.get(name, []), name) for name in PLACES})
        access = cls(**fields, state=content.get("state", SECURED))
        access.check()
        return access

    def check(self) -> None:
        """Raise `InvalidRecord` for a record that would let nobody publish, or nobody deploy."""
        if self.state not in {SECURED, OPEN}:
            raise InvalidRecord(f"state: expected {SECURED} or {OPEN}, got {quote(self.state)}")
        if self.state == OPEN:
            return
        if not self.publishers:
            raise InvalidRecord("publishers: expected at least one identity; nobody could publish, or change this")
        if not self.all_agents:
            raise InvalidRecord("agents: expected at least one identity, there or in hosts; nobody could deploy")
        for who in (*self.publishers, *self.all_agents):
            if who.scheme == "world":
                raise InvalidRecord("publishers, agents: world is everybody; only readers may be that")
        if len(self.to_node()) > MOST_BYTES:
            raise InvalidRecord(
                f"{len(self.to_node())} bytes of identities, of which each ACL would have all; expected at most "
                f"{MOST_BYTES}: let hosts share one"
            )

    def check_places(self, app: AppPaths) -> None:
        """Raise `InvalidRecord` for a tree whose permissions would apply to the application's own znodes."""
        for name in PLACES:
            for path in getattr(self, name):
                if _is_within(path, "/zookeeper"):
                    raise InvalidRecord(f"{name}: {path} is ZooKeeper's own; name another")
                if _is_within(app.root, path) or any(_is_within(path, f"{app.root}/{own}") for own in OWN):
                    raise InvalidRecord(f"{name}: {path} is the application's own znode, or one above it; name another")
        for path in self.values:
            for registry in self.registries:
                if _is_within(path, registry):
                    raise InvalidRecord(
                        f"values: {path} is in the registry {registry}, where agents may delete; name another"
                    )

    @property
    def all_agents(self) -> tuple[Principal, ...]:
        """The identities of all agents."""
        return tuple(dict.fromkeys([*self.agents, *(who for ids in self.hosts.values() for who in ids)]))

    def to_node(self) -> bytes:
        """The value of the record's znode."""
        content: dict[str, Any] = {"state": self.state, **{role: _objects(getattr(self, role)) for role in ROLES}}
        content["hosts"] = {name: _objects(ids) for name, ids in sorted(self.hosts.items())}
        content.update({name: list(getattr(self, name)) for name in PLACES})
        return json.dumps({key: value for key, value in content.items() if value}).encode()

    def acl(self, app: AppPaths, path: str, *, ephemeral: bool = False, host: str | None = None) -> Acl:
        """The ACL of a znode of the application, of a registration (`ephemeral`), or of a znode above those.

        `host` is the name of the agent that an ephemeral belongs to.
        """
        if self.state == OPEN:
            return ANYBODY
        if self._is_above(app, path):
            return (*(Grant(ALL, who) for who in self.publishers), BESIDE)
        agents, readers = self._rights(app, path, ephemeral=ephemeral)
        perms = dict.fromkeys(self.readers if readers else (), READ)
        for who in self.all_agents:
            perms[who] = perms.get(who, 0) | agents
        is_entry = path.startswith(f"{app.roster}/")
        if ephemeral or is_entry:
            host = path.rpartition("/")[2] if is_entry else host
            for who in self.hosts.get(host or "") or self.agents:
                perms[who] = ALL
        perms.update(dict.fromkeys(self.publishers, ALL))
        return tuple(sorted(Grant(allowed, who) for who, allowed in perms.items() if allowed))

    def names_registry_of(self, app: AppPaths, registration: str) -> bool:
        """Whether an ephemeral is in the application or one of its registries: no agent may register elsewhere."""
        places = [*self.registries, *(f"{app.root}/{name}" for name in OWN)]
        return any(_is_within(registration, place) for place in places)

    def has_in_registry(self, path: str) -> bool:
        """Whether it is one of the registries, or in one."""
        return any(_is_within(path, registry) for registry in self.registries)

    def _is_above(self, app: AppPaths, path: str) -> bool:
        """Whether it is above something of the application, but not part of the application itself."""
        roots = (app.root, *self.registries, *self.values)
        return any(_is_within(root, path) for root in roots) and not any(_is_within(path, root) for root in roots)

    def _rights(self, app: AppPaths, path: str, *, ephemeral: bool) -> tuple[int, bool]:
        """The permissions of every agent on a znode, and whether readers may read it."""
        if not ephemeral and any(_is_within(path, f"{app.root}/{name}") for name in OWN):
            return _rights_of_place(app, path)
        if ephemeral or not self.has_in_registry(path):
            return READ, True
        # An agent deletes the registration of an unhealthy service.
        return READ | CREATE | DELETE, True


def _rights_of_place(app: AppPaths, path: str) -> tuple[int, bool]:
    """The same for a persistent znode in the application itself."""
    special = {
        # Permission to delete would allow deleting other agents' znodes.
        app.agents: (READ | CREATE, True),
        app.roster: (READ | CREATE, True),
        app.rollouts: (READ | CREATE | DELETE, True),
        app.bad_commits: (READ | CREATE | DELETE, True),
        # It contains hashes of passwords.
        app.access: (READ, False),
        app.lock: (0, True),
    }
    if path in special:
        return special[path]
    # Each agent advances a rollout by compare-and-set.
    return (CHANGE if _is_within(path, app.rollouts) else READ), True


def _is_within(path: str, tree: str) -> bool:
    """Whether it is this znode, or one below it."""
    return f"{path}/".startswith(f"{tree}/")


def merged(acl: Iterable[Any]) -> Acl:
    """An ACL with one entry for each identity, sorted: two that allow the same are equal."""
    perms: dict[Principal, int] = {}
    for entry in acl:
        who = Principal(entry.id.scheme, entry.id.id)
        perms[who] = perms.get(who, 0) | entry.perms
    return tuple(sorted(Grant(allowed, who) for who, allowed in perms.items()))


def acl_bytes(acl: Iterable[Any]) -> int:
    """The bytes of an ACL in a request, possibly slightly more."""
    # For the scheme auth the server inserts an id, which ends with a hash.
    return sum(
        12
        + len(entry.id.scheme)
        + len(entry.id.id.encode("utf-8", "surrogatepass"))
        + (128 if entry.id.scheme == "auth" else 0)
        for entry in acl
    )


def perms_of_anybody(acl: Iterable[Any]) -> int:
    """What anybody may do: the permissions of the world, and those of all addresses."""
    perms = 0
    for entry in acl:
        scheme, name = entry.id.scheme, entry.id.id
        if scheme == "world" or (scheme == "ip" and _ALL_ADDRESSES.fullmatch(name)):
            perms |= entry.perms
    return perms


def is_open(acl: Iterable[Any]) -> bool:
    """Whether anybody may write a znode, or create or delete what is below it."""
    return bool(perms_of_anybody(acl) & (WRITE | CREATE | DELETE | ADMIN))


def is_replaceable(acl: Iterable[Any]) -> bool:
    """Whether anybody may replace what is in a znode; permission to create alone does not suffice."""
    perms = perms_of_anybody(acl)
    return bool(perms & ADMIN) or perms & (CREATE | DELETE) == CREATE | DELETE


def may_be_of_roles(acl: Iterable[Any]) -> bool:
    """Whether roles may have set this ACL on a znode of the publishers: all others may only read it."""
    entries = list(acl)
    return not is_open(entries) and all(entry.perms in {READ, ALL} for entry in entries)


def all_may_write(acl: Sequence[Any], others: Sequence[Sequence[Any]]) -> bool:
    """Whether everybody who may write, or create below, znodes with the ACLs `others` may write one with `acl`.

    An empty ACL could not be read: whom it is for is not known.
    """
    if perms_of_anybody(acl) & (WRITE | ADMIN):
        return True
    writers = [entry for other in others for entry in other if entry.perms & (WRITE | CREATE | ADMIN)]
    return all(others) and all(_may_write(entry, acl) for entry in writers)


def _may_write(entry: Any, acl: Sequence[Any]) -> bool:
    """Whether the identity in an entry of another ACL may write a znode with this one."""
    perms = [own.perms for own in acl if own.id == entry.id]
    # Without hashes, two passwords of one user look alike: the same entry is required, and the weakest one counts.
    is_known = not _is_hidden([entry]) or entry.perms in perms
    return is_known and bool(perms) and all(one & (WRITE | ADMIN) for one in perms)


ANYBODY_DEPLOYS = "anybody who reaches the ensemble can deploy"
"""The message for that case."""


Own = Mapping[str, "str | None"]
"""The schemes in which a connection has an identity, each with the user if the options name it."""


def own_schemes(options: Mapping[str, Any]) -> Own:
    """The schemes in which an ACL may name a connection with these options; it has one identity in each.

    A certificate may have been presented to a proxy: then the server does not know it.
    """
    own: dict[str, str | None] = {}
    if options.get("digest_username"):
        own["digest"] = str(options["digest_username"]).partition(":")[0]
    if options.get("sasl_mechanism"):
        own["sasl"] = None
    if options.get("tls") and options.get("tls_cert"):
        own["x509"] = None
    return own


def has_credentials(options: Mapping[str, Any]) -> bool:
    """Whether a connection with these options may have an identity that an ACL can name."""
    return bool(own_schemes(options))


def is_authenticated(options: Mapping[str, Any], identities: Callable[[], Iterable[str]]) -> bool:
    """Whether a connection with credentials has such an identity; the server is asked about that of a certificate."""
    if options.get("digest_username") or options.get("sasl_mechanism"):
        return True
    return any(who.startswith("x509 ") for who in identities())


@dataclass(frozen=True)
class Rule:
    """The rule for the ACLs of new znodes: `fixed`, or by `access`, or by `found`; otherwise as requested.

    `found` are the ACLs of the application's znode and its existing directories: a new znode is for the same
    identities as its directory, and for its creator, whose identities are `own`. Znodes above the application and the
    `registries` also belong to others. A connection without an `own` scheme may be known by its address, which an ACL
    need not name. `is_new` is set if this connection creates the application.
    """

    app: AppPaths
    access: AccessRecord | None = None
    fixed: Acl | None = None
    found: Mapping[str, Sequence[Any]] | None = None
    own: Own = field(default_factory=dict)
    host: str | None = None
    registries: tuple[str, ...] = ()
    is_new: bool = False

    @property
    def is_open(self) -> bool:
        """Whether what is created is open to anybody."""
        if self.access is not None:
            return self.access.state == OPEN
        if self.fixed is not None:
            return is_open(self.fixed)
        return self.found is None or is_open(self.found[self.app.root])

    @property
    def leaves_open(self) -> bool:
        """Whether what is created below an application's closed znode may be open, whoever creates it."""
        acls = self.found.values() if self.fixed is None and self.found is not None else ()
        # If it has no identity, and no address is named either, a connection can create only in what is open.
        creates = self.own or any(_names_addresses(acl) or is_open(acl) for acl in acls)
        return bool(creates) and any(is_open(acl) or _is_hidden(acl) or _hides(acl) for acl in acls)

    def acl(self, path: str, *, ephemeral: bool) -> Acl | None:
        """The ACL of a new znode at `path`; None if it stays as requested."""
        if self.access is not None:
            return self.access.acl(self.app, path, ephemeral=ephemeral, host=self.host)
        given = self._inherited(path) if self.fixed is None and self.found is not None else self.fixed
        is_shared = any(_is_within(root, path) and path != root for root in (self.app.root, *self.registries))
        is_top = path.count("/") == 1 and path not in (self.app.root, *self.registries)
        return (*given, BESIDE) if given is not None and (is_shared or is_top) else given

    def _inherited(self, path: str) -> Acl | None:
        """The ACL derived from that of another znode; None if that one is open or hidden."""
        like, is_agents = self._like(path)
        acl = (self.found or {})[like]
        is_named = any(_may_be(entry.id, self.own) for entry in acl)
        # In a registry that does not exist yet, it might be for everybody except its creator.
        is_for_it = is_named or any(_is_within(path, place) for place in (self.app.root, like))
        if is_open(acl) or _is_hidden(acl) or not is_for_it:
            return None
        # An identity that may write the release may also write its history and take the lock.
        has_more = CREATE if is_agents else WRITE if like == self.app.config else 0
        given = [entry._replace(perms=entry.perms | (CHANGE if entry.perms & has_more else 0)) for entry in acl]
        # A certificate may have been presented to a proxy: then the server knows no identity for CREATOR.
        return (*merged(given), *(CREATOR if is_named or self.own.keys() - {"x509"} else ()))

    def _like(self, path: str) -> tuple[str, bool]:
        """The znode whose ACL applies to a new one, and whether agents use there what others of them have created."""
        app, found = self.app, self.found or {}
        is_agents = not any(_is_within(path, own) for own in (app.config, app.history, app.policy, app.lock))
        # A roster entry that a publisher creates is completed by the host's agent, whose identity is not known here. An
        # agent that is known only by its address has nothing of its own.
        is_named = self.host is None and path.startswith(f"{app.roster}/")
        is_shared = is_named or (not self.own and path not in (app.agents, app.roster))
        directory = max((place for place in found if path.startswith(f"{place}/")), key=len, default=app.root)
        if directory != app.root:
            return directory, is_agents and (is_shared or _is_within(directory, app.rollouts))
        first = app.agents if is_agents else app.config
        is_each_ones = any(_is_within(path, own) for own in (app.agents, app.roster))
        return (first if first in found else app.root), is_agents and (is_shared or not is_each_ones)


def directories_of(app: AppPaths) -> list[str]:
    """The directories whose ACLs tell, without roles, who a new znode is for."""
    return [app.root, app.config, app.history, app.agents, app.roster, app.rollouts, app.bad_commits]


def choose_rule(app: AppPaths, record: bytes | None, found: Mapping[str, Sequence[Any]], *, own: Own) -> Rule:
    """The rule by which znodes are created; `record` is the application's, None for none.

    `own` is the connection's, empty if it has no identity except its address. `found` are the ACLs of existing
    `directories_of` and registries; an unreadable one is empty. Raises `InvalidRecord` if the record is not valid.
    """
    if record is not None:
        return Rule(app, access=AccessRecord.from_node(record))
    if not own and (app.root not in found or is_open(found[app.root])):
        return Rule(app)
    if app.root not in found:
        return Rule(app, fixed=CREATOR, is_new=True)
    return Rule(app, found=found, own=own)


def _may_be(who: Principal, own: Own) -> bool:
    """Whether a connection may have this identity."""
    return who.scheme in own and own[who.scheme] in {None, who.id.partition(":")[0]}


def _names_addresses(acl: Iterable[Any]) -> bool:
    """Whether an ACL names clients without credentials, which a server knows by their addresses."""
    return any(entry.id.scheme == "ip" for entry in acl)


def _is_hidden(acl: Iterable[Any]) -> bool:
    """Whether this connection can't see, and so not copy, an ACL: it may not read it, or gets no hashes."""
    entries = list(acl)
    return not entries or any(entry.id.scheme == "digest" and entry.id.id.endswith(":x") for entry in entries)


def _hides(acl: Iterable[Any]) -> bool:
    """Whether an ACL is hidden from an identity that may create below: without ADMIN it sees no hashes."""
    entries = list(acl)
    has_hashes = any(entry.id.scheme == "digest" for entry in entries)
    return has_hashes and any(entry.perms & (CREATE | ADMIN) == CREATE for entry in entries)


def closed(request: Any, chroot: str, acl: Callable[[str, bool], Acl | None]) -> Any:
    """A kazoo request, with the ACL that `acl` gives for the path and whether it is ephemeral, if it creates znodes.

    Znodes requested with another ACL than the open one, which is kazoo's default, stay as they are.
    """
    if request.type == _TRANSACTION:
        return request._replace(operations=[closed(one, chroot, acl) for one in request.operations])
    if request.type not in _CREATING or merged(request.acl) != ANYBODY:
        return request
    given = acl(request.path[len(chroot) :] or "/", bool(request.flags & _EPHEMERAL))
    return request if given is None else request._replace(acl=given)


def _identities(content: object, where: str) -> tuple[Principal, ...]:
    if not isinstance(content, list):
        raise InvalidRecord(f"{where}: expected a list of identities, got {quote(content)}")
    return tuple(_identity(one, where) for one in content)


def _identity(content: object, where: str) -> Principal:
    scheme, name = (content.get("scheme"), content.get("id")) if isinstance(content, dict) else (None, None)
    if not isinstance(scheme, str) or not isinstance(name, str) or not scheme or not name:
        raise InvalidRecord(f"{where}: expected an object with scheme and id")
    return Principal(scheme, name)


def _paths(content: object, where: str) -> tuple[str, ...]:
    if not isinstance(content, list) or not all(isinstance(path, str) for path in content):
        raise InvalidRecord(f"{where}: expected a list of paths, got {quote(content)}")
    for path in content:
        if check_path(path) == "/":
            raise InvalidRecord(f"{where}: expected znodes below the root, got /")
    return tuple(content)


def _objects(identities: Iterable[Principal]) -> list[dict[str, str]]:
    return [identity._asdict() for identity in identities]
