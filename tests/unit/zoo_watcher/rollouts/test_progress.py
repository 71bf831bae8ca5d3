"""What must not hold up a rollout, whichever host disappears and whatever request fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from support.simulated_fleet import APP, FOR_EVER, GENERATION, NEW, OLD, URL, FakeSession, Fleet, Node, SimulatedHost
from zoo_watcher.errors import SessionTroubleError
from zoo_watcher.rollouts.lookout import MOST
from zoo_watcher.rollouts.turn import HostView, Wait, next_move
from zoo_watcher.rollouts.znodes import RolloutZnodes
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.rollout_events import Ask, Withdraw
from zoo_watcher.wire.rollout_records import ADMITTED, FAILED, LOST, HostEntry
from zoo_watcher.wire.rollout_records import begin as begin_rollout
from zoo_watcher.wire.rollout_rules import decide
from zoo_watcher.wire.rollout_writes import Write

Begin = Callable[..., Fleet]
QUICK = {"from": OLD, "minHealthy": 0}
SOON = 120
"""Simulated seconds in which a rollout that nothing holds up ends, well below the deadline."""


def is_in(fleet: Fleet, phase: str) -> Callable[[], bool]:
    """Whether the rollout is in a phase."""
    return lambda: fleet.state is not None and fleet.state.phase == phase


def expect(fleet: Fleet, phase: str, seconds: float = SOON) -> None:
    """Let time pass until the rollout is in a phase."""
    fleet.run(seconds, until=is_in(fleet, phase))
    assert fleet.state
    assert fleet.state.phase == phase, fleet.state


def test_in_a_fleet_that_is_half_down_the_share_that_may_switch_is_of_the_hosts_that_serve(
    begin: Begin,
) -> None:
    fleet = begin(1, 8, {**QUICK, "maxInFlight": "25%"})
    for number in range(8):
        fleet.ensemble.nodes[APP.roster_entry(f"down{number}")] = Node(b"{}")
    expect(fleet, "done")
    assert fleet.state
    assert (fleet.most, fleet.state.fleet) == (2, 16)


@pytest.mark.parametrize("seed", range(4))
def test_leftover_names_in_the_roster_do_not_delay_the_search_for_a_host_that_died(begin: Begin, seed: int) -> None:
    """As in a fleet that scales by itself. Behind the last host in line there is none that would look immediately."""
    fleet = begin(seed, 4, {**QUICK, "maxFailures": 1, "onFailure": "rollback"})
    for number in range(1000):
        fleet.ensemble.nodes[APP.roster_entry(f"old{number}")] = Node(b"{}")
    fleet.run(SOON, until=lambda: bool(fleet.state and fleet.state.counts["proved"] == 3 and fleet.state.in_flight))
    next(host for host in fleet.hosts if fleet.entry(host) == ADMITTED).stop()
    expect(fleet, "done")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("boots", [False, True], ids=["nobody boots", "who has proved it boots"])
def test_leftover_names_in_the_roster_do_not_prolong_a_soak(begin: Begin, seed: int, *, boots: bool) -> None:
    fleet = begin(seed, 4, {**QUICK, "steps": [{"names": ["web0"], "soak": 30}]})
    for number in range(1000):
        fleet.ensemble.nodes[APP.roster_entry(f"old{number}")] = Node(b"{}")
    expect(fleet, "soaking")
    fleet.run(29)
    if boots:
        fleet.hosts[0].restart()
    fleet.run(11 if boots else 2)
    assert not is_in(fleet, "soaking")()


@pytest.mark.parametrize("places", [1, 3])
def test_a_step_by_names_after_one_by_number_is_not_held_up_by_hosts_that_it_does_not_take(
    begin: Begin, places: int
) -> None:
    fleet = begin(1, 12, {**QUICK, "steps": [{"hosts": 1}, {"names": ["web3", "web9"]}], "maxInFlight": places})
    expect(fleet, "done")
    assert {host.has for host in fleet.hosts} == {NEW}


@pytest.mark.parametrize("count", [8, 60])
def test_a_step_is_counted_even_if_the_host_that_would_do_it_has_disappeared(begin: Begin, count: int) -> None:
    fleet = begin(2, count, {**QUICK, "steps": [{"hosts": 1}], "maxInFlight": 1})
    fleet.run(SOON, until=lambda: bool(fleet.state and fleet.state.counts["proved"]))
    first = next(host for host in fleet.hosts if fleet.entry(host) == "proved")
    first.stop()
    fleet.run(SOON, until=lambda: bool(fleet.state and fleet.state.step))
    assert fleet.state
    assert fleet.state.step == 1, fleet.state


@pytest.mark.parametrize("seed", range(5))
def test_the_last_host_may_disappear_on_its_way(begin: Begin, seed: int) -> None:
    fleet = begin(seed, 40, {**QUICK, "maxFailures": 1, "maxInFlight": 10})
    fleet.hosts[seed].dies = True
    expect(fleet, "done")


def test_a_promoted_step_for_which_no_host_is_left_ends(begin: Begin) -> None:
    fleet = begin(3, 40, {**QUICK, "steps": [{"hosts": "100%", "pause": True}, {"hosts": "100%"}], "maxInFlight": 10})
    expect(fleet, "paused")
    fleet.command("promote")
    expect(fleet, "done")


def test_a_head_that_was_refused_asks_again_soon_whatever_wakes_it_meanwhile(begin: Begin) -> None:
    fleet = begin(4, 3, {**QUICK, "steps": [{"hosts": 1}], "maxInFlight": 2})
    for host in fleet.hosts:
        host.deploys_for = 1000.0
    fleet.run(SOON, until=lambda: bool(fleet.state and fleet.state.counts["admitted"]))
    admitted = next(host for host in fleet.hosts if fleet.entry(host) == "admitted")
    fleet.run(2)
    for host in fleet.hosts:
        host.wake()  # as a check, a file or the status may
    fleet.run(0.1)
    admitted.hold(True)
    fleet.run(15, until=lambda: any(fleet.entry(host) == "admitted" for host in fleet.hosts if host is not admitted))
    assert fleet.state
    assert fleet.state.counts["admitted"] == 1


def test_a_count_that_is_refused_is_not_retried_without_a_pause(begin: Begin) -> None:
    fleet = begin(5, 3, QUICK)
    fleet.run(SOON, until=is_in(fleet, "running"))
    fleet.ensemble.forbidden.add(APP.agents)
    fleet.run(SOON)
    turns = sum(host.turns for host in fleet.hosts)
    fleet.run(SOON)
    assert fleet.state
    assert fleet.state.counts["proved"] == 3
    assert sum(host.turns for host in fleet.hosts) - turns < 3 * 3 * SOON


def test_a_host_that_failed_and_was_forgiven_stays_so_when_its_agent_is_restarted(begin: Begin) -> None:
    fleet = begin(6, 4, QUICK)
    for host in fleet.hosts:
        host.fails = True
    expect(fleet, "halted")
    failed = next(host for host in fleet.hosts if fleet.entry(host) == FAILED)
    for host in fleet.hosts:
        host.fails, host.deploys_for = host is failed, 50.0
    fleet.command("promote", force=True)
    fleet.run(5)
    failed.start()
    expect(fleet, "done", 10 * SOON)
    assert fleet.state
    assert fleet.state.forgiven == 1


def test_a_host_that_was_recreated_after_it_failed_waits_for_its_turn(begin: Begin) -> None:
    fleet = begin(7, 4, QUICK)
    for host in fleet.hosts:
        host.fails = True
    expect(fleet, "halted")
    failed = next(host for host in fleet.hosts if fleet.entry(host) == FAILED)
    failed.fails = False
    failed.ended, failed.has = {}, None
    failed.start()
    fleet.run(SOON)
    assert failed.has == OLD


def test_a_held_host_does_not_keep_a_fleet_from_finishing_its_rollback(begin: Begin) -> None:
    fleet = begin(8, 4, {**QUICK, "onFailure": "rollback", "maxInFlight": 2})
    for host in fleet.hosts:
        host.deploys_for = 1000.0
    fleet.run(SOON, until=lambda: bool(fleet.state and fleet.state.counts["admitted"] == 2))
    held, lost = [host for host in fleet.hosts if fleet.entry(host) == "admitted"]
    held.has = NEW  # its checks do not pass yet
    held.hold(True)
    lost.stop()
    expect(fleet, "rolled_back")


def test_a_rollout_that_is_deleted_on_the_way_starts_over(begin: Begin) -> None:
    fleet = begin(9, 6, QUICK)
    fleet.run(SOON, until=lambda: bool(fleet.state and fleet.state.counts["proved"] == 2))
    for path in [path for path in fleet.ensemble.nodes if path.startswith(APP.rollout(GENERATION))]:
        del fleet.ensemble.nodes[path]
        fleet.ensemble.fire(path)
    fleet.ensemble.check = lambda: None  # hosts that had it are unknown until they report it
    expect(fleet, "done")


@pytest.mark.parametrize("entry", ["admitted", "returning"])
def test_a_host_that_is_restarted_on_its_way_holds_up_no_other(begin: Begin, entry: str) -> None:
    fleet = begin(10, 12, {**QUICK, "onFailure": "rollback", "maxInFlight": 2})
    if entry == "returning":
        fleet.hosts[0].fails = True
        fleet.run(SOON, until=is_in(fleet, "rolling_back"))
    fleet.run(SOON, until=lambda: bool(fleet.state and fleet.state.counts[entry]))
    for host in fleet.hosts:
        if fleet.entry(host) == entry:
            host.restart()
    expect(fleet, "rolled_back" if entry == "returning" else "done")


def test_a_host_that_is_restarted_in_line_and_held_holds_up_no_other(begin: Begin) -> None:
    fleet = begin(11, 6, {**QUICK, "steps": [{"hosts": 1, "pause": True}]})
    expect(fleet, "paused")
    for host in fleet.hosts[:3]:
        host.restart()
        host.hold(True)
    fleet.command("promote")
    expect(fleet, "done")


@pytest.mark.parametrize("step", [{"hosts": "100%"}, {"names": ["web3"]}])
@pytest.mark.parametrize("count", [5, 60])
def test_a_soak_ends_in_time_even_if_no_host_waits_in_line(begin: Begin, count: int, step: dict[str, object]) -> None:
    fleet = begin(12, count, {**QUICK, "steps": [{**step, "soak": 30}], "maxInFlight": "100%"})
    expect(fleet, "soaking")
    began = fleet.now
    fleet.run(SOON, until=lambda: not is_in(fleet, "soaking")())
    assert 30 <= fleet.now - began < 40


def test_a_host_that_is_held_keeps_its_place_until_its_deployment_has_ended() -> None:
    release = Release(URL, NEW, "site")
    state = begin_rollout(release, True, Release(URL, OLD, "site"), 2)
    state = decide(state.parsed_plan(), state, Ask("web0", {})).state
    host = HostView("web0", is_held=True, is_busy=True)
    assert next_move(state, state.parsed_plan(), ADMITTED, host) == Wait.IN_LINE
    assert next_move(state, state.parsed_plan(), ADMITTED, replace(host, is_busy=False)) == Withdraw("web0", ADMITTED)


def test_a_connection_that_is_lost_for_a_moment_costs_no_place_in_the_line(begin: Begin) -> None:
    fleet = begin(13, 3, {**QUICK, "steps": [{"hosts": 1, "pause": True}]})
    expect(fleet, "paused")
    host = next(host for host in fleet.hosts if fleet.entry(host) is None)
    assert host.part
    assert host.session
    places = fleet.ensemble.children(f"{APP.rollout(GENERATION)}/line")
    known, host.session.client_id = host.session.client_id, None
    host.part.follow()
    host.session.client_id = known
    host.part.follow()
    assert fleet.ensemble.children(f"{APP.rollout(GENERATION)}/line") == places


@pytest.mark.parametrize(
    ("keys", "what"),
    [({}, "lost"), ({"rolledBackFrom": OLD}, "given up")],
    ids=["disappear", "come to nothing in a rollback"],
)
def test_a_host_records_few_of_many_others_that_end_together_before_it_looks_after_itself(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], what: str
) -> None:
    fleet = begin(1, 60, {**QUICK, "maxInFlight": "100%", "maxFailures": "100%", "progressDeadline": 60}, **keys)
    for host in fleet.hosts:
        host.deploys_for = 1e9
    fleet.run(30, until=lambda: fleet.state is not None and fleet.state.counts[ADMITTED] == 60)
    turn = SimulatedHost.turn
    noted = [0]

    def ended() -> int:
        assert fleet.state
        return fleet.state.counts[LOST] if what == "lost" else fleet.state.given_up

    def count(host: SimulatedHost) -> None:
        before = ended()
        turn(host)
        noted.append(ended() - before)

    monkeypatch.setattr(SimulatedHost, "turn", count)
    for host in fleet.hosts[1:] if what == "lost" else ():
        host.stop()
    # Within two deadlines at most, although each is noted separately.
    fleet.run(3600 if what == "lost" else 120, until=lambda: ended() >= 59)
    assert ended() >= 59
    assert max(noted) <= MOST


def test_a_host_to_be_given_up_is_not_left_to_the_next_deadline_because_of_concurrent_writes(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = begin(1, 30, {**QUICK, "maxInFlight": "100%", "progressDeadline": 60}, rolledBackFrom=OLD)
    for host in fleet.hosts:
        host.deploys_for = FOR_EVER
    fleet.run(30, until=lambda: fleet.state is not None and fleet.state.counts[ADMITTED] == 30)
    commit = fleet.ensemble.commit

    def overtaken(writes: list[Write]) -> bool:
        return fleet.chance.random() < 0.5 and commit(writes)

    monkeypatch.setattr(fleet.ensemble, "commit", overtaken)
    fleet.run(90, until=lambda: fleet.state is not None and fleet.state.given_up >= 30)
    assert fleet.state
    assert fleet.state.given_up >= 30


def test_a_host_that_was_admitted_just_before_the_deadline_counts_as_over_is_not_given_up(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = begin(1, 2, {**QUICK, "maxInFlight": 2, "progressDeadline": 60}, rolledBackFrom=OLD)
    first, second = fleet.hosts
    for host in fleet.hosts:
        host.deploys_for = FOR_EVER
    second.hold(True)
    fleet.run(30, until=lambda: fleet.entry(first) == ADMITTED)
    fleet.run(10)
    list_those = RolloutZnodes.in_flight_entries

    def admit_then_list(znodes: RolloutZnodes) -> dict[str, HostEntry]:
        if fleet.entry(second) is None:
            second.hold(False)
            second.turn()
            second.turn()
        return list_those(znodes)

    monkeypatch.setattr(RolloutZnodes, "in_flight_entries", admit_then_list)
    fleet.run(100, until=lambda: fleet.entry(second) is not None)
    fleet.run(5)
    assert fleet.entry(second) == ADMITTED


@pytest.mark.parametrize("seed", range(3))
def test_a_host_to_be_given_up_is_not_left_to_the_next_deadline_because_a_request_has_failed(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    fleet = begin(seed, 30, {**QUICK, "maxInFlight": "100%", "progressDeadline": 60}, rolledBackFrom=OLD)
    for host in fleet.hosts:
        host.deploys_for = FOR_EVER
    fleet.run(30, until=lambda: fleet.state is not None and fleet.state.counts[ADMITTED] == 30)
    commit = FakeSession.commit

    def fail_perhaps(session: FakeSession, writes: list[Write]) -> bool:
        if fleet.chance.random() < 0.3:
            raise SessionTroubleError("connection loss")
        return commit(session, writes)

    monkeypatch.setattr(FakeSession, "commit", fail_perhaps)
    fleet.run(100, until=lambda: fleet.state is not None and fleet.state.given_up >= 30)
    assert fleet.state
    assert fleet.state.given_up >= 30


JUNK = b'{"state": "proved", "moves": "many"}'
"""An entry that no agent has written."""


def make_unreadable(fleet: Fleet, parent: str, host: SimulatedHost, *, forbid: bool) -> None:
    """Make the entry of a host in the rollout unreadable for all."""
    path = f"{APP.rollout(GENERATION)}/{parent}/{host.name}"
    assert path in fleet.ensemble.nodes
    if forbid:
        fleet.ensemble.forbidden.add(path)
    else:
        fleet.ensemble.nodes[path] = replace(fleet.ensemble.nodes[path], data=JUNK)


@pytest.mark.parametrize("forbid", [True, False], ids=["forbidden", "junk"])
def test_a_soak_ends_even_if_the_entry_of_a_host_that_has_disappeared_cannot_be_read(
    begin: Begin, forbid: bool
) -> None:
    fleet = begin(1, 4, {**QUICK, "steps": [{"names": ["web0"], "soak": 30}], "maxInFlight": 1})
    expect(fleet, "soaking")
    fleet.hosts[0].stop()
    make_unreadable(fleet, "hosts", fleet.hosts[0], forbid=forbid)
    expect(fleet, "done")


@pytest.mark.parametrize("forbid", [True, False], ids=["forbidden", "junk"])
def test_a_host_that_disappears_is_noticed_even_if_the_entry_of_another_cannot_be_read(
    begin: Begin, forbid: bool
) -> None:
    fleet = begin(1, 4, {**QUICK, "maxInFlight": 4, "maxFailures": 3, "progressDeadline": 10_000})
    for host in fleet.hosts:
        host.deploys_for = FOR_EVER
    fleet.run(SOON, until=lambda: bool(fleet.state and fleet.state.counts["admitted"] == 4))
    first, second, *_others = fleet.hosts
    make_unreadable(fleet, "in_flight", first, forbid=forbid)
    first.stop()
    fleet.run(SOON)
    second.stop()
    fleet.run(SOON, until=lambda: fleet.entry(second) == LOST)
    assert fleet.entry(second) == LOST


@pytest.mark.parametrize("forbid", [True, False], ids=["forbidden", "junk"])
def test_a_host_that_hangs_is_given_up_even_if_the_entry_of_another_cannot_be_read(begin: Begin, forbid: bool) -> None:
    fleet = begin(1, 4, {**QUICK, "maxInFlight": 4, "onFailure": "rollback", "progressDeadline": 60})
    for host in fleet.hosts:
        host.never_returns = True
    last = fleet.hosts[-1]
    last.deploys_for, last.fails = 30.0, True
    fleet.run(SOON, until=lambda: bool(fleet.state and fleet.state.counts["returning"] == 3))
    first, second, *_others = (host for host in fleet.hosts if fleet.entry(host) == "returning")
    make_unreadable(fleet, "in_flight", first, forbid=forbid)
    fleet.run(3 * SOON, until=lambda: fleet.entry(second) == FAILED)
    assert fleet.entry(second) == FAILED


def away_for_an_hour(fleet: Fleet, last: SimulatedHost) -> None:
    """Have no server answer for an hour, and `last` be the last to have a connection again."""
    fleet.lose_ensemble(3600)
    for host in fleet.hosts:
        if host is not last:
            host.turn()


@pytest.mark.parametrize("seed", range(5))
def test_no_soak_ends_while_no_server_answers(begin: Begin, seed: int) -> None:
    """A canary that falls ill meanwhile can't report it before others have a connection again."""
    fleet = begin(seed, 5, {**QUICK, "steps": [{"names": ["web4"], "soak": 60}]})
    expect(fleet, "soaking")
    fleet.run(5)
    canary = fleet.hosts[4]
    canary.is_sick = True
    away_for_an_hour(fleet, canary)
    expect(fleet, "halted")
    assert fleet.state
    assert fleet.state.reason.startswith("web4 failed: fell ill")
    assert fleet.state.step == 0


