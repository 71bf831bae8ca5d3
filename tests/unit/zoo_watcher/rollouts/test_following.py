"""Hosts that a rollout has finished without follow in line, as many at a time as it has places."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from support.simulated_fleet import FOR_EVER, GENERATION, NEW, OLD, Fleet, SimulatedHost
from zoo_watcher.errors import SessionTroubleError
from zoo_watcher.wire.rollout_records import RolloutPaths
from zoo_watcher.wire.rollout_writes import DELETE, Write

Begin = Callable[..., Fleet]
LONG = 3600
ROLLOUT = f"/app/rollouts/{GENERATION}"
LINE, LANES = RolloutPaths(ROLLOUT).line, RolloutPaths(ROLLOUT).lanes


def done_without(fleet: Fleet, away: list[SimulatedHost]) -> None:
    """Have the rollout done while these hosts are down."""
    for host in away:
        host.stop()
    fleet.run(LONG, until=lambda: bool(fleet.state and fleet.state.phase == "done"))
    assert fleet.state
    assert fleet.state.phase == "done"
    assert all(host.has == OLD for host in away)


def come_back_ill(hosts: list[SimulatedHost], deploys_for: float) -> None:
    """Start these hosts, none of which serves. A deployment takes `deploys_for` seconds."""
    for host in hosts:
        host.deploys_for, host.is_sick = deploys_for, True
        host.start()


def delete(fleet: Fleet, top: str) -> None:
    """Delete a znode and what is below it by hand, one znode after the other, the deepest first."""
    ensemble, check = fleet.ensemble, fleet.ensemble.check
    ensemble.check = lambda: None  # entries need not agree with a rollout that is half deleted
    for path in sorted((path for path in ensemble.nodes if path == top or path.startswith(f"{top}/")), reverse=True):
        ensemble.apply([Write(DELETE, path)])
        ensemble.sequences.pop(f"{path}/n-", None)
    ensemble.check = check
    if top == ROLLOUT:
        fleet.begin_with(NEW, [host for host in fleet.hosts if host.has == NEW])


def begun(hosts: list[SimulatedHost]) -> int:
    """The number of hosts that have begun with the release and don't have it yet."""
    return sum(host.is_up and host.goal == NEW and NEW not in host.ended for host in hosts)


def most_begun(fleet: Fleet, hosts: list[SimulatedHost]) -> int:
    """Let time pass until each of these hosts has an outcome; returns how many were on their way at the same time."""
    most = 0

    def all_have_ended() -> bool:
        nonlocal most
        most = max(most, begun(hosts))
        return all(NEW in host.ended for host in hosts)

    fleet.run(LONG, until=all_have_ended)
    assert all_have_ended()
    return most


