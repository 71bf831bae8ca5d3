"""The rule by which a publisher's connection creates znodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from kazoo.exceptions import NoAuthError, NoNodeError
from kazoo.protocol.serialization import Create
from kazoo.security import ACL, OPEN_ACL_UNSAFE, Id

from ansible_collections.zoo.deploy.plugins.module_utils import access_rule
from ansible_collections.zoo.deploy.plugins.module_utils.access import (
    ALL,
    BESIDE,
    CREATE,
    CREATOR,
    DELETE,
    READ,
    AccessRecord,
    Grant,
    Principal,
    merged,
)
from ansible_collections.zoo.deploy.plugins.module_utils.access_rule import kept_closed, rule_of_values, warning
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths

APP = AppPaths("/app/shop")
CERTIFICATE = {"tls": True, "tls_cert": "/etc/publisher.pem"}
ACCESS = AccessRecord((Principal("x509", "CN=publisher"),), (Principal("x509", "CN=agent"),))
CLOSED = [ACL(31, Id("x509", "CN=publisher"))]
BY_ADDRESS = [ACL(31, Id("ip", "192.0.2.0/24")), ACL(READ, Id("world", "anyone"))]


class Client:
    """A connection that answers from the record of access and the ACL of the application's znode, if there is one."""

    chroot = ""

    def __init__(self, record: Any, root: Any, others: Any = None) -> None:
        self.record, self.root, self.others = record, root, others or {}
        self.sent: list[Any] = []

    def sync(self, _path: str) -> None: ...

    def get(self, _path: str) -> tuple[bytes, None]:
        if self.record is None:
            raise NoNodeError
        if isinstance(self.record, Exception):
            raise self.record
        return self.record, None

    def get_acls(self, path: str) -> tuple[Any, None]:
        acl = self.root if path == APP.root else self.others.get(path)
        if acl is None:
            raise NoNodeError
        if isinstance(acl, Exception):
            raise acl
        return acl, None

    def _call(self, request: Any, _answer: Any) -> None:
        self.sent.append(request)

    def create(self, path: str, acl: Any = OPEN_ACL_UNSAFE) -> Any:
        self._call(Create(path, b"", acl, 0), None)
        return self.sent[-1].acl


@pytest.mark.parametrize(
    ("record", "root", "expected"),
    [
        (ACCESS.to_node(), CLOSED, ACCESS.acl(APP, APP.config)),
        (ACCESS.to_node(), OPEN_ACL_UNSAFE, ACCESS.acl(APP, APP.config)),
        (None, CLOSED, (*merged(CLOSED), *CREATOR)),
        (None, NoAuthError(), OPEN_ACL_UNSAFE),
        (None, OPEN_ACL_UNSAFE, OPEN_ACL_UNSAFE),
    ],
)
def test_the_server_is_not_asked_about_a_certificate_if_the_application_tells(
    monkeypatch: pytest.MonkeyPatch, record: bytes | None, root: Any, expected: Any
) -> None:
    monkeypatch.setattr(access_rule, "identities", lambda _client: pytest.fail("a server may hang up at that"))
    client = Client(record, root)
    with kept_closed(client, APP, CERTIFICATE):
        assert client.create(APP.config) == expected


@pytest.mark.parametrize(("known", "expected"), [(["x509 CN=publisher"], CREATOR), ([], OPEN_ACL_UNSAFE)])
def test_the_first_znode_of_an_application_is_closed_where_the_server_knows_the_certificate(
    monkeypatch: pytest.MonkeyPatch, known: list[str], expected: Any
) -> None:
    monkeypatch.setattr(access_rule, "identities", lambda _client: known)
    client = Client(None, None)
    with kept_closed(client, APP, CERTIFICATE) as rule:
        assert client.create(APP.root) == expected
    assert ("only the credentials of this connection may use it" in str(warning(rule))) == (expected == CREATOR)


