"""`community.general.znode` and this collection's modules at one server, as docs/guides/migration.md compares them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE

from ansible_collections.zoo.deploy.plugins.modules import zk_znode, zk_znode_info
from support.certificates import Certificates
from support.community_general import HOW, ZNODE
from support.ensemble import Ensemble
from support.module import Crashed, run_module
from support.playbook import ROOT

PAGE = (ROOT / "docs" / "guides" / "migration.md").read_text(encoding="utf-8")
SPECS = {"zk_znode": zk_znode.argument_spec(), "zk_znode_info": zk_znode_info.argument_spec()}

needs_theirs = pytest.mark.skipif(not ZNODE.exists(), reason=f"no community.general.znode; fetch it: {HOW}")

Module = Callable[..., dict[str, Any]]


@pytest.fixture
def theirs(ensemble: Ensemble) -> Module:
    """Runs `community.general.znode`."""
    return lambda **options: run_module(ZNODE, **{"hosts": ensemble.hosts, **options})


@pytest.fixture
def ours(ensemble: Ensemble) -> Module:
    """Runs `zk_znode`."""
    return lambda **options: run_module(ROOT / "plugins/modules/zk_znode.py", hosts=ensemble.hosts, **options)


@pytest.fixture
def info(ensemble: Ensemble) -> Module:
    """Runs `zk_znode_info`."""
    file = ROOT / "plugins/modules/zk_znode_info.py"
    return lambda **options: run_module(file, **{"hosts": ensemble.hosts, **options})


@pytest.fixture
def root(zk: KazooClient, app: str) -> str:
    """An existing znode, the parent of one test's znodes."""
    zk.ensure_path(app)
    return app


def rows(heading: str, table: int = 0) -> list[list[str]]:
    """The cells of a table under a heading of the page."""
    text = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)[table]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()[2:]]


def names(cell: str) -> list[str]:
    """The options or return values that a cell names, without their values."""
    return [name.partition(":")[0] for name in re.findall(r"`([^`]+)`", cell)]


def their_options() -> set[str]:
    """The options of `community.general.znode`, from its documentation."""
    tree = ast.parse(ZNODE.read_text(encoding="utf-8"))
    texts = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
        if isinstance(node.value, ast.Constant)
    }
    return set(yaml.safe_load(texts["DOCUMENTATION"])["options"])


@needs_theirs
def test_the_page_has_a_row_for_every_option_of_theirs_and_no_other() -> None:
    assert {name for row in rows("Options") for name in names(row[0])} == their_options()


def test_every_option_of_ours_on_the_page_exists() -> None:
    known = {*SPECS, *(name for spec in SPECS.values() for name in spec), "name", "children"}
    for row in rows("Options"):
        assert set(names(row[1])) <= known


def test_every_return_value_of_ours_that_the_page_names_is_documented() -> None:
    known = {*SPECS, "changed", "msg", *yaml.safe_load(zk_znode.RETURN), *yaml.safe_load(zk_znode_info.RETURN)}
    for row in rows("Return values"):
        assert {name.partition(".")[0] for name in names(row[1])} <= known
    stats = {name for row in rows("Return values", table=1) for name in names(row[1])}
    assert stats == set(yaml.safe_load(zk_znode.RETURN)["stat"]["contains"])


@needs_theirs
def test_an_equal_value_is_a_change_there_each_time(theirs: Module, ours: Module, root: str) -> None:
    ours(name=root, value="x")
    assert ours(name=root, value="x")["changed"] is False
    assert theirs(name=root, value="x", state="present")["changed"] is True


@needs_theirs
def test_an_omitted_value_is_the_string_none_there(theirs: Module, ours: Module, zk: KazooClient, root: str) -> None:
    theirs(name=f"{root}/theirs", state="present")
    ours(name=f"{root}/ours")
    assert zk.get(f"{root}/theirs")[0] == b"None"
    assert zk.get(f"{root}/ours")[0] == b""
    zk.set(f"{root}/theirs", b"kept")
    assert ours(name=f"{root}/theirs")["changed"] is False
    assert zk.get(f"{root}/theirs")[0] == b"kept"
    theirs(name=f"{root}/theirs", state="present")
    assert zk.get(f"{root}/theirs")[0] == b"None"


@needs_theirs
def test_a_dictionary_is_written_as_python_there_and_json_here(
    theirs: Module, ours: Module, zk: KazooClient, root: str
) -> None:
    theirs(name=root, value={"b": 1}, state="present")
    assert zk.get(root)[0] == b"{'b': 1}"
    ours(name=root, value={"b": 1})
    assert zk.get(root)[0] == b'{"b": 1}'
    assert ours(name=root, value={"b": 1})["changed"] is False


