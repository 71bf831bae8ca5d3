"""Znodes from a playbook's options to the ensemble: values, ACLs, plans, transactions, waiting."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from hypothesis import given
from hypothesis import strategies as st
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, NoAuthError
from kazoo.security import make_acl, make_digest_acl, make_digest_acl_credential

from ansible_collections.zoo.deploy.plugins.module_utils import znode_values, znodes
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.records import MAX_NODE_BYTES
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import ancestors, child, parent
from ansible_collections.zoo.deploy.plugins.module_utils.znode_options import desired_znodes
from ansible_collections.zoo.deploy.plugins.module_utils.znode_plan import plan
from ansible_collections.zoo.deploy.plugins.module_utils.znode_snapshots import take
from ansible_collections.zoo.deploy.plugins.modules import zk_znode
from support.client import connected
from support.ensemble import Ensemble
from support.lonely import kill, lonely_ensemble

TIMEOUT = 10.0


def options(**given: Any) -> dict[str, Any]:
    """A task's options as the module gets them from Ansible."""
    checked = ArgumentSpecValidator(zk_znode.argument_spec()).validate({"hosts": "unused", **given})
    assert not checked.error_messages
    return dict(checked.validated_parameters)


def converge(client: Any, *, check: bool = False, **given: Any) -> dict[str, Any]:
    """Run a task, and return its report, always with its diff."""
    task = options(**given)
    results = znodes.converge(client, desired_znodes(task), check=check, timeout=TIMEOUT)
    return zk_znode.report(results, several=task["znodes"] is not None, diff=True)


def refusal(client: Any, *, check: bool = False, **given: Any) -> str:
    """The message with which the task fails: one line."""
    with pytest.raises(ZooKeeperError) as caught:
        converge(client, check=check, **given)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def as_user(ensemble: Ensemble) -> Iterator[KazooClient]:
    """A client that is logged in as the digest user `user`."""
    with connected(ensemble.hosts, auth_data=[("digest", "user:secret")]) as client:
        yield client


@pytest.mark.parametrize(
    ("given_options", "said"),
    [
        ({"path": "a"}, 'path: expected one that begins with /, got "a"'),
        ({"path": "/a/"}, "can't name a znode"),
        ({"path": "/a/../b"}, "can't name a znode"),
        ({"path": "/", "state": "absent"}, "/: the root can't be deleted"),
        ({"path": "/a", "state": "absent", "value": "x"}, "/a: value, acl and sequence go with state present only"),
        ({"path": "/a-", "sequence": True, "version": 1}, "/a-: sequence makes a new znode"),
        ({"path": "/a", "version": -1}, "/a: version: expected 0 or more, got -1"),
        ({"path": "/a", "acl": []}, "/a: acl: expected at least one entry"),
        ({"path": "/a", "acl": [{"scheme": "world", "perms": []}]}, "/a: acl: perms: expected at least one"),
        ({"path": "/a", "state": "absent", "secret_value": "x"}, "/a: value, acl and sequence go with state present"),
        ({"path": "/a", "merge": True}, "/a: merge: expected a dictionary, or text that is a JSON object, got null"),
        ({"path": "/a-", "merge": True, "value": {}, "sequence": True}, "/a-: sequence makes a new znode"),
        (
            {"path": "/a", "secret_value": {"password": "hunter2"}},
            "/a: secret_value: expected text, got a dict; use the",
        ),
        ({"znodes": [{"path": "/a", "secret_value": ["x"]}]}, "/a: secret_value: expected text, got a list; use the"),
        ({"znodes": []}, "znodes: expected at least one entry"),
        ({"znodes": [{"path": "/a"}, {"path": "/a", "value": "x"}]}, "znodes: /a is named twice"),
        (
            {"znodes": [{"path": "/a", "state": "absent"}, {"path": "/a/b/c"}]},
            "znodes: /a/b/c can't be present, because /a is to be absent",
        ),
    ],
)
def test_a_contradiction_is_one_clear_line(given_options: dict[str, Any], said: str) -> None:
    with pytest.raises(ZooKeeperError) as caught:
        desired_znodes(options(**given_options))
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_entry_inherits_omitted_options_from_the_task() -> None:
    one, other = desired_znodes(
        options(
            recursive=True,
            parents=False,
            encoding="base64",
            acl=[{"scheme": "world", "perms": ["read"]}],
            znodes=[{"path": "/a", "value": "eA=="}, {"path": "/b", "state": "absent", "recursive": False}],
        )
    )
    assert (one.recursive, one.value and one.value.over(b""), bool(one.acl)) == (True, b"x", True)
    assert not one.parents
    assert (other.present, other.recursive, other.acl) == (False, False, None)


@given(st.lists(st.text("ab", min_size=1), min_size=1))
def test_a_path_is_split_and_joined_again(names: list[str]) -> None:
    path = "/" + "/".join(names)
    assert child(parent(path), names[-1]) == path
    assert ancestors(path)[-1] == parent(path)
    assert len(ancestors(path)) == len(names)


