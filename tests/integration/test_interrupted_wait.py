"""Ctrl-C in a playbook that waits for a rollout ends only the wait."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.ensemble import Ensemble
from support.module import deploy_main
from support.playbook import ROOT, run_playbook, start_playbook
from support.repository import GitRepository
from support.rollout import Rollout
from support.waiting import wait_for

Agents = Callable[..., Agent]
SOAKS = {"minHealthy": 0, "steps": [{"hosts": 1, "soak": 600}]}


def begin(playbook: str, log: Path, **variables: Any) -> subprocess.Popen[bytes]:
    """Start a playbook in its own process group, as a terminal does, with its output written to `log` immediately."""
    given = json.dumps({f"zoo_{key}": value for key, value in variables.items()})
    return start_playbook(ROOT / f"playbooks/{playbook}.yml", "-e", given, log=log)


def interrupted(process: subprocess.Popen[bytes], log: Path) -> str:
    """Interrupt a playbook as Ctrl-C does, wait for its end, and return its output."""
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 99, log.read_text()
    return log.read_text()


def test_a_run_in_check_mode_does_not_mention_a_wait(ensemble: Ensemble, app: str, repository: GitRepository) -> None:
    given = {"hosts": ensemble.hosts, "app": app, "relative_path": "site", "url": repository.url, "ref": "main"}
    words = json.dumps({f"zoo_{key}": value for key, value in given.items()})
    done = run_playbook(ROOT / "playbooks/deploy.yml", "--check", "-e", words)
    assert done.returncode == 0, done.stdout
    assert "would change" in done.stdout
    assert "follow:" not in done.stdout + done.stderr


def written(zk: KazooClient, root: str) -> dict[str, int]:
    """The mzxid of each znode of a subtree."""
    found = {root: zk.get(root)[1].mzxid}
    for child in zk.get_children(root):
        found.update(written(zk, f"{root}/{child}"))
    return found


@pytest.fixture
def soaking(
    agents: Agents, repository: GitRepository, ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path
) -> tuple[subprocess.Popen[bytes], Path, Rollout]:
    """A deployment that waits while its first step soaks, its log, and its rollout."""
    for number in range(2):
        agents(f"web{number}").start().wait_live()
    deploy_main(ensemble.hosts, app, repository)
    common = {"hosts": ensemble.hosts, "app": app, "relative_path": "site", "url": repository.url}
    repository.commit({"index.html": "two\n"})
    log = tmp_path / "log"
    process = begin("deploy", log, ref="main", rollout=SOAKS, **common)
    wait_for(lambda: "1 of 2\n" in log.read_text(), "the progress is shown", 60)
    rollout = Rollout(zk, app, zk.exists(f"{app}/config").mzxid)
    rollout.wait("soaking")
    return process, log, rollout


def test_the_rollout_goes_on_and_the_output_says_how_to_follow_pause_and_halt_it(
    soaking: tuple[subprocess.Popen[bytes], Path, Rollout], zk: KazooClient, app: str
) -> None:
    process, log, rollout = soaking
    before = {path: written(zk, path) for path in (rollout.root, f"{app}/config", f"{app}/history")}
    said = interrupted(process, log)
    assert {path: written(zk, path) for path in before} == before
    assert rollout.state["phase"] == "soaking"
    assert "Ctrl-C ends this waiting only" in said
    end = said[said.index("User interrupted execution") :]
    assert "The waiting has ended, and nothing else: what is published goes on." in end
    for command in ("status.yml -e zoo_wait_timeout=600", "zk_fleet_info", "pause.yml", "abort.yml"):
        assert command in end
    assert "Traceback" not in said
    # It goes on when it is promoted.
    rollout.command("promote")
    rollout.wait("done")


def test_an_interruption_before_anything_is_published_says_that_this_is_not_known(
    ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"git://127.0.0.1:{server.getsockname()[1]}/site.git"
        process = begin("deploy", log, ref="main", hosts=ensemble.hosts, app=app, relative_path="site", url=url)
        server.settimeout(60)
        server.accept()  # a branch is requested, and the server does not answer
        said = interrupted(process, log)
    assert "It was interrupted before it knew whether anything has been published: see status.yml." in said
    assert "goes on" not in said
    assert zk.exists(f"{app}/config") is None


def test_an_interruption_while_gates_are_asked_says_that_nobody_asks_them_any_more(
    agents: Agents, repository: GitRepository, ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path
) -> None:
    for number in range(2):
        agents(f"web{number}").start().wait_live()
    deploy_main(ensemble.hosts, app, repository)
    common = {"hosts": ensemble.hosts, "app": app, "relative_path": "site", "url": repository.url}
    repository.commit({"index.html": "two\n"})
    asked, log = tmp_path / "asked", tmp_path / "log"
    slow = {"name": "slow", "command": ["/bin/sh", "-c", f"touch {asked}; sleep 60"]}
    plan = {"minHealthy": 0, "steps": [{"hosts": 1}]}
    process = begin("deploy", log, ref="main", rollout=plan, gates=[slow], **common)
    wait_for(asked.exists, "the gate is asked", 60)
    said = interrupted(process, log)
    assert "Ctrl-C ends this waiting, and nobody asks the gates then" in said
    end = said[said.index("User interrupted execution") :]
    assert "what is published goes on" not in end
    assert "nobody asks the gates any more: a step that waits for them stays paused." in end
    assert "promote.yml -e @gates.yml" in end
    assert Rollout(zk, app, zk.exists(f"{app}/config").mzxid).state["waitsFor"] == "gates"


def test_a_deployment_that_has_ended_does_not_mention_an_interruption(
    soaking: tuple[subprocess.Popen[bytes], Path, Rollout],
) -> None:
    process, log, rollout = soaking
    rollout.command("promote")
    assert process.wait(60) == 0, log.read_text()
    assert "2 of 2 have proved commit" in log.read_text()
    assert "The waiting has ended" not in log.read_text()
