# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what with an application's znodes: its record of access, and the ACL of each znode by that.

Standard library only: the agent and the git hook carry this same file. It knows kazoo's requests by their fields.
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
"""All but to say who may."""
ALL = CHANGE | ADMIN
SECURED, OPEN = "secured", "open"
"""The states of an application: its znodes are for its roles, or for everybody."""
ROLES = ("publishers", "agents", "readers")
PLACES = ("registries", "values")
MOST_BYTES = 64_000
"""How long the identities of a record may be: each request that creates znodes has them once for each."""
_ALL_ADDRESSES = re.compile(r"[^/]*/[+-]?0+")
"""An id of the scheme ip of which no bit counts."""
_CREATING = {1, 15}
"""The types of kazoo's requests that create one znode."""
_TRANSACTION = 14
_EPHEMERAL = 1
"""The flag of a request that creates an ephemeral."""


class Principal(namedtuple("Principal", ("scheme", "id"))):
    """Who: the scheme, and the id in it, as an ACL has them."""

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
"""All for whoever creates it: the server puts the identities of the connection there."""
BESIDE = Grant(READ | CREATE, Principal("world", "anyone"))
"""What anybody may do above an application: have another one beside it, but delete or replace nothing."""
READABLE = Grant(READ, Principal("world", "anyone"))
"""What anybody may do who may only read."""


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
        """Raise `InvalidRecord` for a tree whose rights would count for what is the application's own."""
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
        """Every agent's identity."""
        return tuple(dict.fromkeys([*self.agents, *(who for ids in self.hosts.values() for who in ids)]))

    def to_node(self) -> bytes:
        """The value of the record's znode."""
        content: dict[str, Any] = {"state": self.state, **{role: _objects(getattr(self, role)) for role in ROLES}}
        content["hosts"] = {name: _objects(ids) for name, ids in sorted(self.hosts.items())}
        content.update({name: list(getattr(self, name)) for name in PLACES})
        return json.dumps({key: value for key, value in content.items() if value}).encode()

    def acl(self, app: AppPaths, path: str, *, ephemeral: bool = False, host: str | None = None) -> Acl:
        """The ACL of a znode: of one of the application's, of a registration (`ephemeral`), or of what is above those.

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
        """Whether an ephemeral is the application's own, or in a registry of it: elsewhere no agent may register."""
        places = [*self.registries, *(f"{app.root}/{name}" for name in OWN)]
        return any(_is_within(registration, place) for place in places)

    def has_in_registry(self, path: str) -> bool:
        """Whether it is one of the registries, or in one."""
        return any(_is_within(path, registry) for registry in self.registries)

    def _is_above(self, app: AppPaths, path: str) -> bool:
        """Whether something of the application is below it, but it is not the application's itself."""
        roots = (app.root, *self.registries, *self.values)
        return any(_is_within(root, path) for root in roots) and not any(_is_within(path, root) for root in roots)

    def _rights(self, app: AppPaths, path: str, *, ephemeral: bool) -> tuple[int, bool]:
        """What every agent may do with a znode, and whether readers may read it."""
        if not ephemeral and any(_is_within(path, f"{app.root}/{name}") for name in OWN):
            return _rights_of_place(app, path)
        if ephemeral or not self.has_in_registry(path):
            return READ, True
        # An agent takes the registration of what is not healthy away.
        return READ | CREATE | DELETE, True


def _rights_of_place(app: AppPaths, path: str) -> tuple[int, bool]:
    """The same, of what is persistent and the application's own."""
    special = {
        # Who may delete could delete what is another's.
        app.agents: (READ | CREATE, True),
        app.roster: (READ | CREATE, True),
        app.rollouts: (READ | CREATE | DELETE, True),
        app.bad_commits: (READ | CREATE | DELETE, True),
        # Hashes of passwords are in it.
        app.access: (READ, False),
        app.lock: (0, True),
    }
    if path in special:
        return special[path]
    # By compare-and-set each of them moves a rollout on.
    return (CHANGE if _is_within(path, app.rollouts) else READ), True


def _is_within(path: str, tree: str) -> bool:
    """Whether it is this znode, or one below it."""
    return f"{path}/".startswith(f"{tree}/")


