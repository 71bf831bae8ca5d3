"""`playbooks/status.yml` as a cron job: its exit status tells whether the fleet serves what is desired."""

from __future__ import annotations

import re
import subprocess
import threading
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import READ_ACL_UNSAFE

from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, AppPaths, Release
from ansible_collections.zoo.deploy.plugins.module_utils.releases import publish, read_published
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import Gate, RolloutPaths
from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook
from support.waiting import wait_for

COMMIT, BEFORE = "9" * 40, "2" * 40
HELD = {"since": "2026-11-24T10:15:30+00:00", "by": "ann", "reason": "disk swap"}
BAD_FILE = {"znode": "/c/x", "format": "value", "state": "failed", "zxid": 5, "message": "no number"}
PATIENCE = 120
"""Seconds in which a playbook on a busy machine reaches its task."""


class Fleet:
    """An application with a desired release, and agents whose statuses are written by hand."""

    def __init__(self, client: KazooClient, hosts: str, app: str) -> None:
        self.hosts = hosts
        self.paths = AppPaths(app)
        self._client = client
        release = Release("https://example.org/x.git", COMMIT, "site")
        self.generation = publish(client, self.paths, release, read_published(client, self.paths))

    def report(self, name: str, state: str = "active", **keys: Any) -> None:
        """Write the status of an agent, by default of one that serves what is desired."""
        status = {"generation": self.generation, "commit_id": COMMIT, **keys}
        data = AgentStatus(name=name, state=state, **status).to_node()
        path = self.paths.agent(name)
        if self._client.exists(path):
            self._client.set(path, data)
        else:
            self._client.create(path, data, ephemeral=True)

    def close(self) -> None:
        """Let everybody read what hosts deploy, and nobody write it."""
        for path in (self.paths.config, self.paths.history, self.paths.root):
            self._client.set_acls(path, READ_ACL_UNSAFE)

    def status(self, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run the playbook."""
        given = {"hosts": self.hosts, "app": self.paths.root, **variables}
        words = [word for name, value in given.items() for word in ("-e", f"zoo_{name}={value}")]
        return run_playbook(ROOT / "playbooks" / "status.yml", *words)


@pytest.fixture
def fleet(zk: KazooClient, ensemble: Ensemble, app: str) -> Fleet:
    """The fleet, in which server1 serves what is desired."""
    made = Fleet(zk, ensemble.hosts, app)
    made.report("server1")
    return made


def why(done: subprocess.CompletedProcess[str]) -> str:
    """The only line that says why the run failed, after the table of the servers."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("fatal: ")]
    assert done.stdout.index("Show the state of each server") < done.stdout.index(line)
    return line


def test_a_fleet_that_serves_what_is_desired_is_not_a_failure(fleet: Fleet) -> None:
    fleet.report("server2")
    done = fleet.status(min_agents=2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"server[12] +active +9999999999 +- +up to date", done.stdout)) == 2, done.stdout
    assert "anybody who reaches the ensemble can deploy; secure.yml closes the application" in done.stdout


def test_for_a_closed_application_there_is_no_warning_that_anybody_can_deploy(fleet: Fleet) -> None:
    fleet.report("server2")
    fleet.close()
    done = fleet.status()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "anybody who reaches" not in done.stdout


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            {"generation": 1, "commit_id": BEFORE},
            "not proved in time by 1 of 2: server2 is active; the fleet serves 9999999999 on 1 and 2222222222 on 1",
        ),
        (
            {"state": "failed", "commit_id": BEFORE, "message": "disk full"},
            "not deployed on 1 of 2: server2 is failed (disk full); the fleet serves ",
        ),
        # A status that another program wrote is no reason to show nothing.
        (
            {"generation": 1, "commit_id": 5},
            "not proved in time by 1 of 2: server2 is active; the fleet serves 9999999999;",
        ),
        ({"held": HELD}, "server2 is held since 2026-11-24T10:15:30+00:00 by ann: disk swap"),
        # The server serves what is desired, but is degraded.
        ({"drained": HELD}, "server2 is drained since 2026-11-24T10:15:30+00:00 by ann: disk swap"),
        ({"troubles": ["no permission, path=/service/x"]}, "server2: no permission, path=/service/x"),
        ({"files": {"/etc/x": BAD_FILE}}, "server2: /etc/x: no number"),
    ],
)
def test_a_server_that_has_drifted_is_a_failure_that_says_how(fleet: Fleet, status: dict[str, Any], said: str) -> None:
    fleet.report("server2", **status)
    assert said in why(fleet.status())


def test_what_agents_report_cannot_move_the_cursor(fleet: Fleet) -> None:
    fleet.report("server2", "failed", commit_id=BEFORE, message="\x1b[2J\x9b31mowned", troubles=["\u202etrouble"])
    done = fleet.status()
    assert done.returncode == 2
    assert not {"\x1b", "\x9b", "\u202e"} & {*done.stdout, *done.stderr}
    assert "owned" in done.stdout


def test_an_allowed_failure_does_not_fail_the_run(fleet: Fleet) -> None:
    fleet.report("server2", "failed", commit_id=BEFORE, message="disk full")
    done = fleet.status(max_failures="50%")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"server2 +failed +2222222222 +- +drift: disk full", done.stdout), done.stdout


@pytest.mark.parametrize("accepted", [0, 1])
def test_a_server_that_has_failed_is_still_a_failure_once_its_rollout_is_done(
    fleet: Fleet, zk: KazooClient, accepted: int
) -> None:
    gate = RolloutPaths(fleet.paths.rollout(fleet.generation)).gate
    zk.create(gate, Gate(DONE, moves=1, failures=accepted).to_node(), makepath=True)
    fleet.report("server2", "failed", commit_id=BEFORE, message="disk full")
    assert "not deployed on 1 of 2: server2 is failed (disk full)" in why(fleet.status())


def test_a_missing_host_is_shown_and_is_a_failure_where_none_may_be_missing(fleet: Fleet, zk: KazooClient) -> None:
    for name in ("server1", "server2"):
        zk.create(fleet.paths.roster_entry(name), b"{}", makepath=True)
    done = fleet.status()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"server2 +missing +- +- +expected, and not live", done.stdout), done.stdout
    assert "[WARNING]: missing, expected and not live: server2" in done.stdout + done.stderr
    assert "published, but 1 of 2 are missing, expected at most 0: server2" in why(fleet.status(max_missing=0))


def test_fewer_servers_than_expected_or_none_at_all_are_a_failure(fleet: Fleet, zk: KazooClient) -> None:
    assert "timed out waiting for agents: 1 live, at least 2 required" in why(fleet.status(min_agents=2))
    zk.delete(fleet.paths.agent("server1"))
    done = fleet.status()
    assert "timed out waiting for agents: 0 live, at least 1 required" in why(done)
    assert "no agent is live" in done.stdout


def test_a_deployment_that_is_under_way_is_waited_for_on_request(fleet: Fleet, ensemble: Ensemble) -> None:
    fleet.report("server2", "checking")
    assert "not proved in time by 1 of 2: server2 is checking" in why(fleet.status())

    def prove() -> None:
        watched = f"{fleet.paths.agent('server2')}\n"
        wait_for(lambda: any(watched in member.ask("wchp") for member in ensemble.members), "it waits", PATIENCE)
        fleet.report("server2")

    proof = threading.Thread(target=prove, daemon=True)
    proof.start()
    done = fleet.status(wait_timeout=PATIENCE)
    proof.join()
    assert done.returncode == 0, done.stdout + done.stderr
