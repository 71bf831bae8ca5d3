"""A host on which no thread can be started, and an ensemble that is slow to answer."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from kazoo.handlers.threading import SequentialThreadingHandler

from zoo_watcher.config.config import Connection
from zoo_watcher.errors import NoAnswerError
from zoo_watcher.zookeeper.former_session import close_former_session
from zoo_watcher.zookeeper.session import Session

CONNECTION = Connection("127.0.0.1:1", session_timeout=4)


@pytest.fixture
def no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Python raise the error of a host that can start no further thread."""

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
    assert "former session not closed, it expires: can't start new thread" in caplog.text


def test_waiting_for_an_answer_notifies_the_watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setattr("zoo_watcher.zookeeper.session.ANSWER_TIMEOUT", 0.01)
        pending = SequentialThreadingHandler().async_result()
        with pytest.raises(NoAnswerError):
            Session.answer(pending)
        assert manager.recv(100) == b"WATCHDOG=1"

        def wait() -> None:
            with pytest.raises(NoAnswerError):
                Session.answer(pending)

        other = threading.Thread(target=wait)
        other.start()
        other.join()
        pending.set("an answer that is there needs no waiting")
        assert Session.answer(pending)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
