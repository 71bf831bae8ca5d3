"""`playbooks/scale_in.yml`: what it refuses at the start, and what it reports about an unreachable host."""

from __future__ import annotations

import concurrent.futures
import json
import platform
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, Release
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import HostEntry, RolloutPaths, begin
from support.agent_status import report
from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook
from support.waiting import wait_for

Play = Callable[..., str]


@pytest.fixture
def play(ensemble: Ensemble, app: str, tmp_path: Path) -> Play:
    """Runs the playbook for the host web1, whose name could not be asked for, and returns the output.

    Some of its variables are those of another host.
    """
    common = {"ansible_connection": "local", "watcher_hosts": ensemble.hosts, "watcher_app": app}
    services = [{"path": "{{ hostvars.store.registry }}", "port": 80}]
    web1 = {**common, "watcher_services": services, "watcher_drain_seconds": "{{ hostvars.store.drain }}"}
    hosts = {"web1": web1, "store": {"registry": f"{app}/service", "drain": 0}}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts}}))

    def run(*words: str, fails: bool = False) -> str:
        given = ["-e", json.dumps({"zoo_target": "web1", "zoo_min_servers": 0, "_zoo_uname": {}}), *words]
        start = ["-i", str(tmp_path / "hosts.yml"), "--start-at-task", "Note what each server is called and offers"]
        done = run_playbook(ROOT / "playbooks" / "scale_in.yml", *start, *given)
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout

    return run


def test_where_no_agent_of_its_name_is_live_nothing_is_reported_as_withdrawn(
    play: Play, zk: KazooClient, app: str
) -> None:
    report(zk, AppPaths(app), "web1.example.org", "active", 7)
    zk.create(f"{app}/service/web1.example.org", b"", ephemeral=True, makepath=True)
    said = play()
    assert "withdrawn" not in said
    assert re.search(r"web1 +not live +- +the host is unreachable, and no agent of this name is live; ", said), said
    assert "1 servers are left at" in said


def test_where_its_agent_was_live_its_registrations_are_waited_for(
    play: Play, ensemble: Ensemble, zk: KazooClient, app: str
) -> None:
    status, registration = AppPaths(app).agent("web1"), f"{app}/service/web1"
    report(zk, AppPaths(app), "web1", "active", 7)
    zk.create(registration, b"", ephemeral=True, makepath=True)
    assert "the host is unreachable; its registrations end with its session" in play("--check")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(play)
        wait_for(lambda: any(f"{status}\n" in member.ask("wchp") for member in ensemble.members), "it waits", 60)
        zk.delete(registration)
        zk.delete(status)
        said = running.result(60)
    assert re.search(r"web1 +removed +- +the host is unreachable; its registrations are withdrawn", said), said
    assert f"0 servers are left at {app}/service" in said


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"zoo_drain_seconds": 0.5}, 1),
        ({"zoo_drain_seconds": "1.5"}, 2),
        ({"watcher_drain_seconds": "0.5"}, 1),
    ],
)
def test_a_fraction_of_a_second_of_draining_is_rounded_up(
    play: Play, app: str, variables: dict[str, Any], seconds: int
) -> None:
    said = play("-e", json.dumps({**variables, "_zoo_leaving": [f"{app}/service/web1"]}))
    assert f"Pausing for {seconds} seconds" in said


@pytest.fixture
def refuse(ensemble: Ensemble, app: str, tmp_path: Path) -> Callable[..., str]:
    """Runs the playbook in check mode for hosts with variables that it has to refuse, and returns the output."""
    common = {"ansible_connection": "local", "watcher_hosts": ensemble.hosts, "watcher_app": app}

    def run(**hosts: dict[str, Any]) -> str:
        (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"vars": common, "hosts": hosts}}))
        words = ["-i", str(tmp_path / "hosts.yml"), "-l", ",".join(hosts), "--check"]
        done = run_playbook(ROOT / "playbooks" / "scale_in.yml", *words)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "TASK [Stop the agent]" not in done.stdout
        return done.stdout + done.stderr

    return run


def test_servers_of_two_applications_are_refused(refuse: Callable[..., str], app: str) -> None:
    said = refuse(web1={"watcher_name": "web1"}, api1={"watcher_name": "api1", "watcher_app": f"{app}/api"})
    assert re.search(rf"several fleets, {app} at \S+ and {app}/api at \S+; name those of one at a time;", said)


