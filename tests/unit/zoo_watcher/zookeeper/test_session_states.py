"""How rarely a state that lasts is logged, and what is remembered of earlier states."""

from __future__ import annotations

import logging

import pytest

from zoo_watcher.zookeeper import session_states
from zoo_watcher.zookeeper.session_states import DISCONNECTED, EXPIRED, SYNC_CONNECTED, SessionStates


class Clock:
    """Stands for the module `time`."""

    now = 1000.0
    set_by = 5000.0
    """The seconds by which the host's clock is ahead of the monotonic one."""

    def monotonic(self) -> float:
        """Seconds of the monotonic clock."""
        return self.now

    def time(self) -> float:
        """Seconds of the host's clock."""
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


def test_the_reminders_start_over_after_a_change(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    states = SessionStates()
    clock.now += 5
    states.remind("x")
    states.enter(SYNC_CONNECTED)
    assert states.remind("x") == 3600
    states.enter(DISCONNECTED)
    caplog.clear()
    assert states.remind("x") == 5
    assert not caplog.messages


def lose(states: SessionStates, clock: Clock, times: int, seconds: float = 0.1) -> None:
    """Lose `times` connections, each after these seconds, and look at the state after each, as the agent does."""
    for _time in range(times):
        for state in (SYNC_CONNECTED, DISCONNECTED):
            states.enter(state, "server=zk1:2181" if state == SYNC_CONNECTED else "")
            clock.now += seconds
            states.remind("Connection dropped: closed")


def test_connections_that_are_all_lost_immediately_are_logged_a_few_times_and_then_counted_ever_more_rarely(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    states = SessionStates()
    lose(states, clock, 6000, seconds=3)
    beginning = [line.split(",")[0].split(":")[0] for line in caplog.messages[:8]]
    assert beginning == [
        *["session SyncConnected", "session Disconnected"] * 3,
        "session SyncConnected",
        "4 connections in 24 s were lost at once",
    ]
    assert caplog.messages[7] == "4 connections in 24 s were lost at once: Connection dropped: closed"
    seconds = [60, 600, *range(3600, 10 * 3600 + 1, 3600)]
    assert [line.split(" were")[0] for line in caplog.messages[8:]] == [
        f"{lasted // 6} connections in {lasted} s" for lasted in seconds
    ]
    assert states.counts[DISCONNECTED] == 6000, "each counts, for the metrics"


def test_a_connection_that_lasts_after_them_is_logged_and_so_is_each_loss_from_then_on(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    states = SessionStates()
    lose(states, clock, 10)
    states.enter(SYNC_CONNECTED, "server=zk2:2181")
    caplog.clear()
    clock.now += 2
    assert states.remind("") == 3
    clock.now += 3
    assert states.remind("") == 3600
    assert states.remind("") == 3600
    states.enter(DISCONNECTED)
    assert [line.split(":")[0] for line in caplog.messages] == [
        "session SyncConnected, server=zk2",
        "session Disconnected",
    ]


def test_each_loss_is_logged_when_one_member_after_the_other_is_restarted(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lose(SessionStates(), clock, 10, seconds=5)
    assert len([line for line in caplog.messages if line.startswith("session SyncConnected")]) == 10
    assert len([line for line in caplog.messages if line.startswith("session Disconnected")]) == 10


def test_an_unreachable_ensemble_is_logged_even_after_connections_that_were_lost_immediately(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    states = SessionStates()
    lose(states, clock, 10)
    caplog.clear()
    clock.now += 5
    states.remind("Connection refused")
    assert caplog.messages == ["session still Disconnected after 5 s: Connection refused"]


def test_the_last_contact_is_now_while_connected_and_then_stays_even_after_the_session_has_expired(
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
