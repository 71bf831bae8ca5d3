"""What zk_release keeps and reports during a long wait: one real playbook, of which each test checks a part.

The agents are only statuses, which are written here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths
from support.agent_status import report
from support.ensemble import Ensemble
from support.lonely import kill, lonely_ensemble
from support.playbook import start_playbook
from support.repository import GitRepository
from support.tasks import Run, read_results, write_tasks
from support.waiting import wait_for

SLOW_SSH = """\
#!/bin/sh
touch "{asked}"
until [ -e "{gate}" ]; do sleep 0.05; done
for command; do :; done
exec sh -c "$command"
"""
"""A stand-in for ssh to a git server that answers only once the gate exists."""
NAMES = ("web1", "web2", "web3", "web4")
OWN_OPTIONS: dict[str, dict[str, Any]] = {
    "git": {"wait_timeout": 8},
    "outage": {},
    "stragglers": {},
    "retries": {"retry_timeout": 11},
}
"""The tasks by name, which is that of a branch too, with the options that not all of them have."""
REASON = "web1: no route to git.example"
PROVED = "web2  fetching 0.50 s  checking 1.00 s  proved"
OUTAGE = 11
"""Seconds, longer than the wait for a connection and than a turn of the wait."""


class Fleet:
    """The agents of an application, that is, their statuses of the published release."""

    def __init__(self, servers: Ensemble, zk: KazooClient, app: str, log: Path) -> None:
        self.servers = servers
        self.zk = zk
        self.paths = AppPaths(app)
        self.generation = 0
        self._log = log

    def await_release(self) -> None:
        """Wait until another release is published."""

        def published() -> bool:
            stat = self.zk.exists(self.paths.config)
            return stat is not None and stat.mzxid != self.generation

        wait_for(published, f"another one is published; the log:\n{self._log.read_text()}", 60)
        self.generation = self.zk.exists(self.paths.config).mzxid

    def say(self, state: str, *names: str, **keys: Any) -> None:
        """Write the statuses of agents."""
        for name in names:
            report(self.zk, self.paths, name, state, self.generation, **keys)

    def read(self, name: str) -> None:
        """Wait until the module has read an agent's last status, which is when it watches that again."""
        path = self.paths.agent(name)
        wait_for(lambda: f"\n{path}\n" in f"\n{self.servers.members[0].ask('wchp')}", f"{name} is read")

    def told(self, text: str) -> None:
        """Wait until the running playbook has printed a string."""
        wait_for(lambda: text in self._log.read_text(), f"it tells of {text!r}", 60)


