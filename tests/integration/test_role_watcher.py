"""The role watcher: what it makes on a host, in which order, and what it refuses.

Its service is not managed here, but for the unit's text: a systemd that runs is what the tests on hosts have.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient

from support.agent import publish
from support.ensemble import Ensemble
from support.playbook import ROOT, Run, run_playbook
from support.repository import GitRepository
from support.waiting import wait_for
from zoo_watcher.config.config import Check, Config, Connection, Hooks, Service

ROLE = ROOT / "roles" / "watcher"
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
EXPOSURE = re.compile(r"Overall exposure level for \S+: (\d+\.\d)")


@dataclass
class Host:
    """A directory as a host. The virtual environment in `install` is shared, because making one takes seconds."""

    root: Path
    install: Path
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """The agent's configuration."""
        return self.root / "etc" / "business.json"

    @property
    def current(self) -> Path:
        """The link to the version that the instance runs."""
        return self.install / "current-business"

    def apply(self, *words: str, play: dict[str, Any] | None = None, **variables: Any) -> Run:
        """Apply the role with these variables on top of the host's; `play` are further keys of the play."""
        values = {
            "watcher_hosts": ["127.0.0.1:1"],
            "watcher_base": str(self.root / "base"),
            "watcher_install_dir": str(self.install),
            "watcher_config_dir": str(self.root / "etc"),
            "watcher_python": sys.executable,
            "watcher_manage_service": False,
            **self.variables,
            **variables,
        }
        debug = {
            "name": "Heard",
            "ansible.builtin.debug": {"msg": "told to restart"},
            "listen": "zoo.deploy.watcher changed",
        }
        one = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": values,
            "roles": ["zoo.deploy.watcher"],
            "handlers": [debug],
            **(play or {}),
        }
        playbook = self.root / "play.yml"
        playbook.write_text(json.dumps([one]))
        done = run_playbook(playbook, *words)
        return Run.of(done)


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that this module's hosts are installed in."""
    return tmp_path_factory.mktemp("role") / "opt"


@pytest.fixture
def host(tmp_path: Path, install: Path) -> Iterator[Host]:
    """A host that nothing has been applied to, but for the shared environment."""
    made = Host(tmp_path, install)
    yield made
    made.current.unlink(missing_ok=True)


def test_every_variable_of_the_configuration_is_in_the_argument_specs_and_no_other_is() -> None:
    keys = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["_watcher_keys"]
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert {f"watcher_{key}" for key in keys} | set(defaults) == set(options)


def test_check_mode_on_a_bare_host_announces_the_changes_and_makes_none(tmp_path: Path) -> None:
    host = Host(tmp_path, tmp_path / "opt")
    run = host.apply("--check", "--diff")
    assert (run.failed, run.changed > 0) == (0, True), run.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["play.yml"]


def test_what_is_installed_deploys_and_a_second_run_changes_nothing(
    host: Host, ensemble: Ensemble, zk: KazooClient, app: str, repository: GitRepository
) -> None:
    variables = {
        "watcher_hosts": ensemble.hosts.split(","),
        "watcher_app": app,
        "watcher_instance": "business",
        "watcher_name": "server1",
        "watcher_allowed_schemes": ["file"],
    }
    host.variables = variables
    assert host.apply().failed == 0
    command = [str(host.current / "bin/python"), "-m", "zoo_watcher", "run", "--config", str(host.config)]
    agent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        publish(zk, app, {"url": repository.url, "commitId": repository.head, "relativePath": "site"})
        wait_for((host.root / "base/site/index.html").exists, "the agent has deployed")
        wait_for(lambda: _status(zk, f"{app}/agents/server1").get("state") == "active", "the agent says so")
        assert _status(zk, f"{app}/agents/server1")["version"] == VERSION
        for words in ((), ("--check",)):
            run = host.apply(*words)
            assert (run.failed, run.changed) == (0, 0), run.output
            assert "told to restart" not in run.output
    finally:
        agent.terminate()
        agent.wait(20)


def _status(zk: KazooClient, path: str) -> dict[str, Any]:
    return dict(json.loads(zk.get(path)[0])) if zk.exists(path) else {}


