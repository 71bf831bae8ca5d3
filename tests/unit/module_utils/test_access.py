# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what with which znode, according to the application's access record."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from kazoo.protocol.serialization import Create, Delete, GetData, SetData, Transaction
from kazoo.security import OPEN_ACL_UNSAFE

from ansible_collections.zoo.deploy.plugins.module_utils.access import (
    ADMIN,
    ALL,
    ANYBODY,
    CREATE,
    CREATOR,
    DELETE,
    READ,
    READABLE,
    WRITE,
    AccessRecord,
    Grant,
    Principal,
    Rule,
    all_may_write,
    choose_rule,
    closed,
    has_credentials,
    is_authenticated,
    is_open,
    is_replaceable,
    merged,
    own_schemes,
)
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, InvalidRecord

APP = AppPaths("/app/shop")
PUBLISHER = Principal("digest", "ann:hash")
AGENT = Principal("digest", "fleet:hash")
OTHER_AGENT = Principal("x509", "CN=web2")
READER = Principal("sasl", "watch")
ACCESS = AccessRecord((PUBLISHER,), (AGENT,), (READER,))
WORLD = Principal("world", "anyone")
UNHASHED = Principal("digest", "ann:x")
KNOWN = {"digest": "ann", "x509": None}
"""A connection's schemes, with the user where that is known."""
PER_HOST = AccessRecord((PUBLISHER,), (), (READER,), {"web1": (AGENT,), "web2": (OTHER_AGENT,)})


def rights(path: str, who: Principal, access: AccessRecord = ACCESS, **about: Any) -> int:
    return {grant.id: grant.perms for grant in access.acl(APP, path, **about)}.get(who, 0)


ALL_KINDS = [
    ("/app/shop", False),
    ("/app/shop/config", False),
    ("/app/shop/history", False),
    ("/app/shop/history/release-", False),
    ("/app/shop/policy", False),
    ("/app/shop/lock", False),
    ("/app/shop/access", False),
    ("/app/shop/rollouts", False),
    ("/app/shop/rollouts/12", False),
    ("/app/shop/rollouts/12/gate", False),
    ("/app/shop/rollouts/12/line/n-0000000000", True),
    ("/app/shop/bad", False),
    ("/app/shop/bad/" + "a" * 40, False),
    ("/app/shop/agents", False),
    ("/app/shop/agents/web1", True),
    ("/app/shop/roster", False),
    ("/app/shop/roster/web1", False),
    ("/service/shop", False),
    ("/service/shop/web/web1", True),
]


@pytest.mark.parametrize(("path", "ephemeral"), ALL_KINDS)
def test_publishers_may_do_everything_and_the_world_nothing(path: str, ephemeral: bool) -> None:
    assert rights(path, PUBLISHER, ephemeral=ephemeral, host="web1") == ALL
    assert {who.scheme for _perms, who in ACCESS.acl(APP, path, ephemeral=ephemeral)} <= {"digest", "sasl"}


@pytest.mark.parametrize(("path", "ephemeral"), ALL_KINDS)
def test_readers_read_everything_but_the_record_with_its_hashes(path: str, ephemeral: bool) -> None:
    assert rights(path, READER, ephemeral=ephemeral) == (0 if path == APP.access else READ)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/app/shop", READ),
        ("/app/shop/config", READ),
        ("/app/shop/history", READ),
        ("/app/shop/history/release-0000000001", READ),
        ("/app/shop/policy", READ),
        ("/app/shop/access", READ),
        ("/app/shop/lock", 0),
        ("/app/shop/agents", READ | CREATE),
        ("/app/shop/roster", READ | CREATE),
        ("/app/shop/bad", READ | CREATE | DELETE),
        ("/app/shop/bad/" + "a" * 40, READ),
        ("/app/shop/rollouts", READ | CREATE | DELETE),
        ("/app/shop/rollouts/12/in_flight", READ | WRITE | CREATE | DELETE),
        ("/service/shop/web", READ),
    ],
)
def test_agents_may_do_what_their_part_requires_and_never_change_an_acl(path: str, expected: int) -> None:
    assert rights(path, AGENT) == expected
    assert not expected & ADMIN


