"""The commands that control an agent on its host: hold, release, drain, undrain and retry."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from support.agent import SOURCE, Agent
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
Registrations = Callable[[], dict[str, list[str]]]


def said(agent: Agent, *words: str, exit_status: int = 0) -> str:
    """The line that a command prints, with the expected exit status and an empty stderr."""
    done = agent.control(*words)
    assert (done.returncode, done.stderr) == (exit_status, ""), done.stdout + done.stderr + agent.log
    assert done.stdout.startswith("agent: ")
    assert done.stdout.count("\n") == 1
    return done.stdout.removeprefix("agent: ").strip()


def hold(agent: Agent) -> None:
    """Hold a running agent."""
    assert said(agent, "hold", "--reason", "disk swap").endswith(": disk swap; nothing newer is deployed")


def wait_seen(agent: Agent, generation: int) -> None:
    """Wait until an agent that has nothing to retry has seen what is published."""
    wait_for(lambda: f"generation {generation} is" in said(agent, "retry", exit_status=1), "it has seen it")


def test_a_held_agent_stays_where_it_is_and_deploys_at_once_when_it_is_released(
    deployed: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = deployed()
    first, generation = repository.head, agent.status["generation"]
    hold(agent)
    status = agent.status
    assert status["held"].keys() == {"since", "reason", "by"}
    assert status["held"]["reason"] == "disk swap"
    second = repository.commit({"index.html": "two\n"})
    newer = release()
    wait_seen(agent, newer)
    status = agent.status
    assert (status["state"], status["generation"], agent.live()) == ("active", generation, first)
    assert f"\nheld        since {status['held']['since']} by " in agent.control("status").stdout
    assert said(agent, "release") == "not held; what is published is deployed"
    assert agent.wait_outcome(newer)["state"] == "active"
    assert agent.live() == second
    assert "held" not in agent.status


def test_a_hold_outlasts_the_agent_and_what_is_live_is_still_registered(
    deployed: Agents, repository: GitRepository, release: Publish, registrations: Registrations
) -> None:
    agent = deployed()
    first, generation = repository.head, agent.status["generation"]
    hold(agent)
    agent.end()
    agent.start().wait_outcome(generation)
    wait_for(registrations, "it is registered")
    repository.commit({"index.html": "two\n"})
    newer = release()
    agent.end()
    agent.start().wait_live()
    wait_for(registrations, "it is registered, though something newer is published")
    status = agent.status
    assert (status["state"], status["commitId"], status["held"]["reason"]) == ("idle", first, "disk swap")
    assert agent.live() == first
    said(agent, "release")
    agent.wait_outcome(newer)


def gated(tmp_path: Path, hook: str) -> tuple[Path, Path, dict[str, list[str]]]:
    """The file that the hook creates, the file that it waits for, and the hook."""
    started, gate = tmp_path / "started", tmp_path / "gate"
    script = f"touch {started}; while [ ! -e {gate} ]; do sleep 0.02; done"
    return started, gate, {hook: ["/bin/sh", "-c", script]}


def test_a_held_agent_proves_a_release_that_is_already_live_and_says_so(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    started, gate, hooks = gated(tmp_path, "after_activate")
    agent = agents(hooks=hooks).start()
    first = repository.head
    generation = release()
    wait_for(started.exists, "it is live, and not proved")
    proved = "what is live already is proved or rolled back; nothing newer is deployed"
    assert said(agent, "hold", "--reason", "disk swap").endswith(f": disk swap; {proved}")
    repository.commit({"index.html": "two\n"})
    wait_seen(agent, release())
    gate.touch()
    assert agent.wait_outcome(generation)["state"] == "active"
    said(agent, "retry", exit_status=1)  # the loop has looked at what is published once more
    assert (agent.status["generation"], agent.live()) == (generation, first)
    hold(agent)


def test_a_hold_cancels_a_deployment_that_has_activated_nothing_yet_and_says_so(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    started, gate, hooks = gated(tmp_path, "before_activate")
    agent = agents(hooks=hooks).start()
    first = repository.head
    generation = release()
    wait_for(started.exists, "it is under way")
    cancelled = f"the deployment of {first} is cancelled; nothing newer is deployed"
    assert said(agent, "hold", "--reason", "disk swap").endswith(f": disk swap; {cancelled}")
    gate.touch()
    wait_for(lambda: agent.status["state"] == "idle", "nothing is under way any more")
    assert (agent.live(), agent.status["message"]) == (None, f"the deployment of {first} is cancelled: held")
    assert said(agent, "hold", "--reason", "again").endswith(f": disk swap; {cancelled}")
    said(agent, "release")
    assert agent.wait_outcome(generation)["state"] == "active"
    assert (agent.live(), "message" in agent.status) == (first, False)
    hold(agent)


def test_a_release_that_is_live_and_published_again_is_proved_by_a_held_agent(
    deployed: Agents, release: Publish
) -> None:
    agent = deployed()
    hold(agent)
    assert agent.wait_outcome(release())["state"] == "active"


def test_a_deployment_that_a_newer_release_has_cancelled_before_the_hold_leaves_the_agent_idle(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    started, gate, hooks = gated(tmp_path, "before_activate")
    agent = agents(hooks=hooks).start()
    release()
    wait_for(started.exists, "it is under way")
    repository.commit({"index.html": "two\n"})
    newer = release()
    seen = f"nothing to retry: generation {newer} has not been tried here yet"
    wait_for(lambda: said(agent, "retry", exit_status=1) == seen, "it has seen the newer one")
    assert said(agent, "hold", "--reason", "disk swap").endswith(" is cancelled; nothing newer is deployed")
    gate.touch()
    wait_for(lambda: agent.status["state"] == "idle", "nothing is under way any more")
    assert "generation" not in agent.status
    assert agent.live() is None
    said(agent, "release")
    assert agent.wait_outcome(newer)["state"] == "active"


def test_what_failed_before_the_hold_is_not_retried_until_the_release(
    agents: Agents, release: Publish, tmp_path: Path
) -> None:
    mended = tmp_path / "mended"
    agent = agents(hooks={"before_activate": ["/bin/sh", "-c", f"test -e {mended}"]}).start()
    generation = release()
    assert agent.wait_outcome(generation)["state"] == "failed"
    hold(agent)
    mended.touch()
    assert "; release it first" in said(agent, "retry", exit_status=1)
    assert agent.status["state"] == "failed"
    said(agent, "release")
    assert said(agent, "retry") == f"generation {generation} is tried again"
    wait_for(lambda: agent.status["state"] == "active", "it is tried again")


def test_a_drained_agent_registers_nothing_across_its_restart_until_it_is_undrained(
    deployed: Agents, registrations: Registrations, zk: KazooClient, app: str
) -> None:
    agent = deployed()
    deleted: list[Any] = []
    assert zk.exists(f"{app}/service/server1", watch=deleted.append)
    assert said(agent, "drain", "--reason", "a new disk").endswith(": a new disk; nothing is registered")
    assert registrations() == {}, "the command returns when it is withdrawn"
    wait_for(lambda: deleted, "who watches it is told")
    assert agent.status["drained"]["reason"] == "a new disk"
    generation = agent.status["generation"]
    agent.end()
    created: list[Any] = []
    zk.exists(f"{app}/service/server1", watch=created.append)
    agent.start().wait_outcome(generation)
    assert said(agent, "drain", "--reason", "again").endswith(": a new disk; nothing is registered")
    assert (registrations(), created) == ({}, [])
    assert said(agent, "undrain") == "not drained; healthy services are registered"
    wait_for(registrations, "it is registered again")
    assert "drained" not in agent.status


def test_a_drain_is_confirmed_only_once_the_registration_is_withdrawn(
    deployed: Agents, registrations: Registrations, zk: KazooClient, app: str
) -> None:
    agent, path = deployed(), f"{app}/service"
    zk.set_acls(path, [make_acl("world", "anyone", read=True, write=True, create=True, admin=True)])
    late = said(agent, "drain", "--reason", "a new disk", exit_status=3)
    registered = f"registered is {path}/server1; trouble: {path}/server1: permission denied"
    assert f"within 10 s: its session is SyncConnected, {registered}" in late
    assert registrations(), "nobody but the ensemble keeps it"
    zk.set_acls(path, OPEN_ACL_UNSAFE)
    assert said(agent, "drain", "--reason", "a new disk").endswith("; nothing is registered")
    assert registrations() == {}


def test_a_host_that_is_drained_while_nothing_is_published_serves_again_once_it_is_undrained(
    deployed: Agents, registrations: Registrations, zk: KazooClient, app: str
) -> None:
    agent = deployed()
    assert said(agent, "drain", "--reason", "a new disk").endswith("; nothing is registered")
    zk.delete(f"{app}/config")
    # A command makes the agent check all of it.
    assert "nothing is published" in said(agent, "retry", exit_status=1)
    assert registrations() == {}
    said(agent, "undrain")
    wait_for(registrations, "it is registered again, with what is live")


def test_a_drained_agent_deploys_and_proves_by_its_checks(
    deployed: Agents, repository: GitRepository, release: Publish, registrations: Registrations, service: Service
) -> None:
    agent = deployed(health_timeout=0.5, drain_seconds=0.1)
    said(agent, "drain", "--reason", "memory")
    second = repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(release())["state"] == "active"
    assert (agent.live(), registrations()) == (second, {})
    service.answer = lambda: (500, "")
    repository.commit({"index.html": "three\n"})
    assert agent.wait_outcome(release())["state"] in {"failed", "rolled_back"}
    assert registrations() == {}


def test_a_release_that_failed_is_retried_once_its_cause_is_mended(
    deployed: Agents, repository: GitRepository, release: Publish, service: Service
) -> None:
    agent = deployed(health_timeout=0.5)
    first = repository.head
    second = repository.commit({"index.html": "two\n"})
    healthy = service.answer
    service.answer = lambda: (500, "") if agent.live() == second else (200, "")
    generation = release()
    assert agent.wait_outcome(generation)["state"] == "rolled_back"
    assert agent.live() == first
    service.answer = healthy
    assert said(agent, "retry") == f"generation {generation} is tried again"
    wait_for(lambda: agent.status["state"] == "active", "it is tried again")
    assert (agent.status["generation"], agent.live()) == (generation, second)
    assert said(agent, "retry", exit_status=1) == f"nothing to retry: generation {generation} is active here"


def put_back(agent: Agent, earlier: str) -> None:
    """Make an earlier release live by hand, without the agent."""
    os.symlink(f".zoo/releases/{earlier}", agent.base / "site.new")
    os.replace(agent.base / "site.new", agent.base / "site")


def remove_place(agent: Agent, _earlier: str) -> None:
    """Leave nothing live."""
    (agent.base / "site").unlink()


def remove_releases(agent: Agent, _earlier: str) -> None:
    """Leave the symlink dangling."""
    shutil.rmtree(agent.base / ".zoo/releases")


def remove_base(agent: Agent, _earlier: str) -> None:
    """Remove everything, except what the agent writes at that moment."""
    shutil.rmtree(agent.base, ignore_errors=True)
    (agent.base / "site").unlink(missing_ok=True)


@pytest.mark.parametrize("lose", [put_back, remove_place, remove_releases, remove_base])
def test_a_release_that_is_no_longer_live_is_reported_and_a_retry_deploys_it_again(
    deployed: Agents, repository: GitRepository, release: Publish, lose: Callable[[Agent, str], None]
) -> None:
    agent = deployed()
    first, second = repository.head, repository.commit({"index.html": "two\n"})
    agent.wait_outcome(release())
    lose(agent, first)
    assert agent.process
    agent.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: f"{second} is live there no more" in str(agent.status.get("troubles")), "the status says so")
    assert said(agent, "retry").endswith("is tried again")
    wait_for(lambda: agent.live() == second and agent.status["state"] == "active", "it is live again")
    assert "troubles" not in agent.status


def test_with_nothing_published_there_is_nothing_to_retry(agents: Agents) -> None:
    agent = agents().start().wait_live()
    assert said(agent, "retry", exit_status=1) == "nothing to retry: nothing is published"


def test_a_command_without_a_running_agent_says_so_and_takes_effect_when_it_is_started(
    agents: Agents, registered: dict[str, Any], service: Service, release: Publish, registrations: Registrations,
    tmp_path: Path,
) -> None:  # fmt: skip
    mended = tmp_path / "mended"
    agent = agents(**registered, hooks={"before_activate": ["/bin/sh", "-c", f"test -e {mended}"]}).start()
    service.open()
    generation = release()
    assert agent.wait_outcome(generation)["state"] == "failed"
    agent.end()
    mended.touch()
    nobody = "no agent runs here, it counts when it is started"
    assert said(agent, "drain", "--reason", "later").endswith(f"later; {nobody}")
    assert said(agent, "hold", "--reason", "later").endswith(f"later; {nobody}")
    assert said(agent, "release") == f"not held; {nobody}"
    assert said(agent, "retry", exit_status=3) == "no agent runs here; what failed is tried again when it is started"
    agent.start()
    wait_for(lambda: agent.status.get("state") == "active", "it is tried again")
    assert agent.status["drained"]["reason"] == "later"
    assert registrations() == {}
    agent.end()
    assert said(agent, "undrain") == f"not drained; {nobody}"
    agent.start()
    wait_for(registrations, "it is registered")


def test_an_agent_that_does_not_answer_is_not_reported_to_have_withdrawn_anything(deployed: Agents) -> None:
    agent = deployed()
    assert agent.process is not None
    agent.process.send_signal(signal.SIGSTOP)
    try:
        line = said(agent, "drain", "--reason", "stopped", exit_status=3)
    finally:
        agent.process.send_signal(signal.SIGCONT)
    assert "not carried out by the agent within 10 s: its session is SyncConnected, registered is /app/" in line


def test_an_agent_that_has_reloaded_in_the_same_process_still_obeys_a_command(deployed: Agents) -> None:
    agent = deployed()
    assert agent.process is not None
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: agent.log.count("INFO watching, ") == 2, "it has begun anew")
    hold(agent)
    assert agent.process.poll() is None


def test_a_damaged_marker_still_counts_and_is_reported(deployed: Agents, registrations: Registrations) -> None:
    agent = deployed()
    marker = agent.base / ".zoo/controls/drained"
    said(agent, "undrain")
    marker.write_text("{")
    said(agent, "retry", exit_status=1)
    wait_for(lambda: not registrations(), "nothing is registered")
    assert str(marker) in agent.status["drained"]["reason"]
    wait_for(lambda: [trouble for trouble in agent.status["troubles"] if str(marker) in trouble], "it is a trouble")
    said(agent, "undrain")
    wait_for(registrations, "it is registered")
    wait_for(lambda: "troubles" not in agent.status, "it is none any more")


def test_the_only_agent_of_a_host_needs_no_name_and_one_of_several_does(agents: Agents) -> None:
    one, other = agents("one"), agents("other")
    directory = one.root.parent / "etc"
    directory.mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return one.run("--config-dir", str(directory), *words)

    done = run("status")
    assert (done.returncode, done.stderr) == (
        2,
        f"zoo-watcher: {directory}: no configuration; name one with --config FILE\n",
    )
    (directory / "shop.json").write_bytes(one.configure().read_bytes())
    assert f"base        {one.base}\n" in run("status").stdout
    (directory / "mail.json").write_bytes(other.configure().read_bytes())
    assert f"base        {other.base}\n" in run("status", "mail").stdout
    for word in ("status", "retry"):
        done = run(word)
        assert (done.returncode, done.stderr) == (
            2,
            "zoo-watcher: this host has several agents, say which: mail, shop\n",
        )
    done = run("retry", "../shop")
    assert (done.returncode, done.stderr) == (
        2,
        'zoo-watcher: no agent "../shop" on this host, only mail, shop\n',
    )


def test_identical_commands_at_the_same_time_all_get_a_true_answer(deployed: Agents) -> None:
    agent = deployed()
    path = str(agent.root / "agent.json")

    def at_once(*words: str) -> set[tuple[int, str, str]]:
        command = [sys.executable, "-m", "zoo_watcher", *words, "--config", path]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        people = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            for _person in range(4)
        ]
        answers = [(person, *person.communicate()) for person in people]
        return {(person.returncode, out, err) for person, out, err in answers}

    refusal = f"agent: nothing to retry: generation {agent.status['generation']} is active here\n"
    for _time in range(3):
        held = at_once("hold", "--reason", "disk swap")
        since = agent.status["held"]["since"]
        by = agent.status["held"]["by"]
        assert held == {(0, f"agent: held since {since} by {by}: disk swap; nothing newer is deployed\n", "")}
        said(agent, "release")
        assert at_once("retry") == {(1, refusal, "")}
    assert not list((agent.base / ".zoo/controls").iterdir())
