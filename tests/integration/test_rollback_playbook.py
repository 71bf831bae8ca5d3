"""`playbooks/rollback.yml` with real agents and no git server: each test is one command of a person on call."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from support.agent import Agent, publish
from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook
from support.repository import GitRepository

ROLLBACK = ROOT / "playbooks" / "rollback.yml"
STATUS = ROOT / "playbooks" / "status.yml"


@dataclass
class Fleet:
    """Two agents that have proved the commits `one`, `two` and `three`, and whose git server is gone."""

    agents: list[Agent]
    commits: dict[str, str]
    hosts: str
    app: str

    def play(self, playbook: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook with these extra variables, named without their prefix."""
        given = {"hosts": self.hosts, "app": self.app, "min_agents": "2", "wait_timeout": "30", **variables}
        return run_playbook(playbook, *(word for key, value in given.items() for word in ("-e", f"zoo_{key}={value}")))

    def roll_back(self, **variables: str) -> str:
        """Roll back, and return the output."""
        done = self.play(ROLLBACK, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def live(self) -> set[str | None]:
        """The commits that are live, by the names of `commits`."""
        names = {commit: name for name, commit in self.commits.items()}
        return {names.get(agent.live() or "") for agent in self.agents}


@pytest.fixture
def fleet(agents: Callable[..., Agent], ensemble: Ensemble, app: str, repository: GitRepository) -> Fleet:
    """The fleet, with `three` live on all hosts."""
    made = Fleet([agents(name).start() for name in ("server1", "server2")], {}, ensemble.hosts, app)
    for agent in made.agents:
        agent.wait_live()
    for name in ("one", "two", "three"):
        made.commits[name] = repository.commit({"index.html": f"{name}\n"}, name)
        done = made.play(
            ROOT / "playbooks" / "deploy.yml", url=repository.url, ref=made.commits[name], relative_path="site"
        )
        assert done.returncode == 0, done.stdout + done.stderr
    repository.path.rename(repository.path.with_name("gone"))
    return made


def test_the_fleet_goes_back_to_the_previous_proved_release_and_each_server_is_shown_with_it(fleet: Fleet) -> None:
    fleet.agents[0].zk.create(f"{fleet.app}/roster/server3", b"{}", makepath=True)
    said = fleet.roll_back()
    assert fleet.live == {"two"}
    short = fleet.commits["two"][:10]
    assert re.search(r"server3 +missing +- +- +expected, and not live", said), said
    assert re.search(rf"2 of 2 have proved commit {short}, .*; 1 missing", said), said
    for name in ("server1", "server2"):
        assert re.search(rf"{name} +active +{short}", said), said
    assert f"2 of 2 have proved commit {short}" in said
    seen = fleet.play(STATUS).stdout
    assert len(re.findall(rf"server[12] +active +{short} .*up to date", seen)) == 2, seen
    assert re.search(rf"release-0000000003 +{short} ", seen), seen
    no_history = fleet.play(STATUS, history="0")
    assert (no_history.returncode, "release-" in no_history.stdout) == (0, False), no_history.stdout
    assert "is a rollback from" not in said
    assert f"{fleet.commits['two']} is a rollback from" in fleet.roll_back()


def test_a_release_that_the_fleet_never_proved_is_not_rolled_back_to(fleet: Fleet, zk: KazooClient) -> None:
    value = {"url": "file:///nowhere", "commitId": "0" * 40, "relativePath": "site"}
    publish(zk, fleet.app, value)
    fleet.roll_back()
    assert fleet.live == {"three"}


def test_it_goes_back_to_the_named_commit_or_history_entry(fleet: Fleet, zk: KazooClient) -> None:
    fleet.roll_back(to=fleet.commits["one"][:8])
    assert fleet.live == {"one"}
    entries = sorted(zk.get_children(f"{fleet.app}/history"))
    # By the collection's name, as the playbook is called where the collection is installed.
    done = fleet.play(Path("zoo.deploy.rollback"), to=entries[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert fleet.live == {"two"}


def test_a_server_without_a_live_agent_is_missed_and_the_others_go_back(fleet: Fleet) -> None:
    fleet.agents[1].end()
    done = fleet.play(ROLLBACK, wait_timeout="2")
    assert done.returncode != 0
    assert "timed out waiting for agents: 1 live, at least 2 required" in done.stdout
    assert re.search(rf"server1 +active +{fleet.commits['two'][:10]}", done.stdout), done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "there is no other release in the history to go back to"),
        ({"to": "0123456789"}, "to: no entry of the history is or has the commit 0123456789"),
    ],
)
def test_what_cannot_be_rolled_back_to_is_refused_in_one_line(
    ensemble: Ensemble, zk: KazooClient, app: str, variables: dict[str, str], words: str
) -> None:
    publish(zk, app, {"url": "file:///nowhere", "commitId": "0" * 40, "relativePath": "site"})
    before = zk.get(f"{app}/config")
    done = Fleet([], {}, ensemble.hosts, app).play(ROLLBACK, **variables)
    assert done.returncode != 0
    assert words in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert zk.get(f"{app}/config") == before


def test_the_status_of_an_application_without_a_release_says_so(ensemble: Ensemble, app: str) -> None:
    done = Fleet([], {}, ensemble.hosts, app).play(STATUS)
    assert done.returncode == 2, done.stdout
    said = f"{app}/config: nothing is published to wait for"
    for words in ("nothing has been published", "nothing was published", "no agent is live", said):
        assert words in done.stdout


def test_the_output_of_a_failing_hook_is_below_the_line_of_its_server(
    agents: Callable[..., Agent], ensemble: Ensemble, app: str, repository: GitRepository
) -> None:
    hook = ["sh", "-c", "echo first; echo second; exit 4"]
    agents(hooks={"before_activate": hook}).start().wait_live()
    options = {"url": repository.url, "relative_path": "site", "min_agents": "1"}
    done = Fleet([], {}, ensemble.hosts, app).play(ROOT / "playbooks" / "deploy.yml", **options)
    assert done.returncode != 0
    assert re.search(r"server1 +failed +- +- +\S+ \S+ drift: hook before_activate ended", done.stdout), done.stdout
    said = r"\nFAILED after \d+ s: server1: hook before_activate ended with status 4: first second\n"
    assert re.search(said, done.stdout), done.stdout
    assert re.search(r"server1  fetching .* before_activate FAILED \d+\.\d\d s\n", done.stdout), done.stdout