@pytest.mark.parametrize("perms", [READ | CREATE, CREATE])
def test_a_record_counts_for_nothing_if_anybody_may_create_one_but_replace_nothing_else(perms: int) -> None:
    root = [*CLOSED, ACL(perms, Id("world", "anyone"))]
    client = Client(ACCESS.to_node(), root, {APP.config: CLOSED})
    with kept_closed(client, APP, CERTIFICATE) as rule:
        assert client.create(APP.history) == (*merged(CLOSED), *CREATOR)
    assert "anybody who reaches the ensemble can deploy" in str(warning(rule))


def test_a_publisher_who_may_not_read_the_roles_closes_nothing_while_everything_is_still_open() -> None:
    client = Client(NoAuthError(), OPEN_ACL_UNSAFE)
    with kept_closed(client, APP, CERTIFICATE) as rule:
        assert client.create(f"{APP.history_prefix}0000000001") == OPEN_ACL_UNSAFE
    assert "anybody who reaches the ensemble can deploy" in str(warning(rule))


@pytest.mark.parametrize("history", [CLOSED, OPEN_ACL_UNSAFE])
def test_a_publisher_whom_the_new_roles_leave_out_publishes_for_those_who_read_the_history(history: Any) -> None:
    client = Client(NoAuthError(), CLOSED, {APP.history: history})
    expected = OPEN_ACL_UNSAFE if history is OPEN_ACL_UNSAFE else (*merged(history), *CREATOR)
    with kept_closed(client, APP, CERTIFICATE) as rule:
        assert client.create(f"{APP.history_prefix}0000000001") == expected
        assert client.create(APP.lock) == (*merged(CLOSED), *CREATOR)
    assert bool(warning(rule)) == (expected == OPEN_ACL_UNSAFE)


def test_what_was_closed_by_hand_stays_closed_and_the_publisher_is_warned_if_agents_cannot_see_the_acl() -> None:
    history = [*CLOSED, ACL(READ, Id("x509", "CN=agent"))]
    agents = [ACL(31, Id("digest", "publisher:hash")), ACL(READ | CREATE, Id("digest", "agent:hash"))]
    client = Client(None, CLOSED, {APP.history: history, APP.agents: agents})
    with kept_closed(client, APP, CERTIFICATE) as rule:
        assert client.create(f"{APP.history_prefix}0000000001") == (*merged(history), *CREATOR)
        assert Grant(ALL, Principal("digest", "publisher:hash")) in client.create(APP.roster)
    assert "given by hand, and some of what is created in it is open to everybody; close it with" in str(warning(rule))
    # A publisher who gives the ACL is not warned.
    with kept_closed(client, APP, CERTIFICATE, CLOSED) as rule:
        assert client.create(APP.config) == CLOSED
    assert warning(rule) is None
    # Nor if everybody who creates something can close it.
    del client.others[APP.agents]
    with kept_closed(client, APP, CERTIFICATE) as rule:
        assert warning(rule) is None


@pytest.mark.parametrize("named", [True, False])
def test_values_are_for_publishers_and_readable_by_the_other_roles_even_if_no_record_names_their_tree(
    named: bool,
) -> None:
    access = replace(ACCESS, values=("/config/shop",)) if named else ACCESS
    publisher, agent = *ACCESS.publishers, *ACCESS.agents
    rule = rule_of_values(Client(access.to_node(), CLOSED), APP, CERTIFICATE, ["/config/shop/nginx"])
    assert rule.acl("/config/shop/nginx", ephemeral=False) == (Grant(READ, agent), Grant(ALL, publisher))
    # Others may have theirs beside it.
    assert rule.acl("/config", ephemeral=False) == (Grant(ALL, publisher), BESIDE)