def merged(acl: Iterable[Any]) -> Acl:
    """An ACL with one entry for each identity, sorted: two that allow the same are the same."""
    perms: dict[Principal, int] = {}
    for entry in acl:
        who = Principal(entry.id.scheme, entry.id.id)
        perms[who] = perms.get(who, 0) | entry.perms
    return tuple(sorted(Grant(allowed, who) for who, allowed in perms.items()))


def acl_bytes(acl: Iterable[Any]) -> int:
    """How long an ACL is in a request, or a little longer."""
    # For the scheme auth the server puts an id there, which ends with a hash.
    return sum(
        12
        + len(entry.id.scheme)
        + len(entry.id.id.encode("utf-8", "surrogatepass"))
        + (128 if entry.id.scheme == "auth" else 0)
        for entry in acl
    )


def perms_of_anybody(acl: Iterable[Any]) -> int:
    """What anybody may do: the rights of the world, and those of all addresses."""
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
    """Whether anybody may put something else in the place of what is in a znode; who may only create there may not."""
    perms = perms_of_anybody(acl)
    return bool(perms & ADMIN) or perms & (CREATE | DELETE) == CREATE | DELETE


def may_be_of_roles(acl: Iterable[Any]) -> bool:
    """Whether roles may have given this ACL to what is the publishers': all others may only read it."""
    entries = list(acl)
    return not is_open(entries) and all(entry.perms in {READ, ALL} for entry in entries)


def all_may_write(acl: Sequence[Any], others: Sequence[Sequence[Any]]) -> bool:
    """Whether everybody who may write, or create something in, znodes with the ACLs `others` may write one with `acl`.

    An empty ACL is one that could not be read: nobody knows whom it is for.
    """
    if perms_of_anybody(acl) & (WRITE | ADMIN):
        return True
    writers = [entry for other in others for entry in other if entry.perms & (WRITE | CREATE | ADMIN)]
    return all(others) and all(_may_write(entry, acl) for entry in writers)


def _may_write(entry: Any, acl: Sequence[Any]) -> bool:
    """Whether whom an entry of another ACL names may write what has this one."""
    perms = [own.perms for own in acl if own.id == entry.id]
    # Without hashes, two passwords of one user look alike: the entry is to be the same, and the weakest counts.
    is_known = not _is_hidden([entry]) or entry.perms in perms
    return is_known and bool(perms) and all(one & (WRITE | ADMIN) for one in perms)


ANYBODY_DEPLOYS = "anybody who reaches the ensemble can deploy"
"""What is said where that is so."""


Own = Mapping[str, "str | None"]
"""The schemes in which a connection has an identity, each with the user where the options say who that is."""


