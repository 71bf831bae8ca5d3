"""An inventory's own variables for an application, a target or a secret have no effect on the playbooks."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook
from support.ports import free_ports
from support.repository import GitRepository

PLAYBOOKS = ROOT / "playbooks"
HOSTILE: dict[str, Any] = {
    "app": "/app/hostile",
    "config_acl": [{"scheme": "world", "id": "anyone", "perms": []}],
    "config_from": "/etc",
    "config_path": "/hostile",
    "config_values": {"hostile": "yes"},
    "drain_seconds": 1000,
    "group": "hostile",
    "history": 0,
    "hosts": "127.0.0.1:1",
    "max_failures": 100,
    "max_missing": 0,
    "min_agents": 100,
    "min_servers": 0,
    "prune": True,
    "ref": "hostile",
    "relative_path": "hostile",
    "release_state": "rolled_back",
    "remove": True,
    "secret": True,
    "state": "rolled_back",
    "stop_units": ["hostile.service"],
    "target": "hostile",
    "to": "release-0000000666",
    "url": "file:///hostile",
    "wait_timeout": 0,
    "zk_connection": {"tls": True},
    "zk_hosts": "127.0.0.1:1",
}
"""Names that a company may well have in its group_vars/all, with values that would redirect a playbook."""


class Company:
    """An inventory with such variables, and the playbooks run with it."""

    def __init__(self, directory: Path, hosts: str, app: str) -> None:
        self.directory = directory
        self.ours = {"zoo_hosts": hosts, "zoo_app": app, "zoo_min_agents": 0, "zoo_wait_timeout": 30}
        (directory / "group_vars").mkdir(parents=True)
        self.variables(HOSTILE)
        hosts_of_company = {name: {"ansible_connection": "local"} for name in ("server1", "server2")}
        (directory / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts_of_company}}))

    def variables(self, values: dict[str, Any]) -> None:
        """Write the variables of all hosts."""
        (self.directory / "group_vars" / "all.yml").write_text(json.dumps(values))

    def play(self, names: str, *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run a playbook, or several one after the other, whose names are separated by blanks."""
        first, *others = [PLAYBOOKS / f"{name}.yml" for name in names.split()]
        given = ["-e", json.dumps({**self.ours, **variables})]
        return run_playbook(first, *map(str, others), "-i", str(self.directory), *given, *words)

    def succeed(self, name: str, **variables: Any) -> str:
        """Run a playbook, which has to succeed, and return its output."""
        done = self.play(name, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def company(tmp_path: Path, ensemble: Ensemble, app: str) -> Company:
    """The company's inventory."""
    return Company(tmp_path / "inventory", ensemble.hosts, app)


def test_a_deployment_is_not_redirected(company: Company, repository: GitRepository, zk: KazooClient, app: str) -> None:
    first = repository.head
    company.succeed("deploy", zoo_url=repository.url, zoo_ref=first, zoo_relative_path="site")
    second = repository.commit({"index.html": "two\n"})
    company.succeed("deploy", zoo_ref=second)
    release = json.loads(zk.get(f"{app}/config")[0])
    assert (release["url"], release["commitId"], release["relativePath"]) == (repository.url, second, "site")
    said = company.succeed("status")
    assert f"commit {second} of {repository.url} at site" in said
    assert said.count("release-") == 2, "the history is shown"
    company.variables({**HOSTILE, "zoo_ref": "main", "zoo_to": "release-0000000666"})
    company.succeed("deploy", zoo_ref=second)
    assert "zoo_ref has no effect on a rollback" in company.succeed("rollback", zoo_to=first[:10])
    assert json.loads(zk.get(f"{app}/config")[0])["commitId"] == first
    assert zk.exists("/app/hostile") is None


def test_a_configuration_is_not_redirected(company: Company, zk: KazooClient, app: str) -> None:
    path = f"{app}-config"
    zk.create(f"{path}/extra", b"kept", makepath=True)
    said = company.succeed("config", zoo_config_path=path, zoo_config_values={"colour": "green"})
    assert zk.get(f"{path}/colour")[0] == b"green"
    assert zk.exists(f"{path}/extra"), "nothing is pruned"
    assert "0 of 0 servers have it" in said, "nothing is hidden"
    assert zk.exists("/hostile") is None


def test_the_check_of_an_ensemble_is_not_redirected(company: Company) -> None:
    assert company.succeed("ensemble").count(" follower ") == 2


@pytest.mark.parametrize("name", ["scale_in", "scale_out"])
@pytest.mark.parametrize("variables", [HOSTILE, {"zoo_target": "all"}, {"target": "all", "ansible_limit": "all"}])
def test_scaling_is_refused_without_a_target_from_the_user(
    tmp_path: Path, name: str, variables: dict[str, Any]
) -> None:
    company = Company(tmp_path / "inventory", f"127.0.0.1:{free_ports(1)[0]}", "/app/none")
    company.variables(variables)
    done = company.play(name)
    assert done.returncode == 2
    assert "with -l or with -e zoo_target=" in done.stdout
    assert "server1" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "target"),
    [([], ""), ([], ","), ([], ":"), ([], [" ", ","]), (["-l", ""], None), (["-l", ","], ""), (["-l", ":"], "")],
)
def test_scaling_has_no_hosts_without_a_target(tmp_path: Path, words: list[str], target: Any) -> None:
    company = Company(tmp_path / "inventory", f"127.0.0.1:{free_ports(1)[0]}", "/app/none")
    done = company.play("scale_in scale_out", *words, "--list-hosts", zoo_target=target)
    _nothing, scale_in, scale_out = done.stdout.split("playbook: ")
    for name, said in (("scale_in", scale_in), ("scale_out", scale_out)):
        assert said.startswith(str(PLAYBOOKS / f"{name}.yml"))
        assert "Refuse to run without a target" in said
        assert "server1" not in said


