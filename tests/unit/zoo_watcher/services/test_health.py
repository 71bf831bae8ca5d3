"""Whether a service is healthy: how results in a row are counted, and what a proof waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.service import Service
from support.waiting import wait_for
from zoo_watcher.config.config import Check
from zoo_watcher.errors import NotCheckedError
from zoo_watcher.services import health as health_module
from zoo_watcher.services.health import LOOK, Checker, Health, Supervisor


def check(port: int, kind: str = "tcp", **options: Any) -> Check:
    """A check of a port of this machine that is made every 20 ms."""
    return Check(**{"type": kind, "host": "127.0.0.1", "port": port, "interval": 0.02, "timeout": 0.5, **options})


def counted(settings: Check, answers: str) -> str:
    """Whether a checker is healthy (`1` yes, `0` no) after each of these results (`+` passed, `-` failed)."""
    checker = Checker(settings, lambda: None)
    healthy = ""
    for answer in answers:
        checker._note(None if answer == "+" else "down", checker._epoch)
        healthy += str(int(bool(checker.healthy)))
    return healthy


@pytest.mark.parametrize(
    ("rise", "fall", "answers", "healthy"),
    [
        (1, 2, "-+--+-+--", "011011110"),
        (1, 1, "+-+-", "1010"),
        (3, 2, "++-+++-+--", "0000011110"),
        (2, 3, "+-+-++--+---", "000001111110"),
    ],
)
def test_results_in_a_row_are_counted(rise: int, fall: int, answers: str, healthy: str) -> None:
    assert counted(check(1, rise=rise, fall=fall), answers) == healthy


def test_a_check_follows_its_service_down_and_up(service: Service) -> None:
    service.open()
    changed = threading.Event()
    checker = Checker(check(service.port), changed.set)
    assert not checker.healthy
    checker.start()
    wait_for(lambda: checker.healthy, "the service is seen to be up")
    assert changed.wait(5)
    changed.clear()
    service.close()
    wait_for(lambda: not checker.healthy, "the service is seen to be down")
    assert changed.wait(5)
    assert "Connection refused" in checker.reason
    service.open()
    wait_for(lambda: checker.healthy, "the service is seen to be up again")


def test_a_verdict_has_the_time_of_the_last_result_even_of_one_that_proves_nothing() -> None:
    checker = Checker(check(1), lambda: None)
    assert checker.answered_at == 0
    checker._note("down", checker._epoch)
    assert checker.answered_at > 0
    checker.answered_at = 0.0
    epoch = checker._epoch
    checker.prove()
    checker._note(None, epoch)
    assert checker.answered_at > 0


def test_the_result_of_a_check_from_before_the_proof_proves_nothing() -> None:
    checker = Checker(check(1), lambda: None)
    epoch = checker._epoch
    checker._note(None, epoch)
    assert checker.proved
    checker.prove()
    checker._note(None, epoch)
    assert checker.healthy
    assert not checker.proved
    checker._note(None, checker._epoch)
    assert checker.proved


def test_a_service_that_fails_after_a_switch_stays_healthy_until_it_has_fallen() -> None:
    checker = Checker(check(1, fall=2), lambda: None)
    checker._note(None, checker._epoch)
    checker.prove()
    checker._note("down", checker._epoch)
    assert checker.healthy
    checker._note("down", checker._epoch)
    assert not checker.healthy


def test_a_proof_waits_for_every_check_and_names_those_that_do_not_pass(service: Service) -> None:
    service.open()
    closed = Service()
    health = Health([check(service.port), check(closed.port)], lambda: None)
    health.start()
    health.begin_proof()
    never = threading.Event()
    assert not health.wait_proved(0.3, never.is_set)
    assert str(closed.port) in health.reason
    assert str(service.port) not in health.reason
    closed.open()
    try:
        assert health.wait_proved(10, never.is_set)
    finally:
        closed.close()
    assert health.reason == ""


def test_a_host_without_checks_is_proved_immediately() -> None:
    health = Health([], lambda: None)
    health.begin_proof()
    assert health.wait_proved(0, threading.Event().is_set)


def test_waiting_for_a_proof_ends_when_it_is_cancelled(service: Service) -> None:
    health = Health([check(service.port)], lambda: None)
    cancelled = threading.Event()

    def cancel() -> None:
        cancelled.set()
        health.wake()

    threading.Timer(0.05, cancel).start()
    assert not health.wait_proved(None, cancelled.is_set)


def test_after_a_switch_a_check_is_made_immediately_however_long_the_interval(service: Service) -> None:
    service.open()
    health = Health([check(service.port, "http", interval=60)], lambda: None)
    health.start()
    wait_for(lambda: health.proved, "the first answer")
    began = time.monotonic()
    health.begin_proof()
    assert health.wait_proved(10, threading.Event().is_set)
    assert time.monotonic() - began < 5


def test_a_check_that_hangs_no_longer_proves_health_and_its_next_result_does() -> None:
    changes: list[None] = []
    checker = Checker(check(1), lambda: changes.append(None))
    supervisor = Supervisor([checker])
    now = time.monotonic()
    checker._note(None, checker._epoch)
    for _second in range(int(checker.patience)):
        now += LOOK
        supervisor.look(now)
        assert checker.healthy
    for _second in range(3):
        now += LOOK
        supervisor.look(now)
    assert (checker.healthy, checker.proved) == (False, False)
    assert checker.reason == f"tcp check of port 1: no result for {checker.patience:g} s"
    assert len(changes) == 2, "it is told once"
    checker._note(None, checker._epoch)
    supervisor.look(now + LOOK)
    assert checker.healthy


def test_a_check_that_cannot_be_made_leaves_the_verdict_unchanged_for_as_long_as_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes: list[None] = []
    starved = False

    def ask(_check: Check) -> str | None:
        if starved:
            raise NotCheckedError("Too many open files")
        return None

    monkeypatch.setattr(health_module, "probe", ask)
    health = Health([check(1)], lambda: changes.append(None))
    (checker,) = health.checkers
    supervisor = Supervisor(health.checkers)
    checker._ask()
    starved = True
    for _again in range(10):
        checker._ask()
    told = "tcp check of port 1 can't be made: Too many open files"
    assert (checker.healthy, health.proved, health.troubles) == (True, True, [told])
    assert len(changes) == 2, "it is told once"
    now = time.monotonic()
    for _second in range(int(checker.patience) + 3):
        supervisor.look(now)
        now += LOOK
    assert (checker.healthy, checker.reason) == (False, f"{told}: no result for {checker.patience:g} s")
    starved = False
    checker._ask()
    assert (checker.healthy, health.troubles) == (True, [])


def test_an_unexpected_error_of_the_agent_ends_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: Iterator[Exception] = iter([MemoryError(), TypeError("wrong")])

    def err(_check: Check) -> str | None:
        for error in errors:
            raise error
        return None

    monkeypatch.setattr(health_module, "probe", err)
    health = Health([check(1)], lambda: None)
    health.start()
    wait_for(lambda: health.checkers[0].healthy, "it is asked again")


def test_a_pause_of_the_entire_agent_is_not_held_against_its_checks() -> None:
    checker = Checker(check(1), lambda: None)
    supervisor = Supervisor([checker])
    checker._note(None, checker._epoch)
    now = time.monotonic() + 600
    supervisor.look(now)
    supervisor.look(now + LOOK)
    assert checker.healthy


def test_a_soak_begins_when_the_last_check_passes_and_again_after_each_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    health = Health([check(1, rise=2), check(2, fall=3)], lambda: None)
    health.begin_proof(10)
    first, second = health.checkers

    def answers(checker: Checker, *problems: str | None) -> float | None:
        for problem in problems:
            checker._note(problem, checker._epoch)
        return health._seconds_left()

    assert answers(first, None) is None
    assert answers(second, None) is None
    now += 3
    assert answers(first, None) == 10
    now += 4
    assert answers(first, None) == answers(second, None) == 6
    assert answers(second, "down") is None, "one failure is enough, whatever it takes to be unhealthy"
    assert (second.healthy, health.reason) == (True, "down")
    assert answers(second, None) == 10
    assert health.reason == "down", "what it was that began it anew"
    now += 10
    assert health.proved


def test_a_proof_without_a_soak_takes_nothing_back() -> None:
    health = Health([check(1), check(2)], lambda: None)
    health.begin_proof()
    first, second = health.checkers
    first._note(None, first._epoch)
    first._note("down", first._epoch)
    second._note(None, second._epoch)
    assert health.proved


def test_waiting_for_a_proof_reports_when_a_soak_begins_and_when_it_is_interrupted(service: Service) -> None:
    told: list[bool] = []
    service.answer = lambda: (500 if told == [True] else 200, "")
    service.open()
    health = Health([check(service.port, "http")], lambda: None)
    health.start()
    health.begin_proof(0.5)
    assert health.wait_proved(20, threading.Event().is_set, told.append)
    assert told == [True, False, True]
    assert health.proved


def test_a_soak_makes_checks_however_long_the_interval(service: Service) -> None:
    service.open()
    health = Health([check(service.port, "http", interval=60)], lambda: None)
    health.start()
    health.begin_proof(1)
    assert health.wait_proved(20, threading.Event().is_set)
    assert len(service.asked) >= 4


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines that were logged, each with its level."""
    lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    caplog.clear()
    return lines


def test_the_first_failure_and_the_recovery_are_logged_but_not_each_result(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    checker = Checker(check(80, rise=2, fall=3), lambda: None)

    def answer(*problems: str | None) -> None:
        for problem in problems:
            checker._note(problem, checker._epoch)

    answer("down", "down", "refused", "down")
    assert told(caplog) == ["WARNING check fails: down"]
    # It passes once, which is not enough to be healthy again.
    answer(None, "down")
    assert told(caplog) == []
    answer(None, None, None)
    assert told(caplog) == ["INFO check passes again: port 80"]
    answer("down")
    assert told(caplog) == ["WARNING check fails: down"]


def test_a_new_release_has_a_first_failure_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    checker = Checker(check(80), lambda: None)
    checker._note("down", checker._epoch)
    before = checker._epoch
    checker.prove()
    # A check from before it went live says nothing about it.
    checker._note("down", before)
    assert told(caplog) == ["WARNING check fails: down"]
    checker._note("down", checker._epoch)
    assert told(caplog) == ["WARNING check fails: down"]
