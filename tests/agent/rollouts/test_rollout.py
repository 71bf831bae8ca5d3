"""A release reaches a fleet in steps, a limited number of hosts at a time, and stops where it fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import make_acl

from support.agent import Agent
from support.client import connected
from support.ensemble import Ensemble
from support.repository import GitRepository
from support.rollout import Rollout
from support.service import Service
from support.transaction_log import Change, read_changes
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
QUICK = {"minHealthy": 0}


@pytest.fixture
def fleet(agents: Agents, release: Publish) -> Callable[..., list[Agent]]:
    """Starts agents, all of which have deployed the repository's head, without a rollout."""

    def start(count: int = 4, **config: object) -> list[Agent]:
        fleet = [agents(name=f"web{number}", **config).start() for number in range(count)]
        generation = release()
        for agent in fleet:
            agent.wait_outcome(generation)
        return fleet

    return start


@pytest.fixture
def rollout(zk: KazooClient, app: str, release: Publish) -> Callable[..., Rollout]:
    """Publishes the repository's head, to be rolled out by a plan with these keys."""

    def publish(**keys: object) -> Rollout:
        return Rollout(zk, app, release(rollout={**QUICK, **keys}))

    return publish


@dataclass
class Blocked:
    """A hook that does not end while `path` exists."""

    path: Path

    @property
    def hook(self) -> list[str]:
        """The command."""
        return ["/bin/sh", "-c", f"while test -e {self.path}; do sleep 0.05; done"]

    def close(self) -> None:
        """Keep hooks from ending from now on."""
        self.path.touch()

    def open(self) -> None:
        """Let the hooks end."""
        self.path.unlink(missing_ok=True)

    @staticmethod
    def wait_admitted(made: Rollout, agents: list[Agent]) -> Agent:
        """The agent that is admitted, once there is one."""

        def find() -> Agent | None:
            entries = made.entries if made.state else {}
            return next((agent for agent in agents if entries.get(agent.name) == "admitted"), None)

        return wait_for(find, "one is admitted")


@pytest.fixture
def blocked(tmp_path: Path) -> Iterator[Blocked]:
    """A hook that a test can block."""
    blocked = Blocked(tmp_path / "blocked")
    yield blocked
    blocked.open()


def lives(fleet: list[Agent]) -> set[str | None]:
    """The commits that are live on the hosts of a fleet."""
    return {agent.live() for agent in fleet}


@pytest.mark.smoke
def test_a_release_reaches_one_host_after_the_other(
    fleet: Callable[..., list[Agent]], repository: GitRepository, rollout: Callable[..., Rollout]
) -> None:
    agents = fleet()
    second = repository.commit({"index.html": "second\n"})
    made = rollout(**{"from": agents[0].live()})
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, list(made.entries.values()).count("admitted") if made.state else 0)
        return made.state.get("phase") == "done"

    wait_for(done, "the rollout is done", 30)
    assert most == 1
    assert lives(agents) == {second}
    assert set(made.entries.values()) == {"proved"}
    assert all(agent.status["state"] == "active" for agent in agents)


def test_a_rollout_whose_name_is_not_a_number_does_no_harm(
    fleet: Callable[..., list[Agent]],
    repository: GitRepository,
    rollout: Callable[..., Rollout],
    zk: KazooClient,
    app: str,
) -> None:
    agents = fleet(1)
    made = rollout()
    made.wait("done")
    zk.create(f"{app}/rollouts/\u00b2", zk.get(made.root)[0])
    second = repository.commit({"index.html": "second\n"})
    rollout().wait("done")
    assert lives(agents) == {second}


def test_a_host_reports_that_it_is_active_before_another_takes_its_place(
    fleet: Callable[..., list[Agent]],
    ensemble: Ensemble,
    repository: GitRepository,
    rollout: Callable[..., Rollout],
) -> None:
    agents = fleet()
    repository.commit({"index.html": "second\n"})
    made = rollout(**{"from": agents[0].live()})
    made.wait("done")
    changes = read_changes(ensemble.leader.directory / "data", made.app)
    for agent in agents:
        told = {change.path: change.zxid for change in changes if change.path == f"{made.root}/hosts/{agent.name}"}
        statuses = [change for change in changes if change.path == f"{made.app}/agents/{agent.name}" and change.data]
        active = next(change.zxid for change in statuses if is_active(change, made.generation))
        assert active < told[f"{made.root}/hosts/{agent.name}"], agent.name


