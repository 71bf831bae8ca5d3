"""What a batch makes of snapshots: the files it writes, their states afterwards, and what it records."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import MOST_KILLED, FileError, TransientFileError
from zoo_watcher.files import batch as batches
from zoo_watcher.files.actions import Actions
from zoo_watcher.files.batch import Batch
from zoo_watcher.files.file_state import FileState
from zoo_watcher.files.file_writer import FileWriter
from zoo_watcher.files.journal import FileJournal
from zoo_watcher.files.snapshot import Snapshot
from zoo_watcher.host.layout import Layout
from zoo_watcher.zookeeper.session import Znode


class Host:
    """A host with one file, whose actions are requested but never run."""

    def __init__(self, root: Path) -> None:
        self.dest = root / "a.conf"
        self.file = ManagedFile("/a", str(self.dest), on_change=("true",), on_delete="remove")
        self.state = FileState(self.file)
        self.journal = FileJournal(root / "journal.json", [self.file.dest])
        self.actions = Actions([self.file], self.journal, 10, lambda: None)
        self.layout = Layout(root / "base")

    def apply(self, snapshot: Snapshot, *others: tuple[FileState, Snapshot]) -> str:
        """Run a batch, with other files if given, and return the state of the file afterwards."""
        self.actions._by_file.update({state.file.dest: [] for state, _snapshot in others})
        batch = Batch(self.journal, self.actions, self.layout, 10)
        batch.plan([*others, (self.state, snapshot)])
        batch.write()
        return self.state.status(self.actions).state


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """The host of one test."""
    return Host(tmp_path)


def value(data: bytes, zxid: int = 11) -> Snapshot:
    """A snapshot of a znode that the transaction `zxid` has written."""
    return Snapshot({"": Znode(data, SimpleNamespace(mzxid=zxid, version=0))}, zxid, zxid)


def test_a_new_value_is_written_and_pending_until_its_action_has_run(host: Host) -> None:
    assert host.apply(value(b"one")) == "pending"
    assert host.dest.read_bytes() == b"one"
    assert (host.journal.pending, host.journal.created) == ({host.file.dest}, {host.file.dest: {""}})


def test_a_value_whose_validate_is_killed_each_time_is_given_up_like_an_action(host: Host) -> None:
    host.state.file = replace(host.file, validate=("sh", "-c", "kill -9 $$"))

    def tries(snapshot: Snapshot) -> list[bool]:
        """Whether it will be tried again, after each of as many tries as are allowed."""
        return [host.apply(snapshot) == "failed" and host.state.retry_at is not None for _time in range(MOST_KILLED)]

    again = [True] * (MOST_KILLED - 1)
    assert tries(value(b"one")) == [*again, False]
    assert "ended with status -9" in str(host.state.problem)
    assert tries(value(b"two", 12)) == [*again, False], "of another value nothing is known yet"
    host.state.file = host.file
    assert host.apply(value(b"three", 13)) == "pending"
    assert host.dest.read_bytes() == b"three"


def test_a_file_that_matches_is_adopted_without_a_write_or_an_action(host: Host) -> None:
    host.dest.write_bytes(b"one")
    before = host.dest.stat().st_mtime_ns
    assert host.apply(value(b"one")) == "current"
    assert host.dest.stat().st_mtime_ns == before
    assert (host.journal.pending, host.journal.created) == (set(), {host.file.dest: {""}})


def test_only_what_the_agent_created_is_removed_with_its_znode(host: Host) -> None:
    host.dest.write_bytes(b"the package's own")
    assert host.apply(Snapshot()) == "missing"
    assert host.dest.exists()
    host.apply(value(b"one"))
    host.apply(Snapshot(zxid=12))
    assert not host.dest.exists()
    assert host.journal.created == {}


def test_a_read_that_fails_for_the_first_time_is_tried_again_before_it_is_reported(host: Host) -> None:
    snapshot = Snapshot(problem=TransientFileError("/a: its ACL does not let this agent read it"))
    assert host.apply(snapshot) == "pending"
    assert host.state.retry_at is not None
    assert host.apply(snapshot) == "failed"


def test_a_permanent_failure_is_not_tried_again_until_its_znodes_change(host: Host) -> None:
    snapshot = Snapshot(problem=FileError("name: ..."))
    assert host.apply(snapshot) == "failed"
    problem = host.state.problem
    assert host.apply(Snapshot(problem=FileError("name: ..."))) == "failed"
    assert host.state.problem is problem
    host.apply(value(b"one"))
    assert host.dest.read_bytes() == b"one"


def test_no_file_is_written_while_the_journal_cannot_be_written(host: Host) -> None:
    host.journal.path.mkdir()
    assert host.apply(value(b"one")) == "failed"
    assert not [path for path in host.dest.parent.iterdir() if "journal" not in path.name]
    assert not host.actions.is_pending(host.file.dest)


def test_another_value_with_the_transaction_of_one_that_failed_for_good_is_written(host: Host) -> None:
    host.file = replace(host.file, validate=("grep", "-q", "good", "%s"))
    host.state.file = host.file
    assert host.apply(value(b"bad")) == "failed"
    assert host.apply(value(b"bad")) == "failed"
    host.apply(value(b"good"))
    assert host.dest.read_bytes() == b"good", "a rebuilt ensemble counts its transactions from the beginning"


@pytest.mark.parametrize("step", ["render", "prepare", "commit", "differs"])
def test_an_unexpected_error_at_one_file_stops_no_other_and_is_tried_again(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    bad = FileState(ManagedFile("/bad", str(tmp_path / "bad.conf")))
    owner = batches if step == "render" else FileWriter
    right = getattr(owner, step)

    def fail(*arguments: Any) -> Any:
        concerned = arguments[1] == {"": b"bad"} if step == "render" else arguments[0].file is bad.file
        if concerned:
            raise RecursionError("maximum recursion depth exceeded")
        return right(*arguments)

    monkeypatch.setattr(owner, step, fail)
    assert host.apply(value(b"one"), (bad, value(b"bad"))) == "pending"
    assert host.dest.read_bytes() == b"one"
    assert str(bad.problem) == "unexpected RecursionError: maximum recursion depth exceeded"
    assert bad.retry_at is not None
    assert sorted(os.listdir(tmp_path)) == ["a.conf", "journal.json"]
    monkeypatch.undo()
    host.apply(value(b"one"), (bad, value(b"bad")))
    assert (tmp_path / "bad.conf").read_bytes() == b"bad"


def test_a_file_is_not_written_into_a_release_but_into_what_outlasts_it(host: Host) -> None:
    release = host.layout.release("a" * 40)
    release.mkdir(parents=True)
    (host.layout.base / "site").symlink_to(release)
    (host.layout.shared / "etc").mkdir(parents=True)
    (release / "etc").symlink_to(host.layout.shared / "etc")
    inside = FileState(ManagedFile("/a", f"{host.layout.base}/site/a.conf"))
    shared = FileState(ManagedFile("/a", f"{host.layout.base}/site/etc/a.conf"))
    assert host.apply(value(b"one"), (inside, value(b"one")), (shared, value(b"one"))) == "pending"
    assert not (release / "a.conf").exists()
    status = inside.status(host.actions)
    assert status.state == "failed"
    assert "is in a release, and the next one would not have it" in str(status.message)
    assert (host.layout.shared / "etc" / "a.conf").read_bytes() == b"one"
