"""Pauses between tries grow up to the longest, and start over after a try that succeeded."""

from __future__ import annotations

from itertools import islice

from zoo_watcher.backoff import Backoff


def test_pauses_double_up_to_the_longest() -> None:
    assert list(islice(Backoff(1, 30, jitter=0), 7)) == [1, 2, 4, 8, 16, 30, 30]


def test_pauses_grow_by_the_given_factor() -> None:
    assert list(islice(Backoff(1, 100, factor=3, jitter=0), 4)) == [1, 3, 9, 27]


def test_a_first_pause_over_the_longest_is_limited_to_it() -> None:
    assert next(Backoff(5, 2, jitter=0)) == 2


def test_no_pause_is_longer_than_the_longest_or_shortened_by_more_than_the_jitter() -> None:
    pauses = list(islice(Backoff(1, 30, jitter=0.3), 5_000))
    assert 0.7 <= pauses[0] <= 1
    assert all(21 <= pause <= 30 for pause in pauses[5:])
    assert len(set(pauses)) > 4_000


def test_after_a_reset_it_begins_with_the_first_pause() -> None:
    backoff = Backoff(1, 30, jitter=0)
    assert [next(backoff), next(backoff)] == [1, 2]
    assert backoff.tries == 2
    backoff.reset()
    assert backoff.tries == 0
    assert next(backoff) == 1
