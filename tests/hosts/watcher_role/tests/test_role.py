"""The role on hosts that boot: installation, upgrades that succeed and fail, files in root's directories, removal."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from hosts.lab.lab import Lab
from hosts.lab.places import LABS
from support.client import connected
from support.playbook import ROOT, run_playbook
from support.waiting import wait_for

SCENARIO = Path(__file__).parents[1]
LAB = LABS / os.environ.get("LAB", "molecule")
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
NEXT, FAILING = "99.0.0", "99.0.1"
BOTH = ("role1", "role2")
RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=(\d+)", re.MULTILINE)
COMMAND = "/usr/local/bin/zoo-watcher"
AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
NO_SESSION = "it has no session with the ensemble"
WATCHER = "roles/watcher/files/zoo_watcher/watcher.py"

GIT = r"""#!/bin/sh
case " $* " in *" fetch "*)
    agent=$(systemctl show --property=MainPID --value zoo-watcher@business)
    session=/run/zoo-watcher/business/session.json
    for file in /etc/zoo-watcher/business.json $session "/proc/$agent/mem" /etc/hostname; do
        (exec 3<"$file") 2>/dev/null && echo "opened ${file##*/}"
    done >/srv/business/attempts
    for file in /tmp/new /etc/app.d/new /srv/business/new; do
        (exec 3>"$file") 2>/dev/null && echo "wrote $file"
    done >>/srv/business/attempts
esac
exec /usr/bin/git "$@"
"""
"""A git that tries what it must not do, as one that a server has taken over would."""


@dataclass(frozen=True)
class Run:
    """The result of a playbook: the number of changes by host, whether a host failed, and the output."""

    changed: dict[str, int]
    failed: bool
    output: str


def apply(instance: str, *words: str, host: str = "servers", collections: Path | None = None, **variables: Any) -> Run:
    """Apply the role with the scenario's playbook of an instance and with extra variables."""
    surroundings = {"ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"}
    if collections:
        surroundings["ANSIBLE_COLLECTIONS_PATH"] = str(collections)
    options = ["-i", str(LAB / "inventory.json"), "-i", str(groups()), "-l", host, "-e", json.dumps(variables)]
    done = run_playbook(SCENARIO / f"{instance}.yml", *options, *words, env=surroundings)
    output = done.stdout + done.stderr
    recap = RECAP.findall(output)
    assert recap, output
    return Run({name: int(changed) for name, changed, _failed in recap}, done.returncode != 0, output)


def groups() -> Path:
    """Write an inventory with the group that molecule makes only in its own phases, and return its path."""
    path = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "groups.json")
    path.write_text(json.dumps({"servers": {"hosts": {host: {} for host in BOTH}}}))
    return path


