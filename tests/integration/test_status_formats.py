"""`playbooks/status.yml` and `playbooks/watch.yml` to a file: a page for a browser, or JSON for a program."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import READ_ACL_UNSAFE

from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, AppPaths, Release
from ansible_collections.zoo.deploy.plugins.module_utils.releases import publish, read_published
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE, RUNNING
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import RolloutPaths, RolloutRecord
from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook, start_playbook
from support.waiting import wait_for

COMMIT, BEFORE = "9" * 40, "2" * 40
PATIENCE = 120
"""Seconds in which a playbook on a busy machine reaches its task."""
RELEASE = Release("https://example.org/x.git", COMMIT, "site", extra={"subject": "fixes {{ 7 * 7 }}"})
OPEN = "nybody who reaches the ensemble can deploy; secure.yml closes the application"
"""The warning about an application that is not closed, without its first letter."""


@pytest.fixture
def generation(zk: KazooClient, app: str) -> int:
    """The generation of a published release, with two live servers: one serves it, one is deploying it."""
    paths = AppPaths(app)
    number = publish(zk, paths, RELEASE, read_published(zk, paths))
    report(zk, app, "server1", number)
    report(zk, app, "server2", number, "checking")
    return number


def report(zk: KazooClient, app: str, name: str, generation: int, state: str = "active", **keys: Any) -> None:
    """Write the status of an agent."""
    data = AgentStatus(name=name, state=state, **{"generation": generation, "commit_id": COMMIT, **keys}).to_node()
    path = AppPaths(app).agent(name)
    if zk.exists(path):
        zk.set(path, data)
    else:
        zk.create(path, data, ephemeral=True)


def status(ensemble: Ensemble, app: str, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook in a directory."""
    return run_playbook(ROOT / "playbooks/status.yml", *variables(ensemble, app), *words, cwd=cwd)


def variables(ensemble: Ensemble, app: str) -> list[str]:
    """The command-line words for a playbook."""
    return ["-e", f"zoo_hosts={ensemble.hosts}", "-e", f"zoo_app={app}"]


@pytest.mark.usefixtures("generation")
def test_the_page_is_one_file_in_the_working_directory_and_the_output_names_it(
    ensemble: Ensemble, app: str, tmp_path: Path
) -> None:
    page = tmp_path / f"{app.rpartition('/')[2]}.html"
    done = status(ensemble, app, tmp_path, "-e", "zoo_format=html")
    # The result is the same as without a page: one server has not proved the release.
    assert done.returncode == 2
    assert "not proved in time by 1 of 2: server2 is checking" in done.stdout
    assert f'"msg": "{page}"' in done.stdout
    assert [*tmp_path.iterdir()] == [page]
    text = page.read_text()
    assert f"a{OPEN}" in done.stdout
    assert f"A{OPEN}" in text
    assert "fixes {{ 7 * 7 }}" in text
    assert "<h1>" in text
    assert "server2" in text
    assert "data-reload" not in text


def test_json_has_the_results_of_both_modules_and_the_hosts_of_each_kind(
    ensemble: Ensemble, zk: KazooClient, app: str, generation: int, tmp_path: Path
) -> None:
    report(zk, app, "server2", generation, "failed", commit_id=BEFORE, message="disk full {{ 7 * 7 }}")
    paths = AppPaths(app)
    for path in (paths.config, paths.history, paths.root):
        zk.set_acls(path, READ_ACL_UNSAFE)
    file = tmp_path / "status.json"
    done = status(ensemble, app, tmp_path, "-e", "zoo_format=json", "-e", f"zoo_output={file}", "-v")
    assert f'"msg": "{file}"' in done.stdout
    data = json.loads(file.read_text())
    assert data["app"] == app
    kinds = {kind: names for kind, names in data["kinds"].items() if names}
    assert kinds == {"failed": ["server2"], "proved": ["server1"]}
    assert data["fleet"]["failures"] == [{"reason": "disk full {{ 7 * 7 }}", "agents": ["server2"]}]
    assert [entry["generation"] for entry in data["releases"]["history"]] == [generation]
    assert data["releases"]["release"]["subject"] == "fixes {{ 7 * 7 }}"
    # The application is closed.
    assert data["releases"]["open"] is False
    assert OPEN not in done.stdout
    assert not {"invocation", "changed", "failed"} & {*data["fleet"], *data["releases"]}


@pytest.mark.usefixtures("generation")
def test_what_cannot_be_written_is_a_one_line_error(ensemble: Ensemble, app: str, tmp_path: Path) -> None:
    bad = status(ensemble, app, tmp_path, "-e", "zoo_format=htm")
    assert (
        'expected zoo_format to be table, html or json, and zoo_output to be the path of a file, got "htm"'
        in " ".join(bad.stdout.replace('\\"', '"').split())
    )
    table = status(ensemble, app, tmp_path, "-e", "zoo_output=fleet.html")
    assert "zoo_output: only a page or JSON is written to a file; add zoo_format=html or" in table.stdout
    nowhere = status(ensemble, app, tmp_path, "-e", "zoo_format=html", "-e", "zoo_output=there/fleet.html")
    assert f"zoo_output: {tmp_path}/there is not a directory that a file can be written to" in nowhere.stdout
    assert "Traceback" not in "".join(one.stdout + one.stderr for one in (bad, table, nowhere))
    assert [*tmp_path.iterdir()] == []


def test_a_watch_rewrites_the_page_and_ends_when_the_rollout_does(
    ensemble: Ensemble, zk: KazooClient, app: str, generation: int, tmp_path: Path
) -> None:
    paths = AppPaths(app)
    below = RolloutPaths(paths.rollout(generation))
    plan = {"steps": [{"hosts": 1}]}
    state = RolloutRecord(plan=plan, release=RELEASE.to_object(), stable=RELEASE.to_object(), phase=RUNNING, fleet=2)
    for path, record in ((below.root, state), (below.gate, state.gate)):
        zk.create(path, record.to_node(), makepath=True)
    lock = {"by": "ann", "reason": "sale", "since": "2026-11-30T12:00:00+00:00"}
    zk.create(paths.lock, json.dumps(lock).encode())
    page, log = tmp_path / "fleet.html", tmp_path / "log"
    words = ["-e", "zoo_format=html", "-e", f"zoo_output={page}"]
    watch = start_playbook(ROOT / "playbooks/watch.yml", *variables(ensemble, app), *words, log=log)
    try:
        wait_for(page.exists, "the page is there", PATIENCE)
        assert " data-reload=" in page.read_text()
        assert "Rolling out: 1 of 2 hosts serve 9999999999" in page.read_text()
        assert "locked by ann" in page.read_text()
        zk.delete(paths.lock)
        report(zk, app, "server2", generation)
        ended = state.changed(phase=DONE, step=1, moves=1)
        zk.set(below.root, ended.to_node())
        zk.set(below.gate, ended.gate.to_node())
        assert watch.wait(PATIENCE) == 0, log.read_text()
    finally:
        watch.kill()
        watch.wait()
    assert "All 2 hosts serve 9999999999" in page.read_text()
    assert " data-reload=" not in page.read_text()
    # The history is that of the end, too.
    for text in (page.read_text(), log.read_text()):
        assert "done on no host" in text
        assert "locked by ann" not in text