@pytest.mark.parametrize("seed", range(5))
def test_no_deadline_runs_down_while_no_server_answers(begin: Begin, seed: int) -> None:
    """A host can't report the outcome it reaches meanwhile before others have a connection again."""
    fleet = begin(seed, 5, {**QUICK, "onFailure": "rollback"})
    fleet.run(SOON, until=lambda: "admitted" in map(fleet.entry, fleet.hosts))
    away_for_an_hour(fleet, next(host for host in fleet.hosts if fleet.entry(host) == "admitted"))
    fleet.run(SOON, until=lambda: fleet.state is not None and fleet.state.phase in {"done", "rolled_back"})
    assert fleet.state
    assert fleet.state.phase == "done", fleet.state.reason


def lose_ensemble_often(fleet: Fleet, phase: str) -> None:
    """Have no connection last longer than 30 s, for half an hour or as long as the rollout is in a phase."""
    for _number in range(60):
        fleet.run(30, until=lambda: not is_in(fleet, phase)())
        if not is_in(fleet, phase)():
            return
        fleet.lose_ensemble(1)


@pytest.mark.parametrize("count", [5, 50])
def test_a_soak_ends_even_if_no_connection_lasts_as_long(begin: Begin, count: int) -> None:
    """In a large fleet a host looks at the others so rarely that it has no turn between two outages."""
    fleet = begin(1, count, {**QUICK, "steps": [{"names": ["web4"], "soak": 300}]})
    expect(fleet, "soaking")
    lose_ensemble_often(fleet, "soaking")
    assert fleet.state
    assert (fleet.state.phase, fleet.state.step) == ("running", 1)


