"""The progress of a slow deployment is shown during the wait."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils.records import PROVED_AT, AppPaths
from ansible_collections.zoo.deploy.plugins.module_utils.releases import read_history
from support.agent import Agent, publish
from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook
from support.ports import free_ports
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]


class Running(threading.Thread):
    """A playbook of one task that runs beside the test."""

    def __init__(self, directory: Path, module: str, options: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.playbook = directory / "play.yml"
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [{module: options}]}
        self.playbook.write_text(json.dumps([play]))
        self.done: CompletedProcess[str] | None = None
        self.start()

    def run(self) -> None:
        """Run the playbook."""
        self.done = run_playbook(self.playbook)

    def end(self) -> CompletedProcess[str]:
        """Wait for the end of the playbook, and return its result."""
        self.join(120)
        assert self.done is not None
        return self.done


def test_a_slow_deployment_names_the_agents_waited_for_and_succeeds_when_all_have_proved_it(
    agents: Agents, repository: GitRepository, ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path
) -> None:
    service = Service()
    slow = agents("slow", services=[{"path": f"{app}/service", "port": service.port}]).start().wait_live()
    agents("quick").start().wait_live()
    options = {"hosts": ensemble.hosts, "app": app, "url": repository.url, "relative_path": "site", "min_agents": 2}
    running = Running(tmp_path, "zoo.deploy.zk_release", options)
    # By the end of this the second turn of the wait has begun, for a release that is already published.
    begun = wait_for(lambda: zk.exists(f"{app}/config"), "it is published", 60)
    wait_for(lambda: zk.get(f"{app}/config")[1].mtime + 13_000 < wall(zk, app), "the first seconds are over", 60)
    service.open()
    try:
        done = running.end()
    finally:
        service.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"s  1 of 2 agents have proved [0-9a-f]{10}; slow is checking", done.stdout)
    assert zk.exists(f"{app}/config").mzxid == begun.mzxid
    (entry,) = read_history(zk, AppPaths(app))
    assert entry.release
    assert PROVED_AT in entry.release.extra
    assert slow.live() == repository.head


def test_a_held_agent_is_named_with_the_reason_while_it_is_waited_for_and_in_the_status(
    agents: Agents, repository: GitRepository, ensemble: Ensemble, app: str, tmp_path: Path
) -> None:
    agent = agents().start().wait_live()
    assert agent.control("hold", "--reason", "disk swap").returncode == 0
    options = {"hosts": ensemble.hosts, "app": app, "url": repository.url, "relative_path": "site", "wait_timeout": 12}
    done = Running(tmp_path, "zoo.deploy.zk_release", options).end()
    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert re.search(r"0 of 1 agents have proved [0-9a-f]{10}; server1 is idle, held", said), said
    since = agent.status["held"]["since"]
    assert f"not proved in time by 1 of 1: server1 is idle, held since {since} by " in said
    assert ": disk swap" in said
    shown = run_playbook(ROOT / "playbooks/status.yml", "-e", f"zoo_hosts={ensemble.hosts}", "-e", f"zoo_app={app}")
    assert re.search(
        rf"server1 +idle +- +- +\S+ \S+ +held since {re.escape(since)} by .*: disk swap; drift", shown.stdout
    )


def wall(zk: KazooClient, app: str) -> int:
    """The ensemble's own time in milliseconds, that of a znode written now."""
    zk.ensure_path(f"{app}/clock")
    return int(zk.set(f"{app}/clock", b"").mtime)


def test_a_release_that_was_published_without_waiting_can_be_waited_for_later(
    agents: Agents, repository: GitRepository, ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path
) -> None:
    agent = agents().start().wait_live()
    options = {"hosts": ensemble.hosts, "app": app}
    published = {**options, "url": repository.url, "relative_path": "site", "wait": False}
    assert Running(tmp_path, "zoo.deploy.zk_release", published).end().returncode == 0
    generation = zk.exists(f"{app}/config").mzxid
    for wanted in ("desired", generation):
        waiting = Running(tmp_path, "zoo.deploy.zk_fleet_info", {**options, "wait_for_release": wanted})
        assert waiting.end().returncode == 0
    assert agent.status["state"] == "active"
    assert agent.status["generation"] == generation