def test_a_znode_is_created_once_changed_once_and_deleted_once(zk: KazooClient, app: str) -> None:
    created = converge(zk, path=app, value="one")
    assert (created["changed"], created["value"], created["stat"]["version"]) == (True, "one", 0)
    assert not converge(zk, path=app, value="one")["changed"]
    changed = converge(zk, path=app, value="two")
    assert (changed["changed"], changed["value"], changed["stat"]["version"]) == (True, "two", 1)
    assert zk.get(app) == (b"two", zk.exists(app))
    assert changed["stat"]["mzxid"] == zk.exists(app).mzxid
    deleted = converge(zk, path=app, state="absent")
    assert (deleted["changed"], "value" in deleted, "stat" in deleted) == (True, False, False)
    assert not converge(zk, path=app, state="absent")["changed"]


def test_a_mapping_is_merged_into_existing_json(zk: KazooClient, app: str) -> None:
    created = converge(zk, path=app, merge=True, value={"pool": {"min": 2, "max": 20}, "host": "db1", "none": None})
    assert (created["changed"], created["value"]) == (True, '{"pool": {"min": 2, "max": 20}, "host": "db1"}')
    given_merge: dict[str, Any] = {
        "path": app,
        "merge": True,
        "value": {"pool": {"max": 30}, "host": None, "port": 5432},
    }
    foretold = converge(zk, check=True, **given_merge)
    changed = converge(zk, **given_merge)
    assert (changed["changed"], changed["value"]) == (True, '{"pool": {"min": 2, "max": 30}, "port": 5432}')
    assert (foretold["value"], foretold["diff"]) == (changed["value"], changed["diff"])
    assert changed["diff"]["before"]["value"] == {"pool": {"min": 2, "max": 20}, "host": "db1"}
    assert changed["diff"]["after"]["value"] == {"pool": {"min": 2, "max": 30}, "port": 5432}
    zk.set(app, b'{ "port":5432, "pool":{ "max":30 } }')
    assert not converge(zk, **given_merge)["changed"]
    assert zk.get(app)[0] == b'{ "port":5432, "pool":{ "max":30 } }'


def test_a_secret_is_merged_without_being_shown(zk: KazooClient, app: str) -> None:
    zk.create(app, b'{"token": "sesame"}', makepath=True)
    merged = converge(zk, path=app, merge=True, secret_value='{"password": "hunter2"}')
    assert zk.get(app)[0] == b'{"token": "sesame", "password": "hunter2"}'
    assert not {"sesame", "hunter2"} & {word for word in ("sesame", "hunter2") if word in repr(merged)}


@pytest.mark.parametrize(
    ("there", "secret"),
    [
        (b'"sesame"', '{"password": 1}'),
        (b'["sesame"]', '{"password": 1}'),
        (b"55555", '{"password": 1}'),
        (b'{"pin": 0.55555123456789012345}', '{"password": 1}'),
        (b"{}", '"sesame"'),
        (b"{}", '["sesame","sesame"]'),
        (b"{}", '{"pin":  0.55555123456789012345}'),
    ],
)
def test_a_secret_that_can_not_be_merged_is_not_quoted(zk: KazooClient, app: str, there: bytes, secret: str) -> None:
    zk.create(app, there, makepath=True)
    coded = base64.b64encode(secret.encode()).decode()
    said = refusal(zk, path=app, merge=True, secret_value=coded, encoding="base64")
    assert said.startswith(f"{app}: merge: ")
    assert not any(word in said for word in ("sesame", "55555"))


@pytest.mark.parametrize("check", [False, True])
def test_data_that_is_not_a_json_object_is_not_merged_into_and_stays(zk: KazooClient, app: str, check: bool) -> None:
    zk.create(app, b"green", makepath=True)
    said = refusal(zk, check=check, path=app, merge=True, value={"a": 1})
    assert said.startswith(f"{app}: merge: expected the znode to hold a JSON object: Expecting value")
    assert zk.get(app)[0] == b"green"


def test_entries_with_a_value_inherit_merge_from_the_task(zk: KazooClient, app: str) -> None:
    for name in "abc":
        zk.create(f"{app}/{name}", b'{"x": 1}', makepath=True)
    entries = [
        {"path": f"{app}/a", "value": {"y": 2}},
        {"path": f"{app}/b", "value": {"y": 2}, "merge": False},
        {"path": f"{app}/c", "state": "absent"},
        {"path": f"{app}/d"},
    ]
    done = converge(zk, merge=True, znodes=entries)
    assert [one.get("value") for one in done["znodes"]] == ['{"x": 1, "y": 2}', '{"y": 2}', None, ""]


def test_check_mode_reports_the_same_and_changes_nothing(zk: KazooClient, app: str) -> None:
    foretold = converge(zk, check=True, path=app, value={"a": 1})
    assert zk.exists(app) is None
    done = converge(zk, path=app, value={"a": 1})
    assert (foretold["changed"], foretold["value"], foretold["diff"]) == (True, done["value"], done["diff"])
    before = zk.exists(app)
    foretold = converge(zk, check=True, path=app, value={"a": 2})
    assert (foretold["changed"], zk.exists(app)) == (True, before)
    assert foretold["stat"]["version"] == 0
    foretold = converge(zk, check=True, path=app, state="absent")
    assert (foretold["changed"], zk.exists(app)) == (True, before)


