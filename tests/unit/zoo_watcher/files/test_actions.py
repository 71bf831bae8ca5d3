"""Actions after files have changed: once for all that changed together, at their interval, and never forgotten."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.other_user import other_user
from support.waiting import wait_for
from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.files.actions import Actions
from zoo_watcher.files.journal import FileJournal
from zoo_watcher.host import command

Run = Callable[..., Actions]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts the actions of some files, with the journal of the test."""
    started: list[Actions] = []

    def start(*files: ManagedFile) -> Actions:
        journal = FileJournal(tmp_path / "journal.json", [file.dest for file in files])
        started.append(Actions(files, journal, 10, threading.Event().set))
        started[-1].start()
        return started[-1]

    yield start
    for actions in started:
        actions.end()
        actions.join(20)


def noting(path: Path, then: str = "true") -> tuple[str, ...]:
    """A command that notes when it began and when it ended, and for which files."""
    return ("sh", "-c", f'begin=$(date +%s.%N); {then}; echo "$begin" $(date +%s.%N) $ZOO_FILES >> {path}')


def noted(path: Path) -> list[list[str]]:
    """The words of each line that was noted."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def change(actions: Actions, *dests: str) -> None:
    """Announce a change of files and request its actions, as after a write."""
    actions.journal.record_intent({}, actions.announce(dests))
    actions.request(dests)


def pending(tmp_path: Path) -> list[str]:
    """The files whose actions are pending according to the journal on disk."""
    return list(json.loads((tmp_path / "journal.json").read_text())["owed"])


def test_a_change_while_the_action_runs_gets_a_run_of_its_own_after_the_interval(run: Run, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    actions = run(ManagedFile("/a", "/etc/a", on_change=noting(notes, "sleep 0.5"), min_interval=1.0))
    change(actions, "/etc/a")
    wait_for(lambda: actions.journal.last_runs, "it runs")
    change(actions, "/etc/a")
    change(actions, "/etc/a")
    wait_for(lambda: not actions.is_pending("/etc/a"), "all is done")
    (_begin, end, _file), (begin, *_rest) = noted(notes)
    assert float(begin) - float(end) >= 1.0
    assert pending(tmp_path) == []


def test_a_file_is_pending_until_all_its_actions_have_succeeded(run: Run, tmp_path: Path) -> None:
    notes, ok = tmp_path / "notes", tmp_path / "ok"
    a = ManagedFile("/a", "/etc/a", on_change=noting(notes, f"test -e {ok} || exit 7"))
    b = ManagedFile("/b", "/etc/b", on_change=noting(notes))
    actions = run(a, b)
    change(actions, "/etc/a", "/etc/b")
    wait_for(lambda: not actions.is_pending("/etc/a") and not actions.is_pending("/etc/b"), "both have run")
    assert "ended with status 7" in (actions.problem("/etc/a") or "")
    assert (actions.problem("/etc/b"), pending(tmp_path)) == (None, ["/etc/a"])
    ok.touch()
    actions.end()
    later = run(a, b)
    later.request(later.journal.pending.copy())
    wait_for(lambda: not later.is_pending("/etc/a"), "it is done by the next agent")
    assert (later.problem("/etc/a"), pending(tmp_path)) == (None, [])
    assert [files for _begin, _end, *files in noted(notes)] == [["/etc/b"], ["/etc/a"]]


def test_a_change_that_did_not_happen_withdraws_no_action_of_an_earlier_one(run: Run, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    actions = run(ManagedFile("/a", "/etc/a", on_change=noting(notes), min_interval=1.0))
    change(actions, "/etc/a")
    wait_for(lambda: noted(notes) and not actions.is_pending("/etc/a"), "the first has run")
    change(actions, "/etc/a")
    actions.journal.record_intent({}, actions.announce(["/etc/a"]))
    actions.drop("/etc/a")
    assert actions.is_pending("/etc/a")
    assert pending(tmp_path) == ["/etc/a"]
    wait_for(lambda: len(noted(notes)) == 2 and not actions.is_pending("/etc/a"), "the second has run")
    actions.journal.record_intent({}, actions.announce(["/etc/a"]))
    assert pending(tmp_path) == ["/etc/a"]
    actions.drop("/etc/a")
    assert pending(tmp_path) == []


def test_an_announced_change_stays_in_the_journal_when_an_earlier_action_ends(run: Run, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    actions = run(ManagedFile("/a", "/etc/a", on_change=noting(notes, "sleep 0.5")))
    change(actions, "/etc/a")
    wait_for(lambda: not any(action.due for action in actions._actions), "it runs")
    actions.journal.record_intent({}, actions.announce(["/etc/a"]))
    wait_for(lambda: noted(notes) and not actions.is_pending("/etc/a"), "it has ended")
    assert pending(tmp_path) == ["/etc/a"], "the file may be in place at any instant now"


def test_commands_come_before_restarts_and_a_clock_that_was_set_back_delays_nothing_for_long(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {notes}\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    restarted = ManagedFile("/a", "/etc/a", restart_units=("web.service",), min_interval=1.0)
    notified = ManagedFile("/b", "/etc/b", on_change=("sh", "-c", f"echo notified >> {notes}"))
    journal = {"made": {}, "owed": [], "runs": {"systemctl restart web.service": time.time() + 86_000}}
    (tmp_path / "journal.json").write_text(json.dumps(journal))
    actions = run(restarted, notified)
    change(actions, "/etc/a", "/etc/b")
    wait_for(lambda: notes.exists() and len(notes.read_text().splitlines()) == 2, "both have run", 5)
    assert notes.read_text().splitlines() == ["notified", "restart web.service"]


def test_an_unexpected_error_is_the_problem_of_its_action_and_the_next_change_acts_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise MemoryError

    notes = tmp_path / "notes"
    actions = run(ManagedFile("/a", "/etc/a", on_change=noting(notes)))
    with monkeypatch.context() as patched:
        patched.setattr(command, "run", fail)
        change(actions, "/etc/a")
        wait_for(lambda: actions.problem("/etc/a") == "on_change sh: unexpected MemoryError", "it is the problem")
    change(actions, "/etc/a")
    wait_for(lambda: noted(notes), "it is run")
    assert actions.works


def test_an_action_that_cannot_be_started_now_stays_pending_and_is_run_as_soon_as_it_can_be(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, tries = command._start, list[None]()

    def lack(*words: Any) -> Any:
        tries.append(None)
        if len(tries) < 3:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return start(*words)

    notes = tmp_path / "notes"
    monkeypatch.setattr(command, "_start", lack)
    actions = run(ManagedFile("/a", "/etc/a", on_change=noting(notes), min_interval=3600))
    change(actions, "/etc/a")
    wait_for(lambda: actions.problem("/etc/a"), "it can't be started")
    assert (actions.is_pending("/etc/a"), pending(tmp_path)) == (True, ["/etc/a"])
    wait_for(lambda: not actions.is_pending("/etc/a"), "it has run")
    assert [files for _begin, _end, *files in noted(notes)] == [["/etc/a"]]
    assert (actions.problem("/etc/a"), pending(tmp_path)) == (None, [])


@pytest.mark.parametrize(("kills", "runs", "problem"), [(2, 3, None), (9, 3, "on_change sh ended with status -9")])
def test_an_action_that_is_killed_has_failed_the_third_time_in_a_row(
    run: Run, tmp_path: Path, kills: int, runs: int, problem: str | None
) -> None:
    notes = tmp_path / "notes"
    script = f"echo >> {notes}; test $(wc -l < {notes}) -gt {kills} || kill -9 $$"
    actions = run(ManagedFile("/a", "/etc/a", on_change=("sh", "-c", script)))
    change(actions, "/etc/a")
    wait_for(lambda: not actions.is_pending("/etc/a"), "it is done")
    assert len(notes.read_text().splitlines()) == runs
    assert actions.problem("/etc/a") == problem


def test_an_action_that_has_ended_is_not_counted_as_interrupted(run: Run, tmp_path: Path) -> None:
    file = ManagedFile("/a", "/etc/a", on_change=("sh", "-c", "exit 7"))
    for _agent in range(5):
        actions = run(file)
        change(actions, "/etc/a")
        actions.resume()
        wait_for(partial(actions.problem, "/etc/a"), "it has run")
        assert actions.problem("/etc/a") == "on_change sh ended with status 7"
        assert json.loads((tmp_path / "journal.json").read_text())["begun"] == {}
        actions.end()
        actions.join(20)


def test_an_action_that_is_no_longer_configured_is_no_longer_pending(run: Run, tmp_path: Path) -> None:
    """One that is still configured is not forgotten."""
    kept = ManagedFile("/b", "/etc/b", on_change=("sh", "-c", "exit 7"))
    actions = run(ManagedFile("/a", "/etc/a", on_change=("sh", "-c", "exit 7")), kept)
    change(actions, "/etc/a", "/etc/b")
    wait_for(partial(actions.problem, "/etc/a"), "it has failed")
    actions.end()
    actions.join(20)
    assert pending(tmp_path) == ["/etc/a", "/etc/b"]
    run(ManagedFile("/a", "/etc/a"), kept).resume()
    assert pending(tmp_path) == ["/etc/b"]


def test_an_action_is_in_the_journal_before_it_runs(run: Run, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    script = f"cp {tmp_path}/journal.json {notes}.new; mv {notes}.new {notes}"
    file = ManagedFile("/a", "/etc/a", on_change=("sh", "-c", script))
    change(run(file), "/etc/a")
    wait_for(notes.exists, "it has run")
    assert list(json.loads(notes.read_text())["begun"].values()) == [1]


def test_an_action_after_changes_of_too_many_files_runs_without_their_names(run: Run, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    command = ("sh", "-c", f'echo "${{ZOO_FILES-unset}}" | wc -l >> {notes}; echo "${{ZOO_ZNODES-unset}}" >> {notes}')
    files = [ManagedFile("/z", f"/etc/{number:0140}", on_change=command) for number in range(1000)]
    actions = run(*files)
    change(actions, *(file.dest for file in files))
    wait_for(lambda: pending(tmp_path) == [], "all is done")
    assert [actions.problem(file.dest) for file in files] == [None] * 1000
    assert noted(notes) == [["1"], *[["/z"]] * 1000]


def test_no_file_changes_until_an_existing_journal_has_been_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.json"
    before = FileJournal(path, ["/etc/a", "/etc/b"])
    before.record_intent({"/etc/a": [""]}, ["/etc/a"])
    assert not caplog.records
    saved = path.read_text()
    path.chmod(0o000)
    with other_user(tmp_path):
        journal = FileJournal(path, ["/etc/a", "/etc/b"])
        journal.adopt({"/etc/b": [""]})
        with pytest.raises(PermissionError):
            journal.record_intent({}, ["/etc/b"])
        path.chmod(0o600)
        assert path.read_text() == saved
        journal.record_intent({}, ["/etc/b"])
    for found in (journal, FileJournal(path, ["/etc/a", "/etc/b"])):
        assert (found.created, found.pending) == ({"/etc/a": {""}, "/etc/b": {""}}, {"/etc/a", "/etc/b"})
    assert f"journal of files not read, path={path}: Permission denied; " in caplog.text
