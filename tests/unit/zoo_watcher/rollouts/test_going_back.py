"""What a fleet does in the rollout of a rollback, when it rolls back by itself, and with a bad release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.simulated_fleet import APP, BAD, FOR_EVER, GENERATION, NEW, OLD, Fleet, SimulatedHost
from zoo_watcher.wire.rollout_records import FAILED, LOST

Begin = Callable[..., Fleet]
QUICK = {"from": OLD, "minHealthy": 0, "progressDeadline": 60}
LONG = 3600


def expect(fleet: Fleet, phase: str, seconds: float = LONG) -> None:
    """Let time pass until the rollout is in a phase."""
    fleet.run(seconds, until=lambda: fleet.state is not None and fleet.state.phase == phase)
    assert fleet.state
    assert fleet.state.phase == phase, fleet.state


def entries(fleet: Fleet) -> dict[str, str | None]:
    """The entries of the hosts in the rollout, by name."""
    return {host.name: fleet.entry(host) for host in fleet.hosts}


def test_a_rollout_that_rolls_back_is_logged_as_an_error_on_each_host_and_a_halt_as_a_warning(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    for on_failure, level, phase in (("rollback", "ERROR", "rolled_back"), ("halt", "WARNING", "halted")):
        caplog.clear()
        fleet = begin(1, 4, {**QUICK, "onFailure": on_failure})
        fleet.hosts[0].fails = True
        expect(fleet, phase)
        said = {record.levelname for record in caplog.records if "the rollout is" in record.getMessage()}
        assert level in said


# --- the rollout of a rollback


@pytest.mark.parametrize("plan", [{}, {"maxFailures": "30%"}], ids=["none accepted", "some accepted"])
@pytest.mark.parametrize("seed", range(5))
def test_a_rollback_reaches_every_host_that_can_go_back_whoever_fails(
    begin: Begin, seed: int, plan: dict[str, Any]
) -> None:
    """The failures accepted for the bad release are no reason to leave it on hosts that still serve it."""
    fleet = begin(seed, 6, {**QUICK, **plan}, rolledBackFrom=OLD)
    broken = fleet.hosts[seed]
    broken.fails = broken.is_sick = True
    expect(fleet, "done")
    assert {host.has for host in fleet.hosts if host is not broken} == {NEW}
    assert fleet.state
    assert (fleet.state.reason, fleet.state.has_proved) == ("1 of 6 hosts failed or were lost", False)


def test_a_rollback_removes_the_mark_of_a_bad_commit_only_where_it_is_proved(begin: Begin) -> None:
    marred = begin(1, 3, QUICK, rolledBackFrom=OLD)
    marred.mark_bad(NEW)
    for host in marred.hosts[1:]:
        host.fails = True
    expect(marred, "done")
    assert APP.bad(NEW) in marred.ensemble.nodes
    whole = begin(1, 3, QUICK, rolledBackFrom=OLD)
    whole.mark_bad(NEW)
    expect(whole, "done")
    assert APP.bad(NEW) not in whole.ensemble.nodes


@pytest.mark.parametrize("seed", range(5))
def test_a_host_that_hangs_keeps_no_other_from_a_rollback(begin: Begin, seed: int) -> None:
    fleet = begin(seed, 6, QUICK, rolledBackFrom=OLD)
    hanging = fleet.hosts[seed]
    hanging.deploys_for = FOR_EVER
    others = [host for host in fleet.hosts if host is not hanging]
    fleet.run(LONG, until=lambda: all(host.has == NEW for host in others))
    assert {host.has for host in others} == {NEW}
    hanging.deploys_for = 5.0
    expect(fleet, "done")
    assert hanging.has == NEW


# --- the way back


@pytest.mark.parametrize("seed", range(5))
def test_the_way_back_ends_even_if_hosts_hang_and_reports_which_did_not_return(begin: Begin, seed: int) -> None:
    fleet = begin(seed, 6, {**QUICK, "onFailure": "rollback"})
    fleet.run(LONG, until=lambda: bool(fleet.state and fleet.state.counts["proved"] == 4))
    proved = [host for host in fleet.hosts if fleet.entry(host) == "proved"]
    for host in fleet.hosts:
        host.fails = host not in proved
    hanging = sorted(proved, key=lambda host: host.name)[:2]
    for host in hanging:
        host.deploys_for = FOR_EVER
    expect(fleet, "rolled_back")
    assert fleet.state
    assert fleet.state.reason.endswith(f"; did not return: {', '.join(host.name for host in hanging)}")
    assert {host.has for host in fleet.hosts if host not in hanging} == {OLD}
    for host in hanging:
        host.ends_at = fleet.now
        host.wake()
    fleet.run(LONG, until=lambda: all(fleet.entry(host) == "returned" for host in hanging))
    assert {host.has for host in fleet.hosts} == {OLD}


def test_a_commit_that_the_fleet_runs_is_not_rolled_back_where_one_host_fails_again(begin: Begin) -> None:
    fleet = begin(3, 10, {**QUICK, "onFailure": "rollback"})
    fleet.begin_with(NEW, fleet.hosts[:9])
    fleet.hosts[9].fails = True
    expect(fleet, "halted")
    fleet.run(LONG)
    assert {host.has for host in fleet.hosts[:9]} == {NEW}
    assert not fleet.ensemble.children(f"{APP.root}/bad")


@pytest.mark.parametrize("entry", ["admitted", "failed"])
@pytest.mark.parametrize("seed", range(3))
def test_the_way_back_does_not_wait_for_a_host_on_which_the_stable_release_has_failed_before(
    begin: Begin, seed: int, entry: str
) -> None:
    fleet = begin(seed, 6, {**QUICK, "onFailure": "rollback", "maxInFlight": 2, "progressDeadline": 600})
    for host in fleet.hosts:
        host.deploys_for = FOR_EVER
    fleet.run(LONG, until=lambda: bool(fleet.state and fleet.state.counts["admitted"] == 2))
    broken, failing = [host for host in fleet.hosts if fleet.entry(host) == "admitted"]
    broken.ended[OLD] = ("failed", "disk full")
    broken.keeps_failure = True
    failing.fails = True
    broken.fails = entry == "failed"
    for host in fleet.hosts:
        host.deploys_for = 5.0
        host.ends_at = fleet.now if host is failing or broken.fails else host.ends_at
        host.wake()
    fleet.run(LONG, until=lambda: bool(fleet.state and fleet.state.phase in {"rolling_back", "rolled_back"}))
    began = fleet.now
    expect(fleet, "rolled_back")
    assert fleet.now - began < 60
    assert fleet.state
    assert fleet.state.reason.endswith(f"did not return: {broken.name}")


# --- a fix is published while hosts still have the bad release


@pytest.mark.parametrize("places", [1, 3])
def test_hosts_with_a_bad_release_return_to_the_stable_one_before_it_is_their_turn(begin: Begin, places: int) -> None:
    fleet = begin(4, 12, {**QUICK, "steps": [{"hosts": 1, "pause": True}], "maxInFlight": places})
    fleet.begin_with(BAD, fleet.hosts[3:])
    fleet.mark_bad(BAD)
    expect(fleet, "paused")
    fleet.run(LONG, until=lambda: all(host.has != BAD for host in fleet.hosts))
    assert sorted(str(host.has) for host in fleet.hosts) == [OLD] * 11 + [NEW]
    assert fleet.most <= places
    fleet.command("promote")
    expect(fleet, "done")
    assert {host.has for host in fleet.hosts} == {NEW}


@pytest.mark.parametrize("seed", range(6))
def test_hosts_that_leave_a_bad_release_one_after_another_are_progress(begin: Begin, seed: int) -> None:
    fleet = begin(seed, 12, {**QUICK, "steps": [{"hosts": 1, "pause": True}]})
    fleet.begin_with(BAD, fleet.hosts[1:])
    fleet.mark_bad(BAD)
    for host in fleet.hosts:
        host.deploys_for = 20.0
    expect(fleet, "paused")


def test_a_host_that_cannot_leave_a_bad_release_gets_the_fix_in_its_turn(begin: Begin) -> None:
    fleet = begin(5, 4, {**QUICK, "steps": [{"hosts": 1, "soak": 30}]})
    fleet.begin_with(BAD, fleet.hosts[:1])
    fleet.mark_bad(BAD)
    fleet.hosts[0].ended[OLD] = ("failed", "disk full")
    expect(fleet, "done")
    assert fleet.state
    assert (fleet.hosts[0].has, fleet.state.counts[FAILED]) == (NEW, 0)


@pytest.mark.parametrize("places", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_a_host_that_hangs_when_it_leaves_a_bad_release_does_not_halt_the_fix(
    begin: Begin, seed: int, places: int
) -> None:
    fleet = begin(seed, 6, {**QUICK, "steps": [{"hosts": 1, "pause": True}], "maxInFlight": places})
    fleet.begin_with(BAD, fleet.hosts[3:])
    fleet.mark_bad(BAD)
    hanging = fleet.hosts[5]
    hanging.deploys_for = FOR_EVER
    fleet.run(LONG, until=lambda: fleet.entry(hanging) == "returning")
    expect(fleet, "paused")
    hanging.deploys_for = 5.0
    fleet.command("promote")
    expect(fleet, "done")
    assert fleet.state
    assert ({host.has for host in fleet.hosts}, fleet.state.failures) == ({NEW}, 0)


@pytest.mark.parametrize("seed", range(6))
def test_a_host_that_hangs_when_it_leaves_a_bad_release_holds_up_no_host_behind_it_in_line(
    begin: Begin, seed: int
) -> None:
    fleet = begin(seed, 20, {**QUICK, "steps": [{"hosts": 1, "soak": 30}]})
    fleet.begin_with(BAD, fleet.hosts)
    fleet.mark_bad(BAD)
    for host in fleet.hosts:
        host.never_returns = True
    fleet.run(LONG, until=lambda: bool(fleet.state and fleet.state.counts["returning"]))
    for host in fleet.hosts:
        host.never_returns = fleet.entry(host) == "returning"
    expect(fleet, "done")
    assert fleet.state
    assert ({host.has for host in fleet.hosts}, fleet.state.given_up) == ({NEW}, 1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("hangs", [10, 20])
def test_where_many_hosts_hang_when_they_leave_a_bad_release_the_fix_waits_for_two_of_them(
    begin: Begin, seed: int, hangs: int
) -> None:
    fleet = begin(seed, 20, {**QUICK, "steps": [{"hosts": number, "soak": 1} for number in (1, 2, 4, 8)]})
    fleet.begin_with(BAD, fleet.hosts)
    fleet.mark_bad(BAD)
    for host in fleet.hosts[:hangs]:
        host.never_returns = True
    expect(fleet, "done")
    assert fleet.state
    assert ({host.has for host in fleet.hosts}, fleet.state.given_up) == ({NEW}, 2)


@pytest.mark.parametrize("seed", range(3))
def test_a_rollout_that_its_deadline_has_halted_names_the_hosts_on_their_way(begin: Begin, seed: int) -> None:
    fleet = begin(seed, 5, {**QUICK, "maxInFlight": 2})
    for host in fleet.hosts:
        host.deploys_for = FOR_EVER
    expect(fleet, "halted")
    names = [host.name for host in fleet.hosts if fleet.entry(host) == "admitted"]
    assert len(names) == 2
    assert fleet.state
    assert fleet.state.reason == f"no host has made progress for 60 s; on their way: {', '.join(names)}"


# --- a host that can't tell what is live on it


def head_of(fleet: Fleet, number: int) -> SimulatedHost:
    """The host at a position in the line."""
    line = f"{APP.rollout(GENERATION)}/line"
    names = [fleet.ensemble.nodes[f"{line}/{node}"].data.decode() for node in sorted(fleet.ensemble.children(line))]
    return next(host for host in fleet.hosts if host.name == names[number])


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("is_stale", [False, True], ids=["as it was", "read again"])
def test_a_host_that_cannot_read_its_disk_holds_up_no_other(begin: Begin, number: int, is_stale: bool) -> None:
    fleet = begin(2, 6, {**QUICK, "maxFailures": 1})
    fleet.run(LONG, until=lambda: bool(fleet.state and fleet.state.counts["proved"] == 2))
    blind = head_of(fleet, number)
    blind.is_blind = True
    if is_stale:
        assert blind.part
        blind.part.mark_stale()
        blind.wake()
    others = [host for host in fleet.hosts if host is not blind]
    fleet.run(LONG, until=lambda: all(host.has == NEW for host in others))
    assert {host.has for host in others} == {NEW}, fleet.state
    blind.is_blind = False
    blind.wake()
    expect(fleet, "done")


@pytest.mark.parametrize("number", [1, 5])
def test_a_rollback_ends_without_hosts_that_cannot_read_their_disks_from_the_beginning(
    begin: Begin, number: int
) -> None:
    fleet = begin(number, 6, QUICK, rolledBackFrom=OLD)
    blind, others = fleet.hosts[:number], fleet.hosts[number:]
    for host in blind:
        host.is_blind = True
    expect(fleet, "done")
    assert {host.has for host in others} == {NEW}
    assert fleet.state
    assert fleet.state.reason == f"{number} of 6 hosts failed or were lost"
    for host in blind:
        host.is_blind = False
        host.wake()
    fleet.run(60)
    assert {host.has for host in fleet.hosts} == {NEW}


@pytest.mark.parametrize(("most", "phase"), [(0, "halted"), (1, "done")])
@pytest.mark.parametrize("steps", [[{"hosts": "100%"}], [{"hosts": 2, "soak": 5}, {"hosts": "100%"}]])
def test_a_host_that_cannot_read_its_disk_from_the_beginning_fails_by_name(
    begin: Begin, most: int, phase: str, steps: list[dict[str, Any]]
) -> None:
    fleet = begin(1, 6, {**QUICK, "maxInFlight": 2, "maxFailures": most, "steps": steps})
    fleet.hosts[2].is_blind = True
    expect(fleet, phase)
    assert fleet.state
    assert fleet.state.counts[FAILED] == 1
    assert fleet.entry(fleet.hosts[2]) == FAILED
    assert phase == "done" or fleet.state.reason.startswith("web2 failed: can't tell what is live: ")


def test_hosts_that_cannot_read_their_disks_do_not_ask_all_the_time_where_others_are_quicker(begin: Begin) -> None:
    asked = {}
    for number in (5, 20):
        fleet = begin(number, number + 1, QUICK, rolledBackFrom=OLD)
        for host in fleet.hosts[:number]:
            host.is_blind = True
        expect(fleet, "done")
        asked[number] = sum(host.turns for host in fleet.hosts[:number]) / number
    assert asked[20] < 4 * asked[5], asked


# --- what was admitted is what is deployed


def test_a_host_that_is_to_try_again_is_not_admitted_by_a_rollout_that_cannot_be_read(begin: Begin) -> None:
    fleet = begin(7, 3, QUICK)
    for host in fleet.hosts:
        host.fails = True
    expect(fleet, "halted")
    fleet.run(30)
    failed = next(host for host in fleet.hosts if fleet.entry(host) == FAILED)
    failed.fails = False
    failed.ended.pop(NEW)
    failed.goal = None
    fleet.ensemble.forbidden.add(APP.rollout(GENERATION))
    assert failed.part
    failed.part.mark_stale()
    failed.wake()
    fleet.run(60)
    assert failed.has == OLD


def test_a_step_that_goes_without_some_hosts_reports_that(begin: Begin) -> None:
    fleet = begin(2, 4, {**QUICK, "steps": [{"names": ["web0", "web1", "wbe2"], "pause": True}]})
    fleet.hosts[0].hold(True)
    expect(fleet, "paused")
    assert fleet.state
    said = "step 1 went without some of its hosts: wbe2 is not live, web0 is held"
    assert fleet.state.reason == f"step 1 waits for a person; {said}"
    assert LOST not in entries(fleet).values()


# --- hosts that had the release


def test_a_host_that_had_the_release_and_was_missing_returns_when_it_comes(begin: Begin) -> None:
    fleet = begin(1, 4, {**QUICK, "onFailure": "rollback"})
    late = fleet.hosts[3]
    fleet.begin_with(NEW, [late])
    late.stop()
    for host in fleet.hosts:
        host.fails = True
    expect(fleet, "rolled_back")
    late.start()
    fleet.run(60, until=lambda: fleet.entry(late) == "returned")
    assert (late.has, fleet.entry(late)) == (OLD, "returned")


@pytest.mark.parametrize("share", [1, 2, "100%"])
@pytest.mark.parametrize("seed", range(4))
def test_a_release_that_most_have_is_neither_rolled_back_nor_bad_however_soon_it_fails_on_another(
    begin: Begin, seed: int, share: int | str
) -> None:
    fleet = begin(seed, 7, {**QUICK, "onFailure": "rollback", "maxInFlight": share})
    fleet.begin_with(NEW, fleet.hosts[:5])
    for host in fleet.hosts[5:]:
        host.fails = True
    expect(fleet, "halted")
    fleet.run(60)
    assert {host.has for host in fleet.hosts[:5]} == {NEW}
    assert APP.bad(NEW) not in fleet.ensemble.nodes


@pytest.mark.parametrize("seed", range(3))
def test_a_host_that_hangs_keeps_no_other_from_leaving_a_bad_release_when_all_is_rolled_back(
    begin: Begin, seed: int
) -> None:
    fleet = begin(seed, 6, {**QUICK, "onFailure": "rollback"})
    fleet.begin_with(BAD, fleet.hosts[3:])
    fleet.mark_bad(BAD)
    for host in fleet.hosts:
        host.fails = True
    hanging, *others = fleet.hosts[3:]
    hanging.deploys_for = FOR_EVER
    expect(fleet, "rolled_back")
    fleet.run(LONG, until=lambda: all(host.has == OLD for host in others))
    assert {host.has for host in others} == {OLD}, (fleet.state, entries(fleet))


def test_a_host_that_disappears_on_its_way_back_keeps_no_other_from_it_that_comes_later(begin: Begin) -> None:
    fleet = begin(1, 6, {**QUICK, "onFailure": "rollback"})
    fleet.begin_with(NEW, fleet.hosts[4:])
    gone, late = fleet.hosts[4:]
    gone.stop()
    late.stop()
    for host in fleet.hosts:
        host.fails = True
    expect(fleet, "rolled_back")
    gone.deploys_for = FOR_EVER
    gone.start()
    fleet.run(60, until=lambda: fleet.entry(gone) == "returning")
    gone.stop()
    late.start()
    fleet.run(LONG, until=lambda: late.has == OLD)
    assert late.has == OLD, (fleet.state, entries(fleet))