@pytest.mark.parametrize(
    ("path", "ephemeral"),
    [("/app/shop/agents/web1", True), ("/app/shop/roster/web1", False), ("/service/shop/web/web1", True)],
)
def test_the_znodes_of_a_host_are_its_own(path: str, ephemeral: bool) -> None:
    assert rights(path, AGENT, PER_HOST, ephemeral=ephemeral, host="web1") == ALL
    assert rights(path, OTHER_AGENT, PER_HOST, ephemeral=ephemeral, host="web1") == READ
    # A host that shares an identity with all others shares that too.
    assert rights(path, AGENT, ACCESS, ephemeral=ephemeral, host="web1") == ALL


def test_the_entry_of_a_host_that_a_publisher_expects_is_the_hosts_own() -> None:
    entry = Rule(APP, access=PER_HOST).acl(APP.roster_entry("web1"), ephemeral=False)
    assert entry is not None
    assert {who: perms for perms, who in entry} == {PUBLISHER: ALL, AGENT: ALL, OTHER_AGENT: READ, READER: READ}


def test_above_an_application_others_can_be_created_and_nothing_can_be_deleted() -> None:
    elsewhere = AccessRecord((PUBLISHER,), (AGENT,), registries=("/service/shop",), values=("/values/shop",))
    world = Principal("world", "anyone")
    for path in ("/app", "/service", "/values"):
        assert elsewhere.acl(APP, path) == (Grant(ALL, PUBLISHER), Grant(READ | CREATE, world))
    for path in ("/app/shop", "/service/shop", "/values/shop", "/values/shop/a", "/service/shop/a"):
        assert rights(path, world, elsewhere) == 0
    rule = choose_rule(APP, None, {}, own=KNOWN)
    for path in ("/app", "/service"):
        assert rule.acl(path, ephemeral=False) == (*CREATOR, Grant(READ | CREATE, world))
    assert rule.acl("/service/shop", ephemeral=False) == CREATOR


def test_a_registry_of_the_application_may_be_below_its_own_znode() -> None:
    below = AccessRecord((PUBLISHER,), (AGENT,), registries=("/app/shop/service",))
    assert rights("/app/shop/service/web", AGENT, below) == READ | CREATE | DELETE
    assert rights("/app/shop", AGENT, below) == READ


def test_agents_register_also_in_a_registry_that_is_in_a_tree_of_values() -> None:
    within = AccessRecord((PUBLISHER,), (AGENT,), registries=("/prod/service",), values=("/prod",))
    assert rights("/prod/service", AGENT, within) == READ | CREATE | DELETE
    assert rights("/prod/config", AGENT, within) == READ


def test_agents_withdraw_from_a_registry_and_change_nothing_that_is_the_applications_own_there() -> None:
    above = AccessRecord((PUBLISHER,), (AGENT,), registries=("/service/shop", "/app"))
    assert rights("/service/shop/web", AGENT, above) == READ | CREATE | DELETE
    assert [rights(path, AGENT, above) for path in (APP.config, APP.history, APP.lock)] == [READ, READ, 0]


def test_an_identity_of_two_roles_may_do_what_either_may() -> None:
    both = AccessRecord((PUBLISHER,), (PUBLISHER, AGENT), (AGENT,))
    assert rights("/app/shop/config", PUBLISHER, both) == ALL
    assert rights("/app/shop/agents", AGENT, both) == READ | CREATE


def test_the_world_reads_where_it_is_a_reader() -> None:
    world = Principal("world", "anyone")
    public = AccessRecord((PUBLISHER,), (AGENT,), (world,))
    assert rights("/app/shop/config", world, public) == READ
    assert rights("/app/shop/access", world, public) == 0


def test_a_record_that_opens_leaves_everything_to_anybody() -> None:
    opening = AccessRecord((PUBLISHER,), (AGENT,), state="open")
    assert opening.acl(APP, "/app/shop/config") == ANYBODY


