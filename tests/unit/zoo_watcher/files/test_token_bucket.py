"""How often something may be done: in bursts, and not too often in the long run."""

from __future__ import annotations

import pytest

from zoo_watcher.files.token_bucket import TokenBucket


def test_it_allows_a_burst_and_in_the_long_run_one_in_each_interval() -> None:
    bucket = TokenBucket(3, 0.5)
    spent, now = [], 100.0
    while now < 110.0:
        if not bucket.wait(now):
            bucket.spend(now)
            spent.append(now)
        now += 0.01
    assert len([when for when in spent if when < 100.4]) == 3
    assert 20 <= len(spent) <= 23


def test_when_all_tokens_are_used_it_says_how_long_to_wait() -> None:
    bucket = TokenBucket(1, 0.5)
    bucket.spend(100.0)
    assert bucket.wait(100.1) == pytest.approx(0.4)
    assert bucket.wait(100.6) == 0
