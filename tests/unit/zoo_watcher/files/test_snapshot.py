"""What a look vouches for when znodes change between two of its reads: no real server can be held at that instant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import KeepError, PassingKeepError, SessionTroubleError
from zoo_watcher.files.snapshot import PASSES, Snapshot, look
from zoo_watcher.zookeeper.session import Znode

Change = Callable[["Server"], None]


@dataclass
class Stat:
    """What a look reads of a `ZnodeStat`."""

    mzxid: int
    pzxid: int
    dataLength: int = 1  # noqa: N815
    version: int = 0


@dataclass
class Server:
    """Znodes in memory behind the four questions of a `Session`. Before the nth question, `changes[n]` happens."""

    changes: dict[int, Change] = field(default_factory=dict)
    zxid: int = 10
    nodes: dict[str, tuple[bytes, Stat]] = field(default_factory=dict)
    watched: list[str] = field(default_factory=list)
    asked: int = 0

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
        self._ask()
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
        found = set()
        for path in sorted(paths):
            self._ask()
            self.watched.append(path)
            if path not in self.nodes:
                found.add(path)
        return found

    def _ask(self) -> None:
        self.asked += 1
        change = self.changes.pop(self.asked, None)
        if change:
            change(self)

    def _read(self, path: str) -> Znode | None:
        self._ask()
        if path not in self.nodes:
            return None
        data, stat = self.nodes[path]
        return Znode(data, Stat(**vars(stat)))

    def _list(self, path: str) -> tuple[list[str], Stat] | None:
        self._ask()
        if path not in self.nodes:
            return None
        below = [other.removeprefix(f"{path}/") for other in self.nodes if other.startswith(f"{path}/")]
        return [name for name in below if "/" not in name], Stat(**vars(self.nodes[path][1]))


def seen_of(server: Server, form: str = "value") -> Snapshot:
    """A look at /a."""
    file = ManagedFile("/a", "/etc/a", form)
    return look(server, [file], print, server.mark())[file]  # type: ignore[arg-type]


def test_a_value_that_has_not_changed_since_is_read_once() -> None:
    server = Server()
    server.put("/a")
    assert seen_of(server).zxid == 11
    assert server.asked == 2


def test_a_value_that_changes_after_the_mark_is_vouched_for_up_to_that_change() -> None:
    server = Server({2: lambda one: one.put("/a", b"new")})
    server.put("/a")
    seen = seen_of(server)
    assert (seen.zxid, seen.values) == (12, {"": b"new"})


def test_a_deletion_after_the_mark_is_vouched_for_too() -> None:
    server = Server({2: lambda one: one.delete("/a")})
    server.put("/a")
    seen = seen_of(server)
    assert (seen.zxid, seen.nodes) == (12, {})
    assert "/a" in server.watched


@pytest.mark.parametrize("number", range(2, 7))
def test_a_znode_that_comes_before_the_last_question_is_found(number: int) -> None:
    # The sixth question sets the watch for its creation: of one that is there by then, that watch would never tell.
    server = Server({number: lambda one: one.put("/a", b"new")})
    seen = seen_of(server)
    assert (seen.zxid, seen.values) == (11, {"": b"new"})


@pytest.mark.parametrize("number", range(2, 9))
def test_a_subtree_is_what_it_was_at_one_transaction_whenever_that_falls(number: int) -> None:
    def both(server: Server) -> None:
        server.put("/a/b", b"new")
        server.put("/a/c", b"new")
        server.put("/a/d", b"new")

    server = Server({number: both})
    for path in ("/a", "/a/b", "/a/c"):
        server.put(path, b"old")
    seen = seen_of(server, "json")
    old = {"": b"old", "b": b"old", "c": b"old"}
    new = {"": b"old", "b": b"new", "c": b"new", "d": b"new"}
    assert seen.values in (old, new)
    assert seen.zxid == (16 if seen.values == new else 13)


@pytest.mark.parametrize("number", range(2, 9))
def test_a_deletion_in_a_subtree_is_vouched_for_once_it_has_been_seen(number: int) -> None:
    server = Server({number: lambda one: one.delete("/a/b")})
    for path in ("/a", "/a/b", "/a/c"):
        server.put(path)
    seen = seen_of(server, "json")
    assert seen.problem is None
    assert (seen.zxid, sorted(seen.nodes)) in ((13, ["", "b", "c"]), (14, ["", "c"]))


def test_what_changes_all_the_time_is_said_not_to_be_whole_and_vouched_for_no_further_than_it_is() -> None:
    def change(server: Server) -> None:
        server.put("/a/b")
        server.changes[server.asked + 1] = change

    server = Server({2: change})
    for path in ("/a", "/a/b"):
        server.put(path)
    seen = seen_of(server, "json")
    assert not seen.whole
    assert seen.nodes["b"].stat.mzxid > seen.zxid
    assert server.asked <= PASSES * 6


def test_a_subtree_that_is_too_large_is_not_read_to_its_end() -> None:
    server = Server()
    server.put("/a")
    for number in range(200):
        server.put(f"/a/{number}", b"x" * 1_000_000)
    problem = seen_of(server, "json").problem
    assert isinstance(problem, PassingKeepError)
    assert "32000000 bytes" in str(problem)


def test_a_name_that_no_file_can_have_is_the_problem_of_its_subtree_alone() -> None:
    server = Server()
    for path in ("/a", "/a/..", "/b"):
        server.put(path)
    bad, good = ManagedFile("/a", "/etc/a", "json"), ManagedFile("/b", "/etc/b")
    found = look(server, [bad, good], print, server.mark())  # type: ignore[arg-type]
    assert isinstance(found[bad].problem, KeepError)
    assert '".." can\'t name a znode' in str(found[bad].problem)
    assert found[good].values == {"": b"x"}


def test_a_session_that_does_not_answer_is_nobodys_problem_but_the_looks() -> None:
    def silent(_server: Server) -> None:
        raise SessionTroubleError("no answer within 10 s")

    server = Server({2: silent})
    server.put("/a")
    with pytest.raises(SessionTroubleError):
        seen_of(server)