@needs_theirs
def test_a_boolean_is_written_as_python_there_and_json_here(
    theirs: Module, ours: Module, zk: KazooClient, root: str
) -> None:
    theirs(name=root, value=True, state="present")
    assert zk.get(root)[0] == b"True"
    assert ours(name=root, value=True)["changed"]
    assert zk.get(root)[0] == b"true"
    ours(name=root, value="True")
    assert zk.get(root)[0] == b"True"


@needs_theirs
def test_a_value_for_a_deletion_is_ignored_there_and_refused_here(
    theirs: Module, ours: Module, zk: KazooClient, root: str
) -> None:
    zk.create(f"{root}/a")
    assert "go with state present only" in ours(name=f"{root}/a", value="x", state="absent")["msg"]
    assert zk.exists(f"{root}/a")
    assert theirs(name=f"{root}/a", value="x", state="absent")["changed"]
    assert zk.exists(f"{root}/a") is None


@needs_theirs
def test_what_a_digest_user_creates_is_open_to_everybody_in_both(
    theirs: Module, ours: Module, zk: KazooClient, root: str
) -> None:
    theirs(name=f"{root}/theirs", value="x", state="present", auth_credential="user:secret-word")
    ours(name=f"{root}/ours", value="x", digest_username="user", digest_password="secret-word")
    assert zk.get_acls(f"{root}/theirs")[0] == zk.get_acls(f"{root}/ours")[0] == OPEN_ACL_UNSAFE


@needs_theirs
def test_parents_are_created_by_both_and_here_also_refused(theirs: Module, ours: Module, root: str) -> None:
    assert theirs(name=f"{root}/a/b", value="x", state="present")["changed"]
    assert ours(name=f"{root}/c/d", value="x")["changed"]
    refused = ours(name=f"{root}/e/f", value="x", parents=False)
    assert f"{root}/e" in refused["msg"]
    assert "NoNode" in refused["msg"]


@needs_theirs
def test_deleting_a_znode_with_children_is_a_traceback_there_and_a_sentence_here(
    theirs: Module, ours: Module, zk: KazooClient, root: str
) -> None:
    zk.create(f"{root}/child")
    with pytest.raises(Crashed, match="NotEmptyError"):
        theirs(name=root, state="absent")
    refused = ours(name=root, state="absent")
    assert refused["failed"]
    assert "the znode has a child (NotEmpty)" in refused["msg"]
    assert ours(name=root, state="absent", recursive=True)["changed"]
    assert theirs(name=root, state="absent", recursive=True)["changed"] is False


@needs_theirs
def test_a_missing_znode_fails_there_and_does_not_exist_here(theirs: Module, info: Module, root: str) -> None:
    missing = f"{root}/missing"
    refused = theirs(name=missing, op="get")
    assert refused["failed"]
    assert refused["msg"] == "The requested node does not exist."
    with pytest.raises(Crashed, match="NoNodeError"):
        theirs(name=missing, op="list")
    assert info(name=missing) == {"changed": False, "path": missing, "exists": False}


@needs_theirs
def test_binary_data_is_broken_there_and_base64_here(theirs: Module, info: Module, zk: KazooClient, root: str) -> None:
    zk.set(root, b"\xff\xfe")
    with pytest.raises(UnicodeEncodeError):
        theirs(name=root, op="get")["value"].encode()
    read = info(name=root)
    assert (read["value"], read["encoding"]) == ("//4=", "base64")


@needs_theirs
def test_a_wait_that_ends_in_vain_fails_in_both(theirs: Module, info: Module, root: str) -> None:
    there = theirs(name=root, op="wait", timeout=1)
    assert (there["timeout"], "failed" in there) == (1, False)
    assert "elapsed" in info(name=root, wait_for={"state": "present"}, wait_timeout=1)
    assert theirs(name=f"{root}/missing", op="wait", timeout=0)["failed"]
    assert info(name=f"{root}/missing", wait_for={"state": "present"}, wait_timeout=0.1)["failed"]


@needs_theirs
def test_theirs_is_skipped_in_check_mode(theirs: Module, ours: Module, zk: KazooClient, root: str) -> None:
    assert theirs(name=f"{root}/a", value="x", state="present", check=True)["skipped"]
    assert ours(name=f"{root}/a", value="x", check=True)["changed"]
    assert zk.get_children(root) == []


@needs_theirs
def test_a_malformed_path_is_accepted_there_and_refused_here(theirs: Module, info: Module, root: str) -> None:
    for path in (root.lstrip("/"), f"{root}/"):
        assert theirs(name=path, op="list")["count"] == 0
        assert info(name=path)["failed"]


@needs_theirs
def test_neither_state_nor_op_is_refused_there(theirs: Module, ours: Module, root: str) -> None:
    assert theirs(name=root, value="x")["failed"]
    assert ours(name=root, value="x")["changed"]


