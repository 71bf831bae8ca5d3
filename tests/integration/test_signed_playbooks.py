"""`deploy.yml` and `rollback.yml` with a key, on hosts that deploy only what is signed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook
from support.repository import GitRepository
from support.signer import Signer
from support.waiting import wait_for

Play = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """The signer of commits and records."""
    return Signer(tmp_path, "publisher")


@pytest.fixture
def play(ensemble: Ensemble, app: str, signer: Signer, repository: GitRepository) -> Play:
    """Runs a playbook with a signing key and further variables, named without their prefix."""

    def run(name: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        what = {"url": repository.url, "ref": "main", "relative_path": "site"} if name == "deploy" else {}
        given = {"hosts": ensemble.hosts, "app": app, "min_agents": 2, "wait_timeout": 30, **what}
        given = {**given, "sign_with": str(signer.key), "signers": str(signer.key.with_name("signers")), **variables}
        words = json.dumps({f"zoo_{key}": value for key, value in given.items()})
        return run_playbook(ROOT / "playbooks" / f"{name}.yml", "-e", words)

    return run


def test_a_fleet_that_requires_signatures_deploys_rolls_back_by_itself_and_is_rolled_back(
    agents: Callable[..., Agent], zk: KazooClient, app: str, play: Play, repository: GitRepository, signer: Signer
) -> None:
    signers = signer.key.with_name("signers")
    signers.write_text(signer.line)
    fails = ["/bin/sh", "-c", 'test "$(cat "$ZOO_RELEASE/index.html")" != broken']
    fleet = [
        agents("server1", require_signature=str(signers)),
        agents("server2", require_signature=str(signers), hooks={"after_activate": fails}),
    ]
    for agent in fleet:
        agent.start().wait_live()
    plan = {"steps": [{"names": ["server1"]}, {"percent": 100}], "minHealthy": 0, "onFailure": "rollback"}
    commits = []
    for text in ("one", "two"):
        commits.append(signer.commit(repository, text))
        done = play("deploy", rollout=plan)
        assert done.returncode == 0, done.stdout + done.stderr
    one, two = commits
    # The second server fails, so the first one, which has proved the release, goes back to the one that it accepted.
    broken = signer.commit(repository, "broken")
    done = play("deploy", rollout=plan)
    assert done.returncode, done.stdout
    assert "the rollout has rolled back" in done.stdout, done.stdout
    wait_for(lambda: [agent.live() for agent in fleet] == [two, two], f"all went back from {broken}")
    done = play("rollback", to=one)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [agent.live() for agent in fleet] == [one, one]
    record = json.loads(zk.get(f"{app}/config")[0])
    assert (record["serial"], record["rolledBackFrom"]) == (4, broken)
    # Without a signature nothing is deployed.
    done = play("deploy", sign_with="", ref=two)
    assert done.returncode
    assert "the published release is refused: its record is not signed" in done.stdout
    assert [agent.live() for agent in fleet] == [one, one]
    assert "PRIVATE KEY" not in done.stdout
