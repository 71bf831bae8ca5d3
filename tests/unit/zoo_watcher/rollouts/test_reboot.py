"""A proved host that proves its live release once more, as after a boot: no further step is opened meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support import simulated_fleet
from support.simulated_fleet import APP, FOR_EVER, GENERATION, NEW, OLD, Fleet, SimulatedHost

Begin = Callable[..., Fleet]
SOAK, DEADLINE = 60.0, 100.0
PLAN = {
    "from": OLD,
    "minHealthy": 0,
    "progressDeadline": DEADLINE,
    "steps": [{"names": ["web0"], "soak": SOAK}],
}


def reboot_canary(fleet: Fleet) -> SimulatedHost:
    """Have the canary boot when its soak is almost over, so that its health is known only after the end of the soak."""
    fleet.run(120, until=lambda: is_soaking(fleet))
    fleet.run(SOAK - 1)
    assert is_soaking(fleet)
    canary = fleet.hosts[0]
    canary.stop()
    canary.start()
    return canary


def is_soaking(fleet: Fleet) -> bool:
    """Whether the step of the canary soaks."""
    return fleet.state is not None and fleet.state.phase == "soaking"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [3, 100])
def test_a_soak_waits_for_a_canary_that_has_booted_and_is_well(begin: Begin, count: int, seed: int) -> None:
    fleet = begin(seed, count, PLAN)
    canary = reboot_canary(fleet)
    fleet.run(120, until=lambda: not is_soaking(fleet))
    assert canary.ended
    fleet.run(3600, until=lambda: fleet.state is not None and fleet.state.phase == "done")
    assert fleet.state
    assert fleet.state.phase == "done"
    assert fleet.ensemble.children(f"{APP.rollout(GENERATION)}/proving") == []


@pytest.mark.parametrize("seed", range(5))
def test_a_canary_that_is_ill_after_a_boot_fails_before_the_next_step_is_opened(begin: Begin, seed: int) -> None:
    fleet = begin(seed, 3, PLAN)
    reboot_canary(fleet).is_sick = True
    fleet.run(120, until=lambda: not is_soaking(fleet))
    assert fleet.state
    assert fleet.state.reason == "web0 failed: not healthy in time: port closed"
    assert (fleet.state.phase, fleet.state.step) == ("halted", 0)


def test_a_canary_that_fails_after_a_boot_is_waited_for_until_it_has_reported_that(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the failure and its report the canary sends other requests, and other hosts may look."""
    fleet = begin(1, 3, PLAN)
    canary = reboot_canary(fleet)
    canary.fails = True
    entries: list[str | None] = []
    assert canary.session
    delete = canary.session.delete

    def note(path: str) -> None:
        if "/proving/" in path:
            entries.append(fleet.entry(canary))
        delete(path)

    monkeypatch.setattr(canary.session, "delete", note)
    fleet.run(120, until=lambda: bool(entries))
    assert entries == ["failed"]
    assert fleet.state
    assert (fleet.state.phase, fleet.state.step) == ("halted", 0)


@pytest.mark.parametrize("seed", range(5))
def test_a_lost_host_that_is_back_stays_a_failure_until_it_has_been_healthy_for_long_enough(
    begin: Begin, seed: int
) -> None:
    """A release that takes each host down after a while is never proved, and none of its failures is forgotten."""
    fleet = begin(seed, 6, {"from": OLD, "minHealthy": 10, "maxFailures": 1})
    fleet.run(60, until=lambda: any(host.has == NEW for host in fleet.hosts))
    first = next(host for host in fleet.hosts if host.has == NEW)
    for _boot in range(2):
        first.stop()
        fleet.run(60, until=lambda: fleet.entry(first) == "lost")
        first.start()
        fleet.run(60, until=lambda: NEW in first.ended)
        fleet.run(9)
        assert fleet.entry(first) == "lost"
    fleet.run(2)
    assert fleet.entry(first) == "proved"


def test_a_canary_that_boots_and_is_gone_again_is_lost(begin: Begin) -> None:
    fleet = begin(1, 3, PLAN)
    canary = reboot_canary(fleet)
    fleet.run(2)
    canary.stop()
    fleet.run(30, until=lambda: not is_soaking(fleet))
    assert fleet.state
    assert fleet.state.reason.startswith("web0 lost")


def test_a_soak_waits_for_no_longer_than_the_deadline(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = begin(1, 3, PLAN)
    fleet.run(120, until=lambda: is_soaking(fleet))
    began = fleet.now
    monkeypatch.setattr(simulated_fleet, "PROOF", FOR_EVER)
    fleet.run(SOAK - 1)
    fleet.hosts[0].start()
    fleet.run(2 * (SOAK + DEADLINE), until=lambda: not is_soaking(fleet))
    assert SOAK + DEADLINE <= fleet.now - began < SOAK + DEADLINE + 10


def test_a_soak_does_not_wait_for_a_host_that_a_person_holds(begin: Begin) -> None:
    fleet = begin(1, 3, PLAN)
    canary = reboot_canary(fleet)
    canary.hold(True)
    fleet.run(3, until=lambda: not is_soaking(fleet))
    assert not is_soaking(fleet)


def test_a_host_that_proves_the_release_does_not_recreate_a_rollout_that_somebody_deletes(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No host could read the state of a rollout that is only its root, and none would start it again."""
    monkeypatch.setattr(simulated_fleet, "PROOF", FOR_EVER)
    fleet = begin(1, 3, PLAN)
    canary, root = reboot_canary(fleet), APP.rollout(GENERATION)
    fleet.run(1, until=lambda: bool(fleet.ensemble.children(f"{root}/proving")))
    assert fleet.ensemble.children(f"{root}/proving") == [canary.name]
    # No host is notified: without a gate there is no watch on it.
    ensemble = fleet.ensemble
    ensemble.nodes = {path: node for path, node in ensemble.nodes.items() if not path.startswith(root)}
    turns = canary.turns
    canary.wake()
    fleet.run(1, until=lambda: canary.turns > turns)
    assert canary.turns > turns
    assert not [path for path in ensemble.nodes if path.startswith(root)]
