"""What a host does around a switch: hooks, shared paths, draining and checks by command."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
Registrations = Callable[[], dict[str, list[str]]]

NOTE = """\
import json, os, pathlib, sys
call = {name: value for name, value in os.environ.items() if name.startswith("ZOO_")}
site = pathlib.Path(sys.argv[2])
call.update(hook=sys.argv[3], directory=os.getcwd(), live=site.resolve().name if site.is_symlink() else None)
with open(sys.argv[1], "a") as file:
    file.write(json.dumps(call) + "\\n")
"""
"""A hook that records its variables, where it ran, and what was live then."""


def noting(notes: Path, site: Path, name: str) -> list[str]:
    """The command of a hook that writes a line to `notes`."""
    return [sys.executable, "-c", NOTE, str(notes), str(site), name]


def test_hooks_run_around_the_swap_and_get_what_changes_in_variables(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    site = tmp_path / "server1" / "base" / "site"
    names = ("before_activate", "after_activate")
    agent = agents(hooks={name: noting(notes, site, name) for name in names}).start()
    first = repository.head
    agent.wait_outcome(release())
    second = repository.commit({"index.html": "two\n"})
    generation = release()
    status = agent.wait_outcome(generation)
    calls = [json.loads(line) for line in notes.read_text().splitlines()]
    assert [(call["hook"], call["live"]) for call in calls] == [
        ("before_activate", None),
        ("after_activate", first),
        ("before_activate", first),
        ("after_activate", second),
    ]
    releases = agent.base / ".zoo" / "releases"
    last = calls[-1]
    assert (last["ZOO_COMMIT"], last["ZOO_GENERATION"]) == (second, str(generation))
    assert (last["ZOO_RELEASE"], last["ZOO_PREVIOUS"]) == (str(releases / second), str(releases / first))
    assert last["directory"] == str(releases / second)
    assert set(names) <= status["timings"].keys()


def test_a_hook_that_an_earlier_agent_did_not_finish_is_run_again(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    started, gate = tmp_path / "started", tmp_path / "gate"
    script = f"echo >> {started}; while [ ! -e {gate} ]; do sleep 0.02; done"
    agent = agents(hooks={"after_activate": ["/bin/sh", "-c", script]}).start()
    generation = release()
    wait_for(started.exists, "the hook runs")
    agent.end(9)
    assert agent.live() == repository.head
    gate.touch()
    agent.start()
    assert agent.wait_outcome(generation)["state"] == "active"
    assert started.read_text() == "\n\n"


NOTE_BOTH_ENDS = "echo begin $$ >> {notes}; while [ ! -e {gate} ]; do sleep 0.02; done; echo end $$ >> {notes}"
"""A hook that records its beginning and its end, and ends only when the gate exists."""


def test_a_reload_waits_for_a_hook_that_runs_and_the_host_is_served_meanwhile(
    deployed: Agents,
    repository: GitRepository,
    release: Publish,
    registrations: Registrations,
    service: Service,
    tmp_path: Path,
) -> None:
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    gate.touch()
    script = NOTE_BOTH_ENDS.format(notes=notes, gate=gate)
    agent = deployed(hooks={"before_activate": ["/bin/sh", "-c", script]})
    assert agent.process is not None
    notes.unlink()
    gate.unlink()
    repository.commit({"index.html": "two\n"})
    generation = release()
    wait_for(notes.exists, "the hook runs")
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "reloading as soon as" in agent.log, "the agent says that it waits")
    service.close()
    wait_for(lambda: not registrations(), "what is down is withdrawn")
    service.open()
    wait_for(registrations, "what is up is registered")
    gate.touch()
    assert agent.wait_outcome(generation)["state"] == "active"
    assert agent.log.count("watching, app=") == 2
    words = [line.split() for line in notes.read_text().splitlines()]
    assert [word for word, _pid in words] == ["begin", "end", "begin", "end"]
    assert words[0][1] == words[1][1]
    assert words[2][1] == words[3][1]


def test_a_reload_whose_configuration_becomes_wrong_while_it_waits_changes_nothing(
    agents: Agents, release: Publish, tmp_path: Path
) -> None:
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    script = NOTE_BOTH_ENDS.format(notes=notes, gate=gate)
    files = [{"znode": "/none", "dest": str(tmp_path / "none.conf")}]
    agent = agents(hooks={"before_activate": ["/bin/sh", "-c", script]}, files=files).start()
    assert agent.process is not None
    generation = release()
    wait_for(notes.exists, "the hook runs")
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "reloading as soon as" in agent.log, "the agent says that it waits")
    agent.config["session_timeout"] = "long"
    agent.configure()
    gate.touch()
    assert agent.wait_outcome(generation)["state"] == "active"
    assert "not reloaded, the previous configuration stays in force: " in agent.log
    assert agent.log.count("watching, app=") == 1
    assert agent.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_hook_that_does_not_end_in_time_ends_with_its_agent_and_is_run_again(
    agents: Agents, release: Publish, tmp_path: Path, number: int
) -> None:
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    script = NOTE_BOTH_ENDS.format(notes=notes, gate=gate)
    agent = agents(hooks={"before_activate": ["/bin/sh", "-c", script]}).start()
    generation = release()
    wait_for(lambda: notes.exists() and notes.read_text().endswith("\n"), "the hook runs")
    first = notes.read_text().split()[-1]
    assert agent.end(number) == 0
    assert not Path("/proc", first).exists()
    gate.touch()
    agent.start()
    assert agent.wait_outcome(generation)["state"] == "active"
    second = notes.read_text().split()[-1]
    assert notes.read_text() == f"begin {first}\nbegin {second}\nend {second}\n"


@pytest.mark.parametrize(
    ("hook", "script", "state", "message"),
    [
        ("before_activate", 'rm -rf "$ZOO_RELEASE"', "failed", "no release is at {release} any more"),
        ("after_activate", 'rm -rf "$ZOO_RELEASE"', "rolled_back", "{site} does not lead to release {commit} any more"),
        ("after_activate", "rm {site}; mkdir {site}", "failed", "a directory is at {site}"),
    ],
)
def test_a_hook_that_removes_its_own_release_fails_it(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    tmp_path: Path,
    hook: str,
    script: str,
    state: str,
    message: str,
) -> None:
    site = tmp_path / "server1" / "base" / "site"
    text = f"! grep -q two index.html || {{ {script.replace('{site}', str(site))}; }}"
    agent = agents(hooks={hook: ["/bin/sh", "-c", text]}).start()
    first = repository.head
    agent.wait_outcome(release())
    second = repository.commit({"index.html": "two\n"})
    status = agent.wait_outcome(release())
    directory = agent.base / ".zoo" / "releases" / second
    assert status["state"] == state
    assert message.format(release=directory, site=site, commit=second) in status["message"]
    if not site.is_symlink():
        site.rmdir()
    else:
        assert (agent.live(), (site / "index.html").read_text()) == (first, "one\n")
    third = repository.commit({"index.html": "three\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("active", third)


def test_a_hook_that_removes_each_release_leaves_none_live_and_the_status_says_so(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f'test ! -e {gate} || rm -rf "$ZOO_RELEASE"'
    agent = agents(hooks={"after_activate": ["/bin/sh", "-c", script]}).start()
    first = repository.head
    agent.wait_outcome(release())
    gate.touch()
    repository.commit({"index.html": "two\n"})
    status = agent.wait_outcome(release())
    assert status["state"] == "failed"
    assert f"does not lead to release {first} any more" in status["message"]


def test_a_drained_host_is_switched_only_after_its_registration_is_gone(
    deployed: Agents,
    repository: GitRepository,
    release: Publish,
    registrations: Registrations,
    zk: KazooClient,
    app: str,
    tmp_path: Path,
) -> None:
    notes = tmp_path / "notes"
    site = tmp_path / "server1" / "base" / "site"
    agent = deployed(drain_seconds=0.3, hooks={"before_activate": noting(notes, site, "before")})
    deleted: list[float] = []
    zk.exists(f"{app}/service/server1", watch=lambda _event: deleted.append(os.stat(notes).st_mtime))
    lines = len(notes.read_text().splitlines())
    repository.commit({"index.html": "two\n"})
    status = agent.wait_outcome(release())
    # Deleted while only the hooks of earlier releases had run, so before any hook of this one.
    assert status["state"] == "active"
    assert len(deleted) == 1
    assert deleted[0] < os.stat(notes).st_mtime
    assert len(notes.read_text().splitlines()) == lines + 1
    wait_for(registrations, "it is registered again")


def test_a_host_whose_drain_is_cancelled_by_the_deletion_of_the_release_serves_again(
    deployed: Agents,
    repository: GitRepository,
    release: Publish,
    registrations: Registrations,
    zk: KazooClient,
    app: str,
) -> None:
    first = repository.head
    agent = deployed()
    agent.end(signal.SIGUSR2)
    agent.config["drain_seconds"] = 600
    agent.start()
    repository.commit({"index.html": "two\n"})
    release()
    wait_for(lambda: agent.status["state"] == "draining" and not registrations(), "it is drained")
    zk.delete(f"{app}/config")
    wait_for(registrations, "it is registered again")
    assert agent.live() == first


def test_a_first_release_waits_for_one_service_with_the_others_registered(
    agents: Agents, registered: dict[str, Any], service: Service, release: Publish, registrations: Registrations
) -> None:
    other = Service()
    services = [*registered["services"], {**registered["services"][0], "id": "other", "port": other.port}]
    agent = agents(drain_seconds=0.1, health_timeout=0.5, services=services).start()
    service.open()
    generation = release()
    wait_for(lambda: agent.status.get("waitsFor") == "health", "it waits for the other")
    wait_for(lambda: list(registrations()) == ["server1"], "the one that is healthy is registered")
    other.open()
    assert agent.wait_outcome(generation)["state"] == "active"
    wait_for(lambda: len(registrations()) == 2, "both are registered")
    other.close()


def test_shared_paths_outlive_releases_and_begin_with_what_the_first_one_has(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    repository.commit({"uploads/first.txt": "from git\n", "app.py": "1\n"})
    agent = agents(shared_paths=["uploads", "var/cache"]).start()
    assert agent.wait_outcome(release())["state"] == "active"
    site = agent.base / "site"
    assert (site / "uploads/first.txt").read_text() == "from git\n"
    (site / "uploads/second.txt").write_text("from a user\n")
    (site / "uploads/first.txt").write_text("changed by a user\n")
    (site / "var/cache/page").write_text("made by the application\n")
    repository.commit({"uploads/first.txt": "newer in git\n", "app.py": "2\n"})
    assert agent.wait_outcome(release())["state"] == "active"
    assert (site / "app.py").read_text() == "2\n"
    assert (site / "uploads/first.txt").read_text() == "changed by a user\n"
    assert (site / "uploads/second.txt").read_text() == "from a user\n"
    assert (site / "var/cache/page").read_text() == "made by the application\n"


def test_a_service_is_registered_while_its_check_command_succeeds(
    agents: Agents, release: Publish, app: str, registrations: Registrations, tmp_path: Path
) -> None:
    sign = tmp_path / "fine"
    script = f"test -e {sign} || {{ echo the sign is missing; exit 3; }}"
    check = {"type": "command", "command": ["/bin/sh", "-c", script], "interval": 0.05, "timeout": 5}
    agent = agents(services=[{"path": f"{app}/service", "port": 80, "address": "192.0.2.7", "check": check}]).start()
    generation = release()
    wait_for(lambda: agent.status.get("state") == "checking", "it waits for the check")
    assert registrations() == {}
    sign.touch()
    assert agent.wait_outcome(generation)["state"] == "active"
    assert wait_for(registrations, "it is registered") == {"server1": ["192.0.2.7", "80"]}
    sign.unlink()
    wait_for(lambda: not registrations(), "it is not registered any more")


def test_a_command_that_keeps_failing_is_quoted_when_the_release_is_rolled_back(
    agents: Agents, repository: GitRepository, release: Publish, app: str, tmp_path: Path
) -> None:
    site = tmp_path / "server1" / "base" / "site"
    script = f"grep -q good {site}/state || {{ echo the state is; cat {site}/state; exit 3; }}"
    check = {"type": "command", "command": ["/bin/sh", "-c", script], "interval": 0.05, "timeout": 5}
    agent = agents(health_timeout=0.6, services=[{"path": f"{app}/service", "port": 80, "check": check}]).start()
    first = repository.commit({"state": "good\n"})
    agent.wait_outcome(release())
    repository.commit({"state": "rotten\n"})
    status = agent.wait_outcome(release())
    assert status["state"] == "rolled_back"
    assert "ended with status 3: the state is\nrotten" in status["message"]
    assert agent.live() == first