def test_the_command_is_for_everybody_on_the_host_and_is_removed_with_the_last_instance(open_path: Path) -> None:
    host = Host(open_path, open_path / "opt", {"watcher_bin_dir": str(open_path), "watcher_name": "server1"})
    # What an ordinary user may run: the interpreter of the tests may be where only root reads.
    host.variables["watcher_python"] = "/usr/bin/python3" if os.geteuid() == 0 else sys.executable
    assert host.apply().failed == 0
    command = open_path / "zoo-watcher"
    assert _typed(command, "status").stdout.startswith("agent       server1, not running\napp         /app/business\n")
    other: dict[str, Any] = {
        "watcher_instance": "shop",
        "watcher_app": "/app/shop",
        "watcher_base": f"{open_path}/shop",
    }
    assert host.apply(**other).failed == 0
    assert _typed(command, "status").stderr == (
        "zoo-watcher: this host has several agents, say which: business, shop\n"
    )
    assert f"base        {open_path}/shop\n" in _typed(command, "status", "shop").stdout
    assert "no agent runs here" in _typed(command, "hold", "shop", "--reason", "disk swap").stdout
    if os.geteuid() == 0:
        done = _typed(command, "status", "shop", user=("setpriv", "--reuid=nobody", "--clear-groups"))
        assert (done.returncode, done.stderr.count("\n")) == (0, 1)
        assert f"base        {open_path}/shop\nheld        since " in done.stdout
    assert host.apply().changed == 0
    assert host.apply(**other).changed == 0
    assert host.apply(**other, watcher_state="absent").failed == 0
    assert command.exists()
    assert host.apply(watcher_state="absent").failed == 0
    assert sorted(path.name for path in open_path.iterdir()) == ["base", "play.yml", "shop"]