@pytest.mark.parametrize("count", [5, 50])
def test_a_deadline_runs_down_even_if_no_connection_lasts_as_long(begin: Begin, count: int) -> None:
    fleet = begin(1, count, {**QUICK, "progressDeadline": 300})
    for host in fleet.hosts:
        host.deploys_for = FOR_EVER
    fleet.run(SOON, until=lambda: bool(fleet.state and fleet.state.counts[ADMITTED]))
    lose_ensemble_often(fleet, "running")
    assert is_in(fleet, "halted")()


@pytest.mark.parametrize("seed", range(5))
def test_a_canary_that_is_gone_after_an_outage_counts_as_lost_even_if_its_session_ends_late(
    begin: Begin, seed: int
) -> None:
    """ZooKeeper ends sessions at full ticks, and there are two in the shortest session timeout."""
    fleet = begin(seed, 5, {**QUICK, "steps": [{"names": ["web4"], "soak": 60}]})
    expect(fleet, "soaking")
    fleet.run(55)
    for host in fleet.hosts:
        host.turn()
    canary = fleet.hosts[4]
    canary.is_up = False
    fleet.lose_ensemble(100)
    assert canary.session
    fleet.run(1.4 * canary.session.timeout)
    fleet.ensemble.end_session(canary.session.owner)
    expect(fleet, "halted")
    assert fleet.state
    assert fleet.state.reason.startswith("web4 lost")


@pytest.mark.parametrize("state", ["active", "checking"])
def test_an_agent_without_rollouts_that_has_the_release_holds_up_no_other(begin: Begin, state: str) -> None:
    """For example an older version, which deploys immediately, or an agent that may not write in the rollout."""
    fleet = begin(1, 4, {**QUICK, "onFailure": "rollback"})
    status = {"name": "old", "state": state, "generation": GENERATION, "commitId": NEW}
    fleet.ensemble.nodes[APP.agent("old")] = Node(json.dumps(status).encode(), owner=-1)
    expect(fleet, "done" if state == "active" else "running")