def on(host: str, *words: str) -> str:
    """Return what a shell command, given in words, prints on a host."""
    (target,) = Lab(LAB.name).named([host])
    command = [*target.inside(), "sh", "-c", " ".join(words)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def zk() -> Iterator[KazooClient]:
    """A client of the scenario's ensemble."""
    address = json.loads((LAB / "inventory.json").read_text())["all"]["hosts"]["role1"]["ansible_host"]
    with connected(f"{address}:2181") as client:
        yield client


class Witness:
    """Records every event of a znode."""

    def __init__(self, zk: KazooClient, path: str) -> None:
        self.events: list[str] = []
        self._zk, self._path = zk, path
        assert self._look()

    def _look(self, event: Any = None) -> bool:
        if event is not None:
            self.events.append(event.type)
        return self._zk.exists(self._path, watch=self._look) is not None


def collection(directory: Path, version: str, **replaced: str) -> Path:
    """Make a newer version of this collection, with a string in `WATCHER` replaced; return the path for Ansible."""
    made = directory / "ansible_collections/zoo/deploy"
    for part in ("roles", "plugins", "meta"):
        shutil.copytree(ROOT / part, made / part, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "galaxy.yml").read_text()
    (made / "galaxy.yml").write_text(text.replace(f"version: {VERSION}", f"version: {version}"))
    if replaced:
        text = (made / WATCHER).read_text()
        assert replaced["old"] in text
        (made / WATCHER).write_text(text.replace(replaced["old"], replaced["new"]))
    return directory


def runs(host: str, instance: str = "business") -> str:
    """The state of the unit, and the version that it runs."""
    state = on(host, "systemctl", "is-active", f"zoo-watcher@{instance}")
    return f"{state} {on(host, 'readlink', f'/opt/zoo-watcher/current-{instance}')}"


def status(zk: KazooClient, app: str, host: str) -> dict[str, Any]:
    """An agent's status."""
    path = f"{app}/agents/{host}"
    return dict(json.loads(zk.get(path)[0])) if zk.exists(path) else {}


def is_active(zk: KazooClient, app: str, host: str) -> bool:
    """Whether an agent has activated the release."""
    return status(zk, app, host).get("state") == "active"


def test_every_way_of_installing_ends_with_the_release_live_and_registered(zk: KazooClient) -> None:
    for app in ("business", "shop"):
        for host in BOTH:
            wait_for(partial(is_active, zk, f"/app/{app}", host), f"{app} on {host} is active")
            wait_for(partial(zk.exists, f"/service/{app}/{host}"), f"{app} on {host} is registered")
            assert on(host, "cat", f"/srv/{app}/site/index.html") == "first"
    assert runs("role1") == f"active {VERSION}"
    assert runs("role2") == f"active {VERSION}-distribution"
    assert on("role1", "find", "/tmp", "/var/tmp", "-name", "'*.wheels'") == ""


def test_what_an_agent_remembers_belongs_to_this_boot_even_if_its_unit_hides_the_kernels_files() -> None:
    places = {host: json.loads(on(host, "cat", "/srv/business/.zoo/roster.json"))["place"] for host in BOTH}
    assert all(places.values()), "a boot is known on each"
    # A unit with its own /proc sees the kernel's boot ID there, and not the one that the lab gives its hosts.
    assert on("role2", "systemctl", "show", "--value", "--property=ProcSubset", "zoo-watcher@business") == "pid"
    assert places["role2"].split()[0] == on("role2", "cat", "/proc/sys/kernel/random/boot_id")


def test_every_user_of_a_host_sees_its_status_and_is_told_to_control_it_with_sudo() -> None:
    for host in BOTH:
        which = "zoo-watcher: this host has several agents, say which: business, shop"
        assert on(host, COMMAND, "status 2>&1") == which
        for app in ("business", "shop"):
            text = on(host, *AS_NOBODY, COMMAND, f"status {app} 2>&1").splitlines()
            told = {
                f"agent       {host}, running",
                f"app         /app/{app}",
                f"registered  /service/{app}/{host}",
                f"zoo-watcher: not read: /etc/zoo-watcher/{app}.json: Permission denied",
            }
            assert told <= set(text)
            refused = f"zoo-watcher: /srv/{app}/.zoo: permission denied; run this as root, with sudo"
            assert on(host, *AS_NOBODY, COMMAND, f"drain {app} --reason x 2>&1") == refused


def test_a_host_that_root_has_drained_stays_drained_when_its_agent_is_restarted(zk: KazooClient) -> None:
    line = on("role1", COMMAND, "drain shop --reason 'disk swap' 2>&1")
    assert line.startswith("shop: drained since "), line
    assert line.endswith(" by root: disk swap; nothing is registered"), line
    assert zk.exists("/service/shop/role1") is None
    assert on("role1", "stat", "-c", "%U:%G:%a", "/srv/shop/.zoo/controls/drained") == "zoo-shop:zoo-shop:644"
    on("role1", "systemctl", "restart", "zoo-watcher@shop")
    wait_for(partial(is_active, zk, "/app/shop", "role1"), "it has proved its release again")
    assert status(zk, "/app/shop", "role1")["drained"]["reason"] == "disk swap"
    assert zk.exists("/service/shop/role1") is None
    assert zk.exists("/service/business/role1"), "the other agent of the host is none of it"
    assert on("role1", COMMAND, "undrain shop 2>&1") == "shop: not drained; healthy services are registered"
    wait_for(partial(zk.exists, "/service/shop/role1"), "it is registered again")


def test_a_file_in_roots_directory_belongs_to_root_and_commands_have_only_the_rights_of_the_agents_user() -> None:
    wait_for(lambda: on("role1", "stat", "-c", "%U:%G:%a", "/etc/app/limits") == "root:adm:640", "the file is there")
    wait_for(lambda: on("role1", "systemctl", "is-active", "app") == "active", "its unit has been restarted")
    wait_for(lambda: on("role1", "cat", "/etc/app.d/limits") == "limit=1", "the directory is filled")
    assert "CapEff:\t0000000000000000" in on("role1", "cat", "/srv/business/caps")


def test_git_cannot_read_the_agents_secrets_and_writes_only_below_the_base(zk: KazooClient) -> None:
    for host in BOTH:
        on(host, "rm -f /srv/business/attempts")
        on(host, f"cat >/usr/local/bin/git <<'END'\n{GIT}END\nchmod +x /usr/local/bin/git")
    try:
        identity = "-c user.name=x -c user.email=x@example.org"
        on("role1", f"cd /srv/git/site && echo >>more && git add more && git {identity} commit --quiet --message more")
        commit_id = on("role1", "/usr/bin/git -C /srv/git/site rev-parse HEAD")
        record = {**json.loads(zk.get("/app/business/config")[0]), "commitId": commit_id}
        generation = zk.set("/app/business/config", json.dumps(record).encode()).mzxid
        for host in BOTH:
            shown = partial(status, zk, "/app/business", host)
            wait_for(lambda: (shown()["generation"], shown()["state"]) == (generation, "active"), host)
            assert on(host, "cat /srv/business/attempts").splitlines() == ["opened hostname", "wrote /srv/business/new"]
            assert "more rights" not in on(host, "journalctl --output=cat --unit=zoo-watcher@business")
    finally:
        for host in BOTH:
            on(host, "rm /usr/local/bin/git")


def test_check_mode_on_hosts_with_the_agent_changes_nothing_and_names_what_would_change() -> None:
    run = apply(
        "business", "--check", "--diff", watcher_keep_releases="{{ 3 if inventory_hostname == 'role1' else 5 }}"
    )
    assert not run.failed
    assert run.changed.pop("role1") > 0
    assert run.changed == {"role2": 0}
    assert '"keep_releases": 3' in run.output
    assert '"keep_releases": 5' in on("role1", "cat", "/etc/zoo-watcher/business.json")


def test_only_the_instance_whose_configuration_changed_is_restarted(zk: KazooClient) -> None:
    before = {
        name: on("role1", "systemctl", "show", "-p", "MainPID", f"zoo-watcher@{name}") for name in ("business", "shop")
    }
    witness = Witness(zk, "/service/business/role1")
    assert not apply("business", host="role1", watcher_keep_releases=4).failed
    after = {
        name: on("role1", "systemctl", "show", "-p", "MainPID", f"zoo-watcher@{name}") for name in ("business", "shop")
    }
    assert (before["business"] == after["business"], before["shop"] == after["shop"]) == (False, True)
    assert witness.events == []
    files = ["business.base", "business.json", "shop.base", "shop.json"]
    assert on("role1", "ls", "/etc/zoo-watcher").split() == files


def test_a_run_that_was_interrupted_before_its_restart_is_completed_and_changes_nothing_else() -> None:
    on("role1", "touch", "/etc/zoo-watcher/business.json")
    before = on("role1", "systemctl", "show", "-p", "MainPID", "zoo-watcher@business")
    assert apply("business", host="role1", watcher_keep_releases=4).changed == {"role1": 1}
    assert on("role1", "systemctl", "show", "-p", "MainPID", "zoo-watcher@business") != before


def test_an_upgrade_keeps_the_registration_without_an_event_and_the_previous_version(
    tmp_path: Path, zk: KazooClient
) -> None:
    on("role1", "mkdir", "/opt/zoo-watcher/0.0.1", "&&", "touch", "/opt/zoo-watcher/0.0.1/pyvenv.cfg")
    witnesses = [Witness(zk, f"/service/business/{host}") for host in BOTH]
    run = apply("business", collections=collection(tmp_path, NEXT))
    assert not run.failed, run.output
    assert runs("role1") == f"active {NEXT}"
    wait_for(lambda: status(zk, "/app/business", "role1").get("version") == NEXT, "the new version says so")
    assert [witness.events for witness in witnesses] == [[], []]
    assert on("role1", "ls", "/opt/zoo-watcher").split() == [
        VERSION, f"{VERSION}-distribution", NEXT, "current-business", "current-shop"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("        self.lock = lock_base(self.layout)\n", "        raise SystemExit(7)\n", "Unable to restart service"),
        ("        self.session.start()\n", "", f"{NO_SESSION}; it tries role1:2181"),
        ("import os\n", "import os, nowhere\n", "No module named 'nowhere'"),
        ("            pause = 0.0\n", "            os.abort()\n", "the unit is"),
    ],
    ids=["does not start", "does not connect", "lacks a module", "dies once it is ready"],
)
def test_a_failing_version_leaves_the_previous_one_running(
    tmp_path: Path, zk: KazooClient, old: str, new: str, words: str
) -> None:
    config = on("role2", "cat", "/etc/zoo-watcher/business.json")
    was, version = runs("role2"), status(zk, "/app/business", "role2")["version"]
    witness = Witness(zk, "/service/business/role2")
    failing = collection(tmp_path, FAILING, old=old, new=new)
    run = apply("business", host="role2", collections=failing, watcher_keep_releases=3)
    assert run.failed
    assert words in run.output
    assert runs("role2") == was
    assert on("role2", "cat", "/etc/zoo-watcher/business.json") == config
    assert on("role2", "ls", "/etc/zoo-watcher", "/etc/systemd/system").count("~") == 0
    wait_for(lambda: status(zk, "/app/business", "role2").get("version") == version, "the old one says so")
    wait_for(partial(zk.exists, "/service/business/role2"), "it is registered")
    # The role waits for one that never connects: on a busy machine the session may end before the rollback does.
    assert witness.events == [] or NO_SESSION in words