def is_active(status: Change, generation: int) -> bool:
    """Whether a status reports that a generation is active on its host."""
    found = json.loads(status.data or b"{}")
    return (found["state"], found.get("generation")) == ("active", generation)


def test_a_host_keeps_its_place_until_it_has_been_healthy_for_as_long_as_the_plan_requires(
    fleet: Callable[..., list[Agent]], repository: GitRepository, rollout: Callable[..., Rollout]
) -> None:
    agents = fleet(2)
    first, second = repository.head, repository.commit({"index.html": "second\n"})
    made = rollout(**{"from": first, "minHealthy": 3600})
    wait_for(lambda: second in lives(agents), "one has it")
    host, other = sorted(agents, key=lambda agent: agent.live() != second)
    assert host.wait_outcome(made.generation)["state"] == "active"
    for agent in (host, other) * 2:
        agent.control("retry")  # is answered by another turn of its loop
    assert (made.entries, other.live()) == ({host.name: "admitted"}, first)
    made = rollout(**{"from": first, "minHealthy": 0.5})
    made.wait("done")
    assert lives(agents) == {second}


def test_a_step_soaks_before_the_next_is_open(
    fleet: Callable[..., list[Agent]], repository: GitRepository, rollout: Callable[..., Rollout]
) -> None:
    agents = fleet()
    first, second = repository.head, repository.commit({"index.html": "second\n"})
    made = rollout(**{"from": first, "steps": [{"hosts": 1, "soak": 1}], "maxInFlight": 4})
    made.wait("soaking")
    assert sorted(agent.live() == second for agent in agents) == [False, False, False, True]
    waiting = [agent.status for agent in agents if agent.live() == first]
    assert {status["state"] for status in waiting} == {"waiting"}
    made.wait("done")
    assert lives(agents) == {second}


def test_a_release_that_fails_on_the_first_host_reaches_no_other(
    fleet: Callable[..., list[Agent]], repository: GitRepository, rollout: Callable[..., Rollout]
) -> None:
    hooks = {"after_activate": ["/bin/sh", "-c", "! grep -q broken index.html"]}
    agents = fleet(hooks=hooks)
    first = repository.head
    bad = repository.commit({"index.html": "broken\n"})
    made = rollout(**{"from": first, "maxInFlight": 2, "steps": [{"hosts": 1}]})
    state = made.wait("halted")
    assert "after_activate" in state["reason"]
    assert lives(agents) == {first}
    wait_for(
        lambda: sorted(agent.status["state"] for agent in agents) == ["halted"] * 3 + ["rolled_back"], "all say so"
    )
    assert list(made.entries.values()) == ["failed"]
    assert made.zk.exists(f"{made.app}/bad/{bad}")
    mended = repository.commit({"index.html": "mended\n"})
    rollout(**{"from": first}).wait("done")
    assert lives(agents) == {mended}


def test_a_rollout_rolls_back_by_itself(
    fleet: Callable[..., list[Agent]], repository: GitRepository, rollout: Callable[..., Rollout]
) -> None:
    """The second of four hosts fails to deploy the release, so the first returns to the previous one."""
    agents = fleet()
    first = repository.head
    repository.commit({"index.html": "second\n"})
    made = rollout(**{"from": first, "steps": [{"hosts": 1, "pause": True}], "onFailure": "rollback"})
    made.wait("paused")
    switched = next(agent for agent in agents if agent.live() != first)
    made.command("promote")
    others = [agent for agent in agents if agent is not switched]
    wait_for(lambda: "admitted" in made.entries.values(), "another is admitted")
    admitted = next(agent for agent in others if made.entries.get(agent.name) == "admitted")
    admitted.kill()
    made.wait("rolled_back")
    assert {agent.live() for agent in agents if agent is not admitted} == {first}
    assert switched.status["state"] == "rolled_back"
    admitted.start().wait_live()
    wait_for(lambda: admitted.live() == first, "it has returned as well")