def _typed(command: Path, *words: str, user: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """What the command prints where it is typed, in a directory that has a module of its own for everything."""
    trap = command.parent / "trap"
    trap.mkdir(exist_ok=True)
    (trap / "zoo_watcher.py").write_text("raise SystemExit('imported from here')")
    try:
        return subprocess.run([*user, str(command), *words], cwd=trap, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(trap)


def test_the_configuration_has_the_variables_that_are_set_and_only_its_owner_reads_it(host: Host) -> None:
    service = {"path": "/service/business/what", "port": 9095, "check": {"type": "http", "interval": 0.5}}
    assert host.apply(watcher_services=[service], watcher_keep_releases=3, watcher_name="").failed == 0
    assert json.loads(host.config.read_text()) == {
        "hosts": ["127.0.0.1:1"],
        "app": "/app/business",
        "base": f"{host.root}/base",
        "services": [service],
        "keep_releases": 3,
    }
    assert host.config.stat().st_mode & 0o777 == 0o600


def test_a_configuration_that_the_agent_refuses_does_not_replace_the_one_that_is_there(host: Host) -> None:
    assert host.apply().failed == 0
    before = host.config.read_bytes()
    run = host.apply(watcher_keep_releases=1)
    assert run.failed == 1
    assert "keep_releases: expected a whole number from 2 to" in run.output
    assert host.config.read_bytes() == before


def test_a_change_of_the_configuration_tells_the_handlers(host: Host) -> None:
    assert host.apply().failed == 0
    run = host.apply(watcher_keep_releases=7)
    assert (run.failed, run.output.count("told to restart")) == (0, 1)


def test_a_new_version_is_switched_to_once_it_has_accepted_the_configuration(host: Host) -> None:
    assert host.apply().failed == 0
    host.current.unlink()
    host.current.symlink_to("0.0.9")
    run = host.apply()
    assert (run.failed, run.changed, "told to restart" in run.output) == (0, 1, True)
    assert os.readlink(host.current) == VERSION


def test_a_new_version_that_refuses_the_configuration_is_not_switched_to(host: Host) -> None:
    assert host.apply(watcher_keep_releases=7).failed == 0
    host.config.write_text(host.config.read_text().replace('"keep_releases": 7', '"keep_releases": 1'))
    host.current.unlink()
    host.current.symlink_to("0.0.9")
    run = host.apply(watcher_keep_releases=1)
    assert run.failed == 1
    assert "keep_releases: expected a whole number from 2 to" in run.output
    assert os.readlink(host.current) == "0.0.9"


def test_the_versions_that_no_instance_runs_are_removed_but_for_the_one_before(host: Host) -> None:
    _pretend_version(host.install / "0.0.7")
    _pretend_version(host.install / "0.0.8")
    _pretend_version(host.install / "0.0.9")
    (host.install / "current-other").symlink_to("0.0.8")
    assert host.apply().failed == 0
    host.current.unlink()
    host.current.symlink_to("0.0.9")
    run = host.apply()
    (host.install / "current-other").unlink()
    # Installed first, without a version before it, it removes nothing.
    assert (run.failed, run.changed) == (0, 2), run.output
    assert sorted(path.name for path in host.install.glob("0.*")) == sorted(["0.0.8", "0.0.9", VERSION])


def _pretend_version(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "pyvenv.cfg").touch()


def test_an_absent_instance_leaves_what_is_not_its_own_and_the_last_one_leaves_the_base_alone(tmp_path: Path) -> None:
    host = Host(tmp_path, tmp_path / "opt")
    _pretend_version(host.install / "0.0.8")
    _pretend_version(host.install / "0.0.9")
    for name, version in (("business", "0.0.9"), ("other", "0.0.8")):
        (host.install / f"current-{name}").symlink_to(version)
        host.config.parent.mkdir(exist_ok=True)
        host.config.with_name(f"{name}.json").touch()
    host.config.with_name("business.json.12.2026-11-22@01:02:03~").touch()
    (tmp_path / "base").mkdir()
    assert host.apply("--check", watcher_state="absent").changed > 0
    assert host.config.exists()
    run = host.apply(watcher_state="absent")
    assert (run.failed, "told to restart" in run.output) == (0, False), run.output
    assert sorted(path.name for path in host.install.iterdir()) == ["0.0.8", "current-other"]
    assert [path.name for path in host.config.parent.iterdir()] == ["other.json"]
    for words in ((), ("--check",)):
        assert host.apply(*words, watcher_state="absent").changed == 0
    assert host.apply(watcher_state="absent", watcher_instance="other").failed == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "play.yml"]
    assert host.apply(watcher_state="absent", watcher_remove_base=True).failed == 0
    assert not (tmp_path / "base").exists()


def test_wheels_on_the_controller_are_enough_and_are_not_left_behind(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    command = [sys.executable, "-m", "venv", str(tmp_path / "pip")]
    subprocess.run(command, check=True)
    command = [str(tmp_path / "pip/bin/pip"), "download", "--quiet", "--dest", str(wheels), "kazoo", "GitPython"]
    subprocess.run(command, check=True)
    before = set(Path(tempfile.gettempdir()).glob("*.wheels"))
    elsewhere = Host(tmp_path / "host", tmp_path / "opt")
    elsewhere.root.mkdir()
    wanted: dict[str, Any] = {
        "watcher_install_from": "wheels",
        "watcher_wheels": str(wheels),
        "watcher_pip_args": ["--isolated"],
    }
    run = elsewhere.apply(**wanted)
    assert run.failed == 0, run.output
    assert os.readlink(elsewhere.current) == VERSION
    assert set(Path(tempfile.gettempdir()).glob("*.wheels")) == before
    # What pip made of an index is no other environment.
    assert elsewhere.apply(**wanted).changed == 0
    assert elsewhere.apply(watcher_pip_args=["--isolated"]).changed == 0


def test_a_damaged_or_strange_file_in_the_package_is_put_right(host: Host) -> None:
    assert host.apply().failed == 0
    package = next((host.install / VERSION / "lib").glob("python*/site-packages/zoo_watcher"))
    whole = (package / "wire/records.py").read_bytes()
    (package / "wire/records.py").write_text("half")
    (package / "stranger.py").write_text("")
    assert host.apply("--check").changed == 1
    run = host.apply()
    assert (run.failed, run.changed) == (0, 1)
    assert (
        (package / "wire/records.py").read_bytes() == whole == (ROOT / "plugins/module_utils/records.py").read_bytes()
    )
    assert not (package / "stranger.py").exists()


def test_secrets_are_in_the_configuration_and_not_in_the_output(host: Host) -> None:
    run = host.apply("--diff", "-vvv", watcher_digest_username="u", watcher_digest_password="s3cr3t-word")
    assert run.failed == 0
    assert json.loads(host.config.read_text())["digest_password"] == "s3cr3t-word"
    assert "s3cr3t-word" not in run.output


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"watcher_keep_release": 3}, "watcher_keep_release: the role has no such variable; ansible-doc -t role"),
        ({"watcher_hosts": []}, "watcher_hosts with a member of the ensemble"),
        ({"watcher_base": "/"}, "absolute and below /"),
        ({"watcher_base": "srv/business"}, "absolute and below /"),
        ({"watcher_instance": "../x"}, "watcher_instance of letters"),
        (
            {"watcher_python": "/no/such/python"},
            "/no/such/python does not run as Python on this host; set watcher_python",
        ),
        ({"watcher_python": "false"}, "false does not run as Python on this host; set watcher_python"),
        ({"watcher_install_from": "wheels"}, "watcher_install_from: wheels and watcher_wheels, a directory on the"),
        (
            {"watcher_install_from": "wheels", "watcher_wheels": "/proc/self"},
            "there is no wheel in /proc/self on the controller",
        ),
        (
            {"watcher_files": [{"znode": "/x", "dest": "/no/such/directory/app.conf"}]},
            "no directory /no/such/directory on this host; make it before, owned by the user who runs the agent, so",
        ),
        (
            {"watcher_manage_service": True, "watcher_files": [{"znode": "/x", "dest": "/tmp/app.conf"}]},
            '(got directories ["/tmp"])',
        ),
        (
            {"watcher_state": "absent", "watcher_remove_base": True, "watcher_base": "/"},
            "watcher_remove_base: expected watcher_base",
        ),
        ({"watcher_install_dir": "/proc/zoo"}, "run with become, or choose other directories"),
        ({"watcher_services": [{"path": "/service/x"}]}, "missing required arguments: port found in watcher_services"),
        ({"watcher_hooks": {"after": ["true"]}}, "watcher_hooks.after. Supported parameters include: after_activate"),
        ({"watcher_restart_units": ["nginx"]}, "restart_units: expected a list of units such as nginx.service"),
        ({"watcher_ssh_key": "/no/such/key"}, "ssh_key: /no/such/key: No such file or directory"),
        (
            {"watcher_manage_service": True, "watcher_base": "/var/tmp/site"},
            "watcher_base elsewhere than below /tmp and /var/tmp",
        ),
        ({"watcher_manage_service": True, "watcher_metrics_port": 80}, "watcher_metrics_port from 1024 on (got 80)"),
        (
            {"watcher_manage_service": True, "watcher_restart_units": ["zoo-watcher@business.service"]},
            "without the agent itself, zoo-watcher@business.service",
        ),
    ],
)
def test_what_can_not_work_is_refused_in_one_line_that_says_what_to_do(
    host: Host, variables: dict[str, Any], words: str
) -> None:
    run = host.apply(**variables)
    assert run.failed == 1
    assert words in run.output.replace('\\"', '"')
    assert "Traceback" not in run.output
    assert not host.config.exists()


