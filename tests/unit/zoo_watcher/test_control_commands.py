"""What a person is told of a request, whoever else asks at the same time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo_watcher import control_commands
from zoo_watcher.control_commands import PENDING, REFUSED, Report, retry
from zoo_watcher.host.base_lock import lock_base
from zoo_watcher.host.controls import RETRY, Mark, write_mark
from zoo_watcher.host.layout import Layout

OTHERS = {"since": "2000-01-01T00:00:00.000+00:00", "request": "x", "done": False, "message": "nothing to retry"}
"""The answer to somebody else, who began earlier."""


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """A base at which an agent seems to run, which answers nobody."""
    made = Layout(tmp_path)
    made.make()
    lock = lock_base(made)
    yield made
    os.close(lock)


def tell(layout: Layout, answer: dict[str, Any]) -> None:
    """Have the status file say what the last request has come to."""
    layout.status.write_text(json.dumps({RETRY: answer}))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_request_whose_place_another_has_taken_is_answered_by_that_and_by_nothing_of_before(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    def be_overtaken(layout: Layout, name: str, reason: str, by: str) -> Mark:
        mine = write_mark(layout, name, reason, by)
        layout.control(RETRY).unlink()
        tell(layout, OTHERS)
        return mine

    if not is_new:
        tell(layout, OTHERS)
    monkeypatch.setattr(control_commands, "write_mark", be_overtaken)
    monkeypatch.setattr(control_commands, "PATIENCE", 0.05)
    report = retry(layout, "", "ann")
    if is_new:
        assert report == Report(REFUSED, "nothing to retry")
    else:
        assert report.exit_status == PENDING