@pytest.mark.parametrize("share", [2, "100%"])
def test_a_release_that_most_hosts_have_is_not_rolled_back_where_it_fails_on_the_last(
    agents: Agents, repository: GitRepository, release: Publish, rollout: Callable[..., Rollout], share: int | str
) -> None:
    """The release is published once more for the one host on which it failed."""
    fleet = [agents(name=f"web{number}").start() for number in range(3)]
    fleet.append(
        agents(name="web3", hooks={"after_activate": ["/bin/sh", "-c", "! grep -q second index.html"]}).start()
    )
    first, generation = repository.head, release()
    for agent in fleet:
        agent.wait_outcome(generation)
    second = repository.commit({"index.html": "second\n"})
    generation = release()
    for agent in fleet:
        agent.wait_outcome(generation)
    made = rollout(**{"from": first, "maxInFlight": share, "onFailure": "rollback"})
    wait_for(lambda: made.state.get("phase") in {"halted", "rolling_back", "rolled_back"}, "it is stopped")
    assert made.state["phase"] == "halted"
    assert not made.zk.exists(f"{made.app}/bad/{second}")
    assert [agent.live() for agent in fleet] == [second] * 3 + [first]


def test_a_host_that_disappears_during_its_deployment_halts_the_rollout(
    fleet: Callable[..., list[Agent]], repository: GitRepository, rollout: Callable[..., Rollout], blocked: Blocked
) -> None:
    agents = fleet(hooks={"before_activate": blocked.hook})
    first = repository.head
    repository.commit({"index.html": "second\n"})
    blocked.close()
    made = rollout(**{"from": first})
    lost = blocked.wait_admitted(made, agents)
    lost.kill()
    assert "it disappeared on its way" in made.wait("halted")["reason"]
    assert lives(agents) == {first}
    blocked.open()
    lost.start()
    wait_for(lambda: lost.status.get("state") == "halted", "it stays where it was")
    assert lives(agents) == {first}


def test_a_host_that_a_release_took_down_returns_to_the_previous_one_and_runs_no_hook_for_the_new_one(
    fleet: Callable[..., list[Agent]], repository: GitRepository, rollout: Callable[..., Rollout], tmp_path: Path
) -> None:
    deadly, notes = tmp_path / "deadly", tmp_path / "notes"
    script = f'echo "$ZOO_COMMIT" >> {notes}; ! grep -q deadly index.html || test ! -e {deadly} || kill -9 $PPID'
    agents = fleet(2, hooks={"after_activate": ["/bin/sh", "-c", script]})
    first = repository.head
    notes.unlink()
    deadly.touch()
    second = repository.commit({"index.html": "deadly\n"})
    made = rollout(**{"from": first})
    reason = made.wait("halted")["reason"]
    (name,) = made.entries
    assert reason == f"{name} lost: it disappeared on its way"
    lost, other = sorted(agents, key=lambda agent: agent.name != name)
    assert lost.live() == second
    lost.start()
    wait_for(lambda: lost.status.get("state") == "halted", "it says so")
    assert (lost.status["commitId"], lost.live(), other.live()) == (first, first, first)
    assert lost.status["message"] == (
        f"this host was lost on its way, and has what it had before; the rollout is halted: {reason}"
    )
    assert notes.read_text().split() == [second, first]
    assert made.entries == {name: "lost"}
    deadly.unlink()
    made.command("promote", force=True)
    made.wait("done")
    assert lives(agents) == {second}, "it is admitted again, as all are that were lost"


def test_a_host_that_reboots_within_its_session_runs_no_hook_for_the_release_that_took_it_down(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    rollout: Callable[..., Rollout],
    tmp_path: Path,
    blocked: Blocked,
) -> None:
    """Nobody noticed its absence: its status still exists in its previous session, which has not expired."""
    notes = tmp_path / "notes"
    script = f'echo "$ZOO_COMMIT" >> {notes}; ! grep -q deadly index.html || kill -9 $PPID'
    fails = f"! grep -q deadly index.html || {{ {' '.join(blocked.hook[2:])}; false; }}"
    booted = agents(name="booted", hooks={"after_activate": ["/bin/sh", "-c", script]}).start()
    other = agents(name="other", hooks={"after_activate": ["/bin/sh", "-c", fails]}).start()
    first, generation = repository.head, release()
    for agent in (booted, other):
        agent.wait_outcome(generation)
    notes.unlink()
    blocked.close()
    second = repository.commit({"index.html": "deadly\n"})
    made = rollout(**{"from": first, "maxInFlight": 2})
    wait_for(lambda: booted.process and booted.process.poll() is not None, "it is ended")
    session = booted.base / ".zoo" / "session.json"
    before = json.loads(session.read_text())
    session.unlink()  # as after a boot
    with connected(booted.hosts, client_id=(before["id"], bytes.fromhex(before["password"]))):
        blocked.open()
        assert "other failed" in made.wait("halted")["reason"]
        booted.start()
        wait_for(lambda: booted.live() == first, "it has the stable release")
        assert made.entries == {"booted": "admitted", "other": "failed"}, "it can't say so yet"
        wait_for(lambda: len(notes.read_text().split()) > 1, "the hook of the stable release runs")
        assert notes.read_text().split() == [second, first]
    wait_for(lambda: made.entries == {"booted": "lost", "other": "failed"}, "it says so")
    wait_for(lambda: booted.status.get("state") == "halted", "its status does too")
    assert (booted.live(), notes.read_text().split()) == (first, [second, first])


