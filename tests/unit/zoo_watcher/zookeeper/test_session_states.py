"""How rarely a state that lasts is told, and what is remembered of those before it."""

from __future__ import annotations

import logging

import pytest

from zoo_watcher.zookeeper import session_states
from zoo_watcher.zookeeper.session_states import DISCONNECTED, EXPIRED, SYNC_CONNECTED, SessionStates


class Clock:
    """Stands for the module `time`."""

    now = 1000.0
    set_by = 5000.0
    """By how much the host's clock has been set, to be what it is."""

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def time(self) -> float:
        """Seconds, by the host's clock."""
        return self.now + self.set_by


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


def test_the_last_contact_is_now_while_connected_and_then_stays_also_after_the_session_has_expired(
    clock: Clock,
) -> None:
    states = SessionStates()
    assert states.last_contact == 0
    states.enter(SYNC_CONNECTED)
    clock.now += 100
    assert states.last_contact == 6100
    for state in (DISCONNECTED, EXPIRED, DISCONNECTED):
        states.enter(state)
        clock.now += 50
        assert states.last_contact == 6100
    clock.set_by += 3600
    assert states.last_contact == 9700, "a clock that is set keeps it as long ago as it is"
