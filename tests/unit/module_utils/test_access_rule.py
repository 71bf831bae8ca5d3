"""By which rule a publisher's connection creates something."""

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
    CREATOR,
    READ,
    AccessRecord,
    Grant,
    Principal,
)
from ansible_collections.zoo.deploy.plugins.module_utils.access_rule import kept_closed, warning
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths

APP = AppPaths("/app/shop")
CERTIFICATE = {"tls": True, "tls_cert": "/etc/publisher.pem"}
ACCESS = AccessRecord((Principal("x509", "CN=publisher"),), (Principal("x509", "CN=agent"),))
CLOSED = [ACL(31, Id("x509", "CN=publisher"))]


class Client:
    """A connection that answers from the record of access and the ACL of the application's znode, if there is one."""

    chroot = ""

    def __init__(self, record: bytes | None, root: Any) -> None:
        self.record, self.root = record, root
        self.sent: list[Any] = []

    def sync(self, _path: str) -> None: ...  # noqa: D102

    def get(self, _path: str) -> tuple[bytes, None]:  # noqa: D102
        if self.record is None:
            raise NoNodeError
        return self.record, None

    def get_acls(self, _path: str) -> tuple[Any, None]:  # noqa: D102
        if self.root is None:
            raise NoNodeError
        if isinstance(self.root, Exception):
            raise self.root
        return self.root, None

    def _call(self, request: Any, _answer: Any) -> None:
        self.sent.append(request)

    def create(self, path: str, acl: Any = OPEN_ACL_UNSAFE) -> Any:  # noqa: D102
        self._call(Create(path, b"", acl, 0), None)
        return self.sent[-1].acl


@pytest.mark.parametrize(
    ("record", "root", "expected"),
    [
        (ACCESS.to_node(), CLOSED, ACCESS.acl(APP, APP.config)),
        (ACCESS.to_node(), OPEN_ACL_UNSAFE, ACCESS.acl(APP, APP.config)),
        (None, CLOSED, CREATOR),
        (None, NoAuthError(), CREATOR),
        (None, OPEN_ACL_UNSAFE, OPEN_ACL_UNSAFE),
    ],
)
def test_a_certificate_is_not_asked_about_where_the_application_tells(
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
    assert (warning(rule) is None) == (expected == CREATOR)


@pytest.mark.parametrize("named", [True, False])
def test_values_are_for_publishers_and_for_all_others_to_read_also_where_no_role_names_their_tree(named: bool) -> None:
    access = replace(ACCESS, values=("/config/shop",)) if named else ACCESS
    client, publisher, agent = Client(access.to_node(), CLOSED), *ACCESS.publishers, *ACCESS.agents
    with kept_closed(client, APP, CERTIFICATE, values=["/config/shop/nginx"]):
        assert client.create("/config/shop/nginx") == (Grant(READ, agent), Grant(ALL, publisher))
        # Others may have theirs beside it.
        assert client.create("/config") == (Grant(ALL, publisher), BESIDE)
        given = [ACL(1, Id("world", "anyone")), *CLOSED]
        assert client.create("/config/shop/nginx", given) == given


def test_what_is_asked_for_with_an_acl_of_its_own_has_that_though_it_is_the_open_one() -> None:
    client = Client(ACCESS.to_node(), CLOSED)
    with kept_closed(client, APP, CERTIFICATE, values=["/config/own", "/config/shop"], but={"/config/own"}):
        assert client.create("/config/own") == OPEN_ACL_UNSAFE
        assert client.create("/config/shop") != OPEN_ACL_UNSAFE


@pytest.mark.parametrize(
    ("root", "warns"), [(CLOSED, False), (NoAuthError(), False), (OPEN_ACL_UNSAFE, True), (None, True)]
)
def test_who_has_no_credentials_warns_of_an_open_application_only(root: Any, warns: bool) -> None:
    with kept_closed(Client(None, root), APP, {}) as rule:
        assert bool(warning(rule)) is warns


@pytest.mark.parametrize(("acl", "warns"), [(OPEN_ACL_UNSAFE, True), (CLOSED, False)])
def test_who_creates_an_application_for_everybody_is_warned(
    monkeypatch: pytest.MonkeyPatch, acl: Any, warns: bool
) -> None:
    monkeypatch.setattr(access_rule, "identities", lambda _client: ["x509 CN=publisher"])
    with kept_closed(Client(None, None), APP, CERTIFICATE, acl) as rule:
        assert bool(warning(rule)) is warns


def test_values_of_an_application_without_roles_stay_open() -> None:
    client = Client(None, CLOSED)
    with kept_closed(client, APP, CERTIFICATE, values=["/config/shop"]):
        assert client.create("/config/shop") == OPEN_ACL_UNSAFE


def test_what_was_closed_meanwhile_counts_for_what_is_created_then() -> None:
    client = Client(None, OPEN_ACL_UNSAFE)
    with kept_closed(client, APP, CERTIFICATE):
        client.record = ACCESS.to_node()
        assert client.create(APP.config) == OPEN_ACL_UNSAFE
        with kept_closed(client, APP, CERTIFICATE):
            assert client.create(APP.config) == ACCESS.acl(APP, APP.config)
        assert client.create(APP.config) == OPEN_ACL_UNSAFE
    assert client.create(APP.config) == OPEN_ACL_UNSAFE