def test_a_new_host_has_the_stable_release_until_its_turn(
    fleet: Callable[..., list[Agent]],
    agents: Agents,
    repository: GitRepository,
    rollout: Callable[..., Rollout],
) -> None:
    fleet(2)
    first, second = repository.head, repository.commit({"index.html": "second\n"})
    made = rollout(**{"from": first, "steps": [{"hosts": 1, "pause": True}]})
    made.wait("paused")
    newcomer = agents(name="new").start()
    wait_for(lambda: newcomer.status.get("state") == "waiting" and newcomer.live() == first, "it has the stable one")
    assert newcomer.status["generation"] == made.generation
    made.command("promote")
    made.wait("done")
    assert newcomer.live() == second
    late = agents(name="late").start()
    late.wait_outcome(made.generation)
    assert late.live() == second


def test_a_held_host_does_not_keep_the_others_waiting(
    fleet: Callable[..., list[Agent]], repository: GitRepository, rollout: Callable[..., Rollout]
) -> None:
    agents = fleet(3)
    first, second = repository.head, repository.commit({"index.html": "second\n"})
    held = agents[0]
    assert held.control("hold", "--reason", "disk swap").returncode == 0
    wait_for(lambda: held.status.get("held"), "it is held")
    made = rollout(**{"from": first})
    made.wait("done")
    assert [agent.live() for agent in agents] == [first, second, second]
    assert held.control("release").returncode == 0
    wait_for(lambda: held.live() == second, "it follows")


def test_a_new_host_that_was_held_has_the_stable_release_once_the_hold_has_ended(
    fleet: Callable[..., list[Agent]],
    agents: Agents,
    repository: GitRepository,
    rollout: Callable[..., Rollout],
) -> None:
    fleet(2)
    first = repository.head
    repository.commit({"index.html": "second\n"})
    made = rollout(**{"from": first, "steps": [{"hosts": 1, "pause": True}]})
    made.wait("paused")
    newcomer = agents(name="new")
    newcomer.configure()
    newcomer.base.mkdir(parents=True)
    assert newcomer.control("hold", "--reason", "disk swap").returncode == 0
    newcomer.start()
    wait_for(lambda: newcomer.status.get("state") == "waiting", "it says that it waits")
    assert newcomer.live() is None
    assert newcomer.control("release").returncode == 0
    wait_for(lambda: newcomer.live() == first, "it has the stable one")


@pytest.fixture
def canary(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    rollout: Callable[..., Rollout],
    registered: dict[str, Any],
    service: Service,
) -> Callable[..., tuple[Agent, Rollout, Callable[[], bool]]]:
    """Makes a host prove a release that then soaks: that host, the rollout, and whether the other is unchanged."""

    def prove(soak: float = 60, **config: Any) -> tuple[Agent, Rollout, Callable[[], bool]]:
        service.open()
        host = agents(name="web0", **config, **registered).start()
        host.wait_outcome(release())
        other = agents(name="web1").start()
        other.wait_outcome(int(host.status["generation"]))
        first = repository.head
        repository.commit({"index.html": "second\n"})
        made = rollout(**{"from": first, "steps": [{"names": ["web0"], "soak": soak}]})
        made.wait("soaking")
        return host, made, lambda: other.live() == first

    return prove


def test_a_host_that_falls_ill_after_it_was_proved_halts_the_rollout(
    canary: Callable[..., tuple[Agent, Rollout, Callable[[], bool]]], service: Service
) -> None:
    """The service fails during the soak, which does not count while the host is drained."""
    host, made, is_spared = canary()
    assert host.control("drain", "--reason", "memory test").returncode == 0
    service.close()
    wait_for(lambda: "check fails" in host.log.rpartition("this host is proved")[2], "the check fails")
    # Another command is answered by a later turn of its loop.
    host.control("retry")
    assert made.state["phase"] == "soaking"
    host.control("undrain")
    assert "web0 failed: fell ill" in made.wait("halted")["reason"]
    assert is_spared()


