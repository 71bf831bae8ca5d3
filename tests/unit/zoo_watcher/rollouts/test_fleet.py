"""Whatever happens to a fleet in a rollout, it keeps to its limits, and ends or reports what it waits for."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from support.simulated_fleet import APP, BAD, NEW, OLD, Fleet, SimulatedHost

Begin = Callable[..., Fleet]


@pytest.mark.parametrize("count", [1, 2, 5, 23])
def test_every_host_of_a_fleet_gets_the_release(begin: Begin, count: int) -> None:
    fleet = begin(count, count, {"maxInFlight": 2, "from": OLD})
    fleet.run(3600, until=lambda: bool(fleet.state and fleet.state.phase == "done"))
    assert fleet.state
    assert fleet.state.phase == "done"
    assert fleet.most == min(2, count)
    assert {host.has for host in fleet.hosts} == {NEW}


LIVES, TESTS = 20, 5
"""The number of fleets in a test, and the number of tests."""
HANGS = 1e9
"""Seconds for a deployment that never ends."""


def random_rollout(chance: random.Random, count: int) -> dict[str, Any]:
    """A rollout as somebody might publish it."""
    kinds = [chance.choice(("hosts", "percent", "names")) for _number in range(chance.randint(0, 3))]
    numbers = {
        kind: iter(sorted(chance.randint(1, most) for _kind in kinds))
        for kind, most in (("hosts", count), ("percent", 100))
    }
    steps = [
        {
            kind: next(numbers[kind]) if kind in numbers else ["web0", "web7"],
            "soak": chance.choice((0, 0, 30)),
            "gate": chance.random() < 0.1,
            "pause": chance.random() < 0.1,
        }
        for kind in kinds
    ]
    return {
        "steps": steps,
        "maxInFlight": chance.choice((1, 2, 5, "20%", "100%")),
        "maxFailures": chance.choice((0, 0, 1, "30%")),
        "minHealthy": chance.choice((0, 5)),
        "onFailure": chance.choice(("halt", "rollback")),
        **({"from": OLD} if chance.random() < 0.8 else {}),
    }


class Events:
    """Random events in a fleet."""

    def __init__(self, fleet: Fleet, chance: random.Random) -> None:
        self.fleet = fleet
        self.chance = chance
        for host in fleet.hosts:
            host.fails, host.dies = chance.random() < 0.1, chance.random() < 0.05
            host.is_held = chance.random() < 0.05
            host.deploys_for = HANGS if chance.random() < 0.05 else host.deploys_for
            host.has = BAD if chance.random() < 0.1 else host.has
        if chance.random() < 0.5:
            fleet.mark_bad(BAD)
        self.left = chance.randint(0, 12)

    def one(self) -> None:
        """Have one event happen."""
        host = self.chance.choice(self.fleet.hosts)
        self.chance.choice(
            (
                self._stop,
                self._start,
                self._hold,
                self._ill,
                self._join,
                self._command,
                self._expire,
                self._restart,
                self._blind,
            )
        )(host)

    def _stop(self, host: SimulatedHost) -> None:
        if host.is_up:
            host.stop()

    def _start(self, host: SimulatedHost) -> None:
        if not host.is_up:
            host.dies = False
            host.start()

    def _hold(self, host: SimulatedHost) -> None:
        host.hold(not host.is_held)

    @staticmethod
    def _restart(host: SimulatedHost) -> None:
        if host.is_up:
            host.restart()

    @staticmethod
    def _expire(host: SimulatedHost) -> None:
        if host.is_up:
            host.expire()

    @staticmethod
    def _blind(host: SimulatedHost) -> None:
        host.is_blind = not host.is_blind
        host.wake()

    def _ill(self, host: SimulatedHost) -> None:
        host.is_sick = not host.is_sick
        host.wake()

    def _join(self, _host: SimulatedHost) -> None:
        self.fleet.join()

    def _command(self, _host: SimulatedHost) -> None:
        verb = self.chance.choice(("promote", "pass", "promote", "pause", "halt"))
        self.fleet.command(verb, force=self.chance.random() < 0.5)

    def end(self) -> None:
        """Mend what can be mended: hosts that are down return, none is held or ill any longer, and nothing hangs."""
        for host in self.fleet.hosts:
            self._start(host)
            host.is_sick = host.is_blind = False
            if host.deploys_for == HANGS:
                host.deploys_for, host.ends_at = 5.0, min(host.ends_at, self.fleet.now)
            host.hold(False)


@pytest.mark.parametrize("is_sick", [False, True])
@pytest.mark.parametrize("hangs", [1, 3])
def test_a_rollback_ends_without_hosts_that_hang_and_they_follow_when_they_can(
    begin: Begin, hangs: int, is_sick: bool
) -> None:
    fleet = begin(hangs, 5, {"maxInFlight": 2, "progressDeadline": 60}, rolledBackFrom=OLD)
    hanging, others = fleet.hosts[:hangs], fleet.hosts[hangs:]
    for host in hanging:
        host.deploys_for, host.is_sick = HANGS, is_sick
    fleet.run(3600, until=lambda: bool(fleet.state and fleet.state.phase == "done"))
    assert fleet.state
    assert (fleet.state.phase, fleet.state.reason) == ("done", f"{hangs} of 5 hosts failed or were lost")
    assert {host.has for host in others} == {NEW}
    assert fleet.state.given_up == 2 * hangs, "each had a second try, after the others"
    fleet.run(60)
    for host in hanging:
        host.deploys_for, host.ends_at = 5.0, fleet.now
        host.wake()
    fleet.run(60)
    assert {host.has for host in hanging} == {NEW}


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("hangs", [0, 2])
def test_hosts_that_a_rollback_no_longer_waits_for_follow_only_so_many_at_a_time(
    begin: Begin, places: int, hangs: int
) -> None:
    """The git server was down, and no host has the release to which all go back."""
    plan = {"maxInFlight": places, "progressDeadline": 60, "minHealthy": 5}
    fleet = begin(places, 12, plan, rolledBackFrom=OLD)
    for host in fleet.hosts:
        host.deploys_for = HANGS
    fleet.run(36000, until=lambda: bool(fleet.state and fleet.state.phase == "done"))
    assert fleet.state
    assert (fleet.state.phase, fleet.state.given_up) == ("done", 24)
    fleet.run(300)
    for host in fleet.hosts[hangs:]:
        host.deploys_for, host.ends_at = 5.0, fleet.now + 5.0
        host.wake()
    most = 0

    def all_have_it() -> bool:
        nonlocal most
        most = max(most, sum(host.goal == NEW and NEW not in host.ended for host in fleet.hosts))
        return all(host.has == NEW for host in fleet.hosts[hangs:])

    fleet.run(1800, until=all_have_it)
    assert all_have_it()
    assert most <= places


def test_when_a_rollout_is_done_no_host_keeps_polling(begin: Begin) -> None:
    fleet = begin(1, 4, {"maxInFlight": 2, "from": OLD, "minHealthy": 5})
    fleet.run(3600, until=lambda: bool(fleet.state and fleet.state.phase == "done"))
    fleet.run(60)
    before = [host.turns for host in fleet.hosts]
    fleet.run(300)
    assert [host.part and host.part.pause for host in fleet.hosts] == [None] * 4
    assert all(host.turns - turns <= 6 for host, turns in zip(fleet.hosts, before))


@pytest.mark.parametrize(
    ("becomes", "phase"), [("gone", "halted"), ("booted", "done"), ("taken out of the roster", "done")]
)
def test_a_canary_that_is_gone_when_its_soak_is_over_is_lost(begin: Begin, becomes: str, phase: str) -> None:
    fleet = begin(1, 4, {"steps": [{"names": ["web0"], "soak": 60}], "from": OLD, "minHealthy": 0})
    canary, *others = fleet.hosts
    fleet.run(300, until=lambda: bool(fleet.state and fleet.state.phase == "soaking"))
    canary.stop()
    fleet.run(30)
    if becomes == "booted":
        canary.start()
    if becomes == "taken out of the roster":
        del fleet.ensemble.nodes[APP.roster_entry(canary.name)]
    fleet.run(400)
    assert fleet.state
    assert fleet.state.phase == phase
    assert {host.has for host in others} == {OLD if phase == "halted" else NEW}
    if phase == "halted":
        assert fleet.state.reason == "web0 lost: it disappeared after it was proved"
        canary.start()
        fleet.run(60)
        assert fleet.entry(canary) == "proved"


def test_each_canary_that_is_gone_is_lost_where_a_plan_accepts_that(begin: Begin) -> None:
    plan = {"steps": [{"hosts": 3, "soak": 60}], "from": OLD, "minHealthy": 0, "maxInFlight": 3, "maxFailures": 2}
    fleet = begin(1, 8, plan)
    fleet.run(300, until=lambda: bool(fleet.state and fleet.state.phase == "soaking"))
    for host in [host for host in fleet.hosts if host.has == NEW][:2]:
        host.stop()
    fleet.run(600)
    assert fleet.state
    assert (fleet.state.phase, fleet.state.counts["lost"], fleet.state.counts["proved"]) == ("done", 2, 6)


def test_a_lane_that_somebody_has_deleted_keeps_no_host_in_it(begin: Begin) -> None:
    fleet = begin(1, 4, {"steps": [{"hosts": 2, "pause": True}], "from": OLD, "minHealthy": 0})
    fleet.run(300, until=lambda: bool(fleet.state and fleet.state.phase == "paused"))
    fleet.run(10)
    for path in [path for path in fleet.ensemble.nodes if "/lanes/" in path]:
        del fleet.ensemble.nodes[path]
    fleet.command("promote")
    fleet.run(300)
    assert fleet.state
    assert fleet.state.phase == "done"


def test_a_canary_that_is_ill_after_its_agent_was_restarted_keeps_the_others_from_the_release(begin: Begin) -> None:
    fleet = begin(1, 4, {"steps": [{"names": ["web0"], "soak": 60}], "from": OLD})
    canary, *others = fleet.hosts
    fleet.run(300, until=lambda: bool(fleet.state and fleet.state.phase == "soaking"))
    canary.is_sick = True
    canary.restart()
    fleet.run(300)
    assert fleet.state
    assert (fleet.state.phase, fleet.state.reason) == ("halted", "web0 failed: not healthy in time: port closed")
    assert {host.has for host in others} == {OLD}


@pytest.mark.parametrize("accepted", [0, 1])
def test_a_host_that_had_the_release_and_is_ill_is_one_failure(begin: Begin, accepted: int) -> None:
    """The rollout does not wait for it until the deadline."""
    fleet = begin(1, 4, {"maxFailures": accepted, "from": OLD, "minHealthy": 0})
    fleet.begin_with(NEW, fleet.hosts[:1])
    fleet.hosts[0].is_sick = True
    fleet.run(400)
    assert fleet.state
    assert fleet.state.phase == ("done" if accepted else "halted")
    assert fleet.entry(fleet.hosts[0]) == "failed"
    assert accepted or fleet.state.reason == "web0 failed: not healthy in time: port closed"


ENDS = {"done", "halted", "paused", "rolled_back"}


@pytest.mark.parametrize("first", range(0, LIVES * TESTS, LIVES))
def test_whatever_happens_the_limits_hold_and_it_ends(begin: Begin, first: int) -> None:
    for seed in range(first, first + LIVES):
        chance = random.Random(seed)
        count = chance.choice((1, 2, 3, 8, 20))
        keys = {"rolledBackFrom": OLD} if chance.random() < 0.15 else {}
        failures = chance.choice((0, 0, 0.02, 0.1))
        fleet = begin(seed, count, random_rollout(chance, count), failures=failures, **keys)
        events = Events(fleet, chance)
        for _number in range(events.left):
            fleet.run(chance.uniform(0, 20))
            events.one()
        fleet.run(200)
        ill = {host.name for host in fleet.hosts if host.is_up and host.awaits_health and fleet.entry(host) == "proved"}
        may_be_ill = {host.name for host in fleet.hosts if host.is_held or host.is_blind}
        is_over = fleet.state is None or fleet.state.phase in {"done", "rolling_back", "rolled_back"}
        assert is_over or not ill - may_be_ill, f"seed {seed}: {ill} are ill, and count as proved"
        events.end()
        fleet.run(4000, until=lambda: fleet.state is not None and fleet.state.phase in ENDS)  # called immediately
        fleet.run(300)
        assert fleet.state, seed
        is_alive = any(host.is_up for host in fleet.hosts)
        assert fleet.state.phase in ENDS or not is_alive, f"seed {seed}: {fleet.state}"
        if fleet.state.phase == "rolled_back":
            there = {host.name for host in fleet.hosts if host.is_up and host.has == NEW}
            assert not there, f"seed {seed}: {there} did not return"
        if fleet.state.phase == "done":
            able = [host for host in fleet.hosts if host.is_up and not host.fails]
            fleet.run(4000, until=lambda: all(host.has == NEW for host in able))  # called immediately
            stay = {host.name for host in fleet.hosts if host.is_up and host.has != NEW and not host.fails}
            assert not stay, f"seed {seed}: {stay} did not follow"