def test_a_record_is_read_as_it_was_written() -> None:
    assert AccessRecord.from_node(PER_HOST.to_node()) == PER_HOST


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"agents": [AGENT._asdict()]}, "publishers: expected at least one"),
        ({"publishers": [PUBLISHER._asdict()]}, "agents: expected at least one"),
        ({"publishers": "ann"}, "publishers: expected a list of identities, got"),
        ({"publishers": [{"scheme": "digest"}]}, "publishers: expected an object with scheme and id"),
        ({"hosts": []}, "hosts: expected an object, got"),
        ({"hosts": {"web1": [3]}}, "hosts.web1: expected an object with scheme and id"),
        (
            {"publishers": [{"scheme": "world", "id": "anyone"}], "agents": [AGENT._asdict()]},
            "publishers, agents: world is everybody",
        ),
        (
            {"publishers": [PUBLISHER._asdict()], "agents": [AGENT._asdict()], "state": "ajar"},
            "state: expected secured or open",
        ),
        (
            {"publishers": [PUBLISHER._asdict()], "agents": [{"scheme": "x509", "id": "x" * 64_000}]},
            "bytes of identities",
        ),
    ],
)
def test_an_invalid_access_record_is_refused(content: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRecord, match=problem):
        AccessRecord.from_node(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("record", "root", "own", "expected"),
    [
        (None, None, {}, None),
        (None, None, KNOWN, CREATOR),
        (None, OPEN_ACL_UNSAFE, {}, None),
        (None, OPEN_ACL_UNSAFE, KNOWN, None),
        (ACCESS.to_node(), None, KNOWN, ACCESS.acl(APP, APP.config)),
        (ACCESS.to_node(), OPEN_ACL_UNSAFE, KNOWN, ACCESS.acl(APP, APP.config)),
    ],
)
def test_what_is_created_is_closed_if_an_identity_is_known(
    record: bytes | None, root: Any, own: Any, expected: Any
) -> None:
    rule = choose_rule(APP, record, {} if root is None else {APP.root: root}, own=own)
    assert rule.acl(APP.config, ephemeral=False) == expected
    assert rule.is_open == (expected is None)


OWN = [Grant(ALL, PUBLISHER)]
SHOWN = [*OWN, READABLE]
SHARED = [*OWN, Grant(READ | CREATE, OTHER_AGENT)]
READS = [*OWN, Grant(READ, OTHER_AGENT)]
HIDDEN = [Grant(ALL, Principal("digest", "ann:x"))]
"""An ACL as a server shows it to clients that may not change it."""
BY_ADDRESS = [Grant(ALL, Principal("ip", "192.0.2.0/24"))]
REGISTRY = "/service/shop"


def rule_by(found: dict[str, Any]) -> Rule:
    return choose_rule(APP, None, found, own=KNOWN)


@pytest.mark.parametrize("acl", [OWN, SHOWN, SHARED, READS, [*OWN, Grant(ALL, AGENT), Grant(READ, READER)], BY_ADDRESS])
@pytest.mark.parametrize(
    ("directory", "path"),
    [
        (APP.history, f"{APP.history_prefix}1"),
        (APP.agents, APP.agent("web1")),
        (APP.roster, APP.roster_entry("web1")),
        (APP.bad_commits, APP.bad("a" * 40)),
        (REGISTRY, f"{REGISTRY}/web1"),
    ],
)
def test_without_roles_what_is_created_has_the_acl_of_its_directory_and_its_creator(
    directory: str, path: str, acl: Any
) -> None:
    rule = replace(rule_by({APP.root: OPEN_ACL_UNSAFE, directory: acl}), host="web1")
    assert rule.acl(path, ephemeral=False) == (*merged(acl), *CREATOR)