def test_a_secret_value_is_in_no_result_and_no_diff_nor_is_the_value_that_it_replaces(
    zk: KazooClient, app: str
) -> None:
    made = converge(zk, path=app, secret_value="sesame", recursive=True)
    again = converge(zk, path=app, secret_value="c2VzYW1l", encoding="base64")
    changed = converge(zk, path=app, secret_value="simsim")
    assert [done["changed"] for done in (made, again, changed)] == [True, False, True]
    assert zk.get(app)[0] == b"simsim"
    assert "value" not in made
    assert made["diff"]["after"]["value"] == "(secret)"
    assert changed["diff"]["before"]["value"] == "(secret)"
    assert changed["diff"]["after"]["value"] == "(secret, another one)"
    for done in (made, again, changed, converge(zk, path=app, state="absent", recursive=True)):
        assert "sesame" not in repr(done)
        assert "simsim" not in repr(done)


def test_a_deleted_value_is_in_no_diff_as_it_may_have_been_a_secret(zk: KazooClient, app: str) -> None:
    converge(zk, path=app, secret_value="sesame")
    for check in (True, False):
        deleted = converge(zk, check=check, path=app, state="absent")
        assert deleted["diff"]["before"] == {"state": "present"}
        assert "sesame" not in repr(deleted)


def test_the_diff_shows_data_where_data_is_wanted(zk: KazooClient, app: str) -> None:
    zk.create(app, b'{"b":1}', makepath=True)
    diff = converge(zk, path=app, value={"b": 2})["diff"]
    assert diff == {
        "before_header": app,
        "after_header": app,
        "before": {"state": "present", "value": {"b": 1}},
        "after": {"state": "present", "value": {"b": 2}},
    }
    diff = converge(zk, path=app, value='{"b": 2} ')["diff"]
    assert (diff["before"]["value"], diff["after"]["value"]) == ('{"b": 2}', '{"b": 2} ')


def test_an_omitted_value_is_empty_on_a_new_znode_and_kept_on_an_old_one(zk: KazooClient, app: str) -> None:
    assert converge(zk, path=app)["value"] == ""
    zk.set(app, b"mine")
    kept = converge(zk, path=app)
    assert (kept["changed"], kept["value"]) == (False, "mine")
    assert converge(zk, path=app, value="")["changed"]
    assert zk.get(app)[0] == b""


def test_a_value_may_be_as_large_as_a_znode_holds(zk: KazooClient, app: str) -> None:
    zk.ensure_path("/app")
    assert converge(zk, path=app, value="x" * MAX_NODE_BYTES)["stat"]["data_length"] == MAX_NODE_BYTES
    assert converge(zk, path=app, value="y" * MAX_NODE_BYTES)["stat"]["version"] == 1


def test_bytes_that_are_not_text_are_returned_as_base64(zk: KazooClient, app: str) -> None:
    made = converge(zk, path=app, value="/w==", encoding="base64")
    assert (made["value"], made["encoding"], zk.get(app)[0]) == ("/w==", "base64", b"\xff")


@pytest.mark.parametrize("check", [False, True])
def test_a_missing_parent_is_made_unless_parents_is_false(zk: KazooClient, app: str, check: bool) -> None:
    zk.ensure_path("/app")
    said = refusal(zk, check=check, path=f"{app}/a/b", parents=False, recursive=True)
    assert said == f"{app}/a/b: there is no {app}/a to be its parent (NoNode), and parents is false"
    made = converge(zk, check=check, path=f"{app}/a/b")
    assert made["diff"]["after"]["parents"] == [app, f"{app}/a"]
    assert (zk.exists(f"{app}/a/b") is None) == check


@pytest.mark.parametrize("check", [False, True])
def test_children_prevent_a_deletion_unless_recursive_is_set(zk: KazooClient, app: str, check: bool) -> None:
    zk.ensure_path(f"{app}/a/b")
    said = refusal(zk, check=check, path=app, state="absent")
    assert said == f"{app}: the znode has a child (NotEmpty); set recursive to delete everything below it too"
    deleted = converge(zk, check=check, path=app, state="absent", recursive=True)
    assert deleted["diff"]["before"]["descendants"] == [f"{app}/a", f"{app}/a/b"]
    assert (zk.exists(app) is None) != check


@pytest.mark.parametrize("check", [False, True])
def test_another_version_is_refused_unless_there_is_nothing_to_do(zk: KazooClient, app: str, check: bool) -> None:
    zk.create(app, b"one", makepath=True)
    zk.set(app, b"two")
    said = refusal(zk, check=check, path=app, value="three", version=0)
    assert said == f"{app}: has version 1, expected 0 (BadVersion); read it again and decide anew"
    assert "BadVersion" in refusal(zk, check=check, path=app, state="absent", version=0)
    assert not converge(zk, check=check, path=app, value="two", version=0)["changed"]
    assert "NoNode" in refusal(zk, check=check, path=f"{app}/new", version=0)
    assert converge(zk, check=check, path=app, value="three", version=1)["changed"]


def test_a_sequence_makes_a_new_znode_each_time(zk: KazooClient, app: str) -> None:
    made = [converge(zk, path=f"{app}/q/job-", sequence=True, value=n)["path"] for n in (1, 2)]
    assert made == [f"{app}/q/job-0000000000", f"{app}/q/job-0000000001"]
    assert [zk.get(path)[0] for path in made] == [b"1", b"2"]
    assert converge(zk, check=True, path=f"{app}/q/job-", sequence=True)["path"] == f"{app}/q/job-"


