"""A host on which no thread can be started ends its session late, and goes on."""

from __future__ import annotations

import threading

import pytest

from zoo_watcher.config.config import Connection
from zoo_watcher.zookeeper.former_session import close_former_session
from zoo_watcher.zookeeper.session import Session

CONNECTION = Connection("127.0.0.1:1", session_timeout=4)


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python says where the host has no process left."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.usefixtures("no_thread")
def test_a_session_that_no_thread_can_close_is_left_to_expire(caplog: pytest.LogCaptureFixture) -> None:
    Session(CONNECTION, None, lambda: None).stop()
    assert "session not closed, it expires after 4 s: can't start new thread" in caplog.text


@pytest.mark.usefixtures("no_thread")
def test_a_former_session_that_no_thread_can_close_is_left_to_expire(caplog: pytest.LogCaptureFixture) -> None:
    close_former_session(CONNECTION, (7, b"secret"))
    assert "session of another chroot not closed, it expires: can't start new thread" in caplog.text