@pytest.mark.parametrize("acl", [OPEN_ACL_UNSAFE, HIDDEN, (), [*OWN, Grant(READ, Principal("digest", "bob:x"))]])
@pytest.mark.parametrize(
    ("directory", "path"), [(APP.agents, APP.agent("web1")), (REGISTRY, f"{REGISTRY}/web1"), (APP.agents, REGISTRY)]
)
def test_what_is_created_in_a_directory_that_is_open_or_hidden_is_open(directory: str, path: str, acl: Any) -> None:
    rule = rule_by({APP.root: OWN, directory: acl})
    assert rule.acl(path, ephemeral=False) is None
    assert (rule.is_open, rule.leaves_open) == (False, True)


@pytest.mark.parametrize(
    ("path", "like"),
    [
        (APP.config, APP.root),
        (APP.agents, APP.root),
        (APP.history, APP.config),
        (f"{APP.history_prefix}1", APP.config),
        (APP.policy, APP.config),
        (APP.lock, APP.config),
        (APP.roster, APP.agents),
        (APP.rollouts, APP.agents),
        (APP.bad_commits, APP.agents),
        (f"{APP.root}/service", APP.agents),
        (REGISTRY, APP.agents),
        (f"{REGISTRY}/web1", APP.agents),
    ],
)
def test_what_publishers_create_has_the_acl_of_the_release_and_what_agents_create_that_of_their_statuses(
    path: str, like: str
) -> None:
    ids = {name: Principal("x509", f"CN={name}") for name in (APP.root, APP.config, APP.agents)}
    found = {name: [*OWN, Grant(READ, who)] for name, who in ids.items() if name != path}
    named = {grant.id for grant in rule_by(found).acl(path, ephemeral=False) or ()}
    assert named & {*ids.values()} == {ids[like]}
    # If that does not exist either, the application's znode counts.
    named = {grant.id for grant in rule_by({APP.root: found.get(APP.root, OWN)}).acl(path, ephemeral=False) or ()}
    assert named & {*ids.values()} == {ids[APP.root]}


def test_who_may_write_the_release_may_write_its_history_and_take_the_lock() -> None:
    """Even if that znode's ACL grants nothing below it to some, and its creator is known by an address."""
    ids = {name: Principal("ip", name) for name in ("192.0.2.1", "192.0.2.2", "192.0.2.3")}
    publisher, agent, creating = ids.values()
    config = [Grant(READ | WRITE, publisher), Grant(READ, agent), Grant(READ | CREATE, creating)]
    changing = [Grant(READ | WRITE | CREATE | DELETE, publisher), *config[1:]]
    for own in (KNOWN, {}):
        rule = choose_rule(APP, None, {APP.root: BY_ADDRESS, APP.config: config}, own=own)
        for path in (APP.history, f"{APP.history_prefix}1", APP.policy, APP.lock):
            assert set(merged(changing)) == {*(rule.acl(path, ephemeral=False) or ())} - {*CREATOR}


def test_who_may_create_among_agents_may_change_what_others_of_them_have_made() -> None:
    rule = rule_by({APP.root: OWN, APP.agents: SHARED, APP.rollouts: SHARED})
    every = READ | WRITE | CREATE | DELETE
    for path in (APP.rollout(7), f"{APP.rollout(7)}/hosts", APP.bad_commits, REGISTRY, f"{APP.root}/service"):
        assert Grant(every, OTHER_AGENT) in (rule.acl(path, ephemeral=False) or ())
    # But nobody may change another's status or roster entry, even if these directories do not exist yet.
    for known in (rule, rule_by({APP.root: SHARED})):
        for path in (APP.agents, APP.agent("web1"), APP.roster, APP.roster_entry("web1")):
            assert Grant(READ | CREATE, OTHER_AGENT) in (replace(known, host="web1").acl(path, ephemeral=False) or ())