@pytest.mark.filterwarnings("ignore:No chroot path exists")
def test_below_a_chroot_paths_are_as_the_task_names_them(ensemble: Ensemble, zk: KazooClient, app: str) -> None:
    with connected(f"{ensemble.hosts}/{app.rpartition('/')[2]}") as inside:
        made = converge(inside, path="/q/job-", sequence=True)
        assert made["path"] == "/q/job-0000000000"
        assert zk.exists(f"/{app.rpartition('/')[2]}/q/job-0000000000")
        assert converge(inside, path="/", value="root")["changed"]
        assert converge(inside, path="/q", state="absent", recursive=True)["changed"]


@pytest.mark.filterwarnings("ignore:No chroot path exists")
def test_a_chroot_without_a_parent_is_named(ensemble: Ensemble, app: str) -> None:
    with connected(f"{ensemble.hosts}{app}-none/deep") as inside:
        assert "there is no chroot to be its parent" in refusal(inside, path="/a", parents=False)
        for check in (True, False):
            said = f"the parent of the chroot {app}-none/deep does not exist; create {app}-none first"
            assert said in refusal(inside, check=check, path="/a")


@pytest.mark.filterwarnings("ignore:No chroot path exists")
def test_a_chroot_of_which_only_the_last_segment_is_missing_is_made_as_check_mode_foretells(
    ensemble: Ensemble, zk: KazooClient, app: str
) -> None:
    zk.ensure_path(app)
    with connected(f"{ensemble.hosts}{app}/deep") as inside:
        assert converge(inside, check=True, path="/a")["changed"]
        assert converge(inside, path="/a")["changed"]
        assert not converge(inside, check=True, path="/a")["changed"]
    assert zk.exists(f"{app}/deep/a")


def test_an_ephemeral_parent_is_a_clear_error(zk: KazooClient, app: str) -> None:
    zk.create(app, ephemeral=True, makepath=True)
    assert refusal(zk, path=f"{app}/a").startswith(f"{app}/a: an ephemeral znode can't have children")


def test_check_mode_foretells_that_an_ephemeral_znode_can_not_have_children(zk: KazooClient, app: str) -> None:
    zk.create(app, ephemeral=True, makepath=True)
    why = f"an ephemeral znode can't have children (NoChildrenForEphemerals), and {app} is one"
    for wanted in ({"path": f"{app}/a"}, {"path": f"{app}/a/b/c", "value": 1}, {"path": f"{app}/a-", "sequence": True}):
        assert refusal(zk, check=True, **wanted) == refusal(zk, **wanted) == f"{wanted['path']}: {why}"


MINE = {"scheme": "digest", "id": "user", "password": "secret", "perms": ["all"]}


def test_an_acl_is_set_once_and_recognized_as_the_same(as_user: KazooClient, app: str) -> None:
    acl = [{"scheme": "world", "perms": ["read"]}, MINE]
    assert converge(as_user, path=app, acl=acl)["changed"]
    assert not converge(as_user, path=app, acl=acl[::-1])["changed"]
    changed = converge(as_user, path=app, acl=[MINE], version=0)
    assert (changed["changed"], changed["stat"]["aversion"], changed["stat"]["version"]) == (True, 1, 0)
    assert changed["diff"]["before"]["acl"][0] == {"scheme": "world", "id": "anyone", "perms": ["read"]}
    assert "secret" not in str(changed)
    assert make_digest_acl_credential("user", "secret") not in str(changed)
    renewed = converge(as_user, path=app, acl=[{**MINE, "password": "other"}])
    before, after = (renewed["diff"][side]["acl"] for side in ("before", "after"))
    assert before != after
    assert [entry[0]["id"].split()[0] for entry in (before, after)] == ["user:x"] * 2


def test_auth_is_the_user_of_the_connection(as_user: KazooClient, app: str) -> None:
    task: dict[str, Any] = {
        "path": app,
        "digest_username": "user",
        "digest_password": "secret",
        "acl": [{"scheme": "auth", "perms": ["all"]}],
    }
    assert converge(as_user, **task)["changed"]
    assert as_user.get_acls(app)[0] == [make_digest_acl("user", "secret", all=True)]
    assert not converge(as_user, **task)["changed"]


@pytest.fixture(scope="module")
def sha256_ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """A server that hashes digest users with another algorithm."""
    algorithm = "-Dzookeeper.DigestAuthenticationProvider.digestAlg=SHA-256"
    with Ensemble(tmp_path_factory.mktemp("sha256"), size=1, jvm=(algorithm,)) as servers:
        yield servers


@pytest.mark.parametrize("who", [{"scheme": "auth", "perms": ["all"]}, MINE], ids=["auth", "digest"])
def test_the_user_of_the_connection_is_not_locked_out_where_servers_hash_differently(
    sha256_ensemble: Ensemble, app: str, who: dict[str, Any]
) -> None:
    login: dict[str, Any] = {"digest_username": "user", "digest_password": "secret"}
    with connected(sha256_ensemble.hosts, auth_data=[("digest", "user:secret")]) as client:
        made = converge(client, path=app, value="one", acl=[who], recursive=True, **login)
        shown = made["diff"]["after"]["acl"]
        assert shown == [{"scheme": "digest", "id": "user:x", "perms": [*znode_values.PERMISSIONS]}]
        assert not converge(client, path=app, acl=[who], **login)["changed"]
        assert converge(client, path=app, acl=[who, {"scheme": "world", "perms": ["read"]}], **login)["changed"]
        assert converge(client, path=app, value="two", **login)["changed"]