def lose_first_exit(host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the host get no answer to the first transaction in which it leaves the line."""
    assert host.session
    session, commit = host.session, host.session.commit

    def lose(writes: Iterable[Write]) -> bool:
        writes = list(writes)
        is_done = commit(writes)
        if any(write.kind == DELETE and write.path.startswith(LINE) for write in writes):
            monkeypatch.setattr(session, "commit", commit)
            raise SessionTroubleError("connection loss")
        return is_done

    monkeypatch.setattr(session, "commit", lose)


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_hosts_that_were_down_follow_only_so_many_at_a_time(begin: Begin, seed: int, places: int) -> None:
    fleet = begin(seed, 12, {"from": OLD, "minHealthy": 10, "maxInFlight": places})
    away = fleet.hosts[4:]
    done_without(fleet, away)
    for host in away:
        host.start()
    assert most_begun(fleet, away) == places
    assert {host.has for host in fleet.hosts} == {NEW}
    fleet.run(60)
    assert not fleet.ensemble.children(LINE), "who has followed is in nobody's way"
    assert [host.part and host.part.pause for host in fleet.hosts] == [None] * 12


def test_a_host_that_follows_keeps_its_turn_until_it_has_been_healthy_for_long_enough(begin: Begin) -> None:
    fleet = begin(1, 3, {"from": OLD, "minHealthy": 100})
    away = fleet.hosts[1:]
    done_without(fleet, away)
    for host in away:
        host.start()
    fleet.run(LONG, until=lambda: any(host.has == NEW for host in away))
    fleet.run(90)
    assert sorted(str(host.has) for host in away) == [OLD, NEW]
    fleet.run(60)
    assert {host.has for host in away} == {NEW}


def test_hosts_that_were_held_follow_only_so_many_at_a_time(begin: Begin) -> None:
    fleet = begin(1, 12, {"from": OLD, "minHealthy": 10})
    held = fleet.hosts[6:]
    for host in held:
        host.hold(True)
    fleet.run(LONG, until=lambda: bool(fleet.state and fleet.state.phase == "done"))
    fleet.run(60)
    assert not fleet.ensemble.children(LINE), "who is held is in nobody's way"
    for host in held:
        host.hold(False)
    assert most_begun(fleet, held) == 1
    assert {host.has for host in fleet.hosts} == {NEW}


@pytest.mark.parametrize("places", [1, 2])
def test_proved_hosts_that_come_back_with_another_release_follow_only_so_many_at_a_time(
    begin: Begin, places: int
) -> None:
    """As those that were recreated from an older image or reset to a snapshot, and have kept their names."""
    fleet = begin(1, 8, {"from": OLD, "minHealthy": 10, "maxInFlight": places})
    fleet.run(LONG, until=lambda: bool(fleet.state and fleet.state.phase == "done"))
    set_back = fleet.hosts[2:]
    for host in set_back:
        host.stop()
        host.has, host.ended, host.goal = OLD, {}, None
        host.start()
    assert most_begun(fleet, set_back) == places
    assert {host.has for host in fleet.hosts} == {NEW}
    fleet.run(60)
    assert not fleet.ensemble.children(LINE), "who has followed is in nobody's way"


def test_a_new_host_deploys_immediately_and_one_that_waits_reports_what_for(begin: Begin) -> None:
    fleet = begin(1, 4, {"from": OLD, "minHealthy": 10})
    away = fleet.hosts[1:]
    done_without(fleet, away)
    for host in away:
        host.deploys_for = FOR_EVER
        host.start()
    fleet.run(5)  # until those before it stand in line
    fleet.join()
    fleet.run(20)
    assert fleet.hosts[-1].has == NEW
    said = [host.part and host.part.assignment.standstill for host in away]
    messages = [(one.state, one.message) for one in said if one]
    assert messages == [("waiting", "the rollout is done without this host: waits for its turn")] * 2


@pytest.mark.parametrize("seed", range(4))
def test_a_host_that_follows_keeps_its_turn_when_its_connection_is_lost(begin: Begin, seed: int) -> None:
    """This happens each time a member of the ensemble is restarted."""
    fleet = begin(seed, 8, {"from": OLD, "minHealthy": 60})
    away = fleet.hosts[2:]
    done_without(fleet, away)
    for host in away:
        host.start()
    fleet.run(LONG, until=lambda: any(host.has == NEW for host in away))
    fleet.lose_ensemble(1)
    fleet.run(40)
    assert sum(host.goal == NEW for host in away) == 1
    fleet.run(LONG, until=lambda: all(host.has == NEW for host in away))
    assert {host.has for host in away} == {NEW}


def test_a_host_that_fails_dies_or_hangs_as_it_follows_keeps_no_other_from_following(begin: Begin) -> None:
    fleet = begin(1, 8, {"from": OLD, "minHealthy": 10, "progressDeadline": 60})
    fails, dies, hangs, *others = away = fleet.hosts[1:]
    done_without(fleet, away)
    before = fleet.state
    fails.fails, dies.dies, hangs.deploys_for = True, True, FOR_EVER
    for host in away:
        host.start()
    fleet.run(LONG, until=lambda: all(host.has == NEW for host in others))
    assert {host.has for host in others} == {NEW}
    assert (fails.has, dies.is_up, hangs.has) == (OLD, False, OLD)
    assert fleet.state == before, "what is done is written no more"
    hangs.deploys_for, hangs.ends_at = 5.0, fleet.now
    hangs.wake()
    fleet.run(60)
    assert hangs.has == NEW


def test_a_host_that_follows_once_more_has_its_full_turn_again(begin: Begin) -> None:
    fleet = begin(1, 3, {"from": OLD, "minHealthy": 10, "progressDeadline": 60})
    again, other = away = fleet.hosts[1:]
    done_without(fleet, away)
    again.fails = True
    again.start()
    fleet.run(40)
    assert again.ended[NEW][0] == "rolled_back"
    del again.ended[NEW]
    again.goal, again.fails, again.deploys_for = None, False, 45.0
    again.wake()
    fleet.run(1)
    other.start()
    fleet.run(LONG, until=lambda: NEW in {again.has, other.goal})
    assert (again.has, other.goal) == (NEW, None)
    fleet.run(LONG, until=lambda: other.has == NEW)
    assert other.has == NEW


def test_an_agent_that_is_restarted_with_the_release_does_not_stand_in_line(begin: Begin) -> None:
    """When agents are upgraded, all hosts do this at the same time in a fleet whose hosts have all joined since."""
    fleet = begin(1, 3, {"from": OLD, "minHealthy": 10})
    done_without(fleet, [])
    fleet.join()
    fleet.run(60)
    fleet.hosts[-1].restart()
    fleet.run(2)
    assert fleet.hosts[-1].has == NEW
    assert not fleet.ensemble.children(LINE)


@pytest.mark.parametrize("is_sick", [False, True])
def test_after_a_rollback_a_host_that_does_not_serve_does_not_wait(begin: Begin, is_sick: bool) -> None:
    fleet = begin(1, 4, {"minHealthy": 10}, rolledBackFrom=OLD)
    away = fleet.hosts[1:]
    done_without(fleet, away)
    for host in away:
        host.is_sick = is_sick
        host.start()
    assert most_begun(fleet, away) == (3 if is_sick else 1)


def test_after_a_rollback_a_host_that_is_ill_while_its_service_restarts_keeps_its_turn(begin: Begin) -> None:
    fleet = begin(1, 4, {"minHealthy": 10}, rolledBackFrom=OLD)
    away = fleet.hosts[1:]
    done_without(fleet, away)
    for host in away:
        host.start()
    fleet.run(LONG, until=lambda: begun(away) == 1)
    first = next(host for host in away if host.goal == NEW)
    first.deploys_for, first.ends_at, first.is_sick = 60.0, fleet.now + 60, True
    first.wake()
    fleet.run(30)
    assert [host for host in away if host.goal == NEW] == [first]
    fleet.run(LONG, until=lambda: all(host.has == NEW for host in away))
    assert {host.has for host in away} == {NEW}


@pytest.mark.parametrize("seed", range(4))
def test_after_a_rollback_a_host_whose_service_comes_and_goes_does_not_wait_for_the_others(
    begin: Begin, seed: int
) -> None:
    fleet = begin(seed, 8, {"minHealthy": 10}, rolledBackFrom=OLD)
    away = fleet.hosts[1:]
    done_without(fleet, away)
    for host in away:
        host.deploys_for = 20.0
        host.start()
    comes_and_goes = away[-1]
    fleet.run(LONG, until=lambda: begun(away) == 1 and comes_and_goes.goal != NEW)
    for _pass in range(4):
        comes_and_goes.is_sick = not comes_and_goes.is_sick
        comes_and_goes.wake()
        fleet.run(4)
    fleet.run(10)
    assert comes_and_goes.has == NEW
    assert sum(host.has == NEW for host in away) <= 2
    fleet.run(LONG, until=lambda: all(host.has == NEW for host in away))
    assert {host.has for host in away} == {NEW}
    fleet.run(60)
    assert not fleet.ensemble.children(LINE)


def test_after_a_rollback_hosts_that_were_ill_for_a_moment_follow_in_line(begin: Begin) -> None:
    """As with hosts whose services start after their agents."""
    fleet = begin(1, 10, {"minHealthy": 10}, rolledBackFrom=OLD)
    away = fleet.hosts[1:]
    done_without(fleet, away)
    come_back_ill(away, 60.0)
    fleet.run(5)
    assert begun(away) == len(away)
    for host in away:
        host.is_sick = False
        host.wake()
    fleet.run(11)
    assert most_begun(fleet, away) == 1
    assert {host.has for host in away} == {NEW}


def test_after_a_rollback_hosts_that_were_ill_and_have_not_begun_follow_in_line(begin: Begin) -> None:
    fleet = begin(1, 6, {"minHealthy": 10}, rolledBackFrom=OLD)
    away = fleet.hosts[1:]
    done_without(fleet, away)
    come_back_ill(away, 20.0)
    for host in away:
        assert host.part
        host.part.keep()
        host.is_sick = False
    assert most_begun(fleet, away) == 1
    assert {host.has for host in away} == {NEW}


@pytest.mark.parametrize("places", [1, 3])
def test_after_a_rollback_hosts_that_do_not_serve_and_hang_take_no_place_of_the_others(
    begin: Begin, places: int
) -> None:
    fleet = begin(1, 10, {"minHealthy": 10, "maxInFlight": places}, rolledBackFrom=OLD)
    hang, others = fleet.hosts[1:4], fleet.hosts[4:]
    done_without(fleet, hang + others)
    come_back_ill(hang, FOR_EVER)
    fleet.run(2)
    assert begun(hang) == 3
    for host in others:
        host.start()
    fleet.run(300, until=lambda: all(host.has == NEW for host in others))
    assert {host.has for host in others} == {NEW}
    assert begun(hang) == 3


def test_after_a_rollback_a_host_that_falls_ill_after_it_joined_without_an_answer_keeps_no_place(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = begin(1, 6, {"minHealthy": 10, "progressDeadline": 60}, rolledBackFrom=OLD)
    ill, *others = away = fleet.hosts[1:]
    done_without(fleet, away)
    ill.deploys_for = FOR_EVER
    ill.start()
    assert ill.session
    create = ill.session.create

    def lose_answer(path: str, value: bytes, **options: bool) -> str | None:
        create(path, value, **options)
        monkeypatch.setattr(ill.session, "create", create)
        ill.is_sick = True
        raise SessionTroubleError("connection loss")

    monkeypatch.setattr(ill.session, "create", lose_answer)
    ill.turn()
    assert len(fleet.ensemble.children(LINE)) == 1
    fleet.run(2)
    for host in others:
        host.start()
    fleet.run(LONG, until=lambda: all(host.has == NEW for host in others))
    assert {host.has for host in others} == {NEW}


@pytest.mark.parametrize("is_answered", [True, False])
def test_after_a_rollback_hosts_that_fall_ill_in_line_and_hang_have_one_turn_each(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, *, is_answered: bool
) -> None:
    """Even if the answer to a host's first request to leave is lost."""
    fleet = begin(1, 6, {"minHealthy": 10, "progressDeadline": 60}, rolledBackFrom=OLD)
    hang = away = fleet.hosts[1:]
    done_without(fleet, away)
    for host in hang:
        host.deploys_for = FOR_EVER
        host.start()
        if not is_answered:
            lose_first_exit(host, monkeypatch)
    fleet.run(3)
    assert len(fleet.ensemble.children(LINE)) == len(hang)
    for host in hang:
        host.is_sick = True
        host.wake()
    fleet.run(60 * len(hang) + 10)
    assert not fleet.ensemble.children(LINE)
    assert begun(hang) == len(hang)


def test_the_only_host_that_follows_goes_on_beyond_its_turn(begin: Begin) -> None:
    """No other host waits for it, and a deployment that started over each time would never end."""
    fleet = begin(1, 2, {"from": OLD, "minHealthy": 10, "progressDeadline": 60})
    slow = fleet.hosts[1]
    done_without(fleet, [slow])
    slow.deploys_for = 150.0
    slow.start()
    fleet.run(155)
    assert slow.has == NEW


def test_a_host_that_cannot_tell_what_it_has_as_it_follows_does_not_go_on_beside_the_next(begin: Begin) -> None:
    fleet = begin(1, 4, {"from": OLD, "minHealthy": 10})
    away = fleet.hosts[1:]
    done_without(fleet, away)
    for host in away:
        host.deploys_for = 60.0
        host.start()
    fleet.run(LONG, until=lambda: begun(away) == 1)
    blind = next(host for host in away if host.goal == NEW)
    blind.is_blind = True
    blind.wake()
    fleet.run(LONG, until=lambda: any(host.goal == NEW for host in away if host is not blind))
    assert begun(away) == 1
    blind.is_blind = False
    assert most_begun(fleet, away) == 1
    assert {host.has for host in away} == {NEW}


def test_a_host_that_may_not_stand_in_line_follows_immediately_and_says_so(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = begin(1, 4, {"from": OLD, "minHealthy": 10})
    away = fleet.hosts[1:]
    done_without(fleet, away)
    fleet.ensemble.locked.add(LINE)
    for host in away:
        host.start()
    assert most_begun(fleet, away) == 3
    assert {host.has for host in away} == {NEW}
    said = [one.getMessage() for one in caplog.records if "follows at once" in one.getMessage()]
    assert len(said) == 3
    assert f"may not wait in line, and follows at once: {LINE}/n-: " in said[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("deleted", "most"), [([LINE, LANES], 1), ([LINE], 2), ([ROLLOUT], 1)], ids=["line, lanes", "line", "rollout"]
)
def test_a_line_that_somebody_has_deleted_is_formed_again(
    begin: Begin, seed: int, deleted: list[str], most: int
) -> None:
    """Its places disappear one after the other, and those of the new line are numbered from 0.

    If the old lanes remain, one more host believes what they record about who has left.
    """
    fleet = begin(seed, 12, {"from": OLD, "minHealthy": 10})
    away = fleet.hosts[4:]
    done_without(fleet, away)
    for host in away:
        host.start()
    fleet.run(LONG, until=lambda: sum(host.has == NEW for host in away) == 3)
    for path in deleted:
        delete(fleet, path)
    assert most_begun(fleet, [host for host in away if NEW not in host.ended]) <= most
    assert {host.has for host in fleet.hosts} == {NEW}
    fleet.run(60)
    assert not fleet.ensemble.children(LINE)


def test_a_host_whose_place_has_the_same_number_in_a_recreated_line_has_its_full_turn(begin: Begin) -> None:
    fleet = begin(1, 3, {"from": OLD, "minHealthy": 10, "progressDeadline": 60})
    first, second = away = fleet.hosts[1:]
    done_without(fleet, away)
    delete(fleet, LINE)
    delete(fleet, LANES)
    for host in away:
        host.deploys_for = 50.0
        host.start()
        fleet.run(2)
    fleet.run(30)
    delete(fleet, LINE)
    delete(fleet, LANES)
    fleet.run(LONG, until=lambda: NEW in {first.has, second.goal})
    assert (first.has, second.goal) == (NEW, None)


def test_hosts_that_looked_while_somebody_deleted_the_rollout_see_that_it_is_deleted(begin: Begin) -> None:
    """Its gate is deleted first, and with it the watch that would tell them about the rest."""
    fleet = begin(1, 6, {"from": OLD, "minHealthy": 10})
    away = fleet.hosts[2:]
    done_without(fleet, away)
    delete(fleet, RolloutPaths(ROLLOUT).gate)
    for host in away:
        host.start()
        host.turn()
    delete(fleet, ROLLOUT)
    assert most_begun(fleet, away) == 1
    assert {host.has for host in fleet.hosts} == {NEW}
    fleet.run(60)
    assert fleet.state
    assert fleet.state.phase == "done"


def test_a_host_that_cannot_join_the_line_of_a_rollout_that_was_just_deleted_sees_that_it_is_deleted(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = begin(1, 4, {"from": OLD, "minHealthy": 10})
    late = fleet.hosts[3]
    done_without(fleet, [late])
    delete(fleet, RolloutPaths(ROLLOUT).gate)
    late.start()
    assert late.session
    create = late.session.create

    def create_late(path: str, value: bytes, **options: bool) -> str | None:
        delete(fleet, ROLLOUT)
        monkeypatch.setattr(late.session, "create", create)
        return create(path, value, **options)

    monkeypatch.setattr(late.session, "create", create_late)
    late.turn()
    assert not fleet.ensemble.children(ROLLOUT)
    fleet.run(LONG, until=lambda: bool(fleet.state and fleet.state.phase == "done"))
    assert {host.has for host in fleet.hosts} == {NEW}
