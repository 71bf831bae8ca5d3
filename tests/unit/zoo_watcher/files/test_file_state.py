"""When a file that could not be written is tried again."""

from __future__ import annotations

import time

import pytest

from zoo_watcher.backoff import LONGEST_PAUSE
from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import FileError, TransientFileError
from zoo_watcher.files.file_state import FileState
from zoo_watcher.files.snapshot import Snapshot


def test_a_transient_failure_is_retried_indefinitely_with_growing_pauses() -> None:
    state = FileState(ManagedFile("/a", "/etc/a"))
    pauses = []
    for _try in range(5_000):
        state.fail(TransientFileError("the disk is full"))
        assert state.retry_at is not None
        pauses.append(state.retry_at - time.monotonic())
    assert 0.5 < pauses[0] <= 1.0
    assert all(20.0 < pause <= LONGEST_PAUSE for pause in pauses[10:])


def test_a_permanent_failure_is_not_retried() -> None:
    state = FileState(ManagedFile("/a", "/etc/a"))
    state.fail(TransientFileError("the disk is full"))
    state.fail(FileError("validate ended with status 1"))
    assert state.retry_at is None


def test_a_subtree_that_never_stops_changing_is_written_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    state = FileState(ManagedFile("/a", "/etc/a", "json"))
    inconsistent, consistent = Snapshot(consistent=False), Snapshot()
    assert state.accepts(consistent)
    assert not state.accepts(inconsistent)
    now += 4
    assert not state.accepts(inconsistent)
    now += 2
    assert state.accepts(inconsistent)
    assert state.accepts(consistent)
    assert not state.accepts(inconsistent)