def test_parents_are_made_with_the_same_acl(as_user: KazooClient, app: str) -> None:
    as_user.ensure_path("/app")
    converge(as_user, path=f"{app}/a", acl=[MINE])
    assert as_user.get_acls(app)[0] == [make_digest_acl("user", "secret", all=True)]


def test_a_refusal_names_the_path(as_user: KazooClient, zk: KazooClient, app: str) -> None:
    readable = {"scheme": "world", "perms": ["read"]}
    converge(as_user, path=app, acl=[MINE, readable])
    denied = f"{app}: permission denied (NoAuth)"
    assert refusal(zk, path=app, value="x").startswith(denied)
    assert refusal(zk, path=f"{app}/a").startswith(f"{app}/a: permission denied (NoAuth)")
    said = refusal(zk, path=app, acl=[readable])
    assert said.startswith(denied)
    assert said.endswith("its ACL is as it was")
    converge(as_user, path=app, acl=[MINE])
    assert refusal(zk, path=app, value="x").startswith(denied)
    with pytest.raises(ZooKeeperError, match="NoAuth"):
        take(zk, [app], TIMEOUT)


def may_see(client: KazooClient, path: str) -> bool:
    """Whether the server shows the client a znode's stat."""
    try:
        return client.exists(path) is not None
    except NoAuthError:
        return False


def test_without_read_permission_a_failed_deletion_still_states_its_cause(
    as_user: KazooClient, zk: KazooClient, app: str
) -> None:
    converge(as_user, path=f"{app}/child", acl=[MINE])
    as_user.set_acls("/app", [make_acl("world", "anyone", all=True)])
    assert "(NotEmpty); set recursive" in refusal(zk, path=app, state="absent")
    assert refusal(zk, path=app, state="absent", recursive=True).startswith(f"{app}: permission denied (NoAuth)")
    if not may_see(zk, app):
        told = "permission denied (NoAuth) to see its version; leave version out"
        assert refusal(zk, path=app, state="absent", version=0) == f"{app}: {told}"


def test_without_read_permission_a_child_can_still_be_created(as_user: KazooClient, zk: KazooClient, app: str) -> None:
    converge(as_user, path=app, acl=[MINE, {"scheme": "world", "perms": ["create"]}])
    secret = {"scheme": "digest", "id": "user", "password": "secret", "perms": ["all"]}
    made = converge(zk, path=f"{app}/new", value="x", acl=[secret])
    assert (made["changed"], made["value"]) == (True, "x")
    assert as_user.get(f"{app}/new")[0] == b"x"


def test_without_read_permission_a_znode_can_still_be_seen_and_deleted(
    as_user: KazooClient, zk: KazooClient, app: str
) -> None:
    converge(as_user, path=app, acl=[MINE])
    as_user.set_acls("/app", [make_acl("world", "anyone", all=True)])
    seen = converge(zk, path=app)
    # Since 3.9, ZooKeeper does not show even the stat without the permission to read.
    version = 0 if may_see(zk, app) else None
    assert (seen["changed"], "value" in seen, seen.get("stat", {}).get("version")) == (False, False, version)
    deleted = converge(zk, path=app, state="absent")
    assert deleted["diff"]["before"] == {"state": "present"}
    assert as_user.exists(app) is None


def test_all_znodes_are_created_in_one_transaction_and_each_parent_once(zk: KazooClient, app: str) -> None:
    zk.ensure_path("/app")
    entries = [{"path": f"{app}/conf/{n}", "value": n} for n in range(50)]
    made = converge(zk, znodes=entries)
    assert made["changed"]
    assert [one["path"] for one in made["znodes"]] == [entry["path"] for entry in entries]
    assert len({zk.exists(path).czxid for path in (app, f"{app}/conf", *(one["path"] for one in made["znodes"]))}) == 1
    assert not converge(zk, znodes=entries)["changed"]
    entries[7]["value"] = "other"
    changed = converge(zk, znodes=entries)
    assert [one["path"] for one in changed["znodes"] if one["changed"]] == [entries[7]["path"]]
    assert len(changed["diff"]) == 1


def test_the_order_of_entries_does_not_matter(zk: KazooClient, app: str) -> None:
    zk.ensure_path(f"{app}/old/x")
    task = [
        {"path": f"{app}/new/x/y", "value": "deep"},
        {"path": f"{app}/new"},
        {"path": f"{app}/old", "state": "absent"},
        {"path": f"{app}/old/x", "state": "absent"},
        {"path": f"{app}/new/x"},
    ]
    assert all(one["changed"] for one in converge(zk, znodes=task)["znodes"])
    assert (zk.exists(f"{app}/old"), zk.get(f"{app}/new/x/y")[0]) == (None, b"deep")
    assert not converge(zk, znodes=task)["changed"]


