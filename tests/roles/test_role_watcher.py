"""The role watcher: what it creates on a host, in which order, and what it refuses.

Its service is not managed here: only the tests on hosts have a running systemd.
"""

from __future__ import annotations

import json
import os
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
from support.many_hosts import run_on_hosts
from support.playbook import ROOT, Run, run_playbook
from support.repository import GitRepository
from support.waiting import wait_for
from zoo_watcher.config.config import Check, Config, Connection, Hooks, Service

ROLE = ROOT / "roles" / "watcher"
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]


@dataclass
class Host:
    """A directory that serves as a host. The environment in `install` is shared: creating one takes seconds."""

    root: Path
    install: Path
    variables: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """The agent's configuration."""
        return self.root / "etc" / "business.json"

    @property
    def current(self) -> Path:
        """The link to the version that the instance runs."""
        return self.install / "current-business"

    def told(self, **variables: Any) -> dict[str, Any]:
        """The role's variables: the host's, overridden by these."""
        return {
            "watcher_hosts": ["127.0.0.1:1"],
            "watcher_base": str(self.root / "base"),
            "watcher_install_dir": str(self.install),
            "watcher_config_dir": str(self.root / "etc"),
            "watcher_python": sys.executable,
            "watcher_manage_service": False,
            **self.variables,
            **variables,
        }

    def apply(self, *words: str, play: dict[str, Any] | None = None, **variables: Any) -> Run:
        """Apply the role with the host's variables, overridden by these; `play` has further keys of the play."""
        debug = {
            "name": "Heard",
            "ansible.builtin.debug": {"msg": "told to restart"},
            "listen": "zoo.deploy.watcher changed",
        }
        one = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": self.told(**variables),
            "roles": ["zoo.deploy.watcher"],
            "handlers": [debug],
            **(play or {}),
        }
        playbook = self.root / "play.yml"
        playbook.write_text(json.dumps([one]))
        return Run.of(run_playbook(playbook, *words, env=self.env))


@pytest.fixture(scope="module")
def install(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that this module's hosts are installed in."""
    return tmp_path_factory.mktemp("role") / "opt"


@pytest.fixture
def host(tmp_path: Path, install: Path) -> Iterator[Host]:
    """A host that nothing has been applied to, apart from the shared environment."""
    made = Host(tmp_path, install)
    yield made
    made.current.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def applied_once(tmp_path_factory: pytest.TempPathFactory, install: Path) -> Host:
    """A host that the role has been applied to, with a copy of the resulting configuration directory, `kept`."""
    made = Host(tmp_path_factory.mktemp("applied"), install)
    run = made.apply()
    assert run.failed == 0, run.output
    made.current.unlink()
    shutil.copytree(made.config.parent, made.root / "kept", symlinks=True)
    return made


@pytest.fixture
def applied(applied_once: Host) -> Iterator[Host]:
    """The host as the role leaves it after its first run."""
    shutil.rmtree(applied_once.config.parent)
    shutil.copytree(applied_once.root / "kept", applied_once.config.parent, symlinks=True)
    applied_once.current.symlink_to(VERSION)
    yield applied_once
    applied_once.current.unlink()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory, applied_once: Host) -> Path:
    """A directory with what pip installs for an agent."""
    directory = tmp_path_factory.mktemp("wheels")
    pip = [str(applied_once.install / VERSION / "bin/python"), "-m", "pip", "download", "--quiet"]
    packages = ["kazoo", "prometheus-client"]
    subprocess.run([*pip, "--dest", str(directory), *packages], check=True)
    return directory


