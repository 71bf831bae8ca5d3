"""How rarely a state that lasts is told."""

from __future__ import annotations

import logging

import pytest

from zoo_watcher.zookeeper import session_states
from zoo_watcher.zookeeper.session_states import DISCONNECTED, SYNC_CONNECTED, SessionStates


class Clock:
    """Stands for the module `time`."""

    now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the states look at."""
    clock = Clock()
    monkeypatch.setattr(session_states, "time", clock)
    return clock


def test_an_outage_of_a_day_is_a_few_lines_with_the_cause(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    states = SessionStates()
    told = []
    caplog.set_level(logging.WARNING)
    end = clock.now + 24 * 3600
    while clock.now < end:
        before = len(caplog.messages)
        pause = states.remind("Connection dropped: refused")
        told += [clock.now - 1000] * (len(caplog.messages) - before)
        assert pause > 0
        clock.now += min(pause, 60)
    assert told[:5] == [5, 60, 600, 3600, 7200]
    assert len(told) == 26
    assert caplog.messages[1] == "session still Disconnected after 60 s: Connection dropped: refused"


def test_after_a_change_it_begins_anew(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    states = SessionStates()
    clock.now += 5
    states.remind("x")
    states.enter(SYNC_CONNECTED)
    assert states.remind("x") == 3600
    states.enter(DISCONNECTED)
    caplog.clear()
    assert states.remind("x") == 5
    assert not caplog.messages
