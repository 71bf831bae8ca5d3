"""The role zookeeper without a host: what it refuses, what it detects of a member. Its service is tested on hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.client import connected
from support.ensemble import Ensemble
from support.many_hosts import run_on_hosts
from support.playbook import ROOT, Run, run_playbook

ROLE = ROOT / "roles" / "zookeeper"
STATE = ROLE / "files" / "member_state.py"


def refusal(directory: Path, hosts: int = 1, serial: int = 0, **variables: Any) -> str:
    """What the role prints when it refuses these variables, in check mode: nothing on this machine is changed."""
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


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    said = refusal(
        tmp_path,
        zookeeper_tick_time=5,
        zookeeper_peer_port=2181,
        zookeeper_data_dir="/srv/a b",
        zookeeper_four_letter_words=["ruok"],
        zookeeper_settings={"tickTime": 1, "ssl.keyStore.password": "hidden"},
        zookeeper_metrics_port=7000,
        zookeeper_quorum_tls=True,
        zookeeper_quorum_sasl="send",
        zookeeper_sasl_required=True,
        zookeeper_auth_schemes=["sasl", "x509"],
        zookeeper_x509_superuser="CN=admin, O=Example",
    )
    for wanted in (
        "expected zookeeper_tick_time of at least 100 ms, got 5",
        "expected different ports from 1 to 65535, got 2181, 2181, 3888, 7000",
        "got /srv/a b",
        "expected srvr among zookeeper_four_letter_words",
        "nothing that the role has a variable for, got tickTime, ssl.keyStore.password",
        "expected zookeeper_tarball with zookeeper_metrics_port",
        "expected zookeeper_tls_certificate and zookeeper_tls_ca with TLS",
        "expected zookeeper_quorum_password with zookeeper_quorum_sasl accept, send or require, and only then",
        "expected zookeeper_sasl_required or zookeeper_auth_schemes, got both",
        "expected somebody in zookeeper_sasl_users with sasl in zookeeper_auth_schemes",
        "expected zookeeper_secure_client_port and zookeeper_tls_client_auth with x509 in zookeeper_auth_schemes",
        "without spaces after commas, got CN=admin, O=Example",
    ):
        assert wanted in said
    assert "hidden" not in said


def test_two_members_cannot_have_the_same_id(tmp_path: Path) -> None:
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / "zk3.json").write_text('{"zookeeper_id": 2}')
    said = refusal(tmp_path, 3)
    assert "expected a different zookeeper_id from 1 to 255 for each member" in said
    assert r"got {\"zk1\": 1, \"zk2\": 2, \"zk3\": 2}" in said


def test_members_that_come_one_after_the_other_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, 3, serial=1)
    assert "expected the members in one batch, without serial" in said


def test_a_password_that_a_login_file_cannot_contain_is_refused_and_not_shown(tmp_path: Path) -> None:
    said = refusal(tmp_path, zookeeper_sasl_users={"publisher": 'xyz"zy'})
    assert "passwords without quotation marks" in said
    assert "xyz" not in said


OLD, NEW = "3.4.13-6ubuntu4.1", "3.9.3-1"
PACKAGES = f"""\
Package: libzookeeper-java
Version: {OLD}

Package: libzookeeper-java
Version: {NEW}

Package: zookeeper
Version: {OLD}
Depends: libzookeeper-java (= {OLD})

Package: default-jre-headless
Version: 2:1.17

Package: example-jars
Version: 1
"""
FROM_PACKAGES: dict[str, tuple[dict[str, Any], bool]] = {
    "by-default": ({}, True),
    "by-name": ({"zookeeper_packages": ["libzookeeper-java"]}, True),
    "in-one-text": ({"zookeeper_packages": "libzookeeper-java"}, True),
    "by-dependency": ({"zookeeper_packages": ["example-jars", "zookeeper"]}, True),
    "by-version": ({"zookeeper_packages": ["libzookeeper-java=3.4.*"]}, True),
    "newer": ({"zookeeper_packages": ["libzookeeper-java=3.9.*"]}, False),
    "other-package": ({"zookeeper_packages": ["example-jars"]}, False),
    "unknown": ({"zookeeper_packages": ["libzookeeper-java", "no-such-package"]}, False),
    "archive": ({"zookeeper_packages": ["libzookeeper-java"], "zookeeper_tarball": "/srv/x.tar.gz"}, False),
}
"""Hosts' variables by how they get ZooKeeper, and whether that version is too old."""


