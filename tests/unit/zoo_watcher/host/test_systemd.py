"""What the service manager tells an agent about its unit."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from zoo_watcher.host import systemd


@pytest.mark.parametrize(("said", "unit"), [("zoo-watcher@shop.service", "zoo-watcher@shop"), ("", None), (None, None)])
def test_the_unit_is_the_one_that_its_environment_names(
    monkeypatch: pytest.MonkeyPatch, said: str | None, unit: str | None
) -> None:
    monkeypatch.delenv("ZOO_WATCHER_UNIT", raising=False)
    if said is not None:
        monkeypatch.setenv("ZOO_WATCHER_UNIT", said)
    assert systemd.unit() == unit


@pytest.mark.parametrize(("granted", "interval"), [("30000000", 10.0), ("", None), ("0", None), ("x", None)])
def test_one_watchdog_notification_may_be_lost(
    monkeypatch: pytest.MonkeyPatch, granted: str, interval: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", granted)
    assert systemd.watchdog_interval() == interval


def test_a_service_manager_that_accepts_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """For example one that hangs, or has crashed and stands still, while the services it manages go on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, contextlib.suppress(BlockingIOError):
            other.setblocking(False)
            while True:
                other.sendto(b"READY=1", str(tmp_path / "notify"))
        sender = threading.Thread(target=systemd.notify, args=("WATCHDOG=1",), daemon=True)
        sender.start()
        sender.join(10)
        assert not sender.is_alive()