def test_a_password_that_systemd_hands_over_is_in_one_file_that_only_root_may_read(
    zk: KazooClient, tmp_path: Path
) -> None:
    """An application of its own, whose znodes need the password, which is changed later."""
    app, place = "/app/kept", "/etc/zoo-watcher/kept.credentials"
    kept: dict[str, Any] = {"watcher_app": app, "watcher_base": "/srv/kept", "watcher_services": []}
    kept |= {"watcher_digest_username": "agent", "watcher_credentials": ["digest_password"]}
    for secret, words in (("s3cret-of-the-unit", ("--diff", "-vvv")), ("s3cret-of-later", ())):
        publish_for(zk, app, secret)
        run = apply("shop", *words, host="role1", watcher_digest_password=secret, **kept)
        assert not run.failed, run.output
        assert secret not in run.output
        generation = zk.set(f"{app}/config", zk.get("/app/shop/config")[0]).mzxid
        wait_for(
            lambda: status(zk, app, "role1").get("generation") == generation, "it has read it"
        )  # called immediately
        wait_for(partial(is_active, zk, app, "role1"), "it is active")
        assert on("role1", "stat", "-c", "%a:%U", place, f"{place}/digest_password").split() == ["700:root", "600:root"]
        assert on("role1", "cat", f"{place}/digest_password") == secret
        searched = "/etc /srv/kept /run/zoo-watcher /opt/zoo-watcher /var/log /var/lib /tmp"
        assert on("role1", f"grep -rlF {secret} {searched} 2>/dev/null") == f"{place}/digest_password"
        assert on("role1", f"journalctl --no-pager | grep -cF {secret}") == "0"
        own = on(
            "role1", "cat /proc/$(systemctl show --property MainPID --value zoo-watcher@kept)/environ | tr '\\0' ' '"
        )
        assert "CREDENTIALS_DIRECTORY=" in own
        assert secret not in own
    failing = collection(tmp_path, FAILING, old="import os\n", new="import os, nowhere\n")
    run = apply("shop", host="role1", collections=failing, watcher_digest_password="s3cret-that-fails", **kept)
    assert run.failed
    assert on("role1", "cat", f"{place}/*") == "s3cret-of-later"
    assert runs("role1", "kept") == f"active {VERSION}-distribution"
    assert set(apply("shop", host="role1", watcher_digest_password=secret, **kept).changed.values()) == {0}
    removed = apply("shop", host="role1", watcher_state="absent", watcher_remove_base=True, **kept)
    assert not removed.failed, removed.output
    assert zk.get_children(f"{app}/roster") == []
    assert on("role1", "ls", "-d", place) == ""