def test_a_client_known_by_its_address_creates_with_the_acl_of_the_directory() -> None:
    """It gets nothing of its own: what agents create, others at such addresses may change."""
    shared = [Grant(ALL, OTHER_AGENT), *BY_ADDRESS, Grant(READ | CREATE, Principal("ip", "198.51.100.7"))]
    rule = replace(choose_rule(APP, None, {APP.root: BY_ADDRESS, APP.agents: shared}, own={}), host="web1")
    for path in (APP.config, APP.history, f"{APP.history_prefix}1", APP.policy):
        assert rule.acl(path, ephemeral=False) == merged(BY_ADDRESS)
    changing = [*shared[:-1], Grant(READ | WRITE | CREATE | DELETE, shared[-1].id)]
    for path in (APP.agent("web1"), APP.roster_entry("web1"), APP.rollout(7)):
        assert rule.acl(path, ephemeral=False) == merged(changing)
    # But nobody may delete in these directories who could not before.
    rule_above = choose_rule(APP, None, {APP.root: shared}, own={})
    assert rule_above.acl(APP.agents, ephemeral=False) == rule_above.acl(APP.roster, ephemeral=False) == merged(shared)
    # Elsewhere it is not known whether its address is among those.
    assert rule.acl(REGISTRY, ephemeral=False) is None
    assert (rule.is_open, rule.leaves_open) == (False, False)


@pytest.mark.parametrize(
    ("history", "leaves_open"), [(BY_ADDRESS, False), (OPEN_ACL_UNSAFE, True), (HIDDEN, True), ([], True)]
)
def test_it_is_known_whether_what_is_for_addresses_can_be_kept_for_them(history: Any, leaves_open: bool) -> None:
    rule = choose_rule(APP, None, {APP.root: BY_ADDRESS, APP.history: history}, own={})
    assert (rule.acl(f"{APP.history_prefix}1", ephemeral=False) is None, rule.leaves_open) == (leaves_open, leaves_open)


def test_a_client_without_credentials_knows_whether_anything_is_open_in_a_closed_application() -> None:
    """ACLs are not inherited: perhaps only the application's own znode has been given one."""
    for acl, leaves_open in ((OPEN_ACL_UNSAFE, True), (HIDDEN, False), ([], False)):
        rule = choose_rule(APP, None, {APP.root: HIDDEN, APP.config: acl}, own={})
        assert (rule.is_open, rule.leaves_open) == (False, leaves_open)


def test_a_host_writes_the_entry_of_the_roster_that_a_publisher_has_made() -> None:
    for found in ({APP.root: SHARED}, {APP.root: OWN, APP.roster: SHARED}):
        acl = rule_by(found).acl(APP.roster_entry("web1"), ephemeral=False)
        assert Grant(READ | WRITE | CREATE | DELETE, OTHER_AGENT) in (acl or ())
        assert Grant(READ | CREATE, OTHER_AGENT) in (rule_by({APP.root: SHARED}).acl(APP.roster, ephemeral=False) or ())


def test_a_registry_right_below_the_root_is_for_nobody_else_either() -> None:
    found = {APP.root: OWN, APP.agents: [*OWN, Grant(READ | CREATE, AGENT)]}
    rule = replace(choose_rule(APP, None, found, own={"digest": "fleet"}), registries=("/servers",))
    given = rule.acl("/servers", ephemeral=False)
    assert given is not None
    assert not is_open(given)
    assert is_open(rule.acl("/other", ephemeral=False) or ())


def test_a_registry_that_does_not_exist_yet_is_open_if_its_creator_is_not_an_agent() -> None:
    for found in ({APP.root: BY_ADDRESS}, {APP.root: OWN, APP.agents: [Grant(ALL, AGENT), READABLE]}):
        rule = rule_by(found)
        assert [rule.acl(path, ephemeral=False) for path in (REGISTRY, f"{REGISTRY}/web1")] == [None, None]
        assert rule.acl(f"{APP.root}/service", ephemeral=False)


def test_what_a_connection_with_a_certificate_and_a_password_has_begun_is_for_all_who_have_either() -> None:
    """For example if a lock was the first that it created: whoever may write `config` chooses what hosts run."""
    for both in ([*OWN, Grant(ALL, OTHER_AGENT)], [*SHOWN, Grant(ALL, OTHER_AGENT)]):
        rule = rule_by({APP.root: both})
        for path in (
            APP.config,
            APP.history,
            f"{APP.history_prefix}1",
            APP.agent("web1"),
            APP.rollouts,
            APP.rollout(7),
        ):
            assert rule.acl(path, ephemeral=False) == (*merged(both), *CREATOR)
        assert not rule.is_open
        assert not rule.leaves_open