def test_every_key_of_the_agents_configuration_is_a_variable_and_no_other_is() -> None:
    ours = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["_watcher_keys"]
    inner = {key.name for key in fields(Connection)} | {key.name for key in fields(Config)} - {"connection"}
    assert sorted(ours) == sorted(inner)


@pytest.mark.parametrize(("variable", "record"), [("services", Service), ("check", Check), ("hooks", Hooks)])
def test_the_agents_records_have_the_keys_that_the_argument_specs_say(variable: str, record: Any) -> None:
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    found = {
        "services": options["watcher_services"],
        "check": options["watcher_services"]["options"]["check"],
        "hooks": options["watcher_hooks"],
    }[variable]
    assert sorted(found["options"]) == sorted(key.name for key in fields(record))


def test_all_that_the_agent_can_be_told_is_accepted_as_the_argument_specs_have_it(host: Host) -> None:
    secret = host.root / "secret"
    secret.touch(mode=0o600)
    told: dict[str, Any] = {
        "services": [
            {"path": "/service/business/what", "port": 9095, "check": {"type": "command", "command": ["true", "-x"]}}
        ],
        "allowed_schemes": ["https", "ssh"],
        "ssh_key": str(secret),
        "ssh_known_hosts": "/etc/ssh/known",
        "git_credentials": str(secret),
        "require_signature": str(secret),
        "max_release_bytes": 5_000_000_000,
        "git_mirrors": {"https://git.example.org/": "https://mirror.example.org/"},
        "fetch_rate": 20,
        "activation_rate": 50,
        "max_release_files": 50_000,
        "min_free_bytes": 1_000_000_000,
        "min_free_inodes": 0,
        "hard_links": False,
        "shared_paths": ["var/uploads"],
        "hooks": {"before_activate": ["a", "b c"], "after_activate": ["d"], "before_rollback": ["e"]},
        "hook_timeout": 2.5,
        "restart_units": ["nginx.service", "app@1.service"],
        "healthy_for": 20,
        "drain_seconds": 0,
        "rollback_when_isolated": 20,
        "metrics_port": 9464,
        "metrics_address": "127.0.0.2",
    }
    run = host.apply(**{f"watcher_{key}": value for key, value in told.items()})
    assert run.failed == 0, run.output
    found = json.loads(host.config.read_text())
    assert {key: found[key] for key in told} == told
    packages = [path.name for path in (host.install / VERSION / "lib").glob("python*/site-packages/prometheus_client")]
    assert packages == ["prometheus_client"]


