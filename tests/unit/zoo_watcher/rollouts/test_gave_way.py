"""A host that a halted rollout was done without, since a boot cut it off, is as any other once it is admitted anew."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from support.simulated_fleet import NEW, OLD, URL
from zoo_watcher.desired import Desired
from zoo_watcher.rollouts.participation import Participation
from zoo_watcher.rollouts.turn import HostView, Wait, next_move
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.rollout_events import Event
from zoo_watcher.wire.rollout_phases import HALTED, RUNNING
from zoo_watcher.wire.rollout_records import ADMITTED, LOST, begin


@pytest.mark.parametrize("says_so", [True, False], ids=["said", "promoted before it could say so"])
def test_a_halt_takes_nothing_back_of_a_host_that_gave_way_in_an_earlier_one(says_so: bool) -> None:
    facts: dict[str, Any] = {}
    release, stable = Release(URL, NEW, "site"), Release(URL, OLD, "site")
    state = begin(release, {"maxInFlight": 2}, stable, 3)
    part = object.__new__(Participation)
    part._facts = SimpleNamespace(gather=lambda *_words: HostView(name="web1", **facts))  # type: ignore[assignment]
    part.desired, part._lines, part._gave_way = Desired(7, 3, release), {}, False

    def move(phase: str, entry: str, *, takes_part: bool, **now: Any) -> Event | Wait:
        part._takes_part = takes_part
        facts.clear()
        facts.update(now)
        view = SimpleNamespace(state=state.changed(phase=phase), entry=entry, is_given_up=False)
        host = part._look_at_host(view)  # type: ignore[arg-type]
        return next_move(view.state, view.state.parsed_plan(), entry, host)

    live = {"has": NEW, "is_switched": True}
    said = move(HALTED, ADMITTED, takes_part=False, is_cut_off=True, **live)
    assert getattr(said, "outcome", None) == LOST
    assert getattr(move(HALTED, ADMITTED, takes_part=True, has=OLD), "outcome", None) == LOST
    if says_so:
        move(HALTED, LOST, takes_part=True, has=OLD)
    move(RUNNING, ADMITTED, takes_part=True, has=OLD, is_busy=True)
    assert move(HALTED, ADMITTED, takes_part=True, is_busy=True, **live) is Wait.IN_LINE