@pytest.mark.parametrize(
    ("own", "acl", "is_named"),
    [
        ({"x509": None}, BY_ADDRESS, False),
        ({"x509": None}, OWN, False),
        ({"x509": None}, [*BY_ADDRESS, Grant(READ, OTHER_AGENT)], True),
        ({"digest": "ann"}, BY_ADDRESS, True),
        ({"x509": None, "sasl": None}, BY_ADDRESS, True),
    ],
)
def test_a_certificate_that_the_server_may_not_know_counts_as_nobody_if_no_certificate_is_named(
    own: Any, acl: Any, is_named: bool
) -> None:
    given = choose_rule(APP, None, {APP.root: acl}, own=own).acl(APP.config, ephemeral=False)
    # A server accepts no ACL of a connection's own identities if it knows none.
    assert given == (*merged(acl), *(CREATOR if is_named else ()))


@pytest.mark.parametrize(
    ("acl", "leaves_open"),
    [
        ([*OWN, Grant(ALL, AGENT)], False),
        (READS, False),
        # It sees no hash, and so can't copy the ACL.
        (SHARED, True),
        ([Grant(ALL, OTHER_AGENT), Grant(READ | CREATE, Principal("x509", "CN=web1"))], False),
        (OPEN_ACL_UNSAFE, True),
    ],
)
def test_it_is_known_whether_others_can_create_something_that_is_closed(acl: Any, leaves_open: bool) -> None:
    assert rule_by({APP.root: OWN, APP.agents: acl}).leaves_open is leaves_open


def test_each_creation_of_a_transaction_gets_its_own_acl_and_all_else_is_left_as_it_is() -> None:
    rule = replace(choose_rule(APP, ACCESS.to_node(), {}, own=KNOWN), host="web1")

    def acl(path: str, ephemeral: bool) -> Any:
        return rule.acl(path, ephemeral=ephemeral)

    write, delete = SetData("/root/app/shop/config", b"", 3), Delete("/root/app/shop/agents/web1", 0)
    creations = [
        Create("/root/app/shop/history/release-", b"", OPEN_ACL_UNSAFE, 2),
        Create("/root/app/shop/agents/web1", b"", OPEN_ACL_UNSAFE, 1),
    ]
    first, second, *others = closed(Transaction([*creations, write, delete]), "/root", acl).operations
    assert first.acl == ACCESS.acl(APP, "/app/shop/history/release-")
    assert second.acl == ACCESS.acl(APP, "/app/shop/agents/web1", ephemeral=True, host="web1")
    assert others == [write, delete]
    assert closed(GetData("/root/app/shop", None), "/root", acl) == GetData("/root/app/shop", None)
    assert closed(creations[0], "/root", lambda _path, _ephemeral: None).acl == OPEN_ACL_UNSAFE


@pytest.mark.parametrize(
    ("options", "known", "expected"),
    [
        ({}, [], (False, False)),
        ({"tls": True, "tls_ca": "/ca.pem"}, [], (False, False)),
        ({"tls_cert": "/c.pem"}, [], (False, False)),
        ({"digest_username": "ann"}, [], (True, True)),
        ({"sasl_mechanism": "GSSAPI"}, [], (True, True)),
        ({"tls": True, "tls_cert": "/c.pem"}, ["x509 CN=ann"], (True, True)),
        ({"tls": True, "tls_cert": "/c.pem"}, ["ip 127.0.0.1"], (True, False)),
        ({"tls": True, "tls_cert": "/c.pem"}, [], (True, False)),
    ],
)
def test_a_connection_is_authenticated_where_an_acl_can_name_it(
    options: dict[str, Any], known: list[str], expected: tuple[bool, bool]
) -> None:
    assert (has_credentials(options), is_authenticated(options, lambda: known)) == expected


