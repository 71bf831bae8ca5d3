"""A thread that gets no memory ends before it reports that it has begun: its starter must not wait indefinitely."""

from __future__ import annotations

import ast
import threading
from pathlib import Path

import pytest

from support.agent import SOURCE
from support.waiting import wait_for
from zoo_watcher.config.config import Connection
from zoo_watcher.host.thread import Thread
from zoo_watcher.zookeeper.session import Session


class Starter(threading.Thread):
    """Starts another thread, and keeps the error that this raises."""

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__(daemon=True)
        self.thread = thread
        self.error: Exception | None = None

    def run(self) -> None:
        """Start it."""
        try:
            self.thread.start()
        except RuntimeError as exc:
            self.error = exc


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo_watcher.host.thread.LONGEST_START", 0.05)


def end_at_once(_thread: threading.Thread) -> None:
    """Do nothing, like a thread in which Python has no memory for its first call."""


def test_a_thread_that_ends_before_it_has_begun_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = Thread(target=print)
    monkeypatch.setattr(Thread, "_bootstrap", end_at_once)
    starter = Starter(thread)
    starter.start()
    wait_for(lambda: not starter.is_alive(), "it goes on", 10)
    assert str(starter.error) == "can't start new thread"
    assert not thread.is_alive()


def test_a_thread_that_counts_as_failed_does_not_begin_later() -> None:
    ran: list[str] = []
    ended, slow = threading.Event(), threading.Event()
    thread = Thread(target=ran.append, args=("late",), daemon=True)
    bootstrap = thread._bootstrap  # type: ignore[attr-defined]

    def begin_late() -> None:
        slow.wait()
        bootstrap()
        ended.set()

    thread._bootstrap = begin_late  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=r"^can't start new thread$"):
        thread.start()
    slow.set()
    assert ended.wait(10)
    assert ran == []


def test_a_thread_runs_once_and_is_joined_as_any_other() -> None:
    ran: list[str] = []
    thread = Thread(target=ran.append, args=("once",), name="worker", daemon=True)
    thread.start()
    thread.join(10)
    assert (ran, thread.name, thread.is_alive()) == (["once"], "worker", False)
    with pytest.raises(RuntimeError, match="only be started once"):
        thread.start()


def test_a_client_of_zookeeper_whose_threads_get_no_memory_is_replaced_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Thread, "_bootstrap", end_at_once)
    session = Session(Connection("127.0.0.1:1", session_timeout=4), None, lambda: None)
    starter = threading.Thread(target=session.start, daemon=True)
    starter.start()
    wait_for(lambda: not starter.is_alive(), "the loop goes on", 10)
    assert session._threads.broken
    assert session._threads.reason == "RuntimeError: can't start new thread"


def threads_of_python(path: Path) -> bool:
    """Whether a file creates threads whose start is waited for without a limit."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    uses = [node for node in nodes if isinstance(node, (ast.Call, ast.ClassDef))]
    made = [one for use in uses for one in ([use.func] if isinstance(use, ast.Call) else use.bases)]
    return any(ast.unparse(one) == "threading.Thread" for one in made)


def test_every_thread_of_the_agent_is_started_with_a_limit() -> None:
    agent = SOURCE / "zoo_watcher"
    files = {str(path.relative_to(agent)): path for path in agent.rglob("*.py")}
    assert {name for name, path in files.items() if threads_of_python(path)} == {"host/thread.py"}
