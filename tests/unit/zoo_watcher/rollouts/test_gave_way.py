"""A host that was cut off by a boot and gave way in a halted rollout is like any other once it is admitted again."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Union

import pytest

from support.simulated_fleet import NEW, OLD, URL
from zoo_watcher.desired import Desired
from zoo_watcher.rollouts.participation import Participation
from zoo_watcher.rollouts.turn import HostView, Wait, next_move
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.rollout_events import Event
from zoo_watcher.wire.rollout_phases import HALTED, RUNNING
from zoo_watcher.wire.rollout_records import ADMITTED, LOST, begin

Move = Callable[..., Union[Event, Wait]]
LIVE = {"has": NEW, "is_switched": True}


@pytest.fixture
def move() -> Move:
    """A function that returns a host's next move in a phase, with an entry and the facts in its keyword arguments."""
    facts: dict[str, Any] = {}
    release, stable = Release(URL, NEW, "site"), Release(URL, OLD, "site")
    state = begin(release, {"maxInFlight": 2}, stable, 3)
    part = object.__new__(Participation)
    part._facts = SimpleNamespace(gather=lambda *_words: HostView(name="web1", **facts))  # type: ignore[assignment]
    part.desired, part._lines = Desired(7, 3, release), {}
    part._gave_way = part._may_not_wait = False

    def move(phase: str, entry: str, *, takes_part: bool, **now: Any) -> Event | Wait:
        part._takes_part = takes_part
        facts.clear()
        facts.update(now)
        view = SimpleNamespace(state=state.changed(phase=phase), entry=entry, is_given_up=False)
        host = part._look_at_host(view)  # type: ignore[arg-type]
        return next_move(view.state, view.state.parsed_plan(), entry, host)

    return move


def test_a_halt_takes_no_release_from_a_host_that_gave_way_in_an_earlier_one(move: Move) -> None:
    said = move(HALTED, ADMITTED, takes_part=False, is_cut_off=True, **LIVE)
    assert getattr(said, "outcome", None) == LOST
    assert getattr(move(HALTED, ADMITTED, takes_part=True, has=OLD), "outcome", None) == LOST
    move(HALTED, LOST, takes_part=True, has=OLD)
    move(RUNNING, ADMITTED, takes_part=True, has=OLD, is_busy=True)
    assert move(HALTED, ADMITTED, takes_part=True, is_busy=True, **LIVE) is Wait.IN_LINE


def test_nor_from_a_host_that_was_promoted_before_it_could_record_that_it_gave_way(move: Move) -> None:
    move(HALTED, ADMITTED, takes_part=False, is_cut_off=True, **LIVE)
    assert move(RUNNING, ADMITTED, takes_part=True, has=OLD, is_busy=True) is Wait.IN_LINE
    assert move(HALTED, ADMITTED, takes_part=True, is_busy=True, **LIVE) is Wait.IN_LINE
