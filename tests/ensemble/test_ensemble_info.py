"""`zk_ensemble_info` with members that serve, are down, speak TLS, or are restricted in what they report."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.modules import zk_ensemble_info
from support.certificates import Certificates
from support.ensemble import Ensemble
from support.module import run_module
from support.playbook import ROOT
from support.ports import free_ports
from support.waiting import wait_for

MODULE = ROOT / "plugins/modules/zk_ensemble_info.py"
SRVR_ONLY = "4lw.commands.whitelist=srvr"
"""A line of zoo.cfg: ZooKeeper's default, which the tests' ensembles override."""


def ask(hosts: str, **given: Any) -> dict[str, Any]:
    """Run the module within the test's process."""
    checked = ArgumentSpecValidator(zk_ensemble_info.argument_spec()).validate(
        {"hosts": hosts, "admin_port": 0, **given}
    )
    assert not checked.error_messages
    return zk_ensemble_info.gather(checked.validated_parameters)


def the_one(hosts: str, **given: Any) -> dict[str, Any]:
    """The result for the only member."""
    (member,) = ask(hosts, **given)["members"]
    return dict(member)


@pytest.fixture
def admin(tmp_path: Path) -> tuple[str, ...]:
    """Lines of zoo.cfg for an AdminServer that also speaks TLS; the first contains its port."""
    certificates = Certificates.create(tmp_path / "certificates")
    return (
        f"admin.serverPort={free_ports(1)[0]}",
        "admin.enableServer=true",
        "admin.serverAddress=127.0.0.1",
        "admin.portUnification=true",
        f"ssl.quorum.keyStore.location={certificates.server}",
        f"ssl.quorum.trustStore.location={certificates.ca}",
    )


def test_every_member_reports_the_documented_keys_and_the_ensemble_is_whole(
    ensemble: Ensemble, zk: KazooClient, app: str
) -> None:
    zk.ensure_path(app)
    told = ask(f"{ensemble.hosts}/chroot", wait_timeout=10)
    assert (told["whole"], told["problem"]) == (True, "")
    assert told["leader"] == f"127.0.0.1:{ensemble.leader.client_port}"
    assert [one["member"] for one in told["members"]] == ensemble.hosts.split(",")
    documented = yaml.safe_load(zk_ensemble_info.RETURN)["members"]["contains"].keys()
    (leader,) = [one for one in told["members"] if one["mode"] == "leader"]
    assert leader.keys() == documented - {"problem", "admin_problem"}
    assert leader["synced_followers"] == 2
    for one in told["members"]:
        assert leader.keys() - one.keys() <= {"synced_followers"}
        assert one["version"].startswith("3.")
        assert one["zxid"] >= zk.last_zxid


def test_a_member_that_is_down_is_reported_and_the_others_too(ensemble: Ensemble) -> None:
    told = ask(f"{ensemble.hosts},127.0.0.1:1")
    assert not told["whole"]
    assert told["leader"]
    down = told["members"][3]
    assert down.keys() == {"member", "problem"}
    assert told["problem"] == f"127.0.0.1:1: {down['problem']}"
    assert down["problem"].startswith("no answer: ")


def test_a_member_that_accepts_but_never_answers_times_out(ensemble: Ensemble) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told = ask(f"{ensemble.hosts},127.0.0.1:{silent.getsockname()[1]}", connect_timeout=0.5)
    assert told["members"][3]["problem"] == "no answer: timed out"
    assert told["leader"]


def test_an_ensemble_is_waited_for_until_it_is_whole(tmp_path: Path) -> None:
    servers = Ensemble(tmp_path / "zk", size=1)
    try:
        assert not ask(servers.hosts)["whole"]
        servers.members[0].start()
        told = ask(servers.hosts, wait_timeout=30)
        assert told["whole"]
        assert told["members"][0]["mode"] == "standalone"
    finally:
        servers.stop()


