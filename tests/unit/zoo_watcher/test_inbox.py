"""What the agent's loop waits for."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from zoo_watcher.inbox import Inbox

LONG = 60.0


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """An inbox that is woken by signals."""
    made = Inbox()
    made.be_woken_by_signals()
    yield made
    signal.set_wakeup_fd(-1)


def test_messages_come_in_their_order_and_once(inbox: Inbox) -> None:
    for number in range(3):
        inbox.put(number)
    assert inbox.wait(LONG) == [0, 1, 2]
    assert inbox.wait(0) == []


def test_a_wake_before_the_wait_counts_and_counts_once(inbox: Inbox) -> None:
    inbox.wake()
    inbox.wake()
    assert inbox.wait(LONG) == []
    began = time.monotonic()
    assert inbox.wait(0.1) == []
    assert time.monotonic() - began >= 0.1


def test_another_thread_ends_a_wait(inbox: Inbox) -> None:
    threading.Timer(0.05, inbox.put, [1]).start()
    assert inbox.wait(LONG) == [1]


def test_more_wakes_than_a_pipe_holds_are_no_error(inbox: Inbox) -> None:
    for number in range(100_000):
        inbox.put(number)
    assert len(inbox.wait(LONG)) == 100_000


def test_a_signal_that_another_thread_is_given_ends_a_wait_and_its_handler_runs(inbox: Inbox) -> None:
    handled: list[int] = []
    before: Any = signal.signal(signal.SIGUSR1, lambda number, _frame: handled.append(number))
    go = threading.Event()

    def be_given_it() -> None:
        go.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        go.clear()

    try:
        threading.Thread(target=be_given_it).start()
        threading.Timer(0.05, go.set).start()
        assert inbox.wait(LONG) == []
        assert handled == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
