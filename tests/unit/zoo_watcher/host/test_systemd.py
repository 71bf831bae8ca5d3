"""What the service manager tells an agent of its unit."""

from __future__ import annotations

import pytest

from zoo_watcher.host import systemd


@pytest.mark.parametrize(("said", "unit"), [("zoo-watcher@shop.service", "zoo-watcher@shop"), ("", None), (None, None)])
def test_the_unit_is_the_one_that_the_unit_says(
    monkeypatch: pytest.MonkeyPatch, said: str | None, unit: str | None
) -> None:
    monkeypatch.delenv("ZOO_WATCHER_UNIT", raising=False)
    if said is not None:
        monkeypatch.setenv("ZOO_WATCHER_UNIT", said)
    assert systemd.unit() == unit