def test_one_refused_change_undoes_all(as_user: KazooClient, zk: KazooClient, app: str) -> None:
    converge(
        as_user,
        path=f"{app}/mine",
        acl=[MINE, {"scheme": "world", "perms": ["read"]}],
    )
    as_user.set_acls(app, [make_acl("world", "anyone", all=True)])
    said = refusal(zk, znodes=[{"path": f"{app}/a", "value": "x"}, {"path": f"{app}/mine", "value": "x"}])
    assert said.startswith(f"{app}/mine: permission denied (NoAuth)")
    assert zk.exists(f"{app}/a") is None


def test_a_stat_counts_children_created_by_the_same_task(zk: KazooClient, app: str) -> None:
    made = converge(zk, znodes=[{"path": app, "value": "x"}, {"path": f"{app}/a"}, {"path": f"{app}/b"}])
    assert made["znodes"][0]["stat"]["num_children"] == 2


def test_a_subtree_is_deleted_together_with_a_named_znode_in_it(zk: KazooClient, app: str) -> None:
    for name in ("a/b/c", "a/b/d", "a/e"):
        zk.ensure_path(f"{app}/{name}")
    task = [{"path": app, "state": "absent", "recursive": True}, {"path": f"{app}/a/b/c", "state": "absent"}]
    assert [one["changed"] for one in converge(zk, znodes=task)["znodes"]] == [True, True]
    assert zk.exists(app) is None


def test_more_than_a_transaction_holds_is_refused_by_its_size(zk: KazooClient, app: str) -> None:
    entries = [{"path": f"{app}/{n}", "value": "x" * 400_000} for n in range(3)]
    said = refusal(zk, znodes=entries)
    assert said.startswith("znodes: 4 changes of 120")
    assert said.endswith("one transaction holds 1040000, so use several tasks")
    assert zk.exists(app) is None


def test_a_chroot_counts_towards_the_size_of_a_transaction(zk: KazooClient, ensemble: Ensemble, app: str) -> None:
    chroot = f"{app}/{'c' * 200}"
    zk.ensure_path(chroot)
    entries = [{"path": f"/{number}"} for number in range(5000)]
    with connected(f"{ensemble.hosts}{chroot}") as client:
        for check in (True, False):
            said = refusal(client, check=check, znodes=entries)
            assert said.startswith("znodes: 5000 changes of ")
            assert said.endswith("one transaction holds 1040000, so use several tasks")
        assert converge(client, znodes=entries[:3000])["changed"]


def test_a_sequential_znode_is_distinct_from_one_named_like_its_prefix(zk: KazooClient, app: str) -> None:
    done = converge(zk, znodes=[{"path": f"{app}/a", "sequence": True}, {"path": f"{app}/a/b"}, {"path": f"{app}/a"}])
    assert [one["path"] for one in done["znodes"]] == [f"{app}/a0000000000", f"{app}/a/b", f"{app}/a"]
    assert sorted(zk.get_children(app)) == ["a", "a0000000000"]


def test_a_transaction_of_the_largest_size_succeeds(zk: KazooClient, app: str) -> None:
    zk.ensure_path(app)
    count = 2000
    room = znodes.MAX_TRANSACTION_BYTES // count - 100 - len(f"{app}/0000")
    entries = [{"path": f"{app}/{n:04}", "value": "x" * room} for n in range(count)]
    assert converge(zk, znodes=entries)["changed"]
    assert zk.exists(app).numChildren == count


class Rival:
    """A client that lets somebody else act before each of its first `turns` transactions."""

    def __init__(self, client: KazooClient, act: Any, turns: int = 1) -> None:
        self._client = client
        self._act = act
        self._turns = turns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transaction(self) -> Any:
        """The client's own, after somebody else has acted."""
        if self._turns:
            self._turns -= 1
            self._act()
        return self._client.transaction()


def test_a_znode_that_another_created_meanwhile_is_changed_instead(zk: KazooClient, app: str) -> None:
    rival = Rival(zk, lambda: zk.create(app, b"theirs", makepath=True))
    done = converge(rival, path=app, value="ours")
    assert (done["changed"], done["stat"]["version"], zk.get(app)[0]) == (True, 1, b"ours")


def test_a_znode_that_another_deleted_meanwhile_is_created_instead(zk: KazooClient, app: str) -> None:
    zk.create(app, b"old", makepath=True)
    done = converge(Rival(zk, lambda: zk.delete(app)), path=app, value="ours")
    assert (done["changed"], done["stat"]["version"]) == (True, 0)


def test_compare_and_set_fails_where_another_client_was_faster(zk: KazooClient, app: str) -> None:
    zk.create(app, b"old", makepath=True)
    said = refusal(Rival(zk, lambda: zk.set(app, b"theirs")), path=app, value="ours", version=0)
    assert "has version 1, expected 0 (BadVersion)" in said
    assert zk.get(app)[0] == b"theirs"
    said = refusal(Rival(zk, lambda: zk.set(app, b"again")), path=app, state="absent", version=1)
    assert "has version 2, expected 1 (BadVersion)" in said


