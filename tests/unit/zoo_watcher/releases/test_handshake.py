"""A deployment and the agent's loop wait for each other, and neither waits for one that is cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from zoo_watcher.errors import CancelledError
from zoo_watcher.releases.handshake import Handshake, Phase


@pytest.fixture
def handshake() -> Handshake:
    """The handshake of a deployment that has just begun."""
    return Handshake()


@contextmanager
def soon(handshake: Handshake, question: Phase | None = None) -> Iterator[None]:
    """Answer `question`, or cancel if there is none, in another thread while the block waits."""
    action = handshake.cancel if question is None else lambda: handshake.answer(question)
    timer = threading.Timer(0.05, action)
    timer.start()
    yield
    timer.join()


def test_registrations_are_withheld_from_the_beginning_of_a_drain_until_the_outcome(handshake: Handshake) -> None:
    withheld = []
    for phase in list(Phase)[1:]:
        handshake.enter(phase)
        if handshake.withholds_registrations:
            withheld.append(phase)
    assert withheld == list(Phase)[1 : Phase.SETTLED]


def test_without_a_drain_registrations_are_never_withheld(handshake: Handshake) -> None:
    for phase in (Phase.ACTIVATED, Phase.AWAITING_CONTACT, Phase.SETTLED, Phase.ENDED):
        handshake.enter(phase)
        assert not handshake.withholds_registrations


def test_a_deployment_has_activated_once_it_says_so_and_not_by_asking_for_contact(handshake: Handshake) -> None:
    handshake.enter(Phase.AWAITING_CONTACT)
    assert not handshake.has_activated
    handshake.enter(Phase.ACTIVATED)
    handshake.enter(Phase.ENDED)
    assert handshake.has_activated


@pytest.mark.parametrize(
    ("question", "answered"), [(Phase.DRAINING, Phase.DRAINED), (Phase.AWAITING_CONTACT, Phase.IN_CONTACT)]
)
def test_an_answer_ends_the_wait_for_it(handshake: Handshake, question: Phase, answered: Phase) -> None:
    handshake.enter(question)
    with soon(handshake, question):
        assert handshake.wait_answered(10)
    assert handshake.phase == answered


def test_an_answer_that_came_before_the_wait_counts(handshake: Handshake) -> None:
    handshake.enter(Phase.DRAINING)
    handshake.answer(Phase.DRAINING)
    assert handshake.wait_answered(0)


def test_an_answer_to_a_question_that_is_no_longer_asked_changes_nothing(handshake: Handshake) -> None:
    phases = []
    for phase in (Phase.PREPARING, Phase.AWAITING_CONTACT):
        handshake.enter(phase)
        handshake.answer(Phase.DRAINING)
        phases.append(handshake.phase)
    assert phases == [Phase.PREPARING, Phase.AWAITING_CONTACT]
    assert not handshake.wait_answered(0.01)


def test_a_wait_ends_when_the_deployment_is_cancelled(handshake: Handshake) -> None:
    handshake.enter(Phase.DRAINING)
    with soon(handshake):
        assert handshake.wait_answered(10)
    assert handshake.phase == Phase.DRAINING
    assert handshake.is_cancelled()
    with pytest.raises(CancelledError):
        handshake.check()


def test_a_sleep_ends_when_the_deployment_is_cancelled(handshake: Handshake) -> None:
    handshake.check()
    handshake.sleep(0.01)
    began = time.monotonic()
    with soon(handshake), pytest.raises(CancelledError):
        handshake.sleep(10)
    assert time.monotonic() - began < 5