def test_what_a_connection_may_be_follows_from_its_options() -> None:
    assert own_schemes({"digest_username": "ann:b", "sasl_mechanism": "GSSAPI"}) == {"digest": "ann", "sasl": None}
    assert own_schemes({"tls": True, "tls_cert": "/c.pem"}) == {"x509": None}


def test_two_acls_that_allow_the_same_are_the_same() -> None:
    first, second = ACCESS.acl(APP, APP.config)[:2]
    halves = [first._replace(perms=first.perms & READ), first._replace(perms=first.perms & ~READ)]
    assert merged([second, *(half for half in halves if half.perms), first]) == tuple(sorted([first, second]))


@pytest.mark.parametrize(
    ("acl", "others", "expected"),
    [
        ([Grant(ALL, PUBLISHER)], [[Grant(ALL, PUBLISHER)]], True),
        ([Grant(ALL, PUBLISHER)], [[Grant(ALL, PUBLISHER), Grant(READ | DELETE, AGENT)]], True),
        ([Grant(WRITE, PUBLISHER)], [[Grant(CREATE, PUBLISHER)], [Grant(ADMIN, PUBLISHER)]], True),
        ([Grant(ALL, PUBLISHER), Grant(READ | CREATE, AGENT)], [[Grant(READ | CREATE, AGENT)]], False),
        ([Grant(ALL, PUBLISHER)], [[Grant(ALL, PUBLISHER)], [Grant(WRITE, AGENT)]], False),
        ([Grant(ALL, PUBLISHER)], [[Grant(ALL, PUBLISHER)], []], False),
        ([], [[Grant(ALL, PUBLISHER)]], False),
        # Where anybody may write it, so may everybody.
        ([Grant(READ | WRITE, WORLD)], [[Grant(ALL, PUBLISHER)], [Grant(CREATE, AGENT)]], True),
        ([Grant(READ | CREATE, WORLD)], [[Grant(ALL, PUBLISHER)]], False),
        # Two passwords of one user look alike where the server shows no hash.
        ([Grant(ALL, UNHASHED)], [[Grant(ALL, UNHASHED)]], True),
        ([Grant(ALL, UNHASHED)], [[Grant(ALL, UNHASHED), Grant(READ | WRITE, UNHASHED)]], False),
        ([Grant(ALL, UNHASHED), Grant(READ, UNHASHED)], [[Grant(ALL, UNHASHED), Grant(READ, UNHASHED)]], False),
    ],
)
def test_it_is_known_whether_all_who_may_change_one_znode_may_write_the_others(
    acl: Any, others: Any, expected: bool
) -> None:
    assert all_may_write(acl, others) == expected


@pytest.mark.parametrize(
    ("acl", "expected"),
    [
        ([Grant(ALL, WORLD)], True),
        ([Grant(ADMIN, WORLD)], True),
        ([Grant(READ | CREATE, WORLD), Grant(DELETE, WORLD)], True),
        ([Grant(ALL, PUBLISHER), Grant(READ | CREATE | WRITE, WORLD)], False),
        ([Grant(ALL, PUBLISHER), Grant(DELETE, WORLD)], False),
        ([Grant(ALL, PUBLISHER)], False),
        ([], False),
    ],
)
def test_who_may_only_create_replaces_nothing(acl: Any, expected: bool) -> None:
    assert is_replaceable(acl) is expected


@pytest.mark.parametrize(
    ("address", "is_anybody"),
    [("0.0.0.0/0", True), ("::/0", True), ("192.0.2.7/00", True), ("192.0.2.0/24", False), ("10.0.0.0", False)],
)
def test_a_range_of_all_addresses_is_everybody(address: str, is_anybody: bool) -> None:
    acl = [Grant(ALL, Principal("ip", address))]
    assert (is_open(acl), is_replaceable(acl), all_may_write(acl, [SHARED])) == (is_anybody,) * 3
    assert choose_rule(APP, None, {APP.root: acl}, own=KNOWN).is_open is is_anybody
    assert not is_open([Grant(READ, Principal("ip", address))])