@pytest.fixture(scope="module")
def offline(wheels: Path) -> dict[str, str]:
    """The environment in which pip has these wheels, no index (which would answer slowly), and compiles nothing."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_NO_COMPILE": "1"}


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


def test_the_command_is_for_everybody_on_the_host_and_is_removed_with_the_last_instance(
    open_path: Path, offline: dict[str, str]
) -> None:
    variables: dict[str, Any] = {"watcher_bin_dir": str(open_path / "bin"), "watcher_name": "server1"}
    host = Host(open_path, open_path / "opt", variables, offline)
    # One that an ordinary user may run: the interpreter of the tests may be where only root reads.
    host.variables["watcher_python"] = "/usr/bin/python3" if os.geteuid() == 0 else sys.executable
    (open_path / "bin").mkdir()
    assert host.apply().failed == 0
    command = open_path / "bin" / "zoo-watcher"
    beside = [path for path in (ROLE / "files" / "share").rglob("*") if path.is_file()]
    share = [open_path / "share" / path.relative_to(ROLE / "files" / "share") for path in beside]
    assert [path.read_bytes() for path in share] == [path.read_bytes() for path in beside] != []
    assert {path.stat().st_mode & 0o777 for path in share} == {0o644}
    assert {path.parent.stat().st_mode & 0o777 for path in share} == {0o755}
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
    assert [path for path in (command, *share) if not path.exists()] == []
    assert host.apply(watcher_state="absent").failed == 0
    assert [path for path in (command, *share) if path.exists()] == []
    assert sorted(path.name for path in open_path.iterdir()) == ["base", "bin", "play.yml", "share", "shop"]


def _typed(command: Path, *words: str, user: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command in a directory with a `zoo_watcher.py` that must not be imported, and return its result."""
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


def test_a_configuration_that_the_agent_refuses_does_not_replace_the_one_that_is_there(applied: Host) -> None:
    before = applied.config.read_bytes()
    run = applied.apply(watcher_keep_releases=1)
    assert run.failed == 1
    assert "keep_releases: expected a whole number from 2 to" in run.output
    assert applied.config.read_bytes() == before


def test_environment_variables_for_modules_of_the_play_do_not_apply_to_the_agent(applied: Host) -> None:
    """The agent's unit does not have these environment variables."""
    given = {"ZK_TLS": "true", "ZK_TLS_CA": "/nowhere/ca.pem", "ZK_SASL_PASSWORD_FILE": "/nowhere/password"}
    run = applied.apply(play={"environment": given}, watcher_keep_releases=7)
    assert run.failed == 0, run.output
    assert "tls" not in json.loads(applied.config.read_text())


def test_a_change_of_the_configuration_tells_the_handlers(applied: Host) -> None:
    run = applied.apply(watcher_keep_releases=7)
    assert (run.failed, run.output.count("told to restart")) == (0, 1)


def test_a_new_version_is_switched_to_once_it_has_accepted_the_configuration(applied: Host) -> None:
    applied.current.unlink()
    applied.current.symlink_to("0.0.9")
    run = applied.apply()
    assert (run.failed, run.changed, "told to restart" in run.output) == (0, 1, True)
    assert os.readlink(applied.current) == VERSION


def test_a_new_version_that_refuses_the_configuration_is_not_switched_to(applied: Host) -> None:
    # As the previous version has written it.
    before = {**json.loads(applied.config.read_text()), "keep_releases": 1}
    applied.config.write_text(json.dumps(before, indent=4) + "\n")
    applied.current.unlink()
    applied.current.symlink_to("0.0.9")
    run = applied.apply(watcher_keep_releases=1)
    assert run.failed == 1
    *_earlier, check, _put_back, last = run.output.split("TASK [")
    assert check.startswith("zoo.deploy.watcher : Check the existing configuration with a new version]")
    assert last.startswith("zoo.deploy.watcher : Report the failure]")
    for text in (check, last):
        assert "keep_releases: expected a whole number from 2 to" in text
    assert os.readlink(applied.current) == "0.0.9"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are credentials")
def test_the_previous_credentials_stay_if_the_agent_refuses_the_configuration(applied: Host) -> None:
    secret = applied.config.parent / "business.credentials" / "digest_password"
    report = {"running": True, "secret": False, "there": [], "current": VERSION, "user": {"exists": True}}
    # Only the tasks that configure: the complete role accepts credentials only where systemd runs.
    configure = {"roles": [], "tasks": [{"import_role": {"name": "zoo.deploy.watcher", "tasks_from": "configure"}}]}
    # An earlier play of the same run has replaced the unit, and removed the backup.
    unit = "/etc/systemd/system/zoo-watcher@business.service"
    written = {"changed": True, "dest": unit, "backup_file": f"{unit}.17~"}
    words = ("-e", json.dumps({"_watcher_report": report, "_watcher_unit_written": written}))
    given: dict[str, Any] = {"watcher_manage_service": True, "watcher_create_user": False}
    given |= {"watcher_user": "root", "watcher_group": "root", "watcher_credentials": ["digest_password"]}
    given |= {"watcher_digest_username": "agent", "watcher_digest_password": "of-before"}
    assert applied.apply(*words, play=configure, **given).failed == 0
    before = applied.config.read_bytes()
    given |= {"watcher_digest_password": "of-later"}
    run = applied.apply(*words, play=configure, **given, watcher_keep_releases=1)
    assert run.failed == 1
    assert (
        "keep_releases: expected a whole number"
        in run.output.partition("TASK [zoo.deploy.watcher : Report the failure]")[2]
    )
    assert (secret.read_text(), applied.config.read_bytes()) == ("of-before", before)
    assert os.listdir(secret.parent) == [secret.name]