def test_a_value_that_another_wrote_meanwhile_is_read_again_and_is_in_the_diff(zk: KazooClient, app: str) -> None:
    zk.create(app, b"old", makepath=True)
    done = converge(Rival(zk, lambda: zk.set(app, b"theirs")), path=app, value="ours")
    assert (done["changed"], done["diff"]["before"]["value"], zk.get(app)[0]) == (True, "theirs", b"ours")
    same = converge(Rival(zk, lambda: zk.set(app, b"both")), path=app, value="both")
    assert (same["changed"], same["diff"]["before"]["value"], same["stat"]["version"]) == (False, "both", 3)
    gone = converge(Rival(zk, lambda: zk.set(app, b"late")), path=app, state="absent")
    assert (gone["changed"], zk.exists(app)) == (True, None)


class AclRival(Rival):
    """A client that lets somebody else act before it first sets an ACL."""

    def set_acls_async(self, *words: Any) -> Any:
        """The client's own, after somebody else has acted."""
        if self._turns:
            self._turns -= 1
            self._act()
        return self._client.set_acls_async(*words)


def test_an_acl_that_another_set_meanwhile_is_read_again_or_reported(zk: KazooClient, app: str) -> None:
    zk.create(app, b"x", makepath=True)
    theirs = [make_acl("world", "anyone", all=True), make_acl("ip", "127.0.0.1", read=True)]
    ours = [{"scheme": "world", "perms": ["all"]}, {"scheme": "ip", "id": "127.0.0.2", "perms": ["read"]}]
    done = converge(AclRival(zk, lambda: zk.set_acls(app, theirs)), path=app, acl=ours)
    assert [entry["id"] for entry in done["diff"]["before"]["acl"]] == ["anyone", "127.0.0.1"]
    assert [entry.id.id for entry in zk.get_acls(app)[0]] == ["anyone", "127.0.0.2"]
    zk.set_acls(app, [make_acl("world", "anyone", all=True)])
    said = refusal(AclRival(zk, lambda: zk.set_acls(app, theirs)), path=app, acl=ours, value="y")
    assert f"{app}: the znode has changed since (BadVersion)" in said
    assert [entry.id.id for entry in zk.get_acls(app)[0]] == ["anyone", "127.0.0.1"]


def test_a_znode_deleted_before_its_acl_is_set_is_created_again(zk: KazooClient, app: str) -> None:
    zk.create(app, b"x", makepath=True)
    ours = [{"scheme": "world", "perms": ["all"]}, {"scheme": "ip", "id": "127.0.0.2", "perms": ["read"]}]
    done = converge(AclRival(zk, lambda: zk.delete(app)), path=app, acl=ours)
    assert (done["changed"], zk.get(app)[0]) == (True, b"")
    assert [entry.id.id for entry in zk.get_acls(app)[0]] == ["anyone", "127.0.0.2"]


class LateRival(Rival):
    """A client that lets somebody else act after its first transaction, before it looks again."""

    def exists_async(self, *words: Any) -> Any:
        """The client's own, after somebody else has acted if there was a transaction."""
        if self._client_has_written and self._act:
            act, self._act = self._act, None
            act()
        return self._client.exists_async(*words)

    _client_has_written = False

    def transaction(self) -> Any:
        """The client's own."""
        self._client_has_written = True
        return self._client.transaction()


def test_compare_and_set_by_a_returned_version_overwrites_nobody(zk: KazooClient, app: str) -> None:
    made = converge(LateRival(zk, lambda: zk.set(app, b"theirs")), path=app, value="ours")
    assert (made["stat"]["version"], made["stat"]["mzxid"], made["stat"]["data_length"]) == (0, made["zxid"], 4)
    assert "has version 1, expected 0" in refusal(zk, path=app, value="later", version=made["stat"]["version"])
    assert zk.get(app)[0] == b"theirs"

    both = [{"path": app, "value": "ours"}, {"path": f"{app}/below"}]
    done = converge(LateRival(zk, lambda: zk.set(app, b"theirs")), znodes=both)["znodes"][0]
    assert (done["stat"]["version"], done["stat"]["mzxid"], done["stat"]["num_children"]) == (2, done["zxid"], 1)

    acl = [{"scheme": "world", "perms": ["all"]}, {"scheme": "ip", "id": "127.0.0.2", "perms": ["read"]}]
    opened = converge(LateRival(zk, lambda: zk.set(app, b"again")), path=app, acl=acl)
    assert (opened["value"], opened["stat"]["version"], opened["stat"]["aversion"]) == ("theirs", 3, 1)


def test_a_znode_recreated_after_a_task_is_not_reported_as_its_own(zk: KazooClient, app: str) -> None:
    def replace() -> None:
        zk.delete(app)
        zk.create(app, b"theirs")

    assert "stat" not in converge(LateRival(zk, replace), path=app, value="ours")


def test_a_writer_that_never_stops_is_a_clear_error(zk: KazooClient, app: str) -> None:
    zk.create(app, b"old", makepath=True)
    said = refusal(Rival(zk, lambda: zk.set(app, b"theirs"), turns=100), path=app, value="ours")
    assert f"{app}: another client changed it first (BadVersion); tried {znodes.ATTEMPTS} times" in said
    assert zk.get(app)[0] == b"theirs"


def test_a_child_that_another_created_meanwhile_is_deleted_with_the_subtree(zk: KazooClient, app: str) -> None:
    zk.ensure_path(f"{app}/a")
    rival = Rival(zk, lambda: zk.ensure_path(f"{app}/a/late"))
    assert converge(rival, path=app, state="absent", recursive=True)["changed"]
    assert zk.exists(app) is None


