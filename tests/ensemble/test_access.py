"""An application in a real ensemble that is closed to all but its roles, and opened again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoAuthError, NotEmptyError
from kazoo.security import OPEN_ACL_UNSAFE, make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils import access_walk, znodes
from ansible_collections.zoo.deploy.plugins.module_utils.access import AccessRecord, is_open
from ansible_collections.zoo.deploy.plugins.module_utils.access_rule import kept_closed
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.identity import identities
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect
from ansible_collections.zoo.deploy.plugins.modules import zk_access
from support.certificates import Certificates
from support.client import connected
from support.ensemble import Ensemble
from support.module import run_module
from support.playbook import ROOT
from support.repository import GitRepository

MODULE = ROOT / "plugins/modules/zk_access.py"
PASSWORDS = {"publisher": "word of the publisher", "agent": "word of the agent", "reader": "word of the reader"}
ROLES: dict[str, Any] = {
    f"{role}s": [{"scheme": "digest", "id": role, "password": password}] for role, password in PASSWORDS.items()
}


@pytest.fixture(autouse=True)
def _shared(zk: KazooClient) -> None:
    """The parent of the applications of all tests, which any test may delete."""
    zk.ensure_path("/app")


@pytest.fixture
def paths(app: str) -> AppPaths:
    """The znodes of an application that only this test uses."""
    return AppPaths(app)


@pytest.fixture
def registry(app: str) -> str:
    """The registry of its servers."""
    return f"/service{app.replace('/', '-')}"


Login = Callable[[str], KazooClient]


@pytest.fixture
def login(ensemble: Ensemble) -> Iterator[Login]:
    """Returns a connection with the credentials of a role, or of somebody else."""
    with contextlib.ExitStack() as stack:

        def log_in(user: str) -> KazooClient:
            known = [("digest", f"{user}:{PASSWORDS.get(user, 'no password')}")] if user else []
            return stack.enter_context(connected(ensemble.hosts, auth_data=known))

        yield log_in


@pytest.fixture
def tree(zk: KazooClient, paths: AppPaths, registry: str) -> list[str]:
    """The znodes of an application in use, all of them open: two hosts, a release, a rollout."""
    persistent = [
        *(paths.config, f"{paths.history_prefix}0000000001", paths.policy, paths.lock),
        *(f"{paths.rollout(7)}/{name}" for name in ("gate", "hosts/web1", "in_flight", "line", "lanes/0")),
        *(paths.bad("a" * 40), paths.roster_entry("web1"), paths.roster_entry("web2")),
    ]
    ephemeral = [paths.agent("web1"), f"{registry}/web1", f"{paths.rollout(7)}/line/n-0000000000"]
    for path in persistent:
        zk.create(path, b"{}", makepath=True)
    for path in ephemeral:
        zk.create(path, b"{}", ephemeral=True, makepath=True)
    return [*persistent, *ephemeral]


def set_access(client: KazooClient, paths: AppPaths, check: bool = False, **given: Any) -> dict[str, Any]:
    """Run the module. No agent is behind the statuses here, so none could adopt the roles, hence `force`."""
    options = {name: spec.get("default") for name, spec in zk_access.argument_spec().items()}
    return zk_access.converge(client, {**options, "force": True, "app": paths.root, **given}, check)


def everything(zk: KazooClient, root: str, but: Sequence[str] = ()) -> list[str]:
    """Every znode of a tree, except the trees in `but`."""
    children = [f"{root}/{name}" for name in zk.get_children(root)]
    return [root, *(path for child in children if child not in but for path in everything(zk, child, but))]


def attempts(client: KazooClient, path: str) -> dict[str, bool]:
    """What a connection may do with a znode; each is attempted, changes in a transaction that cannot succeed."""

    def allowed(request: Callable[[], Any]) -> bool:
        try:
            request()
        except NoAuthError:
            return False
        except KazooException:
            return True  # refused for another reason, after the ACL was checked
        return True

    def in_vain(add: Callable[[Any], Any]) -> bool:
        transaction = client.transaction()
        add(transaction)
        transaction.check("/no-such-znode", 0)
        # A znode with children cannot be deleted even by those who may delete it.
        return not isinstance(transaction.commit()[0], (NoAuthError, NotEmptyError))

    return {
        "read": allowed(lambda: client.get(path)),
        "list": allowed(lambda: client.get_children(path)),
        "write": in_vain(lambda transaction: transaction.set_data(path, b"mine")),
        "create": in_vain(lambda transaction: transaction.create(f"{path}/intruder")),
        "delete": in_vain(lambda transaction: transaction.delete(path)),
        "replace": in_vain(lambda transaction: (transaction.delete(path), transaction.create(path))),
        "admin": allowed(lambda: client.set_acls(path, OPEN_ACL_UNSAFE, 10**6)),
    }


def make_ids(*users: str) -> list[Any]:
    """The ACL entries of these users, as the server stores them."""
    return [make_digest_acl(user, PASSWORDS[user], all=True) for user in users]


READS = {"read", "list"}


def may(client: KazooClient, path: str) -> set[str]:
    """The names of the attempts that it may make."""
    return {name for name, allowed in attempts(client, path).items() if allowed}


def test_strangers_may_do_nothing_and_readers_only_read(
    login: Login, paths: AppPaths, registry: str, tree: list[str]
) -> None:
    result = set_access(login("publisher"), paths, **ROLES, registries=[registry])
    assert result["changed"]
    publisher, reader = login("publisher"), login("reader")
    znodes = [*everything(publisher, paths.root), *everything(publisher, registry)]
    assert {*tree, paths.access, paths.root, registry} <= set(znodes)
    for user in ("", "stranger"):
        nobody = login(user)
        assert {path for path in znodes if may(nobody, path)} == set()
    expected = {path: READS if path != paths.access else set() for path in znodes}
    assert {path: may(reader, path) for path in znodes} == expected
    assert all({*READS, "write", "create", "admin"} <= may(publisher, path) for path in znodes if path not in tree[-3:])


def test_an_agent_can_change_nothing_that_chooses_what_is_deployed(
    login: Login, paths: AppPaths, registry: str, tree: list[str]
) -> None:
    set_access(login("publisher"), paths, **ROLES, registries=[registry])
    assert f"{paths.rollout(7)}/gate" in tree
    agent = login("agent")
    for path in (paths.config, f"{paths.history_prefix}0000000001", paths.policy, paths.access):
        assert may(agent, path) == READS
    assert may(agent, paths.root) == READS
    assert may(agent, paths.history) == READS
    assert may(agent, paths.lock) == set()
    assert may(agent, paths.agents) == {*READS, "create"}
    assert may(agent, paths.roster) == {*READS, "create"}
    assert {"write", "create", "delete"} <= may(agent, f"{paths.rollout(7)}/gate")
    assert {*READS, "create"} <= may(agent, registry)


def test_no_host_changes_what_belongs_to_another(login: Login, paths: AppPaths, registry: str) -> None:
    hosts = [
        {"name": "web1", "scheme": "digest", "id": "agent", "password": PASSWORDS["agent"]},
        {"name": "web2", "scheme": "digest", "id": "reader", "password": PASSWORDS["reader"]},
    ]
    first, second = login("agent"), login("reader")
    for path in (paths.agent("web1"), f"{registry}/web1"):
        first.create(path, b"{}", ephemeral=True, makepath=True)
    first.create(paths.roster_entry("web1"), b"{}", makepath=True)
    set_access(login("publisher"), paths, publishers=ROLES["publishers"], host_agents=hosts, registries=[registry])
    own = [paths.agent("web1"), paths.roster_entry("web1"), f"{registry}/web1"]
    for path in own:
        assert {*READS, "write", "admin"} <= may(first, path)
        assert not may(second, path) & {"write", "admin"}
    # A host that may delete its own registration may delete any: the other host notices, and recreates it.
    assert ["delete" in may(second, path) for path in own] == [False, False, True]


def test_closing_loses_no_ephemeral_and_triggers_no_watch(
    zk: KazooClient, login: Login, paths: AppPaths, registry: str, tree: list[str]
) -> None:
    events: list[Any] = []
    watching = login("reader")
    for path in tree:
        watching.get(path, watch=events.append)
        watching.get_children(path, watch=events.append)
    before = {path: zk.exists(path) for path in tree}
    publisher = login("publisher")
    set_access(publisher, paths, **ROLES, registries=[registry])
    set_access(publisher, paths, state="open")
    after = {path: zk.exists(path) for path in tree}
    assert {path: (stat.czxid, stat.mzxid, stat.ephemeralOwner) for path, stat in after.items()} == {
        path: (stat.czxid, stat.mzxid, stat.ephemeralOwner) for path, stat in before.items()
    }
    assert events == []


@pytest.mark.usefixtures("tree")
def test_opening_makes_everything_open_to_everybody_again(
    zk: KazooClient, login: Login, paths: AppPaths, registry: str
) -> None:
    publisher = login("publisher")
    set_access(publisher, paths, **ROLES, registries=[registry])
    result = set_access(publisher, paths, state="open")
    assert result["changed"]
    assert result["access"] is None
    znodes = [*everything(zk, paths.root), *everything(zk, registry)]
    assert all(zk.get_acls(path)[0] == OPEN_ACL_UNSAFE for path in znodes)
    assert zk.exists(paths.access) is None
    assert not set_access(publisher, paths, state="open")["changed"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("state", ["secured", "open"])
def test_a_second_run_changes_nothing_and_check_mode_foretells_the_first(
    zk: KazooClient, login: Login, paths: AppPaths, state: str
) -> None:
    publisher = login("publisher")
    if state == "open":
        set_access(publisher, paths, **ROLES)
    before = {path: zk.exists(path) for path in everything(publisher, paths.root)}
    given = {**(ROLES if state == "secured" else {}), "state": state}
    foreseen = set_access(publisher, paths, check=True, **given)
    assert foreseen["changed"]
    assert {path: zk.exists(path) for path in everything(publisher, paths.root)} == before
    done = set_access(publisher, paths, **given)
    assert foreseen["changed_acls"] <= done["changed_acls"] or state == "open"
    again = set_access(publisher, paths, **given)
    assert (again["changed"], again["changed_acls"], again["diff"]["before"]) == (False, 0, again["diff"]["after"])


@pytest.mark.usefixtures("tree")
def test_a_diff_shows_permissions_but_no_hash(login: Login, paths: AppPaths) -> None:
    publisher = login("publisher")
    diff = set_access(publisher, paths, check=True, **ROLES)["diff"]
    assert f"{paths.config}: world anyone read+write+create+delete+admin\n" in diff["before"]
    assert "publishers: ['digest publisher']\n" in diff["after"]
    (line,) = [line for line in diff["after"].splitlines() if line.startswith(f"{paths.config}: ")]
    assert "digest reader:x" in line
    record = AccessRecord(
        publishers=tuple(who.id for who in make_ids("publisher")), agents=tuple(who.id for who in make_ids("agent"))
    )
    for who in (*record.publishers, *record.agents):
        assert who.id.split(":", 1)[1] not in diff["after"]


@pytest.mark.usefixtures("tree")
def test_an_interrupted_run_is_completed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, login: Login, paths: AppPaths
) -> None:
    publisher = login("publisher")

    def fail(*_arguments: Any) -> None:
        raise ZooKeeperError("the power has gone")

    for given, name in (({**ROLES}, "close"), ({"state": "open"}, "settle"), ({"state": "open"}, "delete_record")):
        with monkeypatch.context() as patched:
            patched.setattr(zk_access, name, fail)
            with pytest.raises(ZooKeeperError, match="power"):
                set_access(publisher, paths, **given)
        if name != "delete_record":
            assert set_access(publisher, paths, check=True, **given)["changed"]
        assert set_access(publisher, paths, **given)["changed"]
        assert not set_access(publisher, paths, **given)["changed"]
        if given == {"state": "open"} and name == "settle":
            set_access(publisher, paths, **ROLES)


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("above", ["/a", "/service"])
def test_the_record_names_the_registries_until_they_are_open(
    monkeypatch: pytest.MonkeyPatch, login: Login, paths: AppPaths, above: str
) -> None:
    registry = f"{above}{paths.root.replace('/', '-')}"
    publisher = login("publisher")
    set_access(publisher, paths, **ROLES, registries=[registry])
    set_acls = access_walk.set_acls

    def set_all_but_one(client: KazooClient, changes: Sequence[Any]) -> set[str]:
        set_acls(client, changes[:-1])
        raise ZooKeeperError("the power has gone")

    with monkeypatch.context() as patched:
        patched.setattr(access_walk, "set_acls", set_all_but_one)
        with pytest.raises(ZooKeeperError, match="power"):
            set_access(publisher, paths, state="open")
    assert set_access(publisher, paths, state="open")["changed"]
    assert [is_open(publisher.get_acls(path)[0]) for path in (paths.root, registry)] == [True, True]


@pytest.mark.usefixtures("tree")
def test_a_client_that_would_lock_itself_out_is_refused(login: Login, paths: AppPaths) -> None:
    with pytest.raises(ZooKeeperError, match="connect as a publisher"):
        set_access(login("agent"), paths, **ROLES)
    with pytest.raises(ZooKeeperError, match="connect as a publisher"):
        set_access(login(""), paths, **ROLES)


def test_a_publisher_identity_that_the_server_never_matches_closes_nothing(
    zk: KazooClient, login: Login, paths: AppPaths, tree: list[str]
) -> None:
    wrong = [{"scheme": "digest", "id": "publisher:bm8gaGFzaCBvZiBpdA==", "password": None}]
    for root in (paths, AppPaths(f"{paths.root}-new")):
        with pytest.raises(ZooKeeperError, match="the server takes this connection for none of them"):
            set_access(login("publisher"), root, **{**ROLES, "publishers": wrong})
    assert all(zk.get_acls(path)[0] == OPEN_ACL_UNSAFE for path in tree)
    assert zk.exists(paths.access) is zk.exists(f"{paths.root}-new") is None
    assert set(zk.get_children(paths.root)) == {path.split("/")[3] for path in tree if path.startswith(paths.root)}


@pytest.mark.usefixtures("tree")
def test_a_record_left_by_a_stranger_while_it_was_open_gives_nobody_a_role(
    zk: KazooClient, login: Login, paths: AppPaths
) -> None:
    stranger = make_ids("reader")[0].id
    left = AccessRecord((stranger,), (stranger,), (stranger,), {"web9": (stranger,)})
    zk.create(paths.access, left.to_node())
    publisher = login("publisher")
    result = set_access(publisher, paths, **{**ROLES, "readers": None})
    assert (result["access"]["hosts"], result["access"]["readers"]) == ({}, [])
    assert {path for path in everything(publisher, paths.root) if may(login("reader"), path)} == set()


@pytest.mark.usefixtures("tree")
def test_a_record_by_somebody_who_may_only_create_gives_nobody_a_role(
    zk: KazooClient, login: Login, paths: AppPaths
) -> None:
    (agent,) = [entry.id for entry in make_ids("agent")]
    (publisher_id,) = [entry.id for entry in make_ids("publisher")]
    by_hand = [*make_ids("publisher"), make_digest_acl("agent", PASSWORDS["agent"], read=True, create=True)]
    zk.set_acls(paths.root, by_hand)
    evil = AccessRecord((publisher_id, agent), (agent,), (agent,), {"web9": (make_ids("reader")[0].id,)}).to_node()
    login("agent").create(paths.access, evil, acl=[*make_ids("publisher"), *make_ids("agent")])
    publisher = login("publisher")
    result = set_access(publisher, paths, **{**ROLES, "readers": None})
    assert (result["access"]["hosts"], result["access"]["readers"]) == ({}, [])
    # A run that was interrupted before the root was closed is resumed, and from then on omitted roles stay.
    assert not set_access(publisher, paths)["changed"]


@pytest.mark.usefixtures("tree")
def test_roles_have_to_be_given_where_others_may_have_made_the_record(
    login: Login, paths: AppPaths, registry: str
) -> None:
    publisher = login("publisher")
    set_access(publisher, paths, **ROLES, registries=[registry])
    publisher.set_acls(paths.root, [*make_ids("publisher"), make_digest_acl("reader", "word", read=True, create=True)])
    with pytest.raises(ZooKeeperError, match="others than publishers may have made it; name publishers here"):
        set_access(publisher, paths, agents=ROLES["agents"])
    with pytest.raises(ZooKeeperError, match="name registries and values here"):
        set_access(publisher, paths, state="open")
    assert not is_open(publisher.get_acls(registry)[0])
    set_access(publisher, paths, state="open", registries=[registry], values=[])
    assert is_open(publisher.get_acls(registry)[0])


def test_a_release_gives_no_rights_to_a_publisher_that_an_agent_has_recorded(
    zk: KazooClient, login: Login, paths: AppPaths
) -> None:
    ids = [entry.id for entry in make_ids("publisher", "agent")]
    creates = make_digest_acl("agent", PASSWORDS["agent"], read=True, create=True)
    reads = make_digest_acl("agent", PASSWORDS["agent"], read=True)
    zk.create(paths.root, acl=[*make_ids("publisher"), creates], makepath=True)
    publisher, agent = login("publisher"), login("agent")
    publisher.create(paths.config, acl=[*make_ids("publisher"), reads])
    agent.create(paths.access, AccessRecord(tuple(ids), tuple(ids)).to_node())
    with kept_closed(publisher, paths, {"digest_username": "publisher"}):
        publisher.create(paths.history)
        entry = publisher.create(paths.history_prefix, b"{}", sequence=True)
    assert [may(agent, path) for path in (paths.history, entry)] == [READS, READS]


def test_a_password_is_changed_while_both_are_valid(login: Login, paths: AppPaths, ensemble: Ensemble) -> None:
    publisher = login("publisher")
    set_access(publisher, paths, **ROLES)
    new = {"scheme": "digest", "id": "publisher", "password": "another word"}
    with connected(ensemble.hosts, auth_data=[("digest", "publisher:another word")]) as renewed:
        assert may(renewed, paths.root) == set()
        set_access(publisher, paths, publishers=[*ROLES["publishers"], new])
        assert "admin" in may(renewed, paths.root)
        assert "admin" in may(publisher, paths.root)
        result = set_access(renewed, paths, publishers=[new])
        assert result["access"]["agents"] == ["digest agent"]  # an omitted role stays
        assert may(publisher, paths.root) == set()


@pytest.mark.usefixtures("tree")
def test_a_thief_who_keeps_znodes_for_himself_is_shut_out_of_all_else(
    login: Login, paths: AppPaths, registry: str, ensemble: Ensemble
) -> None:
    publisher = login("publisher")
    set_access(publisher, paths, **ROLES, registries=[registry])
    thief = login("agent")
    own = make_digest_acl("thief", "no password", all=True)
    parents = (paths.agents, paths.roster, paths.rollouts, paths.bad_commits, registry)
    kept = sorted(f"{parent}/999" for parent in parents)
    for path in kept:
        # Its child also keeps publishers from deleting it.
        thief.create(path, acl=[own])
        thief.add_auth("digest", "thief:no password")
        thief.create(f"{path}/more", acl=[own])
    shown = f"{paths.roster}/shown"
    thief.create(shown, acl=[*make_ids("agent"), make_digest_acl("publisher", PASSWORDS["publisher"], read=True)])
    refused = sorted([*kept, shown])
    agents = [{"scheme": "digest", "id": "agent", "password": "another word"}]
    for _number in range(2):
        result = set_access(publisher, paths, agents=agents)
        assert result["refused"] == refused
        assert result["access"]["agents"] == ["digest agent"]
    znodes = {path for root in (paths.root, registry) for path in everything(publisher, root, but=refused)}
    assert paths.config in znodes
    assert {path for path in znodes if may(login("agent"), path)} == set()
    assert all("admin" in may(publisher, path) for path in znodes)
    told = run_module(MODULE, hosts=ensemble.hosts, app=paths.root, **log_in_as("publisher"), state="open")
    assert told["failed"]
    assert told["refused"] == refused
    assert f"{refused[0]}, {refused[1]}, " in told["msg"]
    assert "the ensemble's superuser" in told["msg"]
    assert all(publisher.get_acls(path)[0] == OPEN_ACL_UNSAFE for path in znodes - {paths.access})
    assert publisher.exists(paths.access) is None


def test_an_identity_that_no_server_takes_is_refused_before_anything_is_recorded(
    zk: KazooClient, login: Login, paths: AppPaths, tree: list[str]
) -> None:
    unknown = {"scheme": "sasl", "id": "prometheus", "password": None}
    for given in ({"readers": [unknown]}, {"agents": [*ROLES["agents"], unknown]}):
        with pytest.raises(ZooKeeperError, match=r"^sasl: the servers take no identity of this scheme"):
            set_access(login("publisher"), paths, **{**ROLES, **given})
    assert all(zk.get_acls(path)[0] == OPEN_ACL_UNSAFE for path in tree)
    assert zk.exists(paths.access) is None


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_record_that_a_stranger_replaces_before_the_root_is_closed_is_written_again(
    monkeypatch: pytest.MonkeyPatch, zk: KazooClient, login: Login, paths: AppPaths, is_deleted: bool
) -> None:
    stranger = make_ids("reader")[0].id
    create_directories = access_walk.create_directories

    def replace(*arguments: Any) -> None:
        create_directories(*arguments)
        zk.delete(paths.access)
        if not is_deleted:
            zk.create(paths.access, AccessRecord((stranger,), (stranger,)).to_node())

    monkeypatch.setattr(access_walk, "create_directories", replace)
    publisher = login("publisher")
    set_access(publisher, paths, **{**ROLES, "readers": []})
    monkeypatch.undo()
    recorded = AccessRecord.from_node(publisher.get(paths.access)[0])
    assert recorded.publishers == (make_ids("publisher")[0].id,)
    assert {path for path in everything(publisher, paths.root) if may(login("reader"), path)} == set()
    assert not set_access(publisher, paths, **{**ROLES, "readers": []})["changed"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("acl", [OPEN_ACL_UNSAFE, [*make_ids("reader"), *make_ids("publisher")]])
def test_a_record_of_a_stranger_gives_nobody_a_role_however_it_came_about(
    monkeypatch: pytest.MonkeyPatch, zk: KazooClient, login: Login, paths: AppPaths, acl: Any
) -> None:
    stranger = make_ids("reader")[0].id
    evil = AccessRecord((stranger,), (stranger,), (stranger,), {"web9": (stranger,)}).to_node()
    read_access = access_walk.read_access

    def written_behind_it(*arguments: Any) -> Any:
        found = read_access(*arguments)
        zk.set(paths.access, evil)
        return found

    zk.create(paths.access, evil, acl=acl)
    publisher = login("publisher")
    with monkeypatch.context() as patched:
        if acl == OPEN_ACL_UNSAFE:
            patched.setattr(zk_access, "read_access", written_behind_it)
        set_access(publisher, paths, **{**ROLES, "readers": None})
    result = set_access(publisher, paths)
    assert (result["access"]["hosts"], result["access"]["readers"]) == ({}, [])
    assert {path for path in everything(publisher, paths.root) if may(login("reader"), path)} == set()


def test_a_failed_wait_for_agents_closes_nothing_however_it_ends(
    monkeypatch: pytest.MonkeyPatch, zk: KazooClient, login: Login, paths: AppPaths, tree: list[str]
) -> None:
    zk.set(paths.agent("web1"), json.dumps({"name": "web1", "state": "active", "access": 0}).encode())
    publisher = login("publisher")

    def cut_off(name: str, **given: Any) -> None:
        def fail(*_arguments: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(zk_access, name, fail)
        with pytest.raises(KeyboardInterrupt):
            set_access(publisher, paths, **given, force=False)
        monkeypatch.undo()

    cut_off("await_agents", **ROLES)
    assert zk.exists(paths.access) is None
    # If it was killed, the next run undoes it, although the agent has reported that it has no role.
    cut_off("await_all", **ROLES)
    assert zk.exists(paths.access)
    zk.set(paths.agent("web1"), json.dumps({"name": "web1", "state": "active"}).encode())
    with pytest.raises(ZooKeeperError, match=r"web1: without credentials of a role, .* nothing is closed$"):
        set_access(publisher, paths, **ROLES, force=False, wait_timeout=0.5)
    assert zk.exists(paths.access) is None
    assert all(zk.get_acls(path)[0] == OPEN_ACL_UNSAFE for path in tree)
    # The previous roles are no longer known.
    set_access(publisher, paths, **ROLES)
    new: dict[str, Any] = {"agents": [{"scheme": "digest", "id": "agent", "password": "another word"}]}
    cut_off("await_all", **new)
    with pytest.raises(ZooKeeperError, match="an earlier run has recorded these roles: give the former ones to go"):
        set_access(publisher, paths, **new, force=False, wait_timeout=0.5)


RENEWED = {"scheme": "digest", "id": "agent", "password": "another word"}


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("ends", [None, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("before", "first", "second"),
    [
        ({}, ROLES, {**ROLES, "readers": []}),
        (ROLES, {"agents": [*ROLES["agents"], RENEWED]}, {"agents": [RENEWED]}),
        (ROLES, {"agents": [*ROLES["agents"], RENEWED]}, {"agents": [*ROLES["agents"], RENEWED]}),
    ],
)
def test_a_run_that_gives_up_leaves_what_another_one_has_recorded(
    monkeypatch: pytest.MonkeyPatch,
    zk: KazooClient,
    login: Login,
    paths: AppPaths,
    before: dict[str, Any],
    first: dict[str, Any],
    second: dict[str, Any],
    ends: type[BaseException] | None,
) -> None:
    zk.set(paths.agent("web1"), json.dumps({"name": "web1", "state": "active", "access": 0}).encode())
    publisher, other = login("publisher"), login("publisher")
    if before:
        set_access(publisher, paths, **before)
    await_agents, recorded = access_walk.await_agents, []

    def close_meanwhile(*arguments: Any) -> Any:
        monkeypatch.undo()
        set_access(other, paths, **second)
        recorded.append(other.get(paths.access))
        if ends:
            raise ends
        return await_agents(*arguments)

    monkeypatch.setattr(zk_access, "await_agents", close_meanwhile)
    with pytest.raises(ends or ZooKeeperError) as given_up:
        set_access(publisher, paths, **first, force=False, wait_timeout=0.5)
    assert publisher.sync(paths.root)
    assert [publisher.get(paths.access)] == recorded
    assert ends or "access: changed meanwhile, as by another run" in str(given_up.value)
    assert not set_access(publisher, paths, check=True)["changed"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("before", "first", "second"),
    [({}, ROLES, {**ROLES, "agents": [RENEWED]}), (ROLES, {"state": "open"}, {**ROLES, "agents": [RENEWED]})],
)
def test_an_overtaken_run_reports_it_and_leaves_the_record_of_the_other(
    monkeypatch: pytest.MonkeyPatch,
    login: Login,
    paths: AppPaths,
    before: dict[str, Any],
    first: dict[str, Any],
    second: dict[str, Any],
) -> None:
    publisher, other = login("publisher"), login("publisher")
    if before:
        set_access(publisher, paths, **before)
    settle, recorded = access_walk.settle, []

    def settle_and_be_overtaken(*arguments: Any) -> Any:
        done = settle(*arguments)
        monkeypatch.undo()
        set_access(other, paths, **second)
        recorded.append(other.get(paths.access))
        return done

    for module in (access_walk, zk_access):
        monkeypatch.setattr(module, "settle", settle_and_be_overtaken)
    with pytest.raises(ZooKeeperError, match="access: changed meanwhile, as by another run"):
        set_access(publisher, paths, **first)
    publisher.sync(paths.root)
    assert [publisher.get(paths.access)] == recorded
    assert not set_access(publisher, paths, check=True)["changed"]


def test_a_live_agent_whose_status_no_publisher_may_read_is_named_and_nothing_is_closed_to_it(
    zk: KazooClient, login: Login, paths: AppPaths, tree: list[str]
) -> None:
    own = make_digest_acl("agent", PASSWORDS["agent"], all=True)
    agent = login("agent")
    agent.create(paths.agent("web8"), acl=[own])  # not an agent's: it outlives the session
    agent.create(paths.agent("web9"), acl=[own], ephemeral=True)
    zk.set(paths.agent("web1"), json.dumps({"name": "web1", "state": "active", "access": 0}).encode())
    for check in (True, False):
        with pytest.raises(ZooKeeperError, match=f"^{paths.agents}: web9: without credentials of a role"):
            set_access(login("publisher"), paths, check, **ROLES, force=False)
    assert zk.exists(paths.access) is None
    assert all(zk.get_acls(path)[0] == OPEN_ACL_UNSAFE for path in tree)
    assert set_access(login("publisher"), paths, **ROLES)["refused"] == [paths.agent("web8"), paths.agent("web9")]


@pytest.mark.usefixtures("tree")
def test_an_application_below_another_one_is_left_as_it_is(zk: KazooClient, login: Login, paths: AppPaths) -> None:
    inner = AppPaths(f"{paths.root}/staging")
    for path in (inner.agent("web1"), inner.roster_entry("web1"), f"{inner.root}/service/web1"):
        zk.create(path, b"{}", ephemeral=path != inner.roster_entry("web1"), makepath=True)
    publisher = login("publisher")
    for given in ({**ROLES}, {"state": "open"}):
        result = set_access(publisher, paths, **given)
        assert result["others"] == [inner.root]
        assert all(zk.get_acls(path)[0] == OPEN_ACL_UNSAFE for path in everything(zk, inner.root))
    # Znodes that agents could have faked are closed.
    for path in (f"{paths.rollouts}/999/agents", f"{paths.rollouts}/999/roster"):
        zk.create(path, makepath=True)
    set_access(publisher, paths, **ROLES)
    assert may(login(""), f"{paths.rollouts}/999") == set()
    # A named registry is closed, whatever a stranger has created beside it.
    registry = f"{inner.root}/service"
    set_access(publisher, paths, **ROLES, registries=[registry])
    assert may(login(""), registry) == may(login(""), f"{registry}/web1") == set()


def test_the_module_takes_passwords_and_returns_none(ensemble: Ensemble, paths: AppPaths) -> None:
    login = log_in_as("publisher")
    roles = {**ROLES, "publishers": [{"scheme": "auth"}], "readers": [{"scheme": "world"}]}
    result = run_module(MODULE, hosts=ensemble.hosts, app=paths.root, **login, **roles)
    assert result["changed"]
    assert result["access"]["readers"] == ["world anyone"]
    assert not any(password in json.dumps(result) for password in PASSWORDS.values())
    refused = run_module(MODULE, hosts=ensemble.hosts, app=paths.root, **login, agents=[])
    assert refused["failed"]
    assert refused["msg"].startswith("agents: expected at least one identity")


def log_in_as(user: str) -> dict[str, Any]:
    """The connection options of a user."""
    return {"digest_username": user, "digest_password": PASSWORDS[user]}


def publish(ensemble: Ensemble, paths: AppPaths, repository: GitRepository, **given: Any) -> dict[str, Any]:
    """Run zk_release in a process of its own."""
    options = {"url": repository.url, "ref": "main", "relative_path": "site", "wait": False, **given}
    return run_module(ROOT / "plugins/modules/zk_release.py", hosts=ensemble.hosts, app=paths.root, **options)


ANYBODY_DEPLOYS = "anybody who reaches the ensemble can deploy"


def test_an_application_created_with_credentials_is_open_to_them_alone(
    ensemble: Ensemble, login: Login, paths: AppPaths, repository: GitRepository
) -> None:
    result = publish(ensemble, paths, repository, **log_in_as("publisher"))
    assert result["changed"]
    (warning,) = result["warnings"]
    assert f"{paths.root}: only the credentials of this connection may use it" in str(warning)
    assert "warnings" not in publish(ensemble, paths, repository, force=True, **log_in_as("publisher"))
    run_module(
        ROOT / "plugins/modules/zk_fleet.py",
        hosts=ensemble.hosts,
        app=paths.root,
        names=["web1"],
        **log_in_as("publisher"),
    )
    publisher, nobody = login("publisher"), login("")
    znodes = everything(publisher, paths.root)
    assert {paths.config, paths.lock, paths.roster_entry("web1")} <= set(znodes)
    assert {path for path in znodes if may(nobody, path)} == set()


def test_a_publisher_whose_new_application_no_agent_can_use_is_told_why(
    ensemble: Ensemble, paths: AppPaths, repository: GitRepository
) -> None:
    waits = {"wait": True, "wait_timeout": 1}
    result = publish(ensemble, paths, repository, **waits, **log_in_as("publisher"))
    assert result["failed"]
    assert "timed out waiting for agents: 0 live" in result["msg"]
    (warning,) = result["warnings"]
    assert f"{paths.root}: only the credentials of this connection may use it; where agents have others" in str(warning)


@pytest.mark.parametrize(("module", "given"), [("zk_lock", {"reason": "holidays"}), ("zk_fleet", {"names": ["web1"]})])
def test_a_warning_states_who_may_use_a_new_application(
    ensemble: Ensemble, paths: AppPaths, module: str, given: dict[str, Any]
) -> None:
    file, options = ROOT / f"plugins/modules/{module}.py", {"hosts": ensemble.hosts, "app": paths.root, **given}
    results = [run_module(file, **options, **log_in_as("publisher")) for _time in range(2)]
    (warning,) = results[0]["warnings"]
    assert "only the credentials of this connection may use it" in str(warning)
    assert (results[0]["changed"], "warnings" in results[1]) == (True, False)


def test_a_publisher_may_give_permissions_to_others(
    ensemble: Ensemble, login: Login, paths: AppPaths, repository: GitRepository
) -> None:
    acl = [{"scheme": "auth", "perms": ["all"]}, {"scheme": "world", "perms": ["read"]}]
    assert publish(ensemble, paths, repository, acl=acl, **log_in_as("publisher"))["changed"]
    assert may(login(""), paths.config) == READS
    assert "write" in may(login("publisher"), paths.config)


def test_a_warning_is_given_where_anybody_can_deploy(
    ensemble: Ensemble, zk: KazooClient, paths: AppPaths, repository: GitRepository
) -> None:
    (warning,) = publish(ensemble, paths, repository)["warnings"]
    assert f"{paths.root}: {ANYBODY_DEPLOYS}" in str(warning)
    # Closing single znodes of an open application would lock out only agents, because their parents are open.
    (warning,) = publish(ensemble, paths, repository, force=True, **log_in_as("publisher"))["warnings"]
    assert ANYBODY_DEPLOYS in str(warning)
    assert all(zk.get_acls(path)[0] == OPEN_ACL_UNSAFE for path in everything(zk, paths.root))


@pytest.mark.parametrize("name", ["config", "history", "rollouts", "policy"])
def test_anybody_can_deploy_where_a_znode_that_steers_hosts_is_open(
    ensemble: Ensemble, login: Login, paths: AppPaths, tree: list[str], name: str
) -> None:
    publisher = login("publisher")
    set_access(publisher, paths, **ROLES)
    assert f"{paths.root}/{name}" in {*tree, paths.history, paths.rollouts}
    file = ROOT / "plugins/modules/zk_release_info.py"
    options = {"hosts": ensemble.hosts, "app": paths.root, **log_in_as("publisher")}
    assert run_module(file, **options)["open"] is False
    publisher.set_acls(f"{paths.root}/{name}", OPEN_ACL_UNSAFE)
    assert run_module(file, **options)["open"] is True


def test_publishers_create_znodes_with_the_acls_of_a_closed_application(
    ensemble: Ensemble, login: Login, paths: AppPaths, repository: GitRepository
) -> None:
    publisher = login("publisher")
    set_access(publisher, paths, **ROLES)
    rollout = {"steps": [{"hosts": 1, "pause": True}, {"percent": 100}]}
    result = publish(ensemble, paths, repository, rollout=rollout, **log_in_as("publisher"))
    assert result["changed"]
    assert "warnings" not in result
    steered = publish(
        ensemble, paths, repository, url=None, ref=None, relative_path=None, state="paused", **log_in_as("publisher")
    )
    assert not steered.get("failed")
    for module, given in (("zk_lock", {"reason": "holidays"}), ("zk_fleet", {"names": ["web1"]})):
        file = ROOT / f"plugins/modules/{module}.py"
        assert run_module(file, hosts=ensemble.hosts, app=paths.root, **given, **log_in_as("publisher"))["changed"]
    gate = f"{paths.rollout(result['generation'])}/gate"
    assert {paths.lock, paths.roster_entry("web1"), gate} <= set(everything(publisher, paths.root))
    # Nothing is left to do: everything was created with the ACLs that the walk would set.
    assert not set_access(publisher, paths, check=True)["changed"]


@pytest.mark.usefixtures("tree")
def test_nobody_may_put_a_value_into_a_directory_that_a_publisher_has_made(
    login: Login, paths: AppPaths, ensemble: Ensemble
) -> None:
    set_access(login("publisher"), paths, **ROLES)
    base = paths.root.replace("/app/", "/config-")
    names = ["shop/nginx/site.conf", "shop/app.conf"]
    done = run_module(
        ROOT / "plugins/modules/zk_znode.py",
        **{"hosts": ensemble.hosts, "app": paths.root, **log_in_as("publisher")},
        znodes=[{"path": f"{base}/{name}", "value": "ours"} for name in names],
    )
    assert done["changed"]
    nobody, agent = login(""), login("agent")
    assert may(nobody, base) == {*READS, "create"}
    for name in ("shop", "shop/nginx", *names):
        assert (may(nobody, f"{base}/{name}"), may(agent, f"{base}/{name}")) == (set(), READS)


def test_a_value_that_is_to_be_open_is_so_from_the_start(login: Login, paths: AppPaths, ensemble: Ensemble) -> None:
    set_access(login("publisher"), paths, **ROLES)
    options = {"path": f"{paths.root}/note", "value": "x", "acl": [{"scheme": "world", "perms": ["all"]}]}
    given: dict[str, Any] = {"hosts": ensemble.hosts, "app": paths.root, **options, **log_in_as("publisher")}
    for changed in (True, False):
        assert run_module(ROOT / "plugins/modules/zk_znode.py", **given)["changed"] is changed
        assert login("").get_acls(f"{paths.root}/note")[0] == OPEN_ACL_UNSAFE


def test_agents_register_in_a_registry_that_is_in_a_tree_of_values(login: Login, paths: AppPaths) -> None:
    base = paths.root.replace("/app/", "/prod-")
    set_access(login("publisher"), paths, **ROLES, registries=[f"{base}/service"], values=[base])
    agent = login("agent")
    agent.create(f"{base}/service/web1", b"{}", ephemeral=True)
    agent.delete(f"{base}/service/web1")
    assert may(agent, base) == READS


MANY_HOSTS = [
    {"name": name, "scheme": "digest", "id": name, "password": "word"}
    for name in (f"web{number:04}.shop.example.org" for number in range(300))
]
"""So many that a transaction holds only some fifty creations."""


def test_a_transaction_that_its_acls_make_too_large_is_refused(
    login: Login, paths: AppPaths, ensemble: Ensemble
) -> None:
    base = paths.root.replace("/app/", "/config-")
    given = {"publishers": ROLES["publishers"], "host_agents": MANY_HOSTS, "values": [base]}
    set_access(login("publisher"), paths, **given)

    def publish_values(count: int, check: bool = False) -> dict[str, Any]:
        return run_module(
            ROOT / "plugins/modules/zk_znode.py",
            **{"hosts": ensemble.hosts, "app": paths.root, **log_in_as("publisher")},
            znodes=[{"path": f"{base}/{count}-{number}", "value": "x"} for number in range(count)],
            check=check,
        )

    for check in (True, False):
        refused = publish_values(60, check)
        assert refused["msg"].startswith("znodes: 60 changes of ")
        assert refused["msg"].endswith(" of them ACLs; one transaction holds 1040000, so use several tasks")
    size = int(refused["msg"].partition(" of ")[2].partition(" bytes")[0])
    most = znodes.MAX_TRANSACTION_BYTES * 60 // size
    assert most > 40
    assert publish_values(most)["changed"]
    assert publish_values(most + 1)["failed"]


def test_hosts_are_added_to_the_roster_however_many_identities_each_entry_has(
    login: Login, paths: AppPaths, ensemble: Ensemble
) -> None:
    publisher = login("publisher")
    set_access(publisher, paths, publishers=ROLES["publishers"], host_agents=MANY_HOSTS)
    names = [f"new{number}" for number in range(120)]
    for state in ("present", "absent"):
        options: dict[str, Any] = {"hosts": ensemble.hosts, "app": paths.root, "names": names, "state": state}
        done = run_module(ROOT / "plugins/modules/zk_fleet.py", **options, **log_in_as("publisher"))
        assert sorted({*done["added"], *done["removed"]}) == sorted(names)
        assert len(publisher.get_children(paths.roster)) == (120 if state == "present" else 0)


def close_as(options: dict[str, Any], paths: AppPaths, agent: dict[str, str]) -> dict[str, Any]:
    """Close an application with the connection as its publisher, under whichever identity the server gives it."""
    given = {name: spec.get("default") for name, spec in zk_access.argument_spec().items()}
    with connect({**given, **options}) as client:
        (own,) = [who for who in identities(client) if not who.startswith("ip ")]
        scheme, _blank, name = own.partition(" ")
        roles = {"publishers": [{"scheme": scheme, "id": name}], "agents": [agent]}
        result = zk_access.converge(client, {**given, **options, "app": paths.root, **roles}, check=False)
        client.create(paths.config, b"{}", acl=client.get_acls(paths.root)[0])
        return result


def test_a_certificate_is_an_identity(tmp_path: Path) -> None:
    certificates = Certificates.create(tmp_path / "certificates")
    paths = AppPaths("/app/tls")
    tls: dict[str, Any] = {
        "tls": True,
        "tls_ca": str(certificates.ca),
        "tls_cert": str(certificates.client),
        "tls_key": str(certificates.key),
    }
    with Ensemble.with_tls(tmp_path / "zk", certificates) as servers, connected(servers.hosts) as nobody:
        options = {"hosts": [servers.secure_hosts], **tls}
        result = close_as(options, paths, {"scheme": "x509", "id": "CN=web1"})
        assert result["access"]["publishers"] == ["x509 CN=client"]
        assert may(nobody, paths.config) == set()
        # Without a record, a new application is its creator's: the server is asked for the certificate's identity.
        lock = run_module(ROOT / "plugins/modules/zk_lock.py", app="/app/other", reason="holidays", **options)
        assert lock["changed"], lock
        assert may(nobody, "/app/other/lock") == set()


def test_a_user_of_sasl_is_an_identity(tmp_path: Path) -> None:
    paths = AppPaths("/app/sasl")
    sasl = {"sasl_mechanism": "DIGEST-MD5", "sasl_username": "deployer", "sasl_password": "sesame"}
    with (
        Ensemble.with_sasl(tmp_path / "zk", {"deployer": "sesame"}) as servers,
        connected(servers.hosts) as nobody,
    ):
        options = {"hosts": [servers.hosts], **sasl}
        result = close_as(options, paths, {"scheme": "sasl", "id": "fleet"})
        assert result["access"]["publishers"] == ["sasl deployer"]
        assert may(nobody, paths.config) == set()


CAN_CHANGE = "anybody who reaches the ensemble can change"


def test_a_warning_is_given_for_values_that_anybody_may_change(
    login: Login, paths: AppPaths, ensemble: Ensemble
) -> None:
    base = paths.root.replace("/app/", "/config-")
    first, second = f"{base}/site.conf", f"{base}/app.conf"
    common = {"hosts": ensemble.hosts, **log_in_as("publisher")}

    def told(check: bool = False, **given: Any) -> str | None:
        result = run_module(ROOT / "plugins/modules/zk_znode.py", check=check, **{"app": paths.root, **common, **given})
        assert not result.get("failed"), result
        (warning,) = result.get("warnings") or [None]
        return warning and str(warning)

    both: dict[str, Any] = {"znodes": [{"path": path, "value": "ours"} for path in (first, second)]}
    for check in (True, False, False):
        assert f"{first} and 1 more: {CAN_CHANGE} them" in str(told(check, **both))
    # For a znode outside an application, only the caller restricts who may use it.
    assert told(path=first, value="ours", app=None) is None
    acl = [{"scheme": "world", "perms": ["read"]}, {"scheme": "auth", "perms": ["all"]}]
    assert told(path=first, value="ours", acl=acl) is None
    assert f"{second}: {CAN_CHANGE} it" in str(told(**both))
    assert told(path=second, value="ours", acl=[{"scheme": "world", "perms": ["all"]}]) is None
    set_access(login("publisher"), paths, **ROLES)
    # A znode that existed before the roles stays open, unless they name it.
    assert f"{second}: {CAN_CHANGE} it" in str(told(**both))
    set_access(login("publisher"), paths, **ROLES, values=[base])
    assert told(**both) is told(path=f"{base}/new", value="x") is told(path=first, state="absent") is None
