"""When a file that could not be kept is tried again, and how often its status may be told."""

from __future__ import annotations

import time

import pytest

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import KeepError, PassingKeepError
from zoo_watcher.files.file_state import LONGEST_PAUSE, FileState
from zoo_watcher.files.snapshot import Snapshot
from zoo_watcher.files.token_bucket import TokenBucket


def test_what_may_pass_is_tried_again_later_and_later_but_for_ever() -> None:
    kept = FileState(ManagedFile("/a", "/etc/a"))
    pauses = []
    for _try in range(5_000):
        kept.fail(PassingKeepError("the disk is full"))
        assert kept.again is not None
        pauses.append(kept.again - time.monotonic())
    assert 0.5 < pauses[0] <= 1.0
    assert all(20.0 < pause <= LONGEST_PAUSE for pause in pauses[10:])


def test_what_will_not_pass_is_not_tried_again() -> None:
    kept = FileState(ManagedFile("/a", "/etc/a"))
    kept.fail(PassingKeepError("the disk is full"))
    kept.fail(KeepError("validate ended with status 1"))
    assert kept.again is None


def test_a_subtree_that_changes_all_the_time_is_kept_as_it_is_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept = FileState(ManagedFile("/a", "/etc/a", "json"))
    torn, whole = Snapshot(whole=False), Snapshot()
    assert kept.may_take(whole)
    assert not kept.may_take(torn)
    now += 4
    assert not kept.may_take(torn)
    now += 2
    assert kept.may_take(torn)
    assert kept.may_take(whole)
    assert not kept.may_take(torn)


def test_a_credit_is_for_some_at_once_and_in_the_long_run_for_one_in_each_time() -> None:
    credit = TokenBucket(3, 0.5)
    done, now = [], 100.0
    while now < 110.0:
        if not credit.wait(now):
            credit.spend(now)
            done.append(now)
        now += 0.01
    assert len([when for when in done if when < 100.4]) == 3
    assert 20 <= len(done) <= 23


def test_after_a_credit_is_used_up_it_says_how_long_to_wait() -> None:
    credit = TokenBucket(1, 0.5)
    credit.spend(100.0)
    assert credit.wait(100.1) == pytest.approx(0.4)
    assert credit.wait(100.6) == 0