def test_the_versions_that_no_instance_runs_are_removed_except_the_previous_one(host: Host) -> None:
    _pretend_version(host.install / "0.0.7")
    _pretend_version(host.install / "0.0.8")
    _pretend_version(host.install / "0.0.9")
    (host.install / "current-other").symlink_to("0.0.8")
    assert host.apply().failed == 0
    host.current.unlink()
    host.current.symlink_to("0.0.9")
    run = host.apply()
    (host.install / "current-other").unlink()
    # The first installation, without a previous version, removes nothing.
    assert (run.failed, run.changed) == (0, 2), run.output
    assert sorted(path.name for path in host.install.glob("0.*")) == sorted(["0.0.8", "0.0.9", VERSION])


def _pretend_version(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "pyvenv.cfg").touch()


def test_an_absent_instance_leaves_what_is_not_its_own_and_the_last_one_leaves_only_the_base(tmp_path: Path) -> None:
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


def test_a_host_whose_agent_is_removed_leaves_the_roster_or_is_named_if_it_cannot(
    tmp_path: Path, ensemble: Ensemble, zk: KazooClient, app: str, offline: dict[str, str]
) -> None:
    variables: dict[str, Any] = {
        "watcher_hosts": ensemble.hosts.split(","),
        "watcher_app": app,
        "watcher_instance": "business",
        "watcher_name": "server1",
    }
    host = Host(tmp_path, tmp_path / "opt", variables, offline)
    entry = f"{app}/roster/server1"
    zk.create(entry, b"{}", makepath=True)
    assert host.apply().failed == 0
    # So that the version, which takes long to install, stays.
    (host.install / "current-other").symlink_to(VERSION)
    assert host.apply("--check", watcher_state="absent").failed == 0
    assert zk.exists(entry)
    assert host.apply(watcher_state="absent").failed == 0
    assert not zk.exists(entry)
    assert not host.config.exists()
    host.variables["watcher_hosts"] = ["127.0.0.1:1"]
    assert host.apply().failed == 0
    run = host.apply(watcher_state="absent")
    assert run.failed == 0, run.output
    assert f"{entry}: still in the roster: no session within 10 s, hosts=127.0.0.1:1; zoo.deploy.zk_fleet" in run.output
    assert not host.config.exists()


def test_wheels_on_the_controller_are_enough_and_are_not_left_behind(tmp_path: Path, wheels: Path) -> None:
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
    # An environment from an index counts as the same environment.
    assert elsewhere.apply(**wanted).changed == 0
    assert elsewhere.apply(watcher_pip_args=["--isolated"]).changed == 0


