"""What a rollout tells a host to deploy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.simulated_fleet import NEW, OLD, URL
from zoo_watcher.convergence import published
from zoo_watcher.desired import Assignment, Desired, Standstill
from zoo_watcher.rollouts.assignment import assign, stable_of
from zoo_watcher.rollouts.turn import HostView
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.rollout_records import ADMITTED, FAILED, LOST, PROVED, RETURNING, URGENT, begin

RELEASE = Release(URL, NEW, "site")
DESIRED = Desired(7, 3, RELEASE)
HALTED = replace(begin(RELEASE, True, Release(URL, OLD, "site"), 3), phase="halted", reason="web1 lost")
CUT_OFF = HostView("web1", has=NEW, is_switched=True, is_cut_off=True)


def test_a_stable_release_that_failed_in_an_earlier_rollout_is_tried_in_the_next() -> None:
    state = begin(RELEASE, True, Release(URL, OLD, "site"), 1)
    first, second = (stable_of(Desired(generation, 1, RELEASE), state) for generation in (7, 8))
    assert first
    assert second
    assert first.generation != second.generation


def test_no_status_shows_the_generation_of_a_stable_release() -> None:
    assert [published(generation) for generation in (7, 0, -7)] == [7, None, None]


@pytest.mark.parametrize("entry", [ADMITTED, LOST, FAILED])
def test_a_host_that_a_release_took_down_gets_the_stable_one_where_the_rollout_is_halted(entry: str) -> None:
    made = assign(DESIRED, HALTED, HALTED.parsed_plan(), entry, CUT_OFF)
    message = "the agent died while the release was being activated or checked; the rollout is halted: web1 lost"
    assert made == Assignment(stable_of(DESIRED, HALTED), Standstill(7, "halted", message))


@pytest.mark.parametrize(
    ("state", "entry", "host"),
    [
        ({"phase": "running"}, LOST, {}),
        ({"had": 2, "fleet": 3}, LOST, {}),
        ({"stable": None}, LOST, {}),
        ({"stable": Release(URL, OLD, "other").to_object()}, LOST, {}),
        ({"release": {**RELEASE.to_object(), "rolledBackFrom": OLD}}, LOST, {}),
        ({}, PROVED, {}),
        ({}, LOST, {"is_held": True}),
        ({}, LOST, {"is_cut_off": False}),
    ],
    ids=["goes on", "most have it", "first", "elsewhere", "rollback", "proved", "held", "being proved"],
)
def test_otherwise_it_proves_the_release_once_more(state: dict[str, Any], entry: str, host: dict[str, Any]) -> None:
    rollout = replace(HALTED, **state)
    assert assign(DESIRED, rollout, rollout.parsed_plan(), entry, replace(CUT_OFF, **host)) == Assignment(DESIRED)


def test_a_host_that_was_given_up_says_what_it_waits_for() -> None:
    state = replace(HALTED, phase="running", reason="")
    made = assign(DESIRED, state, state.parsed_plan(), LOST, HostView("web1", has=OLD, is_given_up=True))
    message = "did not finish in time, twice: waits until the rollout is done"
    assert made == Assignment(None, Standstill(7, "waiting", message))


def test_a_host_that_was_lost_says_so() -> None:
    made = assign(DESIRED, HALTED, HALTED.parsed_plan(), LOST, HostView("web1", has=OLD))
    message = "this host was lost on its way, and has what it had before; the rollout is halted: web1 lost"
    assert made == Assignment(None, Standstill(7, "halted", message))


@pytest.mark.parametrize(
    ("phase", "entry", "at_once"),
    [("running", ADMITTED, 2), ("rolling_back", RETURNING, 2), ("running", URGENT, 50), ("running", PROVED, 50)],
)
def test_a_host_with_a_place_spreads_its_fetch_over_no_more_hosts_than_there_are_places(
    phase: str, entry: str | None, at_once: int
) -> None:
    """Otherwise each of a thousand hosts that go one by one would wait as if all fetched at the same time."""
    state = replace(HALTED, phase=phase, places=2)
    made = assign(replace(DESIRED, fleet=50), state, state.parsed_plan(), entry, HostView("web1", has=OLD))
    assert made.desired
    assert made.desired.fleet == at_once


@pytest.mark.parametrize("entry", [None, LOST, PROVED, FAILED])
def test_a_host_with_another_release_once_the_rollout_is_done_waits_for_its_turn(entry: str | None) -> None:
    state = replace(HALTED, phase="done")
    made = assign(DESIRED, state, state.parsed_plan(), entry, HostView("web1", has=OLD))
    assert made == Assignment(
        None, Standstill(7, "waiting", "the rollout is done without this host: waits for its turn")
    )


@pytest.mark.parametrize("is_given_up", [False, True])
def test_a_host_that_follows_spreads_its_fetch_over_no_more_hosts_than_there_are_places(is_given_up: bool) -> None:
    """It gives up its turn at the progress deadline, and the wait of an entire fleet may be longer than that."""
    state = replace(HALTED, phase="done", places=2, release={**HALTED.release, "rolledBackFrom": OLD})
    host = HostView("web1", has=OLD, is_given_up=is_given_up, is_at_head=True)
    made = assign(replace(DESIRED, fleet=50), state, state.parsed_plan(), LOST, host)
    assert made.desired
    assert made.desired.fleet == 2