@pytest.mark.parametrize("name", ["scale_in", "scale_out"])
def test_scaling_that_starts_after_the_refusal_has_no_hosts_either(tmp_path: Path, name: str) -> None:
    company = Company(tmp_path / "inventory", f"127.0.0.1:{free_ports(1)[0]}", "/app/none")
    done = company.play(name, "--check", "--start-at-task", "Ask each host for its name")
    assert "server1" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        (["-l", "server2"], {}),
        (["-l", "all:!server1"], {}),
        (["-l", "server2"], {"ansible_limit": "server1"}),
        ([], {"zoo_target": "server2"}),
        ([], {"ansible_limit": "server2"}),
    ],
)
def test_scaling_has_only_the_hosts_that_are_named(tmp_path: Path, words: list[str], variables: dict[str, Any]) -> None:
    company = Company(tmp_path / "inventory", f"127.0.0.1:{free_ports(1)[0]}", "/app/none")
    company.variables({"zoo_target": "server1", "target": "server1"})
    done = company.play("scale_in", *words, "--list-hosts", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^ {6}(\S+)$", done.stdout, re.MULTILINE) == ["server2"]


VALUES = {"zoo_config_path": "/c", "zoo_config_values": {"a": "b"}}


@pytest.mark.parametrize(
    ("name", "words", "variables", "line"),
    [
        ("scale_in", ["-l", "server1"], {"zoo_min_servers": "x"}, 'whole numbers in zoo_min_servers (got "x")'),
        ("scale_in", ["-l", "server1"], {"zoo_drain_seconds": ""}, 'seconds in zoo_drain_seconds (got "")'),
        ("scale_in", ["-l", "server1"], {"zoo_wait_timeout": 2 * 10**9}, "(got 2000000000)"),
        ("scale_in", ["-l", "server1"], {"zoo_min_servers": "0\n"}, 'zoo_min_servers (got "0n")'),
        ("scale_out", ["-l", "server1"], {"zoo_wait_timeout": "x"}, 'seconds in zoo_wait_timeout (got "x")'),
        ("scale_out", ["-l", "server1"], {"zoo_retry_timeout": "x"}, 'zoo_retry_timeout (got "x")'),
        ("ensemble", [], {"zoo_wait_timeout": "x"}, 'a number of seconds, got "x"'),
        ("status", [], {"zoo_history": "x"}, 'zoo_history: expected a number of entries, got "x"'),
        ("config", [], {"zoo_config_path": "", "zoo_config_values": {"a": "b"}}, "expected zoo_config_path, as in"),
        (
            "config",
            [],
            {"zoo_config_path": "/c", "zoo_config_from": None},
            "zoo_config_from: nothing is not a directory here",
        ),
        ("config", [], {**VALUES, "zoo_config_acl": "x"}, "zoo_config_acl: expected a list of dictionaries"),
        ("config", [], {**VALUES, "zoo_secret": "maybe"}, 'true or false in zoo_secret (got "maybe")'),
        ("config", [], {**VALUES, "zoo_secret": "true\n"}, 'true or false in zoo_secret (got "truen")'),
        ("config", [], {**VALUES, "zoo_prune": "true\n"}, 'zoo_prune (got "truen")'),
        ("loadbalancer", [], {"loadbalancer_group": None}, "loadbalancer_group: name the inventory group"),
    ],
)
def test_a_variable_of_another_form_is_refused_first(
    company: Company, name: str, words: list[str], variables: dict[str, Any], line: str
) -> None:
    done = company.play(name, *words, **variables)
    assert done.returncode == 2
    said = " ".join((done.stdout + done.stderr).replace("\\", "").split())
    assert line in said, done.stdout + done.stderr
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["deploy", "rollback", "status", "config", "ensemble", "scale_out", "scale_in"])
def test_connection_options_that_are_not_a_dictionary_are_refused_first_and_not_shown(
    company: Company, name: str
) -> None:
    words = ["-l", "server1"] if name.startswith("scale") else []
    done = company.play(name, *words, zoo_connection="digest_password=sesame")
    assert done.returncode == 2
    said = " ".join((done.stdout + done.stderr).replace("\\", "").split())
    assert "zoo_connection: expected a dictionary of connection options, as in -e" in said
    assert "sesame" not in said


