"""An unexpected error is in the status and retried after a pause. It ends neither the thread nor the agent."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kazoo.exceptions import SystemErrorException

from support.waiting import wait_for
from zoo_watcher.config.config import Config
from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.files import journal as journals
from zoo_watcher.files import reconciler as reconcilers
from zoo_watcher.files.journal import FileJournal
from zoo_watcher.files.reconciler import FileReconciler
from zoo_watcher.files.snapshot import Snapshot
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.thread import Thread
from zoo_watcher.zookeeper.session import Session, Znode

Start = Callable[[], FileReconciler]
SESSION = SimpleNamespace(usable=True, mark=lambda: 10, catch_up=lambda: 10)
"""A session that always answers."""


@pytest.fixture
def reconciler(tmp_path: Path) -> FileReconciler:
    """The thread of an agent with one file, not started yet."""
    layout = Layout(tmp_path / "base")
    layout.make()
    files = [{"znode": "/a", "dest": str(tmp_path / "a.conf")}]
    config = Config.from_object({"hosts": "zk1", "base": str(layout.base), "files": files})
    return FileReconciler(config, layout, cast(Session, SESSION), lambda: None)


def test_actions_that_an_earlier_agent_left_pending_run_once_the_journal_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "base")
    layout.make()
    dest, notes = tmp_path / "a.conf", tmp_path / "notes"
    dest.write_text("one")
    files = [{"znode": "/a", "dest": str(dest), "on_change": ["touch", str(notes)]}]
    FileJournal(layout.file_journal, [str(dest)]).record_intent({}, [str(dest)])
    tries: list[None] = []

    def fail(*_arguments: Any) -> Any:
        tries.append(None)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(reconcilers, "take", answer)
    config = Config.from_object({"hosts": "zk1", "base": str(layout.base), "files": files})
    with monkeypatch.context() as broken:
        broken.setattr(journals, "read_json", fail)
        reconciler = FileReconciler(config, layout, cast(Session, SESSION), lambda: None)
        reconciler.start()
        wait_for(lambda: reconciler.statuses[str(dest)]["state"] == "current" and len(tries) > 1, "it has begun")
    reconciler.wake()
    try:
        wait_for(notes.exists, "it is run")
        wait_for(lambda: not reconciler.actions_pending, "that is noted")
    finally:
        reconciler.end(5)


@pytest.fixture
def start(reconciler: FileReconciler) -> Iterator[Start]:
    """Starts the thread."""

    def begin() -> FileReconciler:
        reconciler.start()
        return reconciler

    yield begin
    reconciler.end(5)


def answer(_session: Any, files: Iterable[ManagedFile], _watch: Any, floor: int) -> dict[ManagedFile, Snapshot]:
    """Like `take`, where every znode has a value."""
    node = Znode(b"one", SimpleNamespace(mzxid=9, version=0))
    return {file: Snapshot({"": node}, 9, floor) for file in files}


def test_an_error_of_an_entire_batch_is_in_the_status_and_retried_after_a_pause(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[None] = []

    def fail(*_arguments: Any) -> Any:
        reads.append(None)
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(reconcilers, "take", fail)
    reconciler = start()
    dest = str(tmp_path / "a.conf")
    status = wait_for(lambda: reconciler.statuses[dest].get("message") and reconciler.statuses[dest], "it is shown")
    assert (status["state"], status["message"]) == (
        "failed",
        "unexpected RecursionError: maximum recursion depth exceeded",
    )
    for _time in range(100):
        reconciler.wake()
    wait_for(lambda: len(reads) >= 2, "it is tried again")
    assert len(reads) < 5
    monkeypatch.setattr(reconcilers, "take", answer)
    wait_for((tmp_path / "a.conf").exists, "it goes on")
    wait_for(lambda: reconciler.statuses[dest]["state"] == "current", "that is shown")
    assert reconciler.works


def test_an_error_at_the_start_does_not_end_the_thread(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_file: ManagedFile) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(reconcilers, "sweep", fail)
    monkeypatch.setattr(reconcilers, "take", answer)
    start()
    wait_for((tmp_path / "a.conf").exists, "it goes on")


def test_everything_is_read_again_after_a_while_even_if_no_watch_fires(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[None] = []

    def count(*arguments: Any) -> Any:
        reads.append(None)
        return answer(*arguments)

    monkeypatch.setattr(reconcilers, "take", count)
    monkeypatch.setattr(reconcilers, "READ_AGAIN", 0.5)
    reconciler = start()
    wait_for((tmp_path / "a.conf").exists, "it is read first")
    known = len(reads)

    def is_read_again() -> bool:
        reconciler.wake()
        return len(reads) > known

    wait_for(is_read_again, "it is read again at one of the loop's turns")


def test_a_periodic_read_that_finds_nothing_new_changes_no_status(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []

    def count(session: Any, files: Iterable[ManagedFile], watch: Any, floor: int) -> Any:
        reads.append(floor + len(reads))
        return answer(session, files, watch, reads[-1])

    monkeypatch.setattr(reconcilers, "take", count)
    monkeypatch.setattr(reconcilers, "READ_AGAIN", 0.1)
    dest = str(tmp_path / "a.conf")
    reconciler = start()
    status = wait_for(
        lambda: reconciler.statuses[dest]["state"] == "current" and reconciler.statuses[dest], "it is current"
    )

    def is_read_often() -> bool:
        reconciler.wake()
        return len(reads) > 5

    wait_for(is_read_often, "it is read again and again")
    assert reconciler.statuses[dest] == status
    reconciler.read_again()
    wait_for(lambda: reconciler.statuses[dest]["zxid"] > status["zxid"], "that has a cause")


def test_the_thread_rests_until_it_repeats_a_request_that_the_server_refused(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[None] = []
    turns: list[None] = []
    turn = FileReconciler._turn

    def refuse() -> int:
        questions.append(None)
        raise SystemErrorException

    def count(reconciler: FileReconciler) -> None:
        turns.append(None)
        turn(reconciler)

    monkeypatch.setattr(SESSION, "mark", refuse)
    monkeypatch.setattr(FileReconciler, "_turn", count)
    start()
    wait_for(lambda: len(questions) == 3, "it is asked for again")
    assert len(turns) < 10
    monkeypatch.setattr(SESSION, "mark", lambda: 10)
    monkeypatch.setattr(reconcilers, "take", answer)
    wait_for((tmp_path / "a.conf").exists, "it goes on")


def test_a_thread_that_cannot_be_started_leaves_no_other_behind(
    reconciler: FileReconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, before = Thread.start, set(threading.enumerate())

    def start_all_but_one(thread: Thread) -> None:
        if thread is reconciler:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(Thread, "start", start_all_but_one)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        reconciler.start()
    wait_for(lambda: set(threading.enumerate()) <= before, "none is left")
