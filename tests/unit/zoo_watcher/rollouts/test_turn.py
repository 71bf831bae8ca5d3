"""What a host does next in a rollout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.simulated_fleet import NEW, OLD, URL
from zoo_watcher.rollouts.turn import HostView, Wait, next_move
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.rollout_events import Ask, Has, Outcome
from zoo_watcher.wire.rollout_records import ADMITTED, FAILED, LOST, PROVED, RETURNED, RETURNING, RolloutRecord, begin
from zoo_watcher.wire.rollout_rules import decide

STATE = begin(Release(URL, NEW, "site"), {"steps": [{"hosts": 1, "pause": True}]}, Release(URL, OLD, "site"), 3)


@pytest.mark.parametrize(
    "keys",
    [{"ended": None}, *({"ended": ("active", None), mark: True} for mark in ("is_held", "is_drained"))],
    ids=["proves it anew", "held", "drained"],
)
def test_a_proved_host_does_not_count_as_ill_while_its_health_means_nothing(keys: dict[str, Any]) -> None:
    host = HostView("web1", has=NEW, is_switched=True, sickness="connection refused", **keys)
    assert next_move(STATE, STATE.parsed_plan(), PROVED, host) is Wait.ASIDE


def test_a_proved_host_that_falls_ill_has_failed() -> None:
    host = HostView("web1", has=NEW, is_switched=True, sickness="connection refused", ended=("active", None))
    move = next_move(STATE, STATE.parsed_plan(), PROVED, host)
    assert isinstance(move, Outcome)
    assert (move.outcome, move.message) == (FAILED, "fell ill: connection refused")


def test_a_proved_host_that_is_not_healthy_in_the_time_of_its_proof_has_failed() -> None:
    """This holds after a boot as before it."""
    host = HostView("web1", has=NEW, is_switched=True, sickness="connection refused", awaits_health=True)
    failed = Outcome("web1", PROVED, FAILED, "not healthy in time: connection refused")
    assert next_move(STATE, STATE.parsed_plan(), PROVED, host) == failed
    for excused in (replace(host, is_held=True), replace(host, is_drained=True)):
        assert next_move(STATE, STATE.parsed_plan(), PROVED, excused) is Wait.ASIDE


def test_a_proved_host_that_is_reinstalled_and_fails_counts() -> None:
    host = HostView("web1", ended=("failed", "disk full"))
    assert next_move(STATE, STATE.parsed_plan(), PROVED, host) == Outcome("web1", PROVED, FAILED, "disk full")


@pytest.mark.parametrize("entry", [None, LOST])
def test_a_host_that_had_the_release_and_does_not_become_healthy_stands_in_line(entry: str | None) -> None:
    host = HostView("web1", has=NEW, is_switched=True, sickness="connection refused", awaits_health=True)
    assert next_move(STATE, STATE.parsed_plan(), entry, host) is Wait.IN_LINE
    failed = Outcome("web1", ADMITTED, FAILED, "not healthy in time: connection refused")
    assert next_move(STATE, STATE.parsed_plan(), ADMITTED, host) == failed


@pytest.mark.parametrize("rolled_back_from", [{}, {"rolledBackFrom": OLD}], ids=["rollout", "rollback"])
def test_a_host_that_follows_and_was_not_healthy_in_time_frees_its_turn(rolled_back_from: dict[str, str]) -> None:
    """It may stay like that permanently, if there is nothing that it could go back to."""
    state = replace(STATE, phase="done", release={**STATE.release, **rolled_back_from})
    host = HostView("web1", has=NEW, is_switched=True, sickness="connection refused", is_at_head=True)
    assert next_move(state, state.parsed_plan(), None, host) is Wait.IN_LINE
    assert next_move(state, state.parsed_plan(), None, replace(host, awaits_health=True)) is Wait.ASIDE


def test_a_host_that_is_held_as_it_follows_keeps_its_turn_until_the_live_release_has_its_outcome() -> None:
    state = replace(STATE, phase="done")
    host = HostView("web1", has=NEW, is_switched=True, is_held=True, is_busy=True, is_at_head=True)
    assert next_move(state, state.parsed_plan(), None, host) is Wait.IN_LINE
    assert next_move(state, state.parsed_plan(), None, replace(host, is_busy=False)) is Wait.ASIDE
    assert next_move(state, state.parsed_plan(), None, replace(host, has=OLD, is_switched=False)) is Wait.ASIDE


def test_a_host_frees_its_place_when_it_has_been_healthy_for_as_long_as_the_plan_says() -> None:
    host = HostView("web1", has=NEW, is_switched=True, ended=("active", None), healthy_for=9.9)
    plan = STATE.parsed_plan()
    assert plan.min_healthy == 10
    assert next_move(STATE, plan, ADMITTED, host) is Wait.IN_LINE
    assert next_move(STATE, plan, ADMITTED, replace(host, healthy_for=10.0)) == Outcome("web1", ADMITTED, PROVED)


@pytest.mark.parametrize("phase", ["running", "soaking", "paused", "halted"])
def test_a_lost_host_that_is_back_is_proved_when_it_has_been_healthy_for_as_long_as_the_plan_says(phase: str) -> None:
    host = HostView("web1", has=NEW, is_switched=True, ended=("active", None), healthy_for=9.9)
    state = replace(STATE, phase=phase)
    assert next_move(state, state.parsed_plan(), LOST, host) is Wait.ASIDE
    assert next_move(state, state.parsed_plan(), LOST, replace(host, healthy_for=10.0)) == Has("web1", LOST)
    assert next_move(state, state.parsed_plan(), None, host) == Has("web1", None)


def test_a_host_that_does_not_serve_asks_to_go_back_urgently() -> None:
    back = begin(Release(URL, OLD, "site", extra={"rolledBackFrom": NEW}), {"maxInFlight": 1}, None, 3)
    sick = HostView("web1", has=NEW, sickness="connection refused")
    assert next_move(back, back.parsed_plan(), None, sick) == Ask("web1", {}, None, urgent=True)
    assert next_move(back, back.parsed_plan(), None, replace(sick, sickness=None)) is Wait.IN_LINE
    returns = replace(STATE, phase="rolling_back")
    switched = replace(sick, is_switched=True)
    assert next_move(returns, STATE.parsed_plan(), PROVED, switched) == Ask("web1", {}, PROVED, urgent=True)
    assert next_move(returns, STATE.parsed_plan(), PROVED, replace(switched, sickness=None)) is Wait.IN_LINE_BACK


def test_a_new_host_whose_stable_release_fails_gets_the_one_that_mends_it() -> None:
    host = HostView("web4", stable_ended=("failed", "hook after_activate: exit status 1"))
    assert next_move(STATE, STATE.parsed_plan(), None, host) is Wait.IN_LINE


def test_a_host_has_not_returned_while_the_release_is_live_on_it() -> None:
    state = replace(STATE, phase="rolling_back")
    host = HostView("web1", has=OLD, stable_ended=("active", None))
    assert next_move(state, STATE.parsed_plan(), RETURNING, host) == Outcome("web1", RETURNING, RETURNED)
    still = replace(host, has=NEW, is_switched=True)
    assert next_move(state, STATE.parsed_plan(), RETURNING, still) is Wait.IN_LINE_BACK


def test_a_host_that_was_back_before_its_absence_was_noticed_is_lost_where_the_rollout_is_halted() -> None:
    state = replace(STATE, phase="halted")
    host = HostView("web1", has=NEW, is_switched=True, is_cut_off=True)
    move = next_move(state, STATE.parsed_plan(), ADMITTED, host)
    assert isinstance(move, Outcome)
    assert (move.outcome, decide(STATE.parsed_plan(), admitted(state), move).entry) == (LOST, LOST)
    assert next_move(STATE, STATE.parsed_plan(), ADMITTED, host) is Wait.IN_LINE
    assert next_move(state, STATE.parsed_plan(), ADMITTED, replace(host, is_cut_off=False)) is Wait.IN_LINE


def admitted(state: RolloutRecord) -> RolloutRecord:
    """The state, with one host on its way."""
    return replace(state, counts={ADMITTED: 1})
