"""Which ACL an agent's own znodes get, and what it does not create at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.exceptions import NoAuthError, NoNodeError
from kazoo.security import ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, Id

from zoo_watcher.config.config import Check, Config, Connection, Service
from zoo_watcher.errors import NoAnswerError, SessionTroubleError
from zoo_watcher.wire.access import BESIDE, CREATE, CREATOR, DELETE, READ, READABLE, Grant, Principal, merged
from zoo_watcher.wire.records import AppPaths
from zoo_watcher.zookeeper.creation import Creation
from zoo_watcher.zookeeper.session import Znode

APP = AppPaths("/app/shop")
CERTIFICATE: dict[str, Any] = {"tls": True, "tls_cert": "/etc/agent.pem"}
ROLES = {
    "publishers": [{"scheme": "x509", "id": "CN=publisher"}],
    "agents": [{"scheme": "x509", "id": "CN=agent"}],
}
PUBLISHERS_ONLY = [ACL(31, Id("x509", "CN=publisher"))]


class Session:
    """A session that answers from `record` and `root`: the record of access, and the ACL of the application's znode."""

    def __init__(self, record: Any = None, root: Any = None) -> None:
        self.record, self.root = record, root
        self.others: dict[str, Any] = {}
        self.connections = 1
        self.is_closed = False
        self.asked: list[str] = []
        self.acl_of: Callable[[str, bool], Any] = lambda _path, _ephemeral: None

    @property
    def client(self) -> Session:
        return self

    def wake(self) -> None:
        """Do nothing: there is no loop here."""

    def ask(self, request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        self.asked.append(request.__name__)
        return request(*arguments, **options)

    def read(self, path: str, watch: Any) -> Znode | None:
        assert path == APP.access
        self.changed = watch
        if isinstance(self.record, Exception):
            raise self.record
        return None if self.record is None else Znode(json.dumps(self.record).encode(), SimpleNamespace(mzxid=7))

    def get_acls_async(self, path: str) -> Any:
        acl = self.root if path == APP.root else self.others.get(path)
        if acl is None:
            raise NoNodeError
        if isinstance(acl, Exception):
            raise acl
        return acl, None

    def exists_async(self, _path: str, watch: Any = None) -> Any:
        assert watch is not None
        return None if self.root is None else object()


def configured(services: tuple[Service, ...] = (), **connection: Any) -> Config:
    return Config(Connection("zk1:2181", **connection), Path("/srv/www"), "web1", APP, services)


def test_while_the_roles_cannot_be_read_again_nothing_is_created_by_the_previous_ones() -> None:
    session = Session(root=OPEN_ACL_UNSAFE)
    creation = refreshed(session, **CERTIFICATE)
    assert session.acl_of(APP.rollouts, False) is None
    session.changed(None)
    troubles: list[Any] = [NoAnswerError("no answer"), {"publishers": []}]
    for session.record in troubles:
        with pytest.raises(SessionTroubleError):
            creation.refresh()
        with pytest.raises(SessionTroubleError, match="its access rights have just changed"):
            session.acl_of(APP.rollouts, False)
    session.record = ROLES
    creation.refresh()
    assert session.acl_of(APP.rollouts, False)


def refreshed(session: Session, services: tuple[Service, ...] = (), **connection: Any) -> Creation:
    creation = Creation(configured(services, **connection), session)  # type: ignore[arg-type]
    creation.refresh()
    return creation


@pytest.mark.parametrize("root", [OPEN_ACL_UNSAFE, PUBLISHERS_ONLY])
def test_a_client_with_a_certificate_counts_as_authenticated_without_a_request_to_the_server(root: Any) -> None:
    session = Session(ROLES, root)
    creation = refreshed(session, **CERTIFICATE)
    acl = session.acl_of(APP.agent("web1"), True)
    assert {who.scheme for _perms, who in acl} == {"x509"}
    assert (creation.is_open, session.is_closed) == (False, True)
    # A server before 3.7 would disconnect each time it is asked who this client is.
    assert session.asked == ["get_acls_async"]


@pytest.mark.parametrize(
    ("root", "others", "is_open", "is_left"),
    [
        (OPEN_ACL_UNSAFE, {}, True, True),
        (PUBLISHERS_ONLY, {}, False, False),
        (PUBLISHERS_ONLY, {APP.agents: [*PUBLISHERS_ONLY, ACL(13, Id("x509", "CN=agent"))]}, False, False),
        (PUBLISHERS_ONLY, {APP.agents: OPEN_ACL_UNSAFE}, False, True),
        (PUBLISHERS_ONLY, {APP.agents: NoAuthError()}, False, True),
        (NoAuthError(), {}, False, True),
    ],
)
def test_without_roles_it_is_as_open_as_the_application(root: Any, others: Any, is_open: bool, is_left: bool) -> None:
    session = Session(None, root)
    session.others = others
    creation = refreshed(session, **CERTIFICATE)
    assert (creation.is_open, session.is_closed) == (is_open, not is_open)
    assert (session.acl_of(APP.agent("web1"), True) is None) == is_left


@pytest.mark.parametrize(("root", "is_closed"), [(PUBLISHERS_ONLY, True), (OPEN_ACL_UNSAFE, False)])
def test_a_record_by_which_everything_is_open_opens_nothing_that_is_closed(root: Any, is_closed: bool) -> None:
    session = Session({"state": "open"}, root)
    creation = refreshed(session, **CERTIFICATE)
    assert (creation.is_open, session.is_closed) == (not is_closed, is_closed)


@pytest.mark.parametrize("planted", [NoAuthError(), {"publishers": []}])
def test_an_unreadable_record_does_not_keep_an_application_open_that_was_closed_since(planted: Any) -> None:
    """Somebody may have left it there while that was allowed."""
    session = Session(None, OPEN_ACL_UNSAFE)
    creation = refreshed(session, **CERTIFICATE)
    assert (creation.is_open, session.is_closed) == (True, False)
    session.record, session.root = planted, PUBLISHERS_ONLY
    creation.mark_stale()
    with pytest.raises(SessionTroubleError):
        creation.refresh()
    assert (creation.is_open, session.is_closed) == (False, True)


@pytest.mark.parametrize("credentials", [CERTIFICATE, {}])
@pytest.mark.parametrize("record", [None, NoAuthError(), {"state": "open"}])
def test_where_anybody_may_create_but_not_replace_only_publishers_decide_what_is_deployed(
    record: Any, credentials: dict[str, Any]
) -> None:
    session = Session(record, [*PUBLISHERS_ONLY, ACL(READ | CREATE, Id("world", "anyone"))])
    creation = refreshed(session, **credentials)
    # Anybody may create what does not exist yet, such as a policy.
    assert (creation.is_open, session.is_closed) == (True, True)


def test_an_agent_without_a_role_goes_on_while_everything_is_still_open() -> None:
    session = Session(NoAuthError(), OPEN_ACL_UNSAFE)
    creation = refreshed(session, **CERTIFICATE)
    assert session.acl_of(APP.agent("web1"), True) is session.acl_of("/service/shop/web1", True) is None
    # It asks again in each turn, because nothing else tells it that it has lost its role or is shut out.
    assert (creation.record, creation.is_open) == (None, True)
    session.root = PUBLISHERS_ONLY
    with pytest.raises(SessionTroubleError, match="no role in the application"):
        creation.refresh()
    with pytest.raises(SessionTroubleError, match="not known yet"):
        session.acl_of(APP.agent("web1"), True)


def test_an_agent_without_a_role_creates_nothing_until_it_has_one() -> None:
    session = Session(NoAuthError(), PUBLISHERS_ONLY)
    creation = Creation(configured(**CERTIFICATE), session)  # type: ignore[arg-type]
    for _turn in range(2):
        with pytest.raises(SessionTroubleError, match="/app/shop/access: not readable; this agent has no role"):
            creation.refresh()
        with pytest.raises(SessionTroubleError, match="its access rights are not known yet"):
            session.acl_of(APP.agent("web1"), True)
    assert vars(creation)["record"] is None
    session.record = ROLES
    creation.refresh()
    assert (creation.record, session.acl_of(APP.agent("web1"), True) is not None) == (7, True)
    # A server that does not answer takes no role away. Otherwise the status would be written twice for nothing.
    session.record = NoAnswerError("late")
    creation.mark_stale()
    with pytest.raises(NoAnswerError):
        creation.refresh()
    assert creation.record == 7
    session.record = NoAuthError()
    creation.mark_stale()
    with pytest.raises(SessionTroubleError, match="has no role"):
        creation.refresh()
    with pytest.raises(SessionTroubleError, match="its access rights are not known yet"):
        session.acl_of(APP.agent("web1"), True)
    assert vars(creation)["record"] is None
    session.record = None
    creation.refresh()
    assert creation.record == 0


@pytest.mark.parametrize("credentials", [CERTIFICATE, {"digest_username": "agent", "digest_password": "word"}])
def test_an_agent_with_credentials_creates_no_application(credentials: dict[str, Any]) -> None:
    session = Session()
    creation = refreshed(session, **credentials)
    with pytest.raises(
        SessionTroubleError, match="/app/shop is not there yet, or not for this agent; a publisher makes it"
    ):
        session.acl_of(APP.agent("web1"), True)
    session.root = OPEN_ACL_UNSAFE
    creation.mark_stale()
    creation.refresh()
    assert session.acl_of(APP.agent("web1"), True) is None
    # It was deleted since, and creating something below it would recreate it.
    with pytest.raises(SessionTroubleError, match="/app/shop not created: a publisher makes it"):
        session.acl_of(APP.root, False)


def test_where_there_is_no_application_yet_every_host_registers() -> None:
    session = Session()
    service = Service("/service/prod/shop", "web1", 80, None, "seed", Check("tcp", "127.0.0.1", 80))
    creation = refreshed(session, (service,), **CERTIFICATE)
    # If the first host had it to itself, the next one could not register in it, and no publisher could close it.
    assert session.acl_of("/service/prod", False) is session.acl_of("/service/prod/shop", False) is None
    assert session.acl_of("/service/prod/shop/web1", True) is None
    session.root = PUBLISHERS_ONLY
    creation.mark_stale()
    creation.refresh()
    assert session.acl_of("/service/prod/shop", False) == (*PUBLISHERS_ONLY, *CREATOR)


@pytest.mark.parametrize(
    ("root", "says_open"),
    [(None, True), (OPEN_ACL_UNSAFE, True), (PUBLISHERS_ONLY, False), (NoAuthError(), False)],
)
def test_an_agent_without_credentials_leaves_everything_open_and_reports_where_it_is(
    root: Any, says_open: bool
) -> None:
    session = Session(ROLES, root)
    assert refreshed(session).is_open is says_open
    assert session.acl_of("/service/shop/web1", True) is None
    # No watch, because what the agent creates itself would be seen as a change.
    assert set(session.asked) == {"get_acls_async"}


def test_an_agent_that_is_known_by_its_address_creates_for_the_principals_of_the_directory() -> None:
    by_address = [*PUBLISHERS_ONLY, ACL(READ | CREATE, Id("ip", "192.0.2.0/24"))]
    session = Session(None, PUBLISHERS_ONLY)
    session.others = {APP.agents: by_address, "/service/shop": by_address}
    service = Service("/service/shop", "web1", 80, None, "seed", Check("tcp", "127.0.0.1", 80))
    creation = refreshed(session, (service,))
    expected = merged([*PUBLISHERS_ONLY, ACL(15, Id("ip", "192.0.2.0/24"))])
    for path in (APP.agent("web1"), APP.rollout(7), "/service/shop/web1"):
        assert session.acl_of(path, False) == expected
    assert (creation.is_open, session.is_closed) == (False, True)
    # It was opened since.
    session.root = OPEN_ACL_UNSAFE
    creation.mark_stale()
    creation.refresh()
    assert session.acl_of(APP.agent("web1"), True) is None


def test_nothing_is_created_by_the_roles_from_before_a_change() -> None:
    session = Session(None, OPEN_ACL_UNSAFE)
    creation = refreshed(session, **CERTIFICATE)
    assert session.acl_of(APP.agent("web1"), True) is None
    session.record = ROLES
    session.changed(None)
    # In the turn that is under way, as the walk that closes existing znodes may already have passed here.
    with pytest.raises(SessionTroubleError, match="its access rights have just changed"):
        session.acl_of(APP.agent("web1"), True)
    creation.refresh()
    assert {who.scheme for _perms, who in session.acl_of(APP.agent("web1"), True)} == {"x509"}


def test_nothing_is_created_before_it_is_known_for_whom() -> None:
    session = Session({"publishers": "everybody"}, PUBLISHERS_ONLY)
    with pytest.raises(SessionTroubleError, match="/app/shop/access: publishers: expected a list"):
        refreshed(session, **CERTIFICATE)
    with pytest.raises(SessionTroubleError, match="its access rights are not known yet"):
        session.acl_of(APP.agent("web1"), True)


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        (OPEN_ACL_UNSAFE, None),
        (PUBLISHERS_ONLY, (*PUBLISHERS_ONLY, *CREATOR)),
        ([*PUBLISHERS_ONLY, *READ_ACL_UNSAFE], (READABLE, *PUBLISHERS_ONLY, *CREATOR)),
        ([*PUBLISHERS_ONLY, ACL(1, Id("digest", "balancer:x"))], None),
        (NoAuthError(), None),
    ],
)
def test_readers_of_a_registry_can_read_its_entries_even_where_all_else_has_one_identity(
    registry: Any, expected: Any
) -> None:
    session = Session(None, PUBLISHERS_ONLY)
    session.others = {"/service/shop": registry}
    service = Service("/service/shop/", "web1", 80, None, "seed", Check("tcp", "127.0.0.1", 80))
    refreshed(session, (service,), **CERTIFICATE)
    assert session.acl_of("/service/shop/web1", True) == expected
    assert session.acl_of(APP.agent("web1"), True) == (*PUBLISHERS_ONLY, *CREATOR)