@pytest.fixture(scope="module")
def waited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The results of four releases that were waited for."""
    root, app = tmp_path_factory.mktemp("wait"), f"/app/{uuid.uuid4().hex[:12]}"
    repository = GitRepository.create(root / "origin")
    asked, gate, log, ssh = (root / name for name in ("asked", "gate", "log", "ssh"))
    ssh.write_text(SLOW_SSH.format(asked=asked, gate=gate))
    ssh.chmod(0o755)
    for name in OWN_OPTIONS:
        repository.commit({"index.html": name})
        repository.git("branch", name)
    with lonely_ensemble(root / "zk") as (servers, zk), pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_SSH_COMMAND", str(ssh))
        place = {"url": f"ssh://git.example{repository.path}", "relative_path": "site"}
        common = {**place, "hosts": servers.hosts, "app": app, "connect_timeout": 1, "min_agents": 3}
        tasks = [
            {"zoo.deploy.zk_release": {**common, "ref": name, **options}, "register": name}
            for name, options in OWN_OPTIONS.items()
        ]
        fleet = Fleet(servers, zk, app, log)
        fleet.say("idle", *NAMES)
        running = start_playbook(write_tasks(root, tasks), log=log)
        try:
            play_git(fleet, asked, gate)
            play_outage(fleet)
            play_stragglers(fleet)
            fleet.await_release()
            fleet.say("fetching", "web1", "web2", "web3", message="no route to host", waits_for="network")
            assert running.wait(60) == 0, log.read_text()
        finally:
            end(running)
        yield Run(log.read_text(), read_results(root))


def end(running: subprocess.Popen[bytes]) -> None:
    """Kill a playbook that hangs, with all its child processes."""
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def last(seconds: float) -> None:
    """Let a trouble last for so many seconds."""
    began = time.monotonic()
    wait_for(lambda: time.monotonic() - began > seconds, "it lasts")


def play_git(fleet: Fleet, asked: Path, gate: Path) -> None:
    """The git server takes longer than the `wait_timeout`, and then a reason ends the first turn of the wait."""
    wait_for(asked.exists, "git is asked", 60)
    last(9)
    gate.touch()
    fleet.await_release()
    fleet.say("fetching", *NAMES, message="no route yet", waits_for="network")
    fleet.told(": no route yet\n")
    fleet.say("active", *NAMES)


def play_outage(fleet: Fleet) -> None:
    """Hosts advance one after the other, one is lost, and then so is the ensemble."""
    fleet.await_release()
    fleet.say("fetching", *NAMES)
    for seconds in (4, 8):
        why = f"no route to git.example; tried again in {seconds} s"
        fleet.say("fetching", "web1", message=why, waits_for="network")
        fleet.told(f"{REASON}\n")
    fleet.say("active", "web2", timings={"fetching": 0.5, "checking": 1.0})
    fleet.told(f"{PROVED}\n")
    fleet.zk.delete(fleet.paths.agent("web4"))
    fleet.told("web4  gone: its agent is not live any more\n")
    kill(fleet.servers, fleet.zk)
    last(OUTAGE)
    fleet.servers.start()
    wait_for(lambda: fleet.zk.connected, "this client is back")
    # On a busy machine its session may have ended, with its ephemerals.
    fleet.say("active", "web1", "web2", "web3")


def play_stragglers(fleet: Fleet) -> None:
    """Two hosts fail, the second once the module knows of the first."""
    fleet.await_release()
    fleet.say("fetching", "web1", "web2", "web3")
    fleet.say("failed", "web1", message="the disk is full")
    fleet.read("web1")
    fleet.say("failed", "web3", message="no such directory")


def test_the_time_that_git_takes_does_not_count_for_the_wait(waited: Run) -> None:
    assert (waited["git"]["failed"], waited["git"]["converged"]) == (False, True), waited["git"]


def test_an_outage_longer_than_the_connect_timeout_does_not_fail_a_wait(waited: Run) -> None:
    outage = waited["outage"]
    assert (outage["failed"], outage["converged"]) == (False, True), outage
    assert outage["elapsed"] > OUTAGE


def test_an_agent_that_was_lost_in_one_turn_of_the_wait_is_named_after_the_last(waited: Run) -> None:
    assert waited["outage"]["lost_agents"] == ["web4"]
    assert "live at first and gone before the end: web4" in " ".join(waited.output.split())


def test_each_host_and_each_reason_is_shown_once_as_soon_as_it_is_known(waited: Run) -> None:
    """It was printed immediately, or the ensemble would not have been stopped."""
    assert waited.output.count(f"{REASON}\n") == 1, "the next try is no other reason"
    assert waited.output.count(f"{PROVED}\n") == 1


def test_a_host_that_fails_within_a_second_of_another_is_reported_with_it(waited: Run) -> None:
    stragglers = waited["stragglers"]
    why = "web1 is failed (the disk is full); web3 is failed (no such directory)"
    assert f"not deployed on 2 of 3: {why}" in stragglers["msg"]
    assert stragglers["failed_agents"] == ["web1", "web3"]


def test_what_may_recover_by_itself_is_retried_for_the_requested_time_over_all_turns(waited: Run) -> None:
    said = waited["retries"]["msg"]
    assert "not proved by 3 of 3, none of which could go on for 11 s: web1, web2 and web3 are fetching" in said