def test_a_host_that_is_ill_after_its_agent_has_restarted_halts_the_rollout(
    canary: Callable[..., tuple[Agent, Rollout, Callable[[], bool]]], service: Service
) -> None:
    """A proved release takes its host down, and the service does not come up again after the reboot."""
    host, made, is_spared = canary(health_timeout=3)
    host.kill()
    service.close()
    host.start()
    assert "web0 failed: not healthy in time" in made.wait("halted", 60)["reason"]
    assert is_spared()


def test_a_soak_waits_for_a_canary_that_has_rebooted_until_it_has_failed(
    canary: Callable[..., tuple[Agent, Rollout, Callable[[], bool]]], service: Service
) -> None:
    """Its service is down after the reboot, and the soak ends long before its health timeout."""
    host, made, is_spared = canary(soak=4, health_timeout=15)
    host.kill()
    service.close()
    host.start()
    state = made.wait("halted", 60)
    assert "web0 failed: not healthy in time" in state["reason"]
    assert state["step"] == 0
    assert is_spared()
    wait_for(lambda: not made.values("proving"), "it proves nothing any more")


def test_a_host_that_had_the_release_and_is_ill_is_a_failure_that_a_plan_accepts(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    rollout: Callable[..., Rollout],
    registered: dict[str, Any],
    service: Service,
) -> None:
    """A commit is published once more when the service is down on the only host that has it."""
    service.open()
    fleet = [
        agents(name="web0", health_timeout=3, **registered).start(),
        *(agents(name=f"web{number}").start() for number in (1, 2)),
    ]
    generation = release()
    for agent in fleet:
        agent.wait_outcome(generation)
    first = repository.head
    repository.commit({"index.html": "second\n"})
    rollout(**{"from": first, "steps": [{"names": ["web0"], "pause": True}]}).wait("paused")
    service.close()
    made = rollout(**{"from": first, "maxFailures": 1, "onFailure": "rollback", "progressDeadline": 60})
    made.wait("done", 120)
    assert made.entries["web0"] == "failed"


@pytest.mark.parametrize("is_forbidden", [False, True], ids=["deleted", "forbidden"])
def test_a_failure_stops_a_rollout_even_where_its_commit_cannot_be_marked_as_bad(
    agents: Agents, zk: KazooClient, repository: GitRepository, release: Publish, is_forbidden: bool
) -> None:
    """All marks have been deleted, or agents may not create any."""
    agent = agents(hooks={"after_activate": ["/bin/sh", "-c", "! grep -q broken index.html"]}).start()
    first = agent.wait_outcome(release(rollout=QUICK))["commitId"]
    broken = repository.commit({"index.html": "broken\n"})
    steps = [{"names": ["other"], "pause": True}]
    made = Rollout(zk, agent.app, release(rollout={**QUICK, "from": first, "steps": steps}))
    made.wait("paused")
    if is_forbidden:
        zk.set_acls(f"{agent.app}/bad", [make_acl("world", "anyone", read=True)])
    else:
        zk.delete(f"{agent.app}/bad", recursive=True)
    made.command("promote")
    made.wait("halted")
    assert bool(zk.exists(f"{agent.app}/bad/{broken}")) is not is_forbidden
    assert ("the mark of a bad commit is left as it is" in agent.log) is is_forbidden


def test_a_canary_that_is_gone_when_its_soak_is_over_halts_the_rollout(
    fleet: Callable[..., list[Agent]], repository: GitRepository, rollout: Callable[..., Rollout]
) -> None:
    canary, *others = fleet(3)
    first = repository.head
    repository.commit({"index.html": "second\n"})
    made = rollout(**{"from": first, "steps": [{"names": [canary.name], "soak": 8}]})
    made.wait("soaking")
    canary.kill()
    reason = f"{canary.name} lost: it disappeared after it was proved"
    assert made.wait("halted", 60)["reason"] == reason
    assert lives(others) == {first}
    canary.start()
    wait_for(lambda: made.entries[canary.name] == "proved", "it is back, and healthy")


