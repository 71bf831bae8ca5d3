"""What a snapshot guarantees when znodes change between two reads. A real server can't be stopped at that instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import FileError, SessionTroubleError, TransientFileError, UnexpectedFileError
from zoo_watcher.files import snapshot as snapshots_of
from zoo_watcher.files.snapshot import PASSES, Snapshot, take
from zoo_watcher.zookeeper.session import Znode

Change = Callable[["Server"], None]


@dataclass
class Stat:
    """The fields of a `ZnodeStat` that are read."""

    mzxid: int
    pzxid: int
    dataLength: int = 1
    version: int = 0


@dataclass
class Server:
    """Znodes in memory behind the four requests of a `Session`. Before the nth request, `changes[n]` happens."""

    changes: dict[int, Change] = field(default_factory=dict)
    zxid: int = 10
    nodes: dict[str, tuple[bytes, Stat]] = field(default_factory=dict)
    watched: list[str] = field(default_factory=list)
    requests: int = 0

    def put(self, path: str, data: bytes = b"x") -> None:
        """Create a znode, or change it."""
        self.zxid += 1
        parent = path.rpartition("/")[0]
        if path not in self.nodes and parent in self.nodes:
            self.nodes[parent][1].pzxid = self.zxid
        pzxid = self.nodes[path][1].pzxid if path in self.nodes else self.zxid
        self.nodes[path] = (data, Stat(self.zxid, pzxid, len(data)))

    def delete(self, path: str) -> None:
        """Delete a znode."""
        self.zxid += 1
        del self.nodes[path]
        parent = path.rpartition("/")[0]
        if parent in self.nodes:
            self.nodes[parent][1].pzxid = self.zxid

    def mark(self) -> int:
        """As in `Session`."""
        self._count()
        return self.zxid

    def read_all(self, paths: Iterable[str], watch: Any) -> dict[str, Any]:
        """As in `Session`."""
        assert watch
        return {path: self._read(path) for path in sorted(paths)}

    def list_all(self, paths: Iterable[str], watch: Any) -> dict[str, Any]:
        """As in `Session`."""
        assert watch
        return {path: self._list(path) for path in sorted(paths)}

    def await_all(self, paths: Iterable[str], watch: Any) -> set[str]:
        """As in `Session`."""
        assert watch
        missing = set()
        for path in sorted(paths):
            self._count()
            self.watched.append(path)
            if path not in self.nodes:
                missing.add(path)
        return missing

    def _count(self) -> None:
        self.requests += 1
        change = self.changes.pop(self.requests, None)
        if change:
            change(self)

    def _read(self, path: str) -> Znode | None:
        self._count()
        if path not in self.nodes:
            return None
        data, stat = self.nodes[path]
        return Znode(data, Stat(**vars(stat)))

    def _list(self, path: str) -> tuple[list[str], Stat] | None:
        self._count()
        if path not in self.nodes:
            return None
        below = [other.removeprefix(f"{path}/") for other in self.nodes if other.startswith(f"{path}/")]
        return [name for name in below if "/" not in name], Stat(**vars(self.nodes[path][1]))


def snapshot_of(server: Server, form: str = "value") -> Snapshot:
    """A snapshot of /a."""
    file = ManagedFile("/a", "/etc/a", form)
    return take(server, [file], print, server.mark())[file]  # type: ignore[arg-type]


def test_a_value_that_has_not_changed_since_is_read_once() -> None:
    server = Server()
    server.put("/a")
    assert snapshot_of(server).zxid == 11
    assert server.requests == 2


def test_a_value_that_changes_after_the_mark_is_current_up_to_that_change() -> None:
    server = Server({2: lambda server: server.put("/a", b"new")})
    server.put("/a")
    snapshot = snapshot_of(server)
    assert (snapshot.zxid, snapshot.values) == (12, {"": b"new"})


def test_a_deletion_after_the_mark_counts_too() -> None:
    server = Server({2: lambda server: server.delete("/a")})
    server.put("/a")
    snapshot = snapshot_of(server)
    assert (snapshot.zxid, snapshot.nodes) == (12, {})
    assert "/a" in server.watched


@pytest.mark.parametrize("number", range(2, 7))
def test_a_znode_that_is_created_before_the_last_request_is_found(number: int) -> None:
    # The sixth request sets the watch for its creation, which would never fire for a znode that exists by then.
    server = Server({number: lambda server: server.put("/a", b"new")})
    snapshot = snapshot_of(server)
    assert (snapshot.zxid, snapshot.values) == (11, {"": b"new"})


@pytest.mark.parametrize("number", range(2, 9))
def test_a_subtree_is_as_it_was_at_one_transaction_whenever_changes_happen(number: int) -> None:
    def both(server: Server) -> None:
        server.put("/a/b", b"new")
        server.put("/a/c", b"new")
        server.put("/a/d", b"new")

    server = Server({number: both})
    for path in ("/a", "/a/b", "/a/c"):
        server.put(path, b"old")
    snapshot = snapshot_of(server, "json")
    old = {"": b"old", "b": b"old", "c": b"old"}
    new = {"": b"old", "b": b"new", "c": b"new", "d": b"new"}
    assert snapshot.values in (old, new)
    assert snapshot.zxid == (16 if snapshot.values == new else 13)


@pytest.mark.parametrize("number", range(2, 9))
def test_a_deletion_in_a_subtree_counts_once_it_has_been_read(number: int) -> None:
    server = Server({number: lambda server: server.delete("/a/b")})
    for path in ("/a", "/a/b", "/a/c"):
        server.put(path)
    snapshot = snapshot_of(server, "json")
    assert snapshot.problem is None
    assert (snapshot.zxid, sorted(snapshot.nodes)) in ((13, ["", "b", "c"]), (14, ["", "c"]))


def test_a_snapshot_of_what_changes_all_the_time_is_inconsistent_and_claims_no_newer_transaction() -> None:
    def change(server: Server) -> None:
        server.put("/a/b")
        server.changes[server.requests + 1] = change

    server = Server({2: change})
    for path in ("/a", "/a/b"):
        server.put(path)
    snapshot = snapshot_of(server, "json")
    assert not snapshot.consistent
    assert snapshot.nodes["b"].stat.mzxid > snapshot.zxid
    assert server.requests <= PASSES * 6


def test_a_subtree_that_is_too_large_is_not_read_to_its_end() -> None:
    server = Server()
    server.put("/a")
    for number in range(200):
        server.put(f"/a/{number}", b"x" * 1_000_000)
    problem = snapshot_of(server, "json").problem
    assert isinstance(problem, TransientFileError)
    assert "32000000 bytes" in str(problem)


def test_a_subtree_that_is_too_deep_is_read_no_further_than_that() -> None:
    server = Server()
    path = "/a"
    server.put(path)
    for _level in range(150):
        path += "/b"
        server.put(path)
    snapshot = snapshot_of(server, "json")
    assert str(snapshot.problem) == "more than 100 levels of znodes: expected at most 100"
    assert not isinstance(snapshot.problem, TransientFileError)
    assert server.requests < PASSES * 2 * 103
    server.delete(f"/a{'/b' * 150}")
    for level in range(149, 100, -1):
        server.delete(f"/a{'/b' * level}")
    assert snapshot_of(server, "json").problem is None


def test_another_value_with_the_same_transaction_has_another_fingerprint() -> None:
    def read(data: bytes) -> Snapshot:
        server = Server()
        server.put("/a", data)
        return snapshot_of(server)

    assert read(b"one").fingerprint == read(b"one").fingerprint
    assert read(b"one").fingerprint != read(b"two").fingerprint


def test_an_unexpected_error_is_the_problem_of_its_subtree_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    for path in ("/a", "/a/x", "/b"):
        server.put(path)
    monkeypatch.setattr(snapshots_of, "check_name", lambda name: {}[name])
    bad, good = ManagedFile("/a", "/etc/a", "json"), ManagedFile("/b", "/etc/b")
    snapshots = take(server, [bad, good], print, server.mark())  # type: ignore[arg-type]
    assert isinstance(snapshots[bad].problem, UnexpectedFileError)
    assert str(snapshots[bad].problem) == "unexpected KeyError: 'x'"
    assert snapshots[good].values == {"": b"x"}


def test_a_name_that_no_file_can_have_is_the_problem_of_its_subtree_alone() -> None:
    server = Server()
    for path in ("/a", "/a/..", "/b"):
        server.put(path)
    bad, good = ManagedFile("/a", "/etc/a", "json"), ManagedFile("/b", "/etc/b")
    snapshots = take(server, [bad, good], print, server.mark())  # type: ignore[arg-type]
    assert isinstance(snapshots[bad].problem, FileError)
    assert '".." can\'t name a znode' in str(snapshots[bad].problem)
    assert snapshots[good].values == {"": b"x"}


def test_a_session_that_does_not_answer_is_not_reported_as_a_files_problem() -> None:
    def silent(_server: Server) -> None:
        raise SessionTroubleError("no answer within 10 s")

    server = Server({2: silent})
    server.put("/a")
    with pytest.raises(SessionTroubleError):
        snapshot_of(server)