@needs_theirs
def test_every_return_value_of_theirs_has_a_row_and_that_of_ours_is_the_same(
    theirs: Module, info: Module, zk: KazooClient, root: str
) -> None:
    zk.create(f"{root}/b")
    zk.create(f"{root}/a", b"x")
    options: list[dict[str, Any]] = [{"op": "get"}, {"op": "list"}, {"op": "wait"}, {"state": "present", "value": "x"}]
    answers = [theirs(name=root, **one) for one in options]
    assert {name for row in rows("Return values") for name in names(row[0])} == {key for one in answers for key in one}
    got, listed = theirs(name=root, op="get"), answers[1]
    here = info(name=root)
    assert (here["value"], here["path"]) == (got["value"], got["znode"])
    assert (here["stat"]["num_children"], here["children"]) == (listed["count"], sorted(listed["items"]))


@needs_theirs
def test_the_numbers_of_a_stat_are_the_same_under_the_names_on_the_page(
    theirs: Module, info: Module, zk: KazooClient, root: str
) -> None:
    zk.create(f"{root}/lock", b"x", ephemeral=True)
    there = theirs(name=f"{root}/lock", op="get")["stat"]
    here = info(name=f"{root}/lock")["stat"]
    named = [(old, names(new)[0]) for olds, new in rows("Return values", table=1) for old in names(olds)]
    assert {old for old, _new in named} == set(there)
    for old, new in named:
        assert there[old] == here[new], old


@needs_theirs
def test_a_digest_user_is_the_same_user_in_both(theirs: Module, ours: Module, info: Module, root: str) -> None:
    user = {"digest_username": "user", "digest_password": "secret"}
    ours(name=root, value="x", acl=[{"scheme": "auth", "perms": ["all"]}], **user)
    assert info(name=root, **user)["value"] == "x"
    assert theirs(name=root, op="get", auth_credential="user:secret")["value"] == "x"


@needs_theirs
def test_a_sasl_login_of_theirs_is_refused_by_a_server_that_knows_the_user(tmp_path: Path) -> None:
    with Ensemble.with_sasl(tmp_path / "zk", {"user": "secret"}) as servers:
        with pytest.raises(Crashed, match="AuthFailedError"):
            run_module(
                ZNODE, hosts=servers.hosts, name="/", op="get", auth_scheme="sasl", auth_credential="user:secret"
            )
        login: dict[str, Any] = {"sasl_mechanism": "DIGEST-MD5", "sasl_username": "user", "sasl_password": "secret"}
        assert run_module(ROOT / "plugins/modules/zk_znode_info.py", hosts=servers.hosts, path="/", **login)["exists"]


@pytest.fixture(scope="module")
def tls_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address, by name, of a server that requires no client certificates, and the file of its authority."""
    root = tmp_path_factory.mktemp("tls")
    certificates = Certificates.create(root / "certificates")
    with Ensemble.with_tls(root / "zk", certificates, "ssl.clientAuth=none") as servers:
        yield servers.secure_hosts, str(certificates.ca)


@needs_theirs
def test_both_verify_certificates_there_by_the_systems_authorities_alone_and_here_the_name_too(
    tls_hosts: tuple[str, str], theirs: Module, info: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_name, ca = tls_hosts
    by_address = by_name.replace("localhost", "127.0.0.1")
    here: dict[str, Any] = {"path": "/", "tls": True, "connect_timeout": 2}
    refused = theirs(hosts=by_name, name="/", op="get", use_tls=True)
    assert (refused["failed"], refused["msg"]) == (True, "The connection to the ZooKeeper ensemble timed out.")
    assert info(hosts=by_name, **here)["failed"]
    assert info(hosts=by_name, tls_ca=ca, **here)["exists"]
    assert info(hosts=by_address, tls_ca=ca, **here)["failed"]
    assert info(hosts=by_address, tls_ca=ca, tls_check_hostname=False, **here)["exists"]
    monkeypatch.setenv("SSL_CERT_FILE", ca)  # the system's authorities
    for hosts in (by_name, by_address):
        assert "failed" not in theirs(hosts=hosts, name="/", op="get", use_tls=True)
    assert info(hosts=by_name, **here)["exists"]


@needs_theirs
def test_both_take_a_chroot_and_the_environment_has_the_hosts_here(
    ensemble: Ensemble, theirs: Module, info: Module, zk: KazooClient, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zk.create(f"{root}/a", b"x")
    below = f"{ensemble.hosts}{root}"
    assert theirs(hosts=below, name="/a", op="get")["value"] == info(hosts=below, path="/a")["value"] == "x"
    monkeypatch.setenv("ZK_HOSTS", below)
    assert run_module(ROOT / "plugins/modules/zk_znode_info.py", path="/a")["value"] == "x"
    refused = run_module(ZNODE, name="/a", op="get")
    assert refused["failed"]
    assert "missing required arguments: hosts" in refused["msg"]