def test_the_policy_counts_for_every_publisher(
    fleet: Callable[..., list[Agent]],
    repository: GitRepository,
    release: Publish,
    zk: KazooClient,
    app: str,
) -> None:
    agents = fleet(3)
    zk.create(f"{app}/policy", json.dumps({"rollout": {**QUICK, "steps": [{"hosts": 1, "pause": True}]}}).encode())
    first = repository.head
    second = repository.commit({"index.html": "second\n"})
    made = Rollout(zk, app, release())
    # No earlier release was rolled out or proved to a publisher, so there is no stable release and no step.
    made.wait("done")
    third = repository.commit({"index.html": "third\n"})
    made = Rollout(zk, app, release())
    made.wait("paused")
    assert sorted(agent.live() == third for agent in agents) == [False, False, True]
    assert made.state["from"]["commitId"] == second != first
    made = Rollout(zk, app, release(rollout=False))
    for agent in agents:
        agent.wait_outcome(made.generation)
    assert not made.state
    assert lives(agents) == {third}


def test_a_second_agent_of_the_same_name_takes_no_part_in_a_rollout(
    fleet: Callable[..., list[Agent]],
    repository: GitRepository,
    rollout: Callable[..., Rollout],
    tmp_path: Path,
) -> None:
    first_agent = fleet(1)[0]
    first = repository.head
    second = Agent(tmp_path / "second", first_agent.hosts, first_agent.app, first_agent.zk, first_agent.name).start()
    try:
        wait_for(lambda: second.live() == first, "it has what is not rolled out")
        repository.commit({"index.html": "second\n"})
        rollout(**{"from": first}).wait("done")
        assert first_agent.live() == repository.head
        assert second.live() == first
    finally:
        second.kill()


@pytest.mark.parametrize("problem", [{"from": "main"}, {"maxInFlight": 0}], ids=["from", "maxInFlight"])
def test_an_invalid_rollout_is_reported_and_reaches_no_host(
    fleet: Callable[..., list[Agent]],
    repository: GitRepository,
    rollout: Callable[..., Rollout],
    problem: dict[str, object],
) -> None:
    agent = fleet(1)[0]
    first = repository.head
    repository.commit({"index.html": "second\n"})
    generation = rollout(**problem).generation
    status = agent.wait_outcome(generation)
    assert status["state"] == "failed"
    assert next(iter(problem)) in status["message"]
    assert agent.control("drain", "--reason", "disk swap").returncode == 0
    assert agent.log.count(f"not deployed, generation={generation}: {status['message']}") == 1
    assert agent.live() == first
    assert "Traceback" not in agent.log


def test_a_release_whose_rollout_is_too_large_for_a_znode_is_reported_and_reaches_no_host(
    fleet: Callable[..., list[Agent]], repository: GitRepository, zk: KazooClient
) -> None:
    """Any program may publish such a release. Its rollout's record is ASCII, and has the previous release too."""
    agent = fleet(1)[0]
    first = repository.head
    release = json.loads(zk.get(f"{agent.app}/config")[0])
    record = {
        **release,
        "commitId": repository.commit({"index.html": "second\n"}),
        "rollout": True,
        "why": "\u044e" * 170_000,
    }
    published = zk.set(f"{agent.app}/config", json.dumps(record, ensure_ascii=False).encode())
    status = agent.wait_outcome(published.mzxid)
    assert status["state"] == "failed"
    assert re.fullmatch(
        r"rollout: 1\d{6} bytes with the release and the previous one: expected at most 990000", status["message"]
    )
    assert agent.live() == first
    assert zk.exists(f"{agent.app}/rollouts/{published.mzxid}") is None


def test_a_rollout_of_its_own_counts_whatever_the_policy_is(
    fleet: Callable[..., list[Agent]], repository: GitRepository, release: Publish, zk: KazooClient, app: str
) -> None:
    agent = fleet(1)[0]
    zk.create(f"{app}/policy", b"{")
    repository.commit({"index.html": "second\n"})
    assert agent.wait_outcome(release(rollout=False))["state"] == "active"
    repository.commit({"index.html": "third\n"})
    status = agent.wait_outcome(release())
    assert status["state"] == "failed"
    assert "policy" in status["message"]