def test_a_member_without_a_quorum_reports_it(tmp_path: Path) -> None:
    servers = Ensemble(tmp_path / "zk")
    try:
        servers.members[0].start()
        problem = wait_for(lambda: "currently" in ask(servers.hosts)["problem"] and ask(servers.hosts)["problem"], "it")
        assert (
            f"127.0.0.1:{servers.members[0].client_port}: This ZooKeeper instance is not currently serving requests"
            in problem
        )
    finally:
        servers.stop()


def test_the_admin_server_reports_what_four_letter_words_may_not(tmp_path: Path, admin: tuple[str, ...]) -> None:
    port = int(admin[0].partition("=")[2])
    with Ensemble(tmp_path / "zk", size=1, extra=(SRVR_ONLY, *admin)) as servers:
        hosts = servers.hosts.replace("127.0.0.1", "localhost")
        brief = the_one(hosts)
        assert (brief["mode"], brief["znodes"]) == ("standalone", 5)
        more = {"sessions", "watches", "ephemerals", "data_size"}
        assert not more & brief.keys()
        # The first answer of a new AdminServer may take longer than its timeout.
        wait_for(lambda: more < the_one(hosts, admin_port=port).keys(), "an answer of the AdminServer")
        by_tls = {"admin_port": port, "admin_tls": True, "tls_ca": str(tmp_path / "certificates" / "ca.pem")}
        wait_for(lambda: more < the_one(hosts, **by_tls).keys(), "an answer by TLS")
        # The certificate is only for the name.
        assert "certificate verify failed" in the_one(servers.hosts, **by_tls)["admin_problem"]
        assert more < the_one(servers.hosts, **by_tls, tls_check_hostname=False).keys()
        strange = the_one(hosts, admin_port=servers.members[0].client_port)
        assert strange["admin_problem"].startswith(f"port {servers.members[0].client_port}: ")
        assert strange["mode"] == "standalone"


def test_a_member_that_only_speaks_tls_is_asked_by_tls(tmp_path: Path) -> None:
    certificates = Certificates.create(tmp_path / "certificates")
    with Ensemble.with_tls(tmp_path / "ensemble", certificates) as servers:
        files = {"tls": True, "tls_ca": str(certificates.ca), "tls_cert": str(certificates.server)}
        assert ask(servers.secure_hosts, wait_timeout=10, **files)["whole"]
        assert "answer" in the_one(servers.secure_hosts)["problem"]
        by_address = servers.secure_hosts.replace("localhost", "127.0.0.1")
        assert "certificate verify failed" in the_one(by_address, **files)["problem"]
        assert "mode" in the_one(by_address, tls_check_hostname=False, **files)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hosts": "zk1:x"}, "hosts: expected host:port with a port from 1 to 65535, got 'zk1:x'"),
        ({"hosts": "a/x,b/y"}, "hosts: expected one chroot, after the last member, got 'a/x,b/y'"),
        ({"hosts": "a", "wait_timeout": -1}, "wait_timeout: expected 0 or more, got -1"),
        ({"hosts": "a", "connect_timeout": math.inf}, "connect_timeout: expected at most 1e+09, got inf"),
        ({"hosts": "a", "admin_port": 70000}, "admin_port: expected a port from 1 to 65535, or 0, got 70000"),
        ({"hosts": "a", "tls": True, "tls_ca": "/nowhere"}, "tls_ca: no file at /nowhere"),
        ({"hosts": "a", "admin_tls": True, "tls_ca": "/nowhere"}, "tls_ca: no file at /nowhere"),
        (
            {"hosts": "a", "tls_ca": "/nowhere"},
            "tls_ca: given without tls, so nothing would be encrypted; set tls: true",
        ),
    ],
)
def test_only_wrong_options_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ZooKeeperError) as caught:
        ask(**given)
    assert str(caught.value) == message


def test_no_kazoo_is_needed(ensemble: Ensemble, tmp_path: Path) -> None:
    (tmp_path / "kazoo.py").write_text("raise ImportError('no kazoo here')\n")
    told = run_module(MODULE, before=tmp_path, hosts=ensemble.hosts, admin_port=0)
    assert told["leader"]
    assert run_module(ROOT / "plugins/modules/zk_znode_info.py", before=tmp_path, hosts="a", path="/")["failed"]
