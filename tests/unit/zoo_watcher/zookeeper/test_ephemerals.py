"""What the record of ephemerals guarantees when sessions change and others delete or take a path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kazoo.exceptions import ConnectionLoss, NoAuthError, NodeExistsError, NoNodeError, RuntimeInconsistency
from kazoo.protocol.states import EventType

from zoo_watcher.errors import NoAnswerError, SessionTroubleError
from zoo_watcher.zookeeper.ephemerals import Ephemerals, TakenError
from zoo_watcher.zookeeper.session import Session
from zoo_watcher.zookeeper.session_memory import SessionMemory

FIRST, SECOND, FOREIGN = 0x1, 0x2, 0x99


@dataclass
class Ensemble:
    """Ephemerals in memory behind a `Session`: `znodes` has owner and value by path, `requests` what was requested."""

    client_id: tuple[int, bytes] = (FIRST, b"secret")
    znodes: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    watches: dict[str, Callable[[Any], None]] = field(default_factory=dict)
    broken: bool = False
    connections: int = 1
    woken: int = 0

    @property
    def client(self) -> Ensemble:
        """As in `Session`."""
        return self

    def wake(self) -> None:
        """As in `Session`."""
        self.woken += 1

    def ask(self, request: Callable[..., Any], path: str, *arguments: Any, **options: Any) -> Any:
        """As in `Session`."""
        if self.broken:
            raise ConnectionLoss
        self.requests.append((request.__name__.removesuffix("_async"), path))
        return request(path, *arguments, **options)

    @staticmethod
    def answer(results: Any, _deadline: float | None = None) -> Any:
        """As in `Session`."""
        return results

    def _stat(self, path: str) -> Any:
        return SimpleNamespace(ephemeralOwner=self.znodes[path][0], version=self.versions.get(path, 0), czxid=1)

    def exists_async(self, path: str, watch: Callable[[Any], None] | None = None) -> Any:
        """As in kazoo's client, but answered immediately, like the requests below."""
        if watch:
            self.watches[path] = watch
        return self._stat(path) if path in self.znodes else None

    def create_async(self, path: str, value: bytes, **_options: Any) -> None:
        if path in self.znodes:
            raise NodeExistsError
        self.znodes[path] = (self.client_id[0], value)

    def set_async(self, path: str, value: bytes) -> Any:
        if path not in self.znodes:
            raise NoNodeError
        self.change(path, value)
        return self._stat(path)

    def get_async(self, path: str) -> tuple[bytes, Any]:
        return self.znodes[path][1], self._stat(path)

    def delete_async(self, path: str, version: int) -> None:
        if path not in self.znodes:
            raise NoNodeError
        assert version == self._stat(path).version
        self.delete(path)

    def transaction(self) -> Any:
        """A transaction that deletes a znode and creates it again."""

        def create(path: str, value: bytes, **_options: Any) -> None:
            self.requests.append(("replace", path))
            self.versions.pop(path, None)
            self.znodes[path] = (self.client_id[0], value)

        return SimpleNamespace(delete=lambda _path, _version: None, create=create, commit_async=list)

    def drop_connection(self) -> None:
        """Lose the connection: like kazoo, notify every watch and forget it."""
        watches, self.watches = self.watches, {}
        for watch in watches.values():
            watch(SimpleNamespace(type=EventType.NONE, path=None))

    def change(self, path: str, value: bytes) -> None:
        """Set the value of a znode, as another client."""
        self.znodes[path] = (self.znodes[path][0], value)
        self.versions[path] = self.versions.get(path, 0) + 1
        self._fire(path, EventType.CHANGED)

    def delete(self, path: str) -> None:
        """Delete a znode, as another client."""
        del self.znodes[path]
        self.versions.pop(path, None)
        self._fire(path, EventType.DELETED)

    def _fire(self, path: str, kind: str) -> None:
        if path in self.watches:
            self.watches.pop(path)(SimpleNamespace(type=kind, path=path))


