"""The role zookeeper without a host: what it refuses, and what it knows of a member. Its service is tested on hosts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook

ROLE = ROOT / "roles" / "zookeeper"
STATE = ROLE / "files" / "member_state.py"


def refusal(directory: Path, hosts: int = 1, serial: int = 0, **variables: Any) -> str:
    """What the role says when it refuses these variables, in check mode: nothing on this machine is changed."""
    hostvars = {f"zk{number}": {"ansible_connection": "local"} for number in range(1, hosts + 1)}
    (directory / "inventory.json").write_text(json.dumps({"zookeeper": {"hosts": hostvars}}))
    play = {
        "hosts": "all",
        "gather_facts": False,
        "roles": ["zoo.deploy.zookeeper"],
        "serial": serial,
        "vars": variables,
    }
    (directory / "play.yml").write_text(json.dumps([play]))
    done = run_playbook(directory / "play.yml", "--check", "-i", str(directory / "inventory.json"))
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    said = refusal(
        tmp_path,
        zookeeper_tick_time=5,
        zookeeper_peer_port=2181,
        zookeeper_data_dir="/srv/a b",
        zookeeper_four_letter_words=["ruok"],
        zookeeper_settings={"tickTime": 1, "ssl.keyStore.password": "hidden"},
        zookeeper_metrics_port=7000,
        zookeeper_quorum_tls=True,
    )
    for wanted in (
        "expected zookeeper_tick_time of at least 100 ms, got 5",
        "expected different ports from 1 to 65535, got 2181, 2181, 3888, 7000",
        "got /srv/a b",
        "expected srvr among zookeeper_four_letter_words",
        "nothing that the role has a variable for, got tickTime, ssl.keyStore.password",
        "expected zookeeper_tarball with zookeeper_metrics_port",
        "expected zookeeper_tls_certificate and zookeeper_tls_ca with TLS",
    ):
        assert wanted in said
    assert "hidden" not in said


def test_two_members_can_not_have_one_id(tmp_path: Path) -> None:
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "zk3.json").write_text('{"zookeeper_id": 2}')
    said = refusal(tmp_path, 3)
    assert "expected a different zookeeper_id from 1 to 255 for each member" in said
    assert r"got {\"zk1\": 1, \"zk2\": 2, \"zk3\": 2}" in said


def test_members_that_come_one_after_the_other_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, 3, serial=1)
    assert "expected the members in one batch, without serial" in said


def test_a_password_that_a_login_file_can_not_have_is_refused_and_not_shown(tmp_path: Path) -> None:
    said = refusal(tmp_path, zookeeper_sasl_users={"publisher": 'quo"ted'})
    assert "passwords without quotation marks" in said
    assert "quo" not in said.replace("quotation", "")


@pytest.mark.parametrize("port", [2181, 0])
def test_members_are_asked_by_tls_only_where_they_have_no_plain_port(
    tmp_path: Path, ensemble: Ensemble, port: int
) -> None:
    (restart,) = (task for task in yaml.safe_load((ROLE / "tasks/main.yml").read_text()) if "module_defaults" in task)
    variables = {"zookeeper_client_port": port, "zookeeper_wait_timeout": 0, "_zookeeper_members": []}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "module_defaults": restart["module_defaults"],
        "vars": {**variables, "_zookeeper_ca": "/none/ca.pem", "_zookeeper_certificate": "/none/zk.pem"},
        "tasks": [{"zoo.deploy.zk_ensemble_info": {"hosts": ensemble.hosts}}],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = run_playbook(tmp_path / "play.yml")
    assert (done.returncode == 0) == (port != 0), done.stdout + done.stderr
    assert ("tls_ca: no file at /none/ca.pem" in done.stdout + done.stderr) == (port == 0)


def member_state(directory: Path) -> dict[str, Any]:
    """What is found of a member in a directory."""
    words = [
        str(directory / "etc"),
        str(directory / "data"),
        str(directory / "log"),
        str(directory / "home"),
        "root",
        "/bin/sh",
        "/nowhere",
    ]
    done = subprocess.run([sys.executable, str(STATE), *words], capture_output=True, check=True)
    return dict(json.loads(done.stdout))


def test_a_host_without_a_member_has_nothing(tmp_path: Path) -> None:
    expected = {"myid": "", "data": False, "settings": {}, "login": False, "unpacked": False, "user": True}
    expected["lacking"] = ["/nowhere"]
    assert member_state(tmp_path) == expected


@pytest.mark.parametrize(
    ("file", "content", "has_data"),
    [
        ("data/version-2/snapshot.0", "", False),
        ("data/version-2/currentEpoch", "0", False),
        ("data/version-2/currentEpoch", "1", True),
        ("data/version-2/snapshot.3", "", True),
        ("log/version-2/log.1", "", True),
    ],
)
def test_a_member_has_data_once_it_was_in_sync_or_has_a_transaction(
    tmp_path: Path, file: str, content: str, has_data: bool
) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(content)
    assert member_state(tmp_path)["data"] == has_data


def test_the_example_that_debian_has_for_an_id_is_none(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "myid").write_text(
        "replace this text with the cluster-unique zookeeper's instance id (1-255)\n"
    )
    assert member_state(tmp_path)["myid"] == ""


def test_the_playbook_shows_each_member_and_fails_where_one_is_down(ensemble: Ensemble) -> None:
    hosts = f"{ensemble.hosts},127.0.0.1:1"
    playbook = ROOT / "playbooks" / "ensemble.yml"
    done = run_playbook(playbook, "-e", f"zoo_hosts={hosts}", "-e", "zoo_wait_timeout=0")
    assert done.returncode != 0
    leader = f"127.0.0.1:{ensemble.leader.client_port}"
    assert re.search(rf'"{leader} +leader +ZooKeeper 3[.][0-9.]+"', done.stdout)
    assert re.search(r'"127.0.0.1:1 +down +no answer: .*"', done.stdout)
    assert "the ensemble is not whole: 127.0.0.1:1: no answer: " in done.stdout + done.stderr
