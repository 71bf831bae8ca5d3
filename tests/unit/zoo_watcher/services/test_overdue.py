"""When a withdrawal can't be made in time, and only ending the session is left."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zoo_watcher.services import overdue
from zoo_watcher.services.overdue import Overdue

TIMEOUT = 10.0


@pytest.mark.parametrize(
    ("connections", "becomes"),
    [([1, 2, 3, 4, 5], True), ([1, 1, 1, 1, 1], False), ([1, 1, 1, 1, 2], False)],
    ids=["each is lost", "one lasts", "one was lost"],
)
def test_a_withdrawal_is_overdue_where_connections_come_and_go(
    monkeypatch: pytest.MonkeyPatch, connections: list[int], becomes: bool
) -> None:
    clock = iter(range(100, 200, 9))
    monkeypatch.setattr(overdue, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    one = Overdue()
    seen = [one.look(is_due=True, connections=number, timeout=TIMEOUT) for number in connections]
    assert seen == [False, False, False, False, becomes]
    assert one.is_overdue == becomes
    assert not one.look(is_due=True, connections=connections[-1], timeout=TIMEOUT), "it is told once"
    assert one.is_overdue == becomes
    assert not one.look(is_due=False, connections=connections[-1], timeout=TIMEOUT)
    assert not one.is_overdue