def test_two_instances_with_other_packages_share_a_version_and_do_not_disturb_each_other(host: Host) -> None:
    with_metrics: dict[str, Any] = {
        "watcher_instance": "business",
        "watcher_metrics_port": 9464,
        "watcher_config_dir": f"{host.root}/other",
    }
    assert host.apply(watcher_instance="plain").failed == 0
    assert host.apply(**with_metrics).failed == 0
    assert host.apply(watcher_instance="plain").changed == 0
    assert host.apply(**with_metrics).changed == 0
    (host.install / "current-plain").unlink()


@pytest.mark.parametrize(
    ("says", "words"),
    [("exit 1", "and there is none"), ("echo pkaction version 0.105", "and here is 0.105"), ("echo version 122", "")],
)
def test_a_host_whose_polkit_knows_no_units_is_told_so(tmp_path: Path, says: str, words: str) -> None:
    program = tmp_path / "pkaction"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    text = (ROLE / "files/install.py").read_text() + "\nprint(polkit_problem())\n"
    done = subprocess.run(
        [sys.executable, "-I", "-"], input=text, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("watcher_restart_units needs polkit 0.106 or later") is bool(words)
    assert words in done.stdout


def test_a_host_without_git_is_told_to_install_it(host: Host) -> None:
    run = host.apply(play={"environment": {"PATH": str(host.root)}})
    assert run.failed == 1
    assert "there is no git; install it" in run.output


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here")
def test_a_managed_service_needs_a_systemd_that_runs(host: Host) -> None:
    run = host.apply(watcher_manage_service=True, watcher_base="/srv/business")
    assert run.failed == 1
    assert "systemd does not run here; set watcher_manage_service to false" in run.output


def test_a_package_that_can_not_be_had_is_named_and_the_next_run_makes_it_whole(tmp_path: Path) -> None:
    host = Host(tmp_path, tmp_path / "opt")
    run = host.apply(watcher_pip_args=["--no-index"])
    assert run.failed == 1
    assert "No matching distribution found for kazoo<3,>=2.9" in run.output
    assert "look at watcher_packages, watcher_wheels and watcher_pip_args" in run.output
    assert not host.current.is_symlink()
    assert host.apply().failed == 0
    assert os.readlink(host.current) == VERSION


def test_two_hosts_on_one_machine_can_be_installed_at_once(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.json"
    both = {
        name: {"watcher_config_dir": f"{tmp_path}/{name}/etc", "watcher_base": f"{tmp_path}/{name}"}
        for name in ("a", "b")
    }
    inventory.write_text(json.dumps({"all": {"hosts": both, "vars": {"ansible_connection": "local"}}}))
    common = {
        "watcher_hosts": ["127.0.0.1:1"],
        "watcher_install_dir": f"{tmp_path}/opt",
        "watcher_python": sys.executable,
        "watcher_manage_service": False,
    }
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        json.dumps([{"hosts": "all", "gather_facts": False, "roles": ["zoo.deploy.watcher"], "vars": common}])
    )
    done = run_playbook(playbook, "-i", str(inventory))
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "a/etc/business.json").exists()
    assert (tmp_path / "b/etc/business.json").exists()