def test_steps_by_labels_reach_one_zone_after_the_other(
    agents: Agents, repository: GitRepository, release: Publish, rollout: Callable[..., Rollout]
) -> None:
    zones = {"a1": "a", "b1": "b", "a2": "a", "none": None}
    fleet = [agents(name=name, labels={"zone": zone} if zone else {}).start() for name, zone in zones.items()]
    generation = release()
    for agent in fleet:
        agent.wait_outcome(generation)
    first, second = repository.head, repository.commit({"index.html": "second\n"})
    steps = [{"labels": {"zone": zone}, "pause": True} for zone in ("a", "b")]
    made = rollout(**{"from": first, "steps": steps, "maxInFlight": "100%"})
    made.wait("paused")
    assert {agent.name for agent in fleet if agent.live() == second} == {"a1", "a2"}
    made.command("promote")
    wait_for(lambda: (made.state["phase"], made.state["step"]) == ("paused", 1), "the second zone has it")
    assert {agent.name for agent in fleet if agent.live() == second} == {"a1", "a2", "b1"}
    made.command("promote")
    made.wait("done")
    assert lives(fleet) == {second}


def test_a_rollback_during_a_rollout_takes_back_hosts_with_the_release_and_those_deploying_it(
    fleet: Callable[..., list[Agent]],
    repository: GitRepository,
    release: Publish,
    rollout: Callable[..., Rollout],
    blocked: Blocked,
) -> None:
    agents = fleet(hooks={"before_activate": blocked.hook})
    first, second = repository.head, repository.commit({"index.html": "second\n"})
    made = rollout(**{"from": first, "steps": [{"hosts": 1, "pause": True}]})
    made.wait("paused")
    blocked.close()
    made.command("promote")
    blocked.wait_admitted(made, agents)
    assert sorted(agent.live() == second for agent in agents) == [False, False, False, True]
    generation = release(first, rolledBackFrom=second, rollout={**QUICK, "maxInFlight": 1})
    back = Rollout(made.zk, made.app, generation)
    wait_for(lambda: back.state, "it has begun")
    blocked.open()
    back.wait("done")
    assert lives(agents) == {first}
    assert {agent.wait_outcome(generation)["state"] for agent in agents} == {"active"}
    assert made.state["phase"] == "running", "nobody goes on with it"


def test_a_host_that_is_not_healthy_goes_back_while_another_has_the_only_place(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    registered: dict[str, Any],
    service: Service,
    blocked: Blocked,
) -> None:
    service.open()
    ill = agents(name="ill", **registered).start()
    others = [agents(name=f"web{number}", hooks={"before_activate": blocked.hook}).start() for number in range(2)]
    for commit_id in (repository.head, repository.commit({"index.html": "second\n"})):
        generation = release(commit_id)
        for agent in (ill, *others):
            agent.wait_outcome(generation)
    first, second = repository.git("rev-parse", "HEAD~").strip(), repository.head
    assert ill.control("hold", "--reason", "until another is on its way").returncode == 0
    service.close()
    wait_for(lambda: "check fails" in ill.log, "it is ill")
    blocked.close()
    made = Rollout(ill.zk, ill.app, release(first, rolledBackFrom=second, rollout={**QUICK, "maxInFlight": 1}))
    blocked.wait_admitted(made, others)
    assert ill.control("release").returncode == 0
    wait_for(lambda: ill.live() == first, "it goes back")
    assert lives(others) == {second}
    service.open()
    blocked.open()
    made.wait("done")
    assert lives([ill, *others]) == {first}


def test_agents_that_may_only_read_what_is_published_go_back_by_themselves(
    agents: Agents, repository: GitRepository, release: Publish, rollout: Callable[..., Rollout], zk: KazooClient
) -> None:
    fails = {"after_activate": ["/bin/sh", "-c", "! grep -q broken index.html"]}
    fleet = [agents(name=f"web{number}", hooks=fails if number else {}).start() for number in range(3)]
    generation = release()
    for agent in fleet:
        agent.wait_outcome(generation)
    first, bad = repository.head, repository.commit({"index.html": "broken\n"})
    made = rollout(**{"from": first, "steps": [{"names": ["web0"], "pause": True}], "onFailure": "rollback"})
    made.wait("paused")
    assert fleet[0].live() == bad
    config = f"{made.app}/config"
    zk.set_acls(config, [make_acl("world", "anyone", read=True)])
    before = zk.get(config)
    with pytest.raises(NoAuthError):
        zk.set(config, b"{}")
    made.command("promote")
    made.wait("rolled_back")
    assert lives(fleet) == {first}
    assert made.entries["web0"] == "returned"
    assert zk.get(config) == before