@pytest.mark.parametrize("what", ["release", "files"])
def test_a_wait_of_another_task_shows_its_progress_and_keeps_waiting_for_the_same_state(
    agents: Agents, repository: GitRepository, ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path, what: str
) -> None:
    service = Service()
    zk.create(f"{app}-config", b"1", makepath=True)
    held = tmp_path / "held"
    command = ["sh", "-c", f"while [ -e {held} ]; do sleep 0.1; done"]
    files = [{"znode": f"{app}-config", "dest": str(tmp_path / "etc"), "on_change": command}]
    held.touch()
    agents("slow", services=[{"path": f"{app}/service", "port": service.port}], files=files).start().wait_live()
    options = {"hosts": ensemble.hosts, "app": app}
    published = {**options, "url": repository.url, "relative_path": "site", "wait": False}
    assert Running(tmp_path, "zoo.deploy.zk_release", published).end().returncode == 0
    wanted = {"wait_for_release": "desired"} if what == "release" else {"wait_for_files": [f"{app}-config"]}
    running = Running(tmp_path, "zoo.deploy.zk_fleet_info", {**options, **wanted})
    begun = wall(zk, app)
    wait_for(lambda: begun + 16_000 < wall(zk, app), "the first seconds are over", 60)
    held.unlink()
    service.open()
    try:
        done = running.end()
    finally:
        service.close()
    assert done.returncode == 0, done.stdout + done.stderr
    proved = "[0-9a-f]{10}; slow is checking" if what == "release" else f"the files of {app}-config; slow is pending"
    assert re.search(rf"1\d s  0 of 1 agents have proved {proved}", done.stdout), done.stdout


def test_waiting_for_nothing_is_a_clear_error(ensemble: Ensemble, app: str, tmp_path: Path) -> None:
    options = {"hosts": ensemble.hosts, "app": app, "wait_for_release": "desired"}
    done = Running(tmp_path, "zoo.deploy.zk_fleet_info", options).end()
    assert done.returncode == 2
    assert f"{app}/config: nothing is published to wait for" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_an_ensemble_that_is_down_fails_within_the_connect_timeout(app: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    options = {"hosts": f"127.0.0.1:{port}", "app": app, "connect_timeout": 1, "wait_for_release": "desired"}
    done = Running(tmp_path, "zoo.deploy.zk_fleet_info", options).end()
    assert done.returncode == 2
    assert f"can't reach ZooKeeper at 127.0.0.1:{port} within 1 s" in done.stdout + done.stderr


def test_a_deployment_that_cannot_go_on_by_itself_ends_and_is_reported_once(
    agents: Agents, repository: GitRepository, ensemble: Ensemble, app: str, service: Service
) -> None:
    unhealthy = {"services": [{"path": f"{app}/service", "port": service.port}], "health_timeout": 0.2}
    for name in ("web1", "web2"):
        agents(name, **unhealthy).start(ZOO_WATCHER_UNIT="zoo-watcher@shop.service").wait_live()
    given = {"hosts": ensemble.hosts, "app": app, "url": repository.url, "relative_path": "site", "min_agents": 2}
    words = [word for name, value in given.items() for word in ("-e", f"zoo_{name}={value}")]
    done = run_playbook(ROOT / "playbooks/deploy.yml", *words)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    why = "not healthy within 0.2 s: "
    assert f"not proved by 2 of 2, none of which could go on: web1 and web2 are checking ({why}" in said
    head = repository.head[:10]
    assert f"the fleet serves {head}; desired is {head}: correct that, or deploy a fix" in said
    assert re.search(rf"\nFAILED after \d+ s: web1 and web2: {re.escape(why)}", said), said
    assert said.index("FAILED after ") < said.index("\nLogs: journalctl -u zoo-watcher@shop\n")
    assert said.index("Logs: ") < said.index("not proved by 2 of 2")
    fatal = next(line for line in said.splitlines() if line.startswith("fatal: "))
    assert len(fatal) < 500
    assert '"agents"' not in said


def test_a_repository_that_the_servers_may_not_read_ends_the_wait_with_their_reason(
    agents: Agents, ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path
) -> None:
    server = Service(lambda: (401, "")).open()
    try:
        agents("web1", allowed_schemes=["http"]).start().wait_live()
        url = f"http://127.0.0.1:{server.port}/site.git"
        publish(zk, app, {"url": url, "commitId": "1" * 40, "relativePath": "site"})
        waiting = {"hosts": ensemble.hosts, "app": app, "wait_for_release": "desired", "wait_timeout": 3600}
        done = Running(tmp_path, "zoo.deploy.zk_fleet_info", waiting).end()
    finally:
        server.close()
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    assert f"not proved by 1 of 1, none of which could go on: web1 is fetching ({url}: credentials refused: " in said
