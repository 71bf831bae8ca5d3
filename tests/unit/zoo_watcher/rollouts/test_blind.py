"""Hosts that can't read what is live on them, while others take a release in a rollout."""

from __future__ import annotations

from collections.abc import Callable

from support.simulated_fleet import NEW, OLD, Fleet

Begin = Callable[..., Fleet]
QUICK = {"from": OLD, "minHealthy": 0, "progressDeadline": 60}
LONG = 3600


def expect(fleet: Fleet, phase: str) -> None:
    """Let time pass until the rollout is in a phase."""
    fleet.run(LONG, until=lambda: fleet.state is not None and fleet.state.phase == phase)
    assert fleet.state
    assert fleet.state.phase == phase, fleet.state


def test_a_held_host_with_an_unreadable_disk_is_not_a_failure(begin: Begin) -> None:
    fleet = begin(1, 4, {**QUICK, "maxInFlight": 2})
    fleet.hosts[2].hold(is_held=True)
    fleet.hosts[2].is_blind = True
    fleet.hosts[1].deploys_for = 55
    expect(fleet, "done")
    assert fleet.state
    assert fleet.state.failures == 0
    assert {host.has for host in fleet.hosts if not host.is_held} == {NEW}


def test_a_canary_that_falls_ill_and_cannot_read_its_disk_keeps_the_others_from_the_release(begin: Begin) -> None:
    fleet = begin(1, 4, {**QUICK, "steps": [{"names": ["web2"], "soak": 20}]})
    expect(fleet, "soaking")
    fleet.hosts[2].is_blind = fleet.hosts[2].is_sick = True
    fleet.hosts[2].wake()
    expect(fleet, "halted")
    assert fleet.state
    assert fleet.state.reason == "web2 failed: fell ill: port closed"
    assert {host.has for host in fleet.hosts if host.name != "web2"} == {OLD}