def own_schemes(options: Mapping[str, Any]) -> Own:
    """In which schemes an ACL may name a connection with these options; it has one identity in each.

    A certificate may have gone to a proxy: then the server does not know it.
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
    """Whether a connection with credentials has such an identity; the server is asked for them of a certificate."""
    if options.get("digest_username") or options.get("sasl_mechanism"):
        return True
    return any(who.startswith("x509 ") for who in identities())


@dataclass(frozen=True)
class Rule:
    """Which ACL what is created gets: `fixed`, or what `access` says, or `found`; else it is left as it is asked for.

    `found` are the ACLs of the application's znode and of directories that are there: what is created is for whom its
    directory is, and for its creator, whose identities are `own`. Above the application and the `registries`, others
    have theirs. A connection that is `own` in no scheme may be known by its address, for which no ACL has to name it.
    `is_new` is an application that this connection creates.
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
        """Whether anybody may have what is created."""
        if self.access is not None:
            return self.access.state == OPEN
        if self.fixed is not None:
            return is_open(self.fixed)
        return self.found is None or is_open(self.found[self.app.root])

    @property
    def leaves_open(self) -> bool:
        """Whether something that is created below an application's closed znode may be open, whoever creates it."""
        acls = self.found.values() if self.fixed is None and self.found is not None else ()
        # Without an identity, where no address is named either, a connection creates only in what is open.
        creates = self.own or any(_names_addresses(acl) or is_open(acl) for acl in acls)
        return bool(creates) and any(is_open(acl) or _is_hidden(acl) or _hides(acl) for acl in acls)

    def acl(self, path: str, *, ephemeral: bool) -> Acl | None:
        """The ACL of what is created at `path`; None where it is left as it is asked for."""
        if self.access is not None:
            return self.access.acl(self.app, path, ephemeral=ephemeral, host=self.host)
        given = self._inherited(path) if self.fixed is None and self.found is not None else self.fixed
        is_shared = any(_is_within(root, path) and path != root for root in (self.app.root, *self.registries))
        is_top = path.count("/") == 1 and path not in (self.app.root, *self.registries)
        return (*given, BESIDE) if given is not None and (is_shared or is_top) else given

    def _inherited(self, path: str) -> Acl | None:
        """The ACL by that of another znode; None where that is open, or can't be seen."""
        like, is_agents = self._like(path)
        acl = (self.found or {})[like]
        is_named = any(_may_be(entry.id, self.own) for entry in acl)
        # In a registry that is not there yet it might be for all but its creator.
        is_for_it = is_named or any(_is_within(path, place) for place in (self.app.root, like))
        if is_open(acl) or _is_hidden(acl) or not is_for_it:
            return None
        # Who may write the release may write its history, and take the lock.
        has_more = CREATE if is_agents else WRITE if like == self.app.config else 0
        given = [entry._replace(perms=entry.perms | (CHANGE if entry.perms & has_more else 0)) for entry in acl]
        # A certificate may have gone to a proxy: then the server knows nobody whom CREATOR could name.
        return (*merged(given), *(CREATOR if is_named or self.own.keys() - {"x509"} else ()))

    def _like(self, path: str) -> tuple[str, bool]:
        """Which znode has the ACL for what is created, and whether agents use there what others of them have made."""
        app, found = self.app, self.found or {}
        is_agents = not any(_is_within(path, own) for own in (app.config, app.history, app.policy, app.lock))
        # Of a host that a publisher names, which is not known by its identity, the agent completes the entry. Who is
        # known by an address has nothing to himself.
        is_named = self.host is None and path.startswith(f"{app.roster}/")
        is_shared = is_named or (not self.own and path not in (app.agents, app.roster))
        directory = max((place for place in found if path.startswith(f"{place}/")), key=len, default=app.root)
        if directory != app.root:
            return directory, is_agents and (is_shared or _is_within(directory, app.rollouts))
        first = app.agents if is_agents else app.config
        is_each_ones = any(_is_within(path, own) for own in (app.agents, app.roster))
        return (first if first in found else app.root), is_agents and (is_shared or not is_each_ones)


def directories_of(app: AppPaths) -> list[str]:
    """By whose ACLs it is told for whom something is created, where no roles tell."""
    return [app.root, app.config, app.history, app.agents, app.roster, app.rollouts, app.bad_commits]


def choose_rule(app: AppPaths, record: bytes | None, found: Mapping[str, Sequence[Any]], *, own: Own) -> Rule:
    """By which rule something is created: `record` is the application's, None for none.

    `own` is of the connection, empty where it has no identity but its address. `found` are the ACLs of those of its
    `directories_of` and of the registries that are there; what may not be read has an empty one. Raises `InvalidRecord`
    where the record is none.
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
    """Whether an ACL is for some without credentials, whom a server knows by their addresses."""
    return any(entry.id.scheme == "ip" for entry in acl)


def _is_hidden(acl: Iterable[Any]) -> bool:
    """Whether this connection may not see, and so not copy, an ACL: it may not read it, or is told no hashes."""
    entries = list(acl)
    return not entries or any(entry.id.scheme == "digest" and entry.id.id.endswith(":x") for entry in entries)


def _hides(acl: Iterable[Any]) -> bool:
    """Whether an ACL is hidden from somebody who may create something below it: who may not change it sees no hash."""
    entries = list(acl)
    has_hashes = any(entry.id.scheme == "digest" for entry in entries)
    return has_hashes and any(entry.perms & (CREATE | ADMIN) == CREATE for entry in entries)


def closed(request: Any, chroot: str, acl: Callable[[str, bool], Acl | None]) -> Any:
    """A request of kazoo's, where what it creates has the ACL that `acl` gives for path and whether it is ephemeral.

    What is to have another ACL than the open one, which is kazoo's own, is left as it is.
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