def test_a_damaged_or_foreign_file_in_the_package_is_repaired(applied: Host) -> None:
    package = next((applied.install / VERSION / "lib").glob("python*/site-packages/zoo_watcher"))
    whole = (package / "wire/records.py").read_bytes()
    (package / "wire/records.py").write_text("half")
    (package / "stranger.py").write_text("")
    assert applied.apply("--check").changed == 1
    run = applied.apply()
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
    # Nor as the previous content.
    run = host.apply("--diff", "-vvv")
    assert (run.failed, "digest_password" in json.loads(host.config.read_text())) == (0, False)
    assert "s3cr3t-word" not in run.output


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"watcher_keep_release": 3}, "watcher_keep_release: the role has no such variable; ansible-doc -t role"),
    ({"watcher_hosts": []}, "watcher_hosts with a member of the ensemble"),
    ({"watcher_base": "/"}, "absolute and below /"),
    ({"watcher_base": "srv/business"}, "absolute and below /"),
    ({"watcher_instance": "../x"}, "watcher_instance of letters"),
    ({"watcher_instance": ".."}, "watcher_instance of letters"),
    (
        {"watcher_state": "absent", "watcher_app": "/app/business/"},
        'digits, _ . and -, not .. (got "", /app/business/); nothing is removed',
    ),
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
    ({"watcher_services": [{"path": "/service/x"}]}, "watcher_services[0]: the key port is missing"),
    (
        {"watcher_services": [{"path": "/service/x", "prot": 80, "port": 80}]},
        'watcher_services[0]: no such key "prot"; did you mean port',
    ),
    (
        {"watcher_services": [{"path": "/service/x", "port": 80, "check": {"timout": 2}}]},
        'watcher_services[0].check: no such key "timout"; did you mean timeout',
    ),
    (
        {"watcher_hooks": {"after": ["true"]}},
        'watcher_hooks: no such key "after"; expected one of after_activate, before_activate',
    ),
    (
        {"watcher_files": [{"znode": "/x", "dest": "/srv/x", "onchange": ["true"]}]},
        'watcher_files[0]: no such key "onchange"; did you mean on_change',
    ),
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
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory, applied_once: Host) -> list[tuple[Host, Run]]:
    """Hosts, each with the variables of one of `REFUSED`, and the role's run on each, applied to all at once."""
    root = tmp_path_factory.mktemp("refused")
    hosts = [Host(root / f"h{number}", applied_once.install, told) for number, (told, _words) in enumerate(REFUSED)]
    variables = {host.root.name: host.told() for host in hosts}
    runs = run_on_hosts(root, {"roles": ["zoo.deploy.watcher"]}, variables)
    return [(host, runs[host.root.name]) for host in hosts]


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[words for _told, words in REFUSED])
def test_what_cannot_work_is_refused_in_one_line_that_says_what_to_do(
    refused: list[tuple[Host, Run]], number: int
) -> None:
    host, run = refused[number]
    assert run.failed == 1
    assert REFUSED[number][1] in run.output.replace('\\"', '"')
    assert len(run.output) < 2000  # never the entire specification
    assert not host.config.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_without_become_the_first_task_on_the_host_says_so(host: Host, open_path: Path) -> None:
    python = open_path / "python"
    python.write_text('#!/bin/sh\nexec setpriv --reuid=65534 --clear-groups /usr/bin/python3 "$@"\n')
    python.chmod(0o755)
    run = host.apply(watcher_manage_service=True, watcher_base="/srv/business", watcher_python=str(python))
    assert (run.changed, run.failed) == (0, 1)
    assert "the service needs root on this host; apply the role with become: true" in run.output
    assert not host.config.exists()


def test_every_key_of_the_agents_configuration_is_a_variable_and_no_other_is() -> None:
    ours = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["_watcher_keys"]
    # The configuration knows its own file, which is not one of its keys.
    inner = {key.name for key in fields(Connection)} | {key.name for key in fields(Config)} - {"connection", "file"}
    # Not kept in the configuration: it says where other keys are.
    assert set(ours) == inner | {"credentials"}
    assert len(ours) == len(set(ours))


@pytest.mark.parametrize(("variable", "record"), [("services", Service), ("check", Check), ("hooks", Hooks)])
def test_the_agents_records_have_the_keys_of_the_argument_specs(variable: str, record: Any) -> None:
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    found = {
        "services": options["watcher_services"],
        "check": options["watcher_services"]["options"]["check"],
        "hooks": options["watcher_hooks"],
    }[variable]
    assert sorted(found["options"]) == sorted(key.name for key in fields(record))