@pytest.mark.parametrize(
    ("paths", "closed", "shared"),
    [
        (["/config/shop/conf.d/a"], ["/config/shop/conf.d"], ["/config", "/config/shop"]),
        (["/config/shop/a/b", "/config/shop/c"], ["/config/shop", "/config/shop/a"], ["/config"]),
        (["/config/shop/a", "/config/shopping/b"], ["/config/shop", "/config/shopping"], ["/config"]),
        (["/config/a", "/motd"], ["/config/a", "/motd"], ["/config"]),
    ],
)
def test_nobody_may_put_something_into_a_directory_of_values(
    paths: list[str], closed: list[str], shared: list[str]
) -> None:
    rule = rule_of_values(Client(ACCESS.to_node(), CLOSED), APP, CERTIFICATE, paths)
    acls = {path: rule.acl(path, ephemeral=False) or () for path in (*closed, *shared, *paths)}
    assert {path for path, acl in acls.items() if BESIDE in acl} == set(shared)


def test_a_registry_stays_one_where_values_are_beside_registrations() -> None:
    record = replace(ACCESS, registries=("/service/shop",)).to_node()
    rule = rule_of_values(Client(record, CLOSED), APP, CERTIFICATE, ["/service/shop/web/note"])
    assert Grant(READ | CREATE | DELETE, *ACCESS.agents) in (rule.acl("/service/shop/web", ephemeral=False) or ())


@pytest.mark.parametrize(
    ("root", "warns"), [(CLOSED, False), (NoAuthError(), False), (OPEN_ACL_UNSAFE, True), (None, True)]
)
def test_without_credentials_only_an_open_application_causes_a_warning(root: Any, warns: bool) -> None:
    with kept_closed(Client(None, root), APP, {}) as rule:
        assert bool(warning(rule)) is warns


@pytest.mark.parametrize(
    ("history", "warns"), [(None, False), (BY_ADDRESS, False), (OPEN_ACL_UNSAFE, True), (NoAuthError(), True)]
)
def test_what_is_closed_to_all_but_some_addresses_stays_so(history: Any, warns: bool) -> None:
    client = Client(None, BY_ADDRESS, {APP.history: history})
    with kept_closed(client, APP, {}) as rule:
        assert client.create(APP.config) == merged(BY_ADDRESS)
        entry = client.create(f"{APP.history_prefix}0000000001")
    assert entry == (OPEN_ACL_UNSAFE if warns else merged(BY_ADDRESS))
    assert ("given by hand, and some of what is created in it is open" in str(warning(rule))) is warns


@pytest.mark.parametrize(("config", "warns"), [(None, False), (CLOSED, False), (OPEN_ACL_UNSAFE, True)])
def test_a_publisher_without_credentials_is_warned_if_anybody_may_publish(config: Any, warns: bool) -> None:
    with kept_closed(Client(None, CLOSED, {APP.config: config}), APP, {}) as rule:
        assert bool(warning(rule)) is warns


@pytest.mark.parametrize(("acl", "warns"), [(OPEN_ACL_UNSAFE, True), (CLOSED, False)])
def test_a_publisher_who_creates_an_application_for_everybody_is_warned(
    monkeypatch: pytest.MonkeyPatch, acl: Any, warns: bool
) -> None:
    monkeypatch.setattr(access_rule, "identities", lambda _client: ["x509 CN=publisher"])
    with kept_closed(Client(None, None), APP, CERTIFICATE, acl) as rule:
        assert bool(warning(rule)) is warns


def test_values_of_an_application_without_roles_stay_open() -> None:
    rule = rule_of_values(Client(None, CLOSED), APP, CERTIFICATE, ["/config/shop"])
    assert rule.acl("/config/shop", ephemeral=False) is None


def test_what_was_closed_meanwhile_counts_for_what_is_created_then() -> None:
    client = Client(None, OPEN_ACL_UNSAFE)
    with kept_closed(client, APP, CERTIFICATE):
        client.record = ACCESS.to_node()
        assert client.create(APP.config) == OPEN_ACL_UNSAFE
        with kept_closed(client, APP, CERTIFICATE):
            assert client.create(APP.config) == ACCESS.acl(APP, APP.config)
        assert client.create(APP.config) == OPEN_ACL_UNSAFE
    assert client.create(APP.config) == OPEN_ACL_UNSAFE