def test_above_a_registry_others_can_have_theirs_even_without_roles() -> None:
    session = Session(None, PUBLISHERS_ONLY)
    service = Service("/service/prod/shop", "web1", 80, None, "seed", Check("tcp", "127.0.0.1", 80))
    refreshed(session, (service,), **CERTIFICATE)
    assert [session.acl_of(path, False) for path in ("/service", "/service/prod")] == [
        (*PUBLISHERS_ONLY, *CREATOR, BESIDE)
    ] * 2
    assert session.acl_of("/service/prod/shop", False) == (*PUBLISHERS_ONLY, *CREATOR)


def test_a_registry_that_the_roles_do_not_name_is_closed_and_others_can_have_theirs_beside_it() -> None:
    session = Session(ROLES, PUBLISHERS_ONLY)
    service = Service(
        path="/service/shop/", id="web1", port=80, address=None, format="seed", check=Check("tcp", "127.0.0.1", 80)
    )
    refreshed(session, (service,), **CERTIFICATE)
    assert session.acl_of("/service", False) == (Grant(31, Principal("x509", "CN=publisher")), BESIDE)
    assert {who.id: perms for perms, who in session.acl_of("/service/shop", False)} == {
        "CN=publisher": 31,
        "CN=agent": READ | CREATE | DELETE,
    }
