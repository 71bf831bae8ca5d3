"""What zk_access refuses before it closes anything."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.exceptions import NoAuthError, NodeExistsError, RolledBackError, RuntimeInconsistency
from kazoo.security import ACL, OPEN_ACL_UNSAFE, Id, make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils import access_walk
from ansible_collections.zoo.deploy.plugins.module_utils.access import (
    ANYBODY,
    CREATE,
    READ,
    AccessRecord,
    Grant,
    Principal,
)
from ansible_collections.zoo.deploy.plugins.module_utils.access_walk import (
    AclChange,
    Seen,
    accesses,
    check_is_publisher,
    find_changes,
    knows_roles,
    older_agents,
    open_above,
    prove_roles,
    read_access,
    set_acls,
)
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, InvalidRecord
from ansible_collections.zoo.deploy.plugins.modules.zk_access import (
    argument_spec,
    as_lines,
    converge,
    refuse_without,
    wanted_access,
)

APP = AppPaths("/app/shop")
ANN = {"scheme": "digest", "id": "ann", "password": "word"}
FLEET = {"scheme": "digest", "id": "fleet", "password": "other word"}


def ann(password: str = "word") -> Principal:
    return Principal("digest", make_digest_acl("ann", password, all=True).id.id)


NOTHING = AccessRecord()


def wanted(before: AccessRecord = NOTHING, **given: Any) -> AccessRecord:
    options = {name: spec.get("default") for name, spec in argument_spec().items()}
    return wanted_access({**options, "app": APP.root, "publishers": [ANN], "agents": [FLEET], **given}, before)


@pytest.mark.parametrize(
    "subject",
    ["CN=web1, O=Acme", "CN = web1", "CN=web1 ,O=Acme", "CN=web1+ UID=3", "/O=Acme/CN=web1", "CN= web1"],
)
def test_a_subject_that_no_server_would_ever_match_is_refused(subject: str) -> None:
    with pytest.raises(InvalidRecord, match="agents: expected the subject of a certificate as openssl"):
        wanted(agents=[{"scheme": "x509", "id": subject, "password": None}])


@pytest.mark.parametrize("subject", ["CN=web1", "CN=web 1,O=Acme\\, Inc,C=US", "1.2.840.113549.1.9.1=#1603612e62"])
def test_a_subject_as_the_server_has_it_is_taken(subject: str) -> None:
    access = wanted(host_agents=[{"name": "web1", "scheme": "x509", "id": subject, "password": None}])
    assert access.hosts == {"web1": (Principal("x509", subject),)}


@pytest.mark.parametrize("option", ["registries", "values"])
@pytest.mark.parametrize("path", ["/app", "/app/shop", "/app/shop/config", "/app/shop/history/more"])
def test_a_tree_that_has_the_applications_own_znodes_is_refused(option: str, path: str) -> None:
    given: dict[str, Any] = {option: [path]}
    # Opening it would open other applications as well.
    for state in ("secured", "open"):
        with pytest.raises(InvalidRecord, match=f"{option}: {path} is the application's own znode, or one above it"):
            wanted(**given, state=state)
    # If somebody has recorded it, it can still be opened.
    place: dict[str, Any] = {option: (path,)}
    recorded = AccessRecord((ann(),), (Principal("digest", "fleet:hash"),), **place)
    assert wanted(recorded, state="open").state == "open"


@pytest.mark.parametrize("path", ["/service/shop", "/service/shop/settings"])
def test_values_in_a_registry_are_refused(path: str) -> None:
    with pytest.raises(InvalidRecord, match=f"values: {path} is in the registry /service/shop, where agents"):
        wanted(registries=["/service/shop"], values=[path])


def test_a_tree_beside_or_below_the_applications_own_znodes_is_taken() -> None:
    assert wanted(registries=["/app/shop/service", "/app/shopping"]).registries == (
        "/app/shop/service",
        "/app/shopping",
    )


class Client:
    """A connection that has the access record, and answers a transaction with these results."""

    def __init__(self, *results: Any, acl: Any = OPEN_ACL_UNSAFE, there: tuple[str, ...] = ("/", "/app")) -> None:
        self.results, self.acl, self.there = results, acl, there
        self.done: list[Any] = []

    def sync(self, _path: str) -> None: ...

    def get(self, _path: str) -> Any:
        return AccessRecord((ann(),), (Principal("digest", "stranger:hash"),)).to_node(), self

    version, czxid = 7, 5

    def get_acls(self, _path: str) -> Any:
        if isinstance(self.acl, Exception):
            raise self.acl
        return self.acl, self

    def exists(self, path: str) -> Any:
        return path in self.there or None

    def transaction(self) -> Client:
        return self

    def commit(self) -> Any:
        return self.results

    def create(self, path: str, *_value: Any, acl: Any) -> None:
        self.done.append(("create", path, [(entry.perms, entry.id) for entry in acl]))

    def delete(self, path: str) -> None:
        self.done.append(("delete", path))

    def set_data(self, path: str, _data: bytes) -> None:
        self.done.append(("set_data", path))

    def set_acls(self, path: str, _acl: Any) -> None:
        self.done.append(("set_acls", path))

    def set(self, path: str, _value: bytes, version: int) -> None:
        self.done.append(("set", path, version))


def test_a_connection_with_another_password_than_the_publishers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_walk, "identities", lambda _client: ["digest ann", "ip 127.0.0.1"])
    login = {"digest_username": "ann", "digest_password": "word"}
    check_is_publisher(None, wanted(), login)
    with pytest.raises(ZooKeeperError, match=r"which to the server is digest ann, .*, with another password"):
        check_is_publisher(None, wanted(publishers=[{**ANN, "password": "wrod"}]), login)
    with pytest.raises(ZooKeeperError, match=r"which to the server is digest ann, ip 127\.0\.0\.1: it could change"):
        check_is_publisher(None, wanted(publishers=[FLEET]), login)
    # Two passwords at once: one of them is this connection's.
    check_is_publisher(None, wanted(publishers=[{**ANN, "password": "new"}, ANN]), login)


def test_a_publisher_that_the_server_does_not_match_is_refused_before_anything_is_closed() -> None:
    client = Client(RolledBackError(), NoAuthError(), RuntimeInconsistency())
    with pytest.raises(ZooKeeperError, match="the server takes this connection for none of them"):
        prove_roles(client, APP, wanted())
    (create, path, acl), *others = client.done
    assert (create, acl) == ("create", [(31, ann())])
    assert path.startswith("/app/access-")
    fleet = wanted().agents[0]
    probe = ("create", path, [(31, ann()), (1, fleet)])
    assert others == [("set_data", path), ("delete", path), probe, ("delete", path)]


@pytest.mark.parametrize(("hosts", "expected"), [(1, 500), (89, 500), (200, 100), (600, 11), (3_000, 1)])
def test_the_longer_the_acls_are_the_fewer_are_set_at_once(hosts: int, expected: int) -> None:
    acl = tuple(Grant(READ, Principal("x509", f"CN=web{number}")) for number in range(hosts))
    under_way = [0]

    def set_acls_async(_path: str, _acl: Any, _version: int) -> Any:
        under_way.append(under_way[-1] + 1)
        return SimpleNamespace(get=answer)

    def answer(timeout: float) -> None:
        assert timeout
        under_way.append(under_way[-1] - 1)

    client = SimpleNamespace(set_acls_async=set_acls_async)
    set_acls(client, [AclChange(Seen(f"/app/shop/{number}", ANYBODY, 0, 0), acl) for number in range(1_000)])
    assert max(under_way) == expected
    assert under_way[-1] == 0


@pytest.mark.parametrize(
    "given",
    [
        {"readers": [{"scheme": "world", "id": "web1", "password": None}]},
        {"agents": [{"scheme": "sasl", "id": "fleet", "password": "word"}]},
        {"agents": [{"scheme": "x509", "id": "CN=fleet", "password": "word"}]},
    ],
)
def test_what_an_identity_of_a_scheme_does_not_have_is_refused(given: Any) -> None:
    with pytest.raises(InvalidRecord, match=r"(agents: password|readers: id): scheme [a-z0-9]+ has none; leave it out"):
        wanted(**given)


@pytest.mark.parametrize("option", ["registries", "values"])
@pytest.mark.parametrize("path", ["/zookeeper", "/zookeeper/shop"])
def test_what_is_zookeepers_own_is_refused(option: str, path: str) -> None:
    given: dict[str, Any] = {option: [path]}
    with pytest.raises(InvalidRecord, match=f"{option}: {path} is ZooKeeper's own"):
        wanted(**given)


@pytest.mark.parametrize("seconds", [float("nan"), -1.0])
def test_an_impossible_wait_is_refused(seconds: float) -> None:
    options = {name: spec.get("default") for name, spec in argument_spec().items()}
    with pytest.raises(ZooKeeperError, match=r"^wait_timeout: expected 0 or more, got "):
        converge(None, {**options, "wait_timeout": seconds}, check=True)


@pytest.mark.parametrize("results", [("/app/probe", None, True, "/app/probe", True), (NodeExistsError(), *[None] * 4)])
def test_a_publisher_that_the_server_matches_goes_on(results: Any) -> None:
    prove_roles(Client(*results), APP, wanted())


def test_a_record_that_anybody_may_write_says_nothing() -> None:
    client = Client()
    assert read_access(client, APP) == (None, 7, False)
    closed = Client(acl=[make_digest_acl("ann", "word", all=True)])
    found = read_access(closed, APP)
    assert found.access is not None
    assert found.version == 7


@pytest.mark.parametrize("acl", [OPEN_ACL_UNSAFE, [ACL(READ | CREATE, Id("world", "anyone"))], NoAuthError()])
def test_it_is_reported_where_anybody_may_replace_an_empty_registry(acl: Any) -> None:
    client = Client(acl=acl)
    access = wanted(registries=["/service/shop", "/service/admin", "/top", "/app/shop/own"], values=["/config/shop"])
    expected = ["/config", "/service"] if acl == OPEN_ACL_UNSAFE else []
    assert open_above(client, APP, access) == expected


@pytest.mark.parametrize("hosts", [1, 300, 30_000])
def test_a_diff_of_many_hosts_is_cut_off_at_the_same_znode_on_both_sides(hosts: int) -> None:
    many = tuple(Grant(READ, Principal("x509", f"CN=web{number}")) for number in range(hosts))
    changes = [AclChange(Seen(f"/app/shop/{number}", ANYBODY, 0, 0), many) for number in range(2_000)]
    before, after = (as_lines(None, changes, side).splitlines() for side in ("before", "after"))
    assert [line.split(":")[0] for line in before] == [line.split(":")[0] for line in after]
    assert before[1] == "/app/shop/0: world anyone read+write+create+delete+admin"
    assert (hosts > 1) == before[-1].startswith("... and ")
    assert len("".join(after)) < max(2_000_000, 40 * hosts)


def test_a_registry_below_the_application_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    own = [Seen(path, ANYBODY, 0, 7) for path in (APP.agent("web1"), f"{APP.rollout(3)}/line/n-0000000000")]
    registration = Seen("/app/shop/service/web1", ANYBODY, 0, 7)
    monkeypatch.setattr(access_walk, "_walk", lambda _client, _roots: [*own, registration])
    with pytest.raises(
        ZooKeeperError, match="registries: /app/shop/service/web1 is a registration, and /app/shop/serv"
    ):
        find_changes(Client(), APP, wanted())
    for access in (wanted(registries=["/app/shop/service"]), AccessRecord(state="open")):
        find_changes(Client(), APP, access)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("0.2.0", True), ("0.2.0-distribution", True), ("0.10.1", True), ("1.0.0", True), ("0.1.9", False), (None, False)],
)
def test_an_agent_that_does_not_know_roles_is_recognized_by_its_version(version: str | None, expected: bool) -> None:
    assert knows_roles(version) == expected


def test_the_live_agents_that_do_not_know_roles_are_named() -> None:
    statuses = {"web1": {"version": "0.1.0"}, "web2": {"version": "0.2.0"}, "web3": {}, "web4": None}

    class Fleet:
        def get_children(self, _path: str) -> list[str]:
            return list(statuses)

        def get_async(self, path: str) -> Any:
            name = path.rpartition("/")[2]
            status = {"name": name, "state": "active", **(statuses[name] or {})}
            return SimpleNamespace(
                get=lambda timeout: (json.dumps(status).encode() if statuses[name] is not None else b"[", timeout)
            )

    assert older_agents(Fleet(), APP) == ["web1", "web3"]


def test_what_each_live_agent_has_read_of_the_roles_is_known() -> None:
    statuses = {"web1": b'{"name": "web1", "access": 0}', "web2": b'{"name": "web2"}', "web3": b"[", "web4": b""}
    reads = {path: SimpleNamespace(get=lambda timeout, data=data: (data, timeout)) for path, data in statuses.items()}
    client = SimpleNamespace(get_children=lambda _path: [*reads], get_async=lambda path: reads[path.rpartition("/")[2]])
    assert accesses(client, APP) == {"web1": 0, "web2": None, "web3": None, "web4": None}


def test_the_agents_without_credentials_are_named_in_one_line() -> None:
    refuse_without(agents=[], app=APP)
    with pytest.raises(ZooKeeperError, match=r"^/app/shop/agents: w0, w1, w2, w3, w4 and 3 more: without credentials"):
        refuse_without(agents=[f"w{number}" for number in range(8)], app=APP)