@pytest.fixture
def ensemble() -> Ensemble:
    """An ensemble without znodes."""
    return Ensemble()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file in which the session is remembered."""
    return tmp_path / "session.json"


@pytest.fixture
def ephemerals(ensemble: Ensemble, file: Path) -> Ephemerals:
    """The ephemerals of an agent that has just got its first session."""
    return start(ensemble, file)


def start(ensemble: Ensemble, file: Path) -> Ephemerals:
    """The ephemerals of an agent that starts, and has a session."""
    ephemerals = Ephemerals(cast(Session, ensemble), SessionMemory(file))
    assert ephemerals.follow_session()
    return ephemerals


def test_an_ephemeral_that_is_held_with_its_value_is_not_requested_again(
    ephemerals: Ephemerals, ensemble: Ensemble
) -> None:
    ephemerals.hold("/a", b"one")
    ephemerals.hold("/a", b"one")
    assert ensemble.requests == [("create", "/a"), ("exists", "/a")]
    ephemerals.hold("/a", b"two")
    assert ensemble.znodes == {"/a": (FIRST, b"two")}
    assert ("create", "/a") not in ensemble.requests[1:]
    assert ephemerals.held == {"/a"}


def test_an_ephemeral_that_somebody_deletes_is_created_again(ephemerals: Ephemerals, ensemble: Ensemble) -> None:
    ephemerals.hold("/a", b"one")
    ensemble.delete("/a")
    assert ensemble.woken == 1
    assert ephemerals.held == set()
    ephemerals.hold("/a", b"one")
    assert ensemble.znodes == {"/a": (FIRST, b"one")}


def test_an_ephemeral_that_somebody_changes_gets_its_value_back_and_is_still_watched(
    ephemerals: Ephemerals, ensemble: Ensemble
) -> None:
    ephemerals.hold("/a", b"one")
    ensemble.change("/a", b"theirs")
    assert ensemble.woken == 1
    ephemerals.hold("/a", b"one")
    assert ensemble.znodes == {"/a": (FIRST, b"one")}
    ensemble.change("/a", b"theirs")
    ensemble.delete("/a")
    assert ensemble.woken == 2
    ephemerals.hold("/a", b"one")
    assert ensemble.znodes == {"/a": (FIRST, b"one")}
    assert ephemerals.held == {"/a"}


def test_a_change_by_the_agent_itself_does_not_wake_the_loop_and_is_requested_once(
    ephemerals: Ephemerals, ensemble: Ensemble
) -> None:
    ephemerals.hold("/a", b"one")
    ephemerals.hold("/a", b"two")
    ensemble.requests.clear()
    ephemerals.hold("/a", b"two")
    assert (ensemble.requests, ensemble.woken) == ([], 0)


def test_an_ephemeral_that_is_changed_before_its_watch_is_set_is_not_held(
    ephemerals: Ephemerals, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ensemble.create_async

    def create_async(path: str, value: bytes, **options: Any) -> None:
        create(path, value, **options)
        ensemble.change(path, b"theirs")

    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "create_async", create_async)
        with pytest.raises(SessionTroubleError, match=r"^/a has just been changed$"):
            ephemerals.hold("/a", b"one")
    assert ephemerals.held == set()
    ephemerals.hold("/a", b"one")
    assert ensemble.znodes == {"/a": (FIRST, b"one")}


def test_an_ephemeral_that_is_deleted_while_the_connection_is_lost_is_created_again(
    ephemerals: Ephemerals, ensemble: Ensemble
) -> None:
    ephemerals.hold("/a", b"one")
    ephemerals.hold("/b", b"one")
    ensemble.drop_connection()
    ensemble.delete("/a")
    assert ensemble.woken
    ephemerals.hold("/a", b"one")
    ephemerals.hold("/b", b"one")
    assert ensemble.znodes == {"/a": (FIRST, b"one"), "/b": (FIRST, b"one")}
    assert ephemerals.held == set(ensemble.watches) == {"/a", "/b"}


def test_an_ephemeral_that_is_deleted_before_its_watch_is_set_is_not_held(
    ephemerals: Ephemerals, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble, "create_async", lambda *_words, **_options: None)
    monkeypatch.setattr(ensemble.create_async, "__name__", "create_async")
    with pytest.raises(SessionTroubleError, match=r"^/a has just been deleted$"):
        ephemerals.hold("/a", b"one")
    assert ephemerals.held == set()


def test_the_deletion_of_an_ephemeral_that_another_client_holds_wakes_the_loop(
    ephemerals: Ephemerals, ensemble: Ensemble
) -> None:
    ensemble.znodes["/a"] = (FOREIGN, b"theirs")
    with pytest.raises(TakenError):
        ephemerals.hold("/a", b"mine")
    ensemble.delete("/a")
    assert ensemble.woken == 1


def test_a_path_that_another_has_taken_while_the_connection_was_lost_is_not_withdrawn(
    ephemerals: Ephemerals, ensemble: Ensemble
) -> None:
    ephemerals.hold("/a", b"one")
    ensemble.znodes["/a"] = (FOREIGN, b"theirs")
    ephemerals.withdraw("/a")
    assert ensemble.znodes == {"/a": (FOREIGN, b"theirs")}


def test_an_ephemeral_that_may_have_been_withdrawn_does_not_count_as_held(
    ephemerals: Ephemerals, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_answer(path: str, _version: int) -> None:
        del ensemble.znodes[path]
        raise ConnectionLoss

    ephemerals.hold("/a", b"one")
    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "delete_async", lose_answer)
        with pytest.raises(SessionTroubleError):
            ephemerals.withdraw("/a")
    assert ephemerals.held == set()
    ephemerals.hold("/a", b"one")
    assert ensemble.znodes == {"/a": (FIRST, b"one")}


def test_in_a_new_session_ephemerals_are_created_again_and_an_earlier_sessions_is_replaced(
    ephemerals: Ephemerals, ensemble: Ensemble
) -> None:
    ephemerals.hold("/a", b"one")
    assert not ephemerals.follow_session()
    ensemble.client_id = (SECOND, b"other")
    assert ephemerals.follow_session()
    assert ephemerals.held == set()
    ephemerals.hold("/a", b"one")
    assert ensemble.znodes == {"/a": (SECOND, b"one")}
    assert ("replace", "/a") in ensemble.requests


@pytest.mark.parametrize("owner", [FOREIGN, 0])
def test_somebody_elses_znode_is_neither_replaced_nor_deleted(
    ephemerals: Ephemerals, ensemble: Ensemble, owner: int
) -> None:
    ensemble.znodes["/a"] = (owner, b"theirs")
    with pytest.raises(TakenError, match=r"^/a is taken: ") as caught:
        ephemerals.hold("/a", b"mine")
    assert caught.value.owner == owner
    ephemerals.withdraw("/a")
    assert ensemble.znodes == {"/a": (owner, b"theirs")}
    assert ephemerals.held == set()


def test_an_ephemeral_that_was_deleted_and_taken_by_another_is_not_withdrawn(
    ephemerals: Ephemerals, ensemble: Ensemble
) -> None:
    ephemerals.hold("/a", b"one")
    ensemble.delete("/a")
    ensemble.znodes["/a"] = (FOREIGN, b"theirs")
    ephemerals.withdraw("/a")
    assert ensemble.znodes == {"/a": (FOREIGN, b"theirs")}


def test_a_restarted_agent_takes_over_what_its_session_holds_without_a_change(
    ephemerals: Ephemerals, ensemble: Ensemble, file: Path
) -> None:
    ephemerals.hold("/a", b"one")
    ensemble.requests.clear()
    later = start(ensemble, file)
    assert later.held == set()
    later.hold("/a", b"one")
    assert later.held == {"/a"}
    assert {name for name, _path in ensemble.requests} == {"create", "get", "exists"}


def test_a_restarted_agent_withdraws_ephemerals_that_are_no_longer_configured(
    ephemerals: Ephemerals, ensemble: Ensemble, file: Path
) -> None:
    ephemerals.hold("/a", b"one")
    ephemerals.hold("/b", b"one")
    ensemble.client_id = (SECOND, b"other")
    start(ensemble, file).withdraw_others({"/a"})
    assert set(ensemble.znodes) == {"/a"}
    assert SessionMemory(file).paths == {"/a"}


def test_a_path_that_could_not_be_remembered_is_remembered_at_the_next_turn(ensemble: Ensemble, tmp_path: Path) -> None:
    file = tmp_path / "late" / "session.json"
    ephemerals = start(ensemble, file)
    ephemerals.hold("/a", b"one")
    file.parent.mkdir()
    ephemerals.hold("/a", b"one")
    assert SessionMemory(file).paths == {"/a"}


def test_a_path_is_remembered_before_it_is_created(ephemerals: Ephemerals, ensemble: Ensemble, file: Path) -> None:
    ensemble.broken = True
    with pytest.raises(SessionTroubleError, match=r"^/a: .*\(ConnectionLoss\)"):
        ephemerals.hold("/a", b"one")
    assert SessionMemory(file).paths == {"/a"}
    assert ephemerals.held == set()


def test_a_withdrawn_ephemeral_is_deleted_and_no_longer_remembered(
    ephemerals: Ephemerals, ensemble: Ensemble, file: Path
) -> None:
    ephemerals.hold("/a", b"one")
    ephemerals.withdraw("/a")
    assert (ensemble.znodes, ephemerals.held, SessionMemory(file).paths) == ({}, set(), frozenset())
    ensemble.requests.clear()
    ephemerals.withdraw("/a")
    assert ensemble.requests == []


def test_an_ephemeral_that_was_deleted_or_changed_without_an_event_is_found_by_looking_again(
    ephemerals: Ephemerals, ensemble: Ensemble
) -> None:
    for path in ("/a", "/b", "/c"):
        ephemerals.hold(path, b"1")
    ensemble.watches.clear()
    ensemble.delete("/a")
    ensemble.change("/b", b"2")
    ensemble.requests.clear()
    ephemerals.look_again()
    assert ephemerals.held == {"/b", "/c"}
    assert ensemble.requests == [], "nothing is asked for one by one, and nothing is written"
    for path in ("/a", "/b", "/c"):
        ephemerals.hold(path, b"1")
    assert ensemble.znodes == dict.fromkeys(("/a", "/b", "/c"), (FIRST, b"1"))
    assert set(ensemble.watches) == {"/a", "/b"}


def test_all_held_ephemerals_are_looked_at_together(
    ephemerals: Ephemerals, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    exists = ensemble.exists_async

    def ask(path: str) -> Any:
        steps.append("ask")
        return exists(path)

    def answer(stat: Any) -> Any:
        steps.append("answer")
        return stat

    for path in ("/a", "/b", "/c"):
        ephemerals.hold(path, b"1")
    monkeypatch.setattr(ensemble, "exists_async", ask)
    monkeypatch.setattr(ensemble, "answer", answer)
    ephemerals.look_again()
    assert steps == ["ask"] * 3 + ["answer"] * 3


def test_an_ephemeral_that_may_not_be_deleted_is_still_held(
    ephemerals: Ephemerals, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: str, _version: int) -> None:
        raise NoAuthError

    ephemerals.hold("/a", b"1")
    monkeypatch.setattr(ensemble, "delete_async", refuse)
    refuse.__name__ = "delete_async"
    with pytest.raises(SessionTroubleError, match="permission denied"):
        ephemerals.withdraw("/a")
    assert ephemerals.held == {"/a"}


def test_an_ephemeral_that_may_not_be_deleted_does_not_keep_others_that_are_no_longer_configured(
    ephemerals: Ephemerals, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = ensemble.delete_async

    def refuse(path: str, version: int) -> None:
        if path == "/app/agents/before":
            raise NoAuthError
        delete(path, version)

    for path in ("/app/agents/before", "/service/before", "/service/now"):
        ephemerals.hold(path, b"1")
    monkeypatch.setattr(ensemble, "delete_async", refuse)
    refuse.__name__ = "delete_async"
    with pytest.raises(SessionTroubleError, match="/app/agents/before: permission denied"):
        ephemerals.withdraw_others({"/service/now"})
    assert set(ensemble.znodes) == {"/app/agents/before", "/service/now"}


def test_an_ephemeral_that_may_not_be_replaced_is_reported_as_such(
    ephemerals: Ephemerals, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    ephemerals.hold("/a", b"1")
    ensemble.client_id = (SECOND, b"other")
    assert ephemerals.follow_session()
    refused = [NoAuthError(), RuntimeInconsistency()]
    transaction = SimpleNamespace(delete=lambda *_: None, create=lambda *_, **_more: None, commit_async=lambda: refused)
    monkeypatch.setattr(ensemble, "transaction", lambda: transaction)
    with pytest.raises(SessionTroubleError, match="/a: permission denied"):
        ephemerals.hold("/a", b"1")


@pytest.mark.parametrize("between", ["nothing", "a connection", "a hold"])
def test_an_answer_that_came_too_late_counts_the_next_time_unless_something_has_happened_since(
    ephemerals: Ephemerals, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    asked: list[str] = []
    exists = ensemble.exists_async

    def ask(path: str, **options: Any) -> Any:
        asked.append(path)
        return exists(path, **options)

    def silence(_pending: Any, _deadline: float | None) -> None:
        raise NoAnswerError("no answer within 10 s")

    ephemerals.hold("/a", b"1")
    ask.__name__ = "exists_async"
    monkeypatch.setattr(ensemble, "exists_async", ask)
    with monkeypatch.context() as patch:
        patch.setattr(ensemble, "answer", silence)
        with pytest.raises(NoAnswerError):
            ephemerals.withdraw("/a")
    ensemble.connections += between == "a connection"
    if between == "a hold":
        ephemerals.hold("/a", b"2")
    asked.clear()
    ephemerals.withdraw("/a")
    assert (asked, ensemble.znodes) == ([] if between == "nothing" else ["/a"], {})