def publish_for(zk: KazooClient, app: str, secret: str) -> None:
    """Restrict an application's znodes to the agent with this password and to this client."""
    zk.add_auth("digest", f"agent:{secret}")
    acl = [make_digest_acl("agent", secret, all=True)]
    for path in (app, f"{app}/config"):
        if not zk.exists(path):
            zk.create(path, acl=acl)
    # What the agent has created is restricted to its previous password.
    for path in everything(zk, app):
        zk.set_acls(path, acl)


def everything(zk: KazooClient, root: str) -> list[str]:
    """The paths of all znodes of a tree."""
    return [root, *(path for name in zk.get_children(root) for path in everything(zk, f"{root}/{name}"))]


def test_removing_an_instance_deregisters_it_and_leaves_the_other(zk: KazooClient) -> None:
    witness, was = Witness(zk, "/service/business/role1"), runs("role1")
    assert set(apply("shop", "--check", watcher_state="absent").changed.values()) != {0}
    assert zk.exists("/service/shop/role1")
    run = apply("shop", watcher_state="absent")
    assert not run.failed, run.output
    # Immediately, not when the session would have timed out.
    assert [zk.exists(f"/service/shop/{host}") for host in BOTH] == [None, None]
    assert on("role1", "id", "zoo-shop") == ""
    assert (
        on("role1", "ls", "-d", "/etc/zoo-watcher/shop.json", "/opt/zoo-watcher/current-shop", "/var/lib/zoo-shop")
        == ""
    )
    assert on("role1", "cat", "/srv/shop/site/index.html") == "first"
    # With one instance left, the command needs no name.
    assert on("role1", COMMAND, "status").startswith("agent       role1, running\napp         /app/business\n")
    assert on("role1", "ls", "/opt/zoo-watcher").split() == [was.removeprefix("active "), "current-business"]
    assert runs("role1") == was
    assert witness.events == []
    assert set(apply("shop", watcher_state="absent").changed.values()) == {0}


def test_removing_the_last_instance_leaves_only_its_base_and_not_even_that_if_requested(zk: KazooClient) -> None:
    assert not apply("business", host="role2", watcher_state="absent").failed
    directories = [f"{parent}/zoo-watcher" for parent in ("/opt", "/etc", "/var/lib", "/run")]
    left = on("role2", "ls", "-d", *directories, COMMAND)
    assert left == ""
    assert on("role2", "find", "/etc", "-name", "*zoo-watcher*") == ""
    assert on("role2", "systemctl", "list-units", "--all", "--plain", "--no-legend", "'zoo-watcher*'") == ""
    assert on("role2", "getent", "passwd", "zoo-watcher") == ""
    assert on("role2", "cat", "/srv/business/site/index.html") == "first"
    assert zk.exists("/service/business/role2") is None
    assert not apply("business", host="role2", watcher_state="absent", watcher_remove_base=True).failed
    assert on("role2", "ls", "/srv").split() == ["apt", "shop", "wheels"]