@pytest.mark.parametrize("variable", ["watcher_hosts", "zoo_hosts", "zoo_connection"])
def test_servers_of_two_ensembles_are_refused_however_the_other_one_is_named(
    refuse: Callable[..., str], ensemble: Ensemble, app: str, variable: str
) -> None:
    members = ",".join(sorted(ensemble.hosts.split(",")))
    other: Any = "{{ hostvars.web1.watcher_hosts }}/dc2/"
    said = refuse(web1={}, web2={variable: {"hosts": other} if variable == "zoo_connection" else other})
    assert f"several fleets, {app} at {members} and {app} at {members}/dc2; name those of one at a time;" in said


def test_connection_options_of_another_server_that_are_not_a_dictionary_are_refused_and_not_shown(
    refuse: Callable[..., str],
) -> None:
    said = refuse(web1={}, web2={"zoo_connection": "digest_password=sesame"})
    assert "zoo_connection: expected a dictionary of connection options" in said
    assert "sesame" not in said
    assert "TASK [Check that the servers are of one fleet]" not in said


def test_an_ensemble_may_be_written_in_several_ways(
    refuse: Callable[..., str], zk: KazooClient, ensemble: Ensemble, app: str
) -> None:
    report(zk, AppPaths(app), "5", "active", 7)
    zk.create(f"{app}/service/web1", b"", ephemeral=True, makepath=True)
    first, *rest = ensemble.hosts.split(",")
    services = [{"path": f"{app}/service", "port": 80}]
    said = refuse(
        web1={"watcher_name": 5, "watcher_services": services, "watcher_hosts": [*rest, first]},
        web2={"watcher_name": "web2", "watcher_hosts": f"{', '.join(rest)}, {first.upper()}/"},
    )
    assert f"{app}/service would be left with fewer than 1 servers; nothing is removed" in said


def test_name_and_services_of_a_server_may_be_built_from_the_variables_of_another(
    refuse: Callable[..., str], zk: KazooClient, app: str
) -> None:
    report(zk, AppPaths(app), "shop-2", "active", 7)
    zk.create(f"{app}/service/shop-2", b"", ephemeral=True, makepath=True)
    service = {"path": "{{ hostvars.web1.registry }}", "port": 80}
    said = refuse(
        web1={"shop": "shop", "registry": f"{app}/service"},
        web2={"watcher_name": "{{ hostvars.web1.shop }}-2", "watcher_services": [service]},
    )
    assert f"{app}/service would be left with fewer than 1 servers; nothing is removed" in said


def test_wrong_variables_of_one_host_end_the_run_for_all(refuse: Callable[..., str]) -> None:
    said = refuse(web1={"watcher_name": "web1"}, web2={"watcher_name": "a/b"})
    assert "nothing is removed" in said
    assert "TASK [Ask each host for its name]" not in said


@pytest.mark.parametrize("name", [None, ""])
def test_an_empty_name_is_that_of_the_host_as_for_the_role(
    refuse: Callable[..., str], zk: KazooClient, app: str, name: str | None
) -> None:
    report(zk, AppPaths(app), platform.node(), "active", 7)
    zk.create(f"{app}/service/web1", b"", ephemeral=True, makepath=True)
    services = [{"path": f"{app}/service", "port": 80}]
    said = refuse(web1={"watcher_name": name, "watcher_services": services})
    assert f"{app}/service would be left with fewer than 1 servers; nothing is removed" in said


@pytest.mark.parametrize("entry", ["admitted", "proved"])
def test_a_server_that_is_deploying_in_a_rollout_is_stopped_only_by_force(
    play: Play, zk: KazooClient, app: str, entry: str
) -> None:
    """A host that disappears during its deployment counts as a failure: a healthy fleet would halt or roll back."""
    paths = AppPaths(app)
    release = Release("https://git.example.org/shop", "b" * 40, "site", extra={"rollout": True})
    zk.create(paths.config, release.to_node(), makepath=True)
    generation = zk.get(paths.config)[1].mzxid
    root, state = RolloutPaths(paths.rollout(generation)), begin(release, True, None, 3)
    state = replace(state, counts={entry: 1})
    zk.create(root.root, state.to_node(), makepath=True)
    zk.create(root.gate, state.gate.to_node())
    zk.create(root.entry("web1", entry), HostEntry(entry).to_node(), makepath=True)
    on_its_way = f"on their way in the rollout of {'b' * 40}: web1; whoever disappears"
    if entry == "admitted":
        for words in ((), ("--check",)):
            assert on_its_way in " ".join(play(*words, fails=True).split())
        play("-e", "zoo_force=true")
    else:
        play()