def _rendered(tmp_path: Path, template: str, name: str, **variables: Any) -> Path:
    """A template of the role as the role renders it."""
    made = tmp_path / name
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLE / part / "main.yml") for part in ("defaults", "vars")],
        "tasks": [
            {"ansible.builtin.template": {"src": str(ROLE / "templates" / template), "dest": str(made), "mode": "0644"}}
        ],
    }
    values = {"watcher_base": "/srv/business", "watcher_hosts": "zk1:2181", "role_path": str(ROLE), **variables}
    playbook = tmp_path / "template.yml"
    playbook.write_text(json.dumps([play]))
    done = run_playbook(playbook, "-e", json.dumps(values))
    assert done.returncode == 0, done.stdout
    return made


def _unit(tmp_path: Path, **variables: Any) -> Path:
    """The unit, with an environment that is there."""
    python = tmp_path / "opt/current-business/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/bin/true")
    values = {"watcher_install_dir": f"{tmp_path}/opt", **variables}
    return _rendered(tmp_path, "zoo-watcher@.service.j2", "zoo-watcher@business.service", **values)


def _exposure(unit: Path) -> float:
    """How exposed systemd finds the unit, of 10; a unit that it would complain of is a failure."""
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = EXPOSURE.search(said)
    assert found, said
    return float(found[1])


HOOKS = {"watcher_hooks": {"after_activate": ["/usr/local/bin/warm-up"]}}
COMMAND = {"watcher_services": [{"path": "/s", "port": 1, "check": {"type": "command", "command": ["/root/ask"]}}]}


@pytest.mark.parametrize(
    ("variables", "seen"),
    [
        ({}, {"MemoryDenyWriteExecute=true", "ProcSubset=pid"}),
        # What a hook or a check runs may compile as it goes, and look at the machine.
        (HOOKS, {"MemoryDenyWriteExecute=false", "ProcSubset=all"}),
        ({**COMMAND, "watcher_base": '/home/web/100% "ours"'}, {"MemoryDenyWriteExecute=false", "ProcSubset=all"}),
    ],
)
def test_the_unit_is_one_that_systemd_takes_and_exposes_little(
    tmp_path: Path, variables: dict[str, Any], seen: set[str]
) -> None:
    unit = _unit(tmp_path, **variables)
    assert seen <= set(unit.read_text().splitlines())
    assert _exposure(unit) <= 2.0


GIVEN = {"znode": "/x", "dest": "/etc/app/x.conf", "owner": "root"}
OWN = {"znode": "/x", "dest": "/srv/conf/x.conf", "owner": "zoo-watcher", "group": "", "validate": ["/bin/true", "%s"]}
TREE = {"znode": "/x", "dest": "/etc/app.d", "format": "directory", "group": "adm"}


@pytest.mark.parametrize(
    ("files", "foreign", "capabilities", "directories"),
    [
        ([OWN], [], "", ["/srv/conf"]),
        ([OWN], ["/srv/conf"], "CAP_DAC_OVERRIDE", ["/srv/conf"]),
        ([GIVEN, OWN], ["/etc/app"], "CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE", ["/etc/app", "/srv/conf"]),
        ([TREE], [], "CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE", ["/etc/app.d"]),
    ],
)
def test_the_unit_may_do_what_its_files_take_and_no_more(
    tmp_path: Path, files: list[Any], foreign: list[str], capabilities: str, directories: list[str]
) -> None:
    said = {"stdout": json.dumps({"foreign": foreign, "systemd": 252})}
    unit = _unit(tmp_path, watcher_files=files, _watcher_installed=said)
    lines = unit.read_text().splitlines()
    assert {f"CapabilityBoundingSet={capabilities}", f"AmbientCapabilities={capabilities}"} <= set(lines)
    assert f"PrivateUsers={'false' if capabilities else 'true'}" in lines
    writable = [line for line in lines if line.startswith("ReadWritePaths=")]
    # The base has to be there; a directory of a file's may be missing.
    assert writable == [f'ReadWritePaths="{path}"' for path in ["/srv/business", *(f"-{path}" for path in directories)]]
    assert ("ProcSubset=all" in lines) == (OWN in files)
    assert _exposure(unit) <= (2.9 if capabilities else 2.0)