def package_index(directory: Path, installed: str = "", preferred: str = OLD) -> str:
    """The path of the configuration of an apt that has two versions of ZooKeeper, one of them preferred."""
    for name in ("lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True)
    stanza = "Architecture: all\nMaintainer: example\nFilename: x.deb\nSize: 1\nSHA256: " + "0" * 64 + "\nVersion:"
    (directory / "Packages").write_text(PACKAGES.replace("Version:", stanza))
    (directory / "sources").write_text(f"deb [trusted=yes] file:{directory} ./\n")
    (directory / "preferences").write_text(
        f"Package: libzookeeper-java\nPin: version {preferred}\nPin-Priority: 1001\n"
    )
    status = "Status: install ok installed\nArchitecture: all\nMaintainer: example\nVersion:"
    (directory / "status").write_text(installed.replace("Version:", status))
    places = {"Etc::sourcelist": "sources", "Etc::preferences": "preferences", "State::status": "status"}
    places |= {"State::lists": "lists", "Cache": "cache", "Etc::sourceparts": "none", "Etc::preferencesparts": "none"}
    lines = [f'Dir::{option} "{directory / name}";' for option, name in places.items()]
    config = directory / "apt.conf"
    config.write_text("\n".join([*lines, 'APT::Sandbox::User "";\n']))
    environment = {**os.environ, "APT_CONFIG": str(config)}
    subprocess.run(["apt-get", "--quiet", "update"], env=environment, check=True, capture_output=True)
    return str(config)


def test_an_outdated_package_is_refused_before_anything_is_installed_however_it_is_selected(tmp_path: Path) -> None:
    there = PACKAGES.partition("\n\n")[0] + "\n"
    installed = package_index(tmp_path / "there", there)
    outdated = package_index(tmp_path / "outdated", there, NEW)
    absent = package_index(tmp_path / "absent")
    hosts = {name: {**variables, "apt": absent} for name, (variables, _is_refused) in FROM_PACKAGES.items()}
    hosts["installed"] = {"apt": installed}
    # What is already installed stays as it is, unless another version is requested.
    hosts["outdated"] = {"apt": outdated}
    hosts["upgraded"] = {"apt": outdated, "zookeeper_packages": ["libzookeeper-java=3.9.*"]}
    # As if its files were missing; check mode, so that nothing is installed here.
    role = {"name": "zoo.deploy.zookeeper", "tasks_from": "install"}
    state = {"_zookeeper_state": {"lacking": ["/usr/share/java/zookeeper.jar"], "unpacked": True}}
    tasks = [{"ansible.builtin.include_role": role, "vars": state}]
    play = {"tasks": tasks, "check_mode": True, "environment": {"APT_CONFIG": "{{ apt }}"}}
    done = run_on_hosts(tmp_path, play, hosts)
    refusal = f"ZooKeeper 3.5 or later, got libzookeeper-java {OLD} from the packages of this host; "
    refused = {name for name, (_variables, is_refused) in FROM_PACKAGES.items() if is_refused} | {"installed"}
    assert {name for name, run in done.items() if f"{refusal}set zookeeper_tar" in run.output} == refused, done
    upgrade = f"{refusal}upgrade it to {NEW}, or set zookeeper_tarball to "
    assert {name for name, run in done.items() if upgrade in run.output} == {"outdated"}, done


SASL_LINES = ("enableSasl", "learnerRequireSasl", "serverRequireSasl")
PREVIOUS = {"none": 0, "accept": 1, "send": 2, "require": 3}
TRANSITIONS = {
    "zk1": ("none", "accept", "old", ""),
    "zk2": ("none", "send", "old", "got none to send"),
    "zk3": ("accept", "send", "old", ""),
    "zk4": ("accept", "require", "old", "got accept to require"),
    "zk5": ("require", "none", "", "got require to none"),
    "zk6": ("require", "send", "old", ""),
    "zk7": ("accept", "accept", "new", ""),
    "zk8": ("accept", "send", "new", "members that send zookeeper_quorum_password are heard by none that has another"),
    "zk9": ("send", "accept", "new", "members that send zookeeper_quorum_password are heard by none that has another"),
    "zk0": ("require", "settings", "", ""),
}
"""How members authenticate to each other before and after, with which password, and with what the role refuses that.

`settings`: the same as before, by lines in `zookeeper_settings`.
"""


def test_members_begin_to_authenticate_to_each_other_one_step_per_run_and_with_one_password(tmp_path: Path) -> None:
    hosts: dict[str, dict[str, Any]] = {}
    for host, (before, after, password, _refusal) in TRANSITIONS.items():
        config = tmp_path / host
        (config / "data" / "version-2").mkdir(parents=True)
        # Otherwise the role counts the members without data among those that have not been refused yet.
        (config / "data" / "version-2" / "currentEpoch").write_text("1")
        lines = [f"quorum.auth.{line}={str(PREVIOUS[before] > i).lower()}" for i, line in enumerate(SASL_LINES)]
        (config / "zoo.cfg").write_text("\n".join(lines))
        (config / "jaas.conf").write_text('QuorumServer {\n  user_member="old";\n};\n')
        hosts[host] = {"ansible_connection": "local", "zookeeper_config_dir": str(config)}
        if after == "settings":
            hosts[host] |= {"zookeeper_settings": {f"quorum.auth.{line}": True for line in SASL_LINES}}
        else:
            hosts[host] |= {"zookeeper_quorum_sasl": after, "zookeeper_quorum_password": password}
        hosts[host] |= {"zookeeper_data_dir": str(config / "data"), "zookeeper_data_log_dir": str(config / "log")}
    (tmp_path / "inventory.json").write_text(json.dumps({"zookeeper": {"hosts": hosts}}))
    tasks = [
        {"ansible.builtin.include_role": {"name": "zoo.deploy.zookeeper", "tasks_from": step}}
        for step in ("preflight", "gather")
    ]
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = run_playbook(tmp_path / "play.yml", "-i", str(tmp_path / "inventory.json"))
    output = done.stdout + done.stderr
    said = dict(re.findall(r"^fatal: \[(zk\d)\]: .*?(\{.*)$", output, re.MULTILINE))
    assert set(said) == {host for host, case in TRANSITIONS.items() if case[3]}, output
    for host, text in said.items():
        assert TRANSITIONS[host][3] in text, text


REPAIRED = {"whole": True, "problem": "", "leader": "zk1:2181", "members": []}
"""The result of a repair."""


def test_a_second_run_in_one_play_does_not_rely_on_the_repair_of_the_first(tmp_path: Path) -> None:
    play = {
        "hosts": "all",
        "gather_facts": False,
        "module_defaults": {"zoo.deploy.zk_ensemble_info": {"hosts": "127.0.0.1:1", "wait_timeout": 0}},
        "tasks": [
            {"ansible.builtin.set_fact": {"_zookeeper_stale": False, "_zookeeper_answers_after_repair": REPAIRED}},
            {"ansible.builtin.include_role": {"name": "zoo.deploy.zookeeper", "tasks_from": "rolling_restart"}},
        ],
    }
    (tmp_path / "inventory.json").write_text('{"zookeeper": {"hosts": {"zk1": {"ansible_connection": "local"}}}}')
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = run_playbook(tmp_path / "play.yml", "-i", str(tmp_path / "inventory.json"))
    assert done.returncode != 0, done.stdout
    assert "the ensemble is not whole: 127.0.0.1:1: no answer: [Errno 111] Connection refused" in done.stdout


@pytest.mark.parametrize("port", [2181, 0])
def test_members_are_queried_over_tls_only_if_they_have_no_plain_port(
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


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """A server that enforces quotas, as one that the role sets up does."""
    with Ensemble(tmp_path_factory.mktemp("enforcing"), size=1, extra=("enforceQuota=true",)) as servers:
        yield servers


def test_the_quota_of_the_readme_is_no_change_the_second_time_and_refuses_what_exceeds_it(
    tmp_path: Path, enforcing: Ensemble
) -> None:
    recipe = (ROLE / "README.md").read_text().partition("## Quotas")[2].partition("```yaml\n")[2].partition("```")[0]
    (task,) = yaml.safe_load(recipe)
    task["zoo.deploy.zk_znode"]["hosts"] = enforcing.hosts
    play: dict[str, Any] = {"hosts": "localhost", "gather_facts": False, "tasks": [task]}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    runs = [Run.of(run_playbook(tmp_path / "play.yml")) for _number in range(2)]
    with connected(enforcing.hosts) as zk:
        zk.create("/app/shop/small", b"", makepath=True)
        counted = zk.get("/zookeeper/quota/app/shop/zookeeper_stats")[0]
    assert ([(run.failed, run.changed) for run in runs], counted) == ([(0, 1), (0, 0)], b"count=2,bytes=0")
    limits = {"path": "/zookeeper/quota/app/shop/zookeeper_limits", "value": "countHardLimit=2"}
    task["zoo.deploy.zk_znode"] = {"hosts": enforcing.hosts, "znodes": [limits]}
    task = {"zoo.deploy.zk_znode": {"hosts": enforcing.hosts, "path": "/app/shop/beyond"}}
    (tmp_path / "play.yml").write_text(json.dumps([{**play, "tasks": [*play["tasks"], task]}]))
    done = run_playbook(tmp_path / "play.yml")
    assert done.returncode != 0
    assert (
        "/app/shop/beyond: exceeds a quota of the path or of one above it (QuotaExceeded)" in done.stdout + done.stderr
    )


def member_state(directory: Path) -> dict[str, Any]:
    """What the role detects of a member in a directory."""
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


def test_debians_placeholder_for_an_id_is_not_an_id(tmp_path: Path) -> None:
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