def test_every_setting_of_the_agent_is_accepted_as_the_argument_specs_define_it(
    host: Host, offline: dict[str, str]
) -> None:
    host.env = offline
    secret = host.root / "secret"
    secret.touch(mode=0o600)
    told: dict[str, Any] = {
        "services": [
            {"path": "/service/business/what", "port": 9095, "check": {"type": "command", "command": ["true", "-x"]}}
        ],
        "allowed_schemes": ["https", "ssh"],
        "allowed_urls": ["https://git.example.org/shop/", "git@git.example.org:shop/"],
        "ssh_key": str(secret),
        "ssh_known_hosts": "/etc/ssh/known",
        "git_credentials": str(secret),
        "require_signature": str(secret),
        "revoked_signers": str(secret),
        "openpgp_signers": str(secret),
        "max_release_bytes": 5_000_000_000,
        "git_mirrors": {"https://git.example.org/": "https://mirror.example.org/"},
        "fetch_rate": 20,
        "activation_rate": 50,
        "max_release_files": 50_000,
        "min_free_bytes": 1_000_000_000,
        "min_free_inodes": 0,
        "hard_links": False,
        "allow_outside_symlinks": True,
        "shared_paths": ["var/uploads"],
        "hooks": {"before_activate": ["a", "b c"], "after_activate": ["d"], "before_rollback": ["e"]},
        "hook_timeout": 2.5,
        "restart_units": ["nginx.service", "app@1.service"],
        "healthy_for": 20,
        "drain_seconds": 0,
        "rollback_when_isolated": 20,
        "metrics_port": 9464,
        "metrics_address": "127.0.0.2",
        "labels": {"zone": "a"},
    }
    run = host.apply(**{f"watcher_{key}": value for key, value in told.items()})
    assert run.failed == 0, run.output
    found = json.loads(host.config.read_text())
    assert {key: found[key] for key in told} == told
    packages = [path.name for path in (host.install / VERSION / "lib").glob("python*/site-packages/prometheus_client")]
    assert packages == ["prometheus_client"]


@pytest.mark.parametrize(
    ("says", "words"),
    [("exit 1", "and there is none"), ("echo pkaction version 0.105", "and here is 0.105"), ("echo version 122", "")],
)
def test_a_polkit_that_knows_no_units_is_reported(tmp_path: Path, says: str, words: str) -> None:
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
    assert "git is not installed; install it" in run.output


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here")
def test_a_managed_service_needs_a_systemd_that_runs(host: Host) -> None:
    run = host.apply(watcher_manage_service=True, watcher_base="/srv/business")
    assert run.failed == 1
    assert "systemd does not run here; set watcher_manage_service to false" in run.output


def test_an_unavailable_package_is_named_and_the_next_run_completes_the_installation(
    tmp_path: Path, offline: dict[str, str]
) -> None:
    host = Host(tmp_path, tmp_path / "opt")
    run = host.apply(watcher_pip_args=["--no-index"])
    assert run.failed == 1
    assert "No matching distribution found for kazoo<3,>=2.9" in run.output
    assert "look at watcher_install_from, watcher_packages, watcher_wheels and watcher_pip_args" in run.output
    assert not host.current.is_symlink()
    host.env = offline
    assert host.apply().failed == 0
    assert os.readlink(host.current) == VERSION


@pytest.fixture(scope="module")
def installed_at_once(
    tmp_path_factory: pytest.TempPathFactory, offline: dict[str, str]
) -> tuple[Path, list[dict[str, Run]]]:
    """Three hosts on one machine, the last with an instance that needs another package; two runs on all of them."""
    root = tmp_path_factory.mktemp("at_once")
    hosts = [Host(root / name, root / "opt") for name in ("a", "b", "metrics")]
    hosts[-1].variables = {"watcher_instance": "metrics", "watcher_metrics_port": 9464}
    play = {"roles": ["zoo.deploy.watcher"]}
    told = {host.root.name: host.told() for host in hosts}
    return root, [run_on_hosts(root, play, told, env=offline) for _run in range(2)]


def test_two_hosts_on_one_machine_can_be_installed_at_once(
    installed_at_once: tuple[Path, list[dict[str, Run]]],
) -> None:
    root, (first, _second) = installed_at_once
    for name in ("a", "b"):
        assert first[name].failed == 0, first[name].output
        assert (root / name / "etc/business.json").exists()


def test_two_instances_with_other_packages_share_a_version_and_do_not_disturb_each_other(
    installed_at_once: tuple[Path, list[dict[str, Run]]],
) -> None:
    root, (first, second) = installed_at_once
    assert first["metrics"].failed == 0, first["metrics"].output
    assert {os.readlink(link) for link in root.glob("opt/current-*")} == {VERSION}
    assert [(run.failed, run.changed) for run in second.values()] == [(0, 0)] * 3