SERVER = {"watcher_hosts": "127.0.0.1:1", "watcher_app": "/app/none"}


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({}, 'watcher_hosts with a member of the ensemble (got "nothing")'),
        ({**SERVER, "watcher_hosts": []}, "watcher_hosts with a member of the ensemble (got [])"),
        ({**SERVER, "watcher_app": ""}, 'watcher_app as in /app/business (got "")'),
        ({**SERVER, "watcher_services": "web"}, 'a list of services with a path (got "web")'),
        ({**SERVER, "watcher_services": [{}]}, "a list of services with a path (got [{}])"),
        ({**SERVER, "watcher_name": "a/b"}, 'watcher_name ("a/b")'),
        ({**SERVER, "watcher_drain_seconds": "x"}, 'watcher_drain_seconds ("x"); nothing is removed'),
        ({**SERVER, "zoo_stop_units": 5}, "names of units in zoo_stop_units (got [5])"),
        ({**SERVER, "zoo_stop_units": [""]}, 'names of units in zoo_stop_units (got [""])'),
        ({**SERVER, "zoo_remove": "maybe"}, 'true or false in zoo_remove (got "maybe"); nothing is removed'),
        ({**SERVER, "zoo_remove": "true\n"}, 'true or false in zoo_remove (got "truen"); nothing is removed'),
    ],
)
def test_a_server_is_removed_only_by_the_variables_that_it_was_installed_with(
    company: Company, variables: dict[str, Any], line: str
) -> None:
    del company.ours["zoo_hosts"]
    done = company.play("scale_in", "-l", "server1", "--check", **variables)
    assert done.returncode == 2
    said = " ".join((done.stdout + done.stderr).replace("\\", "").split())
    assert line in said, done.stdout + done.stderr
    assert "TASK [Ask each host for its name]" not in done.stdout
