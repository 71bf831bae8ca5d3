"""`playbooks/scale_out.yml` from the end of the role on: how it waits for the new servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, AppPaths, Release
from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook

RELEASE = Release("https://example.org/x.git", "1" * 40, "site")
Play = Callable[..., tuple[int, str]]


@pytest.fixture
def play(ensemble: Ensemble, app: str, tmp_path: Path) -> Play:
    """Runs the playbook's tasks after the role for the servers web1 and web2, which offer one service.

    Some of their variables are those of another host.
    """
    hosts = {
        f"web{number}": {"ansible_connection": "local", "watcher_name": f"{{{{ hostvars.store.prefix }}}}{number}"}
        for number in (1, 2)
    }
    hosts["store"] = {"prefix": "web", "registry": f"{app}/service"}
    service = [{"path": "{{ hostvars.store.registry }}", "port": 80}]
    common = {"watcher_hosts": ensemble.hosts, "watcher_app": app, "watcher_services": service}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))

    def run(**variables: Any) -> tuple[int, str]:
        given = ["-e", json.dumps({"zoo_target": "web1,web2", **variables})]
        words = ["-i", str(tmp_path / "hosts.yml"), "--start-at-task", "Note what each server is called and offers"]
        done = run_playbook(ROOT / "playbooks" / "scale_out.yml", *words, *given)
        return done.returncode, done.stdout + done.stderr

    return run


def report(zk: KazooClient, app: str, name: str, state: str, generation: int, **keys: Any) -> None:
    """Write the status of an agent."""
    status = AgentStatus(name=name, state=state, generation=generation, **keys)
    zk.create(AppPaths(app).agent(name), status.to_node(), ephemeral=True, makepath=True)


def test_it_ends_immediately_where_a_new_server_has_failed_and_says_why_once(
    play: Play, zk: KazooClient, app: str
) -> None:
    zk.create(f"{app}/config", RELEASE.to_node(), makepath=True)
    generation = zk.exists(f"{app}/config").mzxid
    report(zk, app, "web1", "failed", generation, message="disk full")
    report(zk, app, "web2", "active", generation)
    report(zk, app, "other", "failed", generation, message="not of these")
    code, said = play(zoo_wait_timeout=600)
    assert code == 2, said
    assert f"{app}/config: not deployed on 1 of 2: web1 is failed (disk full)" in said
    assert '"agents"' not in said
    assert "not of these" not in said


def test_servers_of_two_fleets_are_refused_before_anything_is_installed(
    ensemble: Ensemble, app: str, tmp_path: Path
) -> None:
    common = {"ansible_connection": "local", "watcher_app": app, "watcher_hosts": ensemble.hosts}
    hosts = {"web1": {}, "web2": {"watcher_hosts": f"{ensemble.hosts}/dc2"}, "api1": {"watcher_app": f"{app}/api"}}
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
    for limit in ("web1,web2", "web1,api1"):
        words = ["-i", str(tmp_path / "hosts.yml"), "-l", limit, "--check"]
        done = run_playbook(ROOT / "playbooks" / "scale_out.yml", *words)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "the servers are of several fleets" in done.stdout
        assert "TASK [zoo.deploy.watcher : " not in done.stdout


def test_the_registrations_are_waited_for_within_the_same_time(
    play: Play, zk: KazooClient, other: KazooClient, app: str
) -> None:
    report(zk, app, "web1", "idle", 0)
    report(other, app, "web2", "idle", 0)
    zk.create(f"{app}/service/web1", b"", ephemeral=True, makepath=True)
    code, said = play(zoo_wait_timeout=2)
    assert code == 2, said
    assert "not registered in time as they should be: web2" in said
    other.create(f"{app}/service/web2", b"", ephemeral=True)
    code, said = play()
    assert code == 0, said


def test_a_new_server_that_serves_the_previous_release_until_its_turn_is_ready(
    play: Play, zk: KazooClient, other: KazooClient, app: str
) -> None:
    zk.create(f"{app}/config", RELEASE.to_node(), makepath=True)
    generation = zk.exists(f"{app}/config").mzxid
    report(zk, app, "web1", "active", generation, commit_id=RELEASE.commit_id)
    message = "waits for its turn in the rollout"
    report(other, app, "web2", "waiting", generation, commit_id="2" * 40, message=message)
    zk.create(f"{app}/service/web1", b"", ephemeral=True, makepath=True)
    other.create(f"{app}/service/web2", b"", ephemeral=True)
    code, said = play(zoo_wait_timeout=30)
    assert code == 0, said
    assert (
        f"web2                     waiting     2222222222 {app}/service/web2; serves the previous release: {message}"
        in said
    )


def test_a_member_without_an_address_is_an_error_that_names_it(play: Play) -> None:
    code, said = play(watcher_hosts=["no-such-member.invalid:2181"], zoo_wait_timeout=3)
    assert code == 2, said
    assert "can't reach ZooKeeper at no-such-member.invalid:2181 within" in said
    assert "retries left" not in said
