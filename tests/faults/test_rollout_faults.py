"""A release is rolled out to twelve hosts while agents and members of the ensemble are killed, stopped and cut off."""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections.abc import Iterator

import pytest

from faults.support.host import patiently
from faults.support.ledger import HOSTS, LIMITS, Ledger
from faults.support.rolling_fleet import RollingFleet, rolling_fleet
from faults.support.rollout_storm import RolloutStorm
from support.agent import Agent
from support.ensemble import Ensemble
from support.rollout import Rollout

pytestmark = pytest.mark.storm
HOSTS_OF_FLEET = 12
PLACES = 3
OUTAGE = 8.0
"""Seconds, twice the session timeout of the agents."""
STORMS = 2
SECONDS = 8.0
"""Seconds for which the troubles of a rollout go on."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, ensemble: Ensemble, ledger: Ledger) -> Iterator[RollingFleet]:
    """The fleet of all tests in this file."""
    root, app = tmp_path_factory.mktemp("rolling"), f"/app/test-{uuid.uuid4().hex[:12]}"
    with rolling_fleet(root, ensemble, app, HOSTS_OF_FLEET, ledger) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: RollingFleet) -> Iterator[RollingFleet]:
    """The fleet with one release live, repaired after the test."""
    running.settle()
    yield running
    for member in running.servers.members:
        member.signal(signal.SIGCONT)
    running.servers.start()
    for agent in running.agents:
        _signal(agent, signal.SIGCONT)


def _signal(agent: Agent, number: int) -> None:
    if agent.process is not None:
        agent.process.send_signal(number)


def check_lives(fleet: RollingFleet, *expected: str) -> None:
    """Check that every host has one of the expected commits live."""
    wrong = {name: live for name, live in fleet.lives().items() if live not in expected}
    fleet.ledger.judge(HOSTS, f"{wrong} are live, expected {expected}" if wrong else "")


def test_a_rollout_reaches_every_host_whichever_is_killed_stopped_or_cut_off(fleet: RollingFleet) -> None:
    before, release = fleet.origin.head, fleet.commit()
    ledger = fleet.ledger
    made = fleet.roll_out(
        release,
        **{"from": before, "steps": [{"hosts": 1, "pause": True}], "maxInFlight": PLACES, "maxFailures": "100%"},
    )
    with fleet.looking(made, PLACES, before):
        made.wait("paused", 60)
        killed, stopped, cut_off = fleet.heads(made, PLACES)
        ledger.inject("in a rollout: kill -9 of the head of a lane")
        killed.kill()
        ledger.inject("in a rollout: SIGSTOP of the head of a lane")
        _signal(stopped, signal.SIGSTOP)
        ledger.inject("in a rollout: connections of the head of a lane swallowed")
        fleet.ways[cut_off.name].swallow()
        fleet.command(made, "promote")
        admitted = fleet.wait_entry(made, "admitted", {killed.name, stopped.name, cut_off.name})
        ledger.inject("in a rollout: kill -9 of an admitted agent")
        admitted.kill()
        fleet.wait_entry(made, "lost")
        ledger.inject("in a rollout: kill -9 of the leader of the ensemble")
        leader = fleet.servers.leader
        leader.kill()
        killed.start()
        admitted.start()
        _signal(stopped, signal.SIGCONT)
        fleet.ways[cut_off.name].open()
        # Another agent: one that is killed twice while it activates the release gives it up.
        again = fleet.wait_entry(made, "admitted", {admitted.name})
        ledger.inject("in a rollout: kill -9 of an admitted agent that is back at once")
        again.kill()
        again.start()
        fleet.servers.start()
        for number in (signal.SIGTERM, signal.SIGUSR2):
            ledger.inject(f"in a rollout: restart of an agent by {signal.Signals(number).name}")
            # An agent that has not begun, if there still is one, because hosts are quick.
            one = next((agent for agent in fleet.agents if agent.live() == before), fleet.agents[0])
            one.end(number)
            one.start()
        made.wait("done", 60)
        fleet.wait_active(made.generation, release)
    check_lives(fleet, release)


def test_a_rollout_goes_on_when_its_publisher_is_killed(fleet: RollingFleet) -> None:
    before, release = fleet.origin.head, fleet.commit()
    plan = {"from": before, "steps": [{"hosts": 1, "soak": 1}], "maxInFlight": PLACES}
    made = fleet.roll_out_by_playbook(release, **plan)
    with fleet.looking(made, PLACES, before):
        made.wait("done", 60)
        fleet.wait_active(made.generation, release)
    check_lives(fleet, release)


def test_an_ensemble_without_a_quorum_for_longer_than_a_session_costs_a_rollout_no_host(fleet: RollingFleet) -> None:
    before, release = fleet.origin.head, fleet.commit()
    made = fleet.roll_out(release, **{"from": before, "maxInFlight": PLACES})
    with fleet.looking(made, PLACES, before):
        fleet.wait_entry(made, "admitted")
        fleet.ledger.inject("in a rollout: loss of the quorum for longer than the session timeout")
        for member in fleet.servers.members[:2]:
            member.kill()
        over = time.monotonic() + OUTAGE
        while time.monotonic() < over:
            check_lives(fleet, before, release)
            time.sleep(0.2)
        fleet.servers.start()
        made.wait("done", 60)
        fleet.wait_active(made.generation, release)
    assert set(patiently(lambda: made.entries).values()) == {"proved"}
    check_lives(fleet, release)


def test_rollouts_in_a_storm_keep_to_their_limits_and_are_done_when_it_is_over(fleet: RollingFleet) -> None:
    """ZOO_ROLLOUT_SEED repeats the troubles of a run in their order."""
    seed = int(os.environ.get("ZOO_ROLLOUT_SEED") or random.randrange(1_000_000))
    print(f"ZOO_ROLLOUT_SEED={seed}")
    chance = random.Random(seed)
    for _number in range(STORMS):
        before, release = fleet.origin.head, fleet.commit()
        plan = {"from": before, "steps": [{"hosts": 1, "soak": 1}, {"hosts": "50%"}], "maxFailures": "100%"}
        made = fleet.roll_out(release, **plan, maxInFlight=PLACES)
        storm = RolloutStorm(fleet, made, chance)
        with fleet.looking(made, PLACES, before):
            over = time.monotonic() + SECONDS
            try:
                while time.monotonic() < over:
                    storm.step()
            finally:
                storm.calm()
            made.wait("done", 90)
            fleet.wait_active(made.generation, release)
        check_lives(fleet, release)


def test_a_bad_release_stops_after_the_canary_and_no_other_host_is_touched(fleet: RollingFleet) -> None:
    before, bad = fleet.origin.head, fleet.commit(*(agent.name for agent in fleet.agents))
    links = {agent.name: (agent.base / "site").lstat().st_mtime_ns for agent in fleet.agents}
    fleet.ledger.inject("in a rollout: a bad release")
    made = fleet.roll_out(bad, **{"from": before, "steps": [{"hosts": 1, "soak": 60}], "maxInFlight": PLACES})
    with fleet.looking(made, PLACES, before):
        made.wait("halted", 60)
        fleet.ledger.inject("in a rollout that has halted: kill -9 of an agent")
        bystander = next(agent for agent in fleet.agents if agent.name not in made.entries)
        bystander.kill()
        bystander.start()
        for agent in fleet.agents:
            if agent.name not in made.entries:
                fleet.wait_state(agent, made.generation, "halted")
    assert list(patiently(lambda: made.entries).values()) == ["failed"]
    assert patiently(lambda: fleet.zk.exists(f"{fleet.app}/bad/{bad}"))
    touched = {
        agent.name
        for agent in fleet.agents
        if (agent.base / "site").lstat().st_mtime_ns != links[agent.name] and agent.name not in made.entries
    }
    fleet.ledger.judge(LIMITS, f"{touched} were switched by a rollout that halted" if touched else "")
    check_lives(fleet, before)


def test_a_rollback_of_the_fleet_needs_no_git_server(fleet: RollingFleet) -> None:
    before, release = fleet.origin.head, fleet.commit()
    made = fleet.roll_out(release, **{"from": before, "maxInFlight": "50%"})
    made.wait("done", 60)
    fleet.ledger.inject("a rollback of a fleet while the git server is gone")
    hidden = fleet.origin.path.rename(fleet.origin.path.with_name("hidden"))
    try:
        generation = fleet.publish(before, rolledBackFrom=release, rollout={"minHealthy": 0, "maxInFlight": PLACES})
        back = Rollout(fleet.zk, fleet.app, generation)
        with fleet.looking(back, PLACES, release):
            fleet.ledger.inject("in a rollback: kill -9 of an admitted agent that is back at once")
            killed = fleet.wait_entry(back, "admitted")
            killed.kill()
            killed.start()
            fleet.wait_active(generation, before)
            back.wait("done")
    finally:
        hidden.rename(fleet.origin.path)
    check_lives(fleet, before)


def test_a_rollout_rolls_back_by_itself_though_a_returning_agent_is_killed(fleet: RollingFleet) -> None:
    before = fleet.origin.head
    bad_for = fleet.agents[-1]
    release = fleet.commit(bad_for.name)
    fleet.ledger.inject("in a rollout: a release that fails on one host")
    others = [agent.name for agent in fleet.agents[:8]]
    made = fleet.roll_out(
        release,
        **{"from": before, "steps": [{"names": others}], "maxInFlight": PLACES, "onFailure": "rollback"},
    )
    with fleet.looking(made, PLACES, before):
        fleet.ledger.inject("in a rollout that goes back: kill -9 of a returning agent that is back at once")
        returning = fleet.wait_entry(made, "returning")
        returning.kill()
        returning.start()
        made.wait("rolled_back", 60)
    check_lives(fleet, before)


def test_a_newer_release_replaces_one_that_is_being_rolled_out(fleet: RollingFleet) -> None:
    before, first = fleet.origin.head, fleet.commit()
    rollout = {"from": before, "maxInFlight": PLACES}
    superseded = fleet.roll_out(first, **rollout)
    fleet.wait_entry(superseded, "proved")
    admitted = fleet.wait_entry(superseded, "admitted")
    second = fleet.commit()
    fleet.ledger.inject("in a rollout: a newer release, and kill -9 of an agent that is on its way to the old one")
    made = fleet.roll_out(second, **rollout)
    with fleet.looking(made, PLACES, before, first):
        admitted.kill()
        admitted.start()
        made.wait("done", 60)
        fleet.wait_active(made.generation, second)
    check_lives(fleet, second)