def test_a_creator_that_never_stops_is_a_clear_error_and_nothing_is_lost(zk: KazooClient, app: str) -> None:
    zk.ensure_path(f"{app}/kept")
    rival = Rival(zk, lambda: zk.create(f"{app}/n-", sequence=True), turns=100)
    said = refusal(rival, path=app, state="absent", recursive=True)
    assert said == (
        f"{app}: another client changed it first (NotEmpty); tried {znodes.ATTEMPTS} times, "
        "run again when it is quiet there"
    )
    assert zk.exists(f"{app}/kept")


@pytest.mark.parametrize("turns", [1, 100])
def test_a_deletion_before_a_failed_attempt_counts_as_a_change(
    zk: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    monkeypatch.setattr(znodes, "MAX_THINNING", 2)
    for number in range(5):
        zk.ensure_path(f"{app}/{number}")
    commits = iter(range(1000))

    def write_before_the_last() -> None:
        if next(commits) >= 3:
            zk.set(app, b"theirs")

    rival = Rival(zk, write_before_the_last, turns=3 + turns)
    wanted = options(path=app, state="absent", recursive=True, **({"version": 0} if turns == 1 else {}))
    with pytest.raises(ZooKeeperError) as caught:
        znodes.converge(rival, desired_znodes(wanted), check=False, timeout=TIMEOUT)
    assert zk.get_children(app) == []
    assert caught.value.details["changed"]


class Cut(LateRival):
    """A client that loses its connection right after its transaction has been answered."""

    def exists_async(self, *words: Any) -> Any:
        """The client's own, or a lost connection."""
        if not self._client_has_written:
            return self._client.exists_async(*words)
        lost = self._client.handler.async_result()
        lost.set_exception(ConnectionLoss())
        return lost


def test_a_connection_that_is_lost_after_the_transaction_is_no_failure(zk: KazooClient, app: str) -> None:
    made = converge(Cut(zk, None), path=f"{app}/n-", value="ours", sequence=True)
    assert (made["changed"], made["path"], "stat" in made) == (True, f"{app}/n-0000000000", False)
    assert zk.get(made["path"])[0] == b"ours"
    assert made["zxid"] == zk.get(made["path"])[1].mzxid


def test_two_tasks_that_work_against_each_other_both_end(zk: KazooClient, other: KazooClient, app: str) -> None:
    failures: list[str] = []

    def create() -> None:
        for n in range(20):
            try:
                converge(other, path=f"{app}/a/{n}", value=n)
            except ZooKeeperError as exc:
                failures.append(str(exc))

    worker = threading.Thread(target=create)
    worker.start()
    for _unused in range(20):
        try:
            converge(zk, path=app, state="absent", recursive=True)
        except ZooKeeperError as exc:
            failures.append(str(exc))
    worker.join(60)
    assert not worker.is_alive()
    assert all("another client changed it first" in failure for failure in failures)


def test_a_large_subtree_is_deleted_in_transactions_of_bounded_size(zk: KazooClient, app: str) -> None:
    zk.ensure_path(f"{app}/a")
    paths = [f"{app}/a/{n}" for n in range(2 * znodes.MAX_THINNING + 10)]
    for start in range(0, len(paths), 500):
        request = zk.transaction()
        for path in paths[start : start + 500]:
            request.create(path)
        request.commit()
    rival = Rival(zk, lambda: zk.create(f"{app}/a/late"))
    deleted = converge(rival, path=app, state="absent", recursive=True)
    assert (deleted["changed"], zk.exists(app)) == (True, None)
    assert deleted["diff"]["before"]["descendants"][-1] == f"and {len(paths) + 1 - 20} more"


def test_a_deletion_that_was_begun_counts_as_a_change_even_if_another_finished_it(
    zk: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(znodes, "MAX_THINNING", 2)
    for n in range(5):
        zk.ensure_path(f"{app}/{n}")
    turns = iter(range(3))

    def finish() -> None:
        if next(turns) == 2:
            zk.delete(app, recursive=True)

    rival = Rival(zk, finish, turns=3)
    deleted = converge(rival, path=app, state="absent", recursive=True)
    assert deleted["changed"]
    assert len(deleted["diff"]["before"]["descendants"]) == 5


def test_an_ensemble_that_stops_answering_is_reported_within_the_timeout(tmp_path: Path) -> None:
    with lonely_ensemble(tmp_path / "lonely") as (servers, client):
        kill(servers, client)
        began = time.monotonic()
        with pytest.raises(ZooKeeperError, match=r"did not answer in time|connection was lost"):
            znodes.converge(client, desired_znodes(options(path="/a")), check=False, timeout=1)
        assert time.monotonic() - began < 5


def test_a_plan_does_nothing_for_znodes_that_are_as_wanted(zk: KazooClient, app: str) -> None:
    zk.create(app, b"x", makepath=True)
    wanted = desired_znodes(options(znodes=[{"path": app, "value": "x"}, {"path": f"{app}/no", "state": "absent"}]))
    planned = plan(wanted, znodes.read(zk, wanted, TIMEOUT))
    assert not any(one.changed or one.steps for one in planned)
    assert zk.exists(f"{app}/no") is None