@pytest.mark.parametrize(("systemd", "grows"), [(252, False), (254, True)])
def test_tries_to_start_lie_further_apart_where_systemd_can(tmp_path: Path, systemd: int, grows: bool) -> None:
    unit = _unit(tmp_path, _watcher_installed={"stdout": json.dumps({"foreign": [], "systemd": systemd})})
    assert ("RestartMaxDelaySec=5" in unit.read_text()) == grows


@pytest.mark.parametrize(
    ("variables", "seen"),
    [
        ({}, "ProtectHome=true"),
        ({"watcher_base": "/home/web/site"}, "ProtectHome=read-only"),
        ({"watcher_tls_key": "/root/agent.key"}, "ProtectHome=read-only"),
        ({"watcher_ssh_key": "/home/git/.ssh/id"}, "ProtectHome=read-only"),
        ({"watcher_git_credentials": "/home/git/credentials"}, "ProtectHome=read-only"),
        (COMMAND, "ProtectHome=read-only"),
        (HOOKS, "ProtectHome=true"),
        ({"watcher_base": "/homestead"}, "ProtectHome=true"),
    ],
)
def test_homes_are_hidden_from_the_agent_unless_its_files_are_there(
    tmp_path: Path, variables: dict[str, Any], seen: str
) -> None:
    assert seen in _unit(tmp_path, **variables).read_text().splitlines()


POLKIT = """\
var rules = [], polkit = {
    Result: {YES: "yes", NOT_HANDLED: "not handled"},
    addRule: function (rule) { rules.push(rule); }
};
"""
ASK = """
function answer(asked) {
    var action = {id: asked.action, lookup: function (key) { return asked[key]; }};
    return rules.map(function (rule) { return rule(action, {user: asked.user}); });
}
"""
"""What polkit gives a rule, and its questions to it."""
MAY = {
    "action": "org.freedesktop.systemd1.manage-units",
    "user": "zoo-watcher",
    "verb": "restart",
    "unit": "nginx.service",
}


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no JavaScript here")
def test_the_polkit_rule_lets_the_agents_user_restart_those_units_and_nothing_else(tmp_path: Path) -> None:
    units = ["nginx.service", "app@1.service"]
    rule = _rendered(tmp_path, "polkit.rules.j2", "50.rules", watcher_restart_units=units).read_text()
    allowed = [MAY, {**MAY, "unit": "app@1.service"}]
    refused = [
        {**MAY, "unit": "ssh.service"},
        {**MAY, "unit": "app@1.servic"},
        {**MAY, "verb": "stop"},
        {**MAY, "user": "nobody"},
        {**MAY, "action": "org.freedesktop.systemd1.manage-unit-files"},
        {"action": MAY["action"], "user": MAY["user"]},
    ]
    script = f"{POLKIT}{rule}{ASK}console.log(JSON.stringify({json.dumps(allowed + refused)}.map(answer)))"
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["yes"]] * len(allowed) + [["not handled"]] * len(refused)


def test_the_units_and_the_user_in_the_polkit_rule_are_quoted_and_nothing_else_is_let_through(tmp_path: Path) -> None:
    rule = _rendered(
        tmp_path, "polkit.rules.j2", "50.rules", watcher_restart_units=['a";evil();//.service'], watcher_user='u"v'
    ).read_text()
    assert r'var units = ["a\";evil();//.service"];' in rule
    assert r'subject.user === "u\"v"' in rule
    assert rule.count("polkit.Result.YES") == 1
