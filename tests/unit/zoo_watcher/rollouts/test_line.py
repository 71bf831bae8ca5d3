"""A host's place in a line that others leave at the same moment."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest

from support.simulated_fleet import Ensemble, FakeSession, Watch
from zoo_watcher.errors import NoParentError, SessionTroubleError
from zoo_watcher.rollouts.line import Line
from zoo_watcher.wire.rollout_writes import CREATE, Write
from zoo_watcher.zookeeper.session import Znode

LANES = "/lanes"


def line_of(session: FakeSession, host: str) -> Line:
    """A line of one lane, as a host sees it."""
    return Line(session, "/line", LANES, 1, host, lambda: None)  # type: ignore[arg-type]


def two_in_line() -> tuple[Ensemble, FakeSession, Line, Line]:
    """The ensemble, the session of the first of two hosts in a line, and the line as each host sees it."""
    ensemble, chance = Ensemble(), random.Random(1)
    session, other = (FakeSession(ensemble, chance, 0) for _number in range(2))
    first, second = line_of(session, "web1"), line_of(other, "web2")
    first.join()
    second.join()
    return ensemble, session, first, second


def test_a_host_leaves_a_lane_whose_first_has_left_while_it_looked_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble, chance = Ensemble(), random.Random(1)
    session, other = (FakeSession(ensemble, chance, 0) for _number in range(2))
    first, second = line_of(other, "web1"), line_of(session, "web2")
    first.join()
    begin_read = session.begin_read

    def leave_after_reading(path: str, watch: Watch | None = None) -> Callable[[], Znode | None]:
        finish = begin_read(path, watch)
        if path.startswith(LANES) and first.path:
            assert other.commit(first.exits())
            first.forget()
        return finish

    monkeypatch.setattr(session, "begin_read", leave_after_reading)
    second.join()
    assert second.is_at_head
    assert not session.commit(second.exits())
    second.check()
    assert session.commit(second.exits())


@pytest.mark.parametrize(
    "left", [b'{"left": 1e999}', b'{"left": -10000}', b'{"left": [1]}', b"{", b"7", b"[" * 100_000]
)
def test_an_invalid_number_in_a_lane_says_nothing_about_who_has_left(left: bytes) -> None:
    ensemble = Ensemble()
    session = FakeSession(ensemble, random.Random(1), 0)
    session.create(f"{LANES}/0", left)
    session.requests = 0
    line = line_of(session, "web1")
    line.join()
    assert line.is_at_head
    assert session.requests < 10


@pytest.mark.parametrize("is_done", [True, False], ids=["only the answer is lost", "the request is lost"])
def test_a_host_whose_request_to_leave_is_not_answered_has_no_place_until_it_joins_again(
    monkeypatch: pytest.MonkeyPatch, *, is_done: bool
) -> None:
    ensemble, session, first, second = two_in_line()
    delete = session.delete

    def lose(path: str) -> None:
        if is_done:
            delete(path)
        raise SessionTroubleError("connection loss")

    with monkeypatch.context() as lossy:
        lossy.setattr(session, "delete", lose)
        with pytest.raises(SessionTroubleError):
            first.leave()
    assert not first.is_at_head
    first.join()
    second.join()
    assert (first.is_at_head, second.is_at_head) == (False, True)
    assert len(ensemble.children("/line")) == 2


def test_a_host_whose_session_has_ended_does_not_count_its_old_place_when_it_could_not_make_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _ensemble, session, first, second = two_in_line()
    session.expire()

    def lose(*_words: object, **_options: object) -> None:
        raise SessionTroubleError("connection loss")

    with monkeypatch.context() as lossy:
        lossy.setattr(session, "create", lose)
        with pytest.raises(SessionTroubleError):
            first.join()
    assert not first.is_at_head
    first.join()
    second.join()
    assert (first.is_at_head, second.is_at_head) == (False, True)


def test_a_host_that_joins_recreates_a_missing_line_but_no_rollout() -> None:
    """An empty rollout would keep it from being started again."""
    ensemble = Ensemble()
    session = FakeSession(ensemble, random.Random(1), 0)
    line = Line(session, "/rollout/line", "/rollout/lanes", 1, "web1", lambda: None)  # type: ignore[arg-type]
    with pytest.raises(NoParentError):
        line.join()
    assert not ensemble.nodes
    session.create("/rollout", b"{}")
    line.join()
    assert line.is_at_head
    assert set(ensemble.nodes) == {"/rollout", "/rollout/line", line.path}


def test_a_place_that_is_deleted_or_is_anothers_now_does_not_count() -> None:
    ensemble, session, first, _second = two_in_line()
    other = FakeSession(ensemble, random.Random(1), 0)
    assert first.has_lasted()
    path = str(first.path)
    other.delete(path)
    assert not first.has_lasted()
    assert not first.is_at_head
    first.join()
    path = str(first.path)
    session.delete(path)
    ensemble.apply([Write(CREATE, path, b"web3")], other.owner)
    assert not first.has_lasted()
    assert path in ensemble.nodes


def lag(monkeypatch: pytest.MonkeyPatch, session: FakeSession) -> None:
    """Have the server know of no place until it has caught up with its leader, as a new client's server may."""
    begin_read, begin_list = session.begin_read, session.begin_list
    level: list[bool] = []
    monkeypatch.setattr(session, "begin_read", lambda *words: begin_read(*words) if level else lambda: None)
    monkeypatch.setattr(session, "begin_list", lambda path: begin_list(path) if level else list)
    monkeypatch.setattr(session, "catch_up", lambda: level.append(True))


def test_a_place_that_a_server_does_not_know_of_yet_has_lasted(monkeypatch: pytest.MonkeyPatch) -> None:
    _ensemble, session, first, _second = two_in_line()
    lag(monkeypatch, session)
    assert first.has_lasted()
    assert first.is_at_head


@pytest.mark.parametrize("has_known", [True, False])
def test_a_host_that_leaves_deletes_even_a_place_that_its_server_does_not_know_of_yet(
    monkeypatch: pytest.MonkeyPatch, *, has_known: bool
) -> None:
    ensemble, session, first, second = two_in_line()
    lag(monkeypatch, session)
    if not has_known:
        first = Line(session, "/line", LANES, 1, "web1", lambda: None, resumes=True)  # type: ignore[arg-type]
    first.leave()
    assert [f"/line/{name}" for name in ensemble.children("/line")] == [second.path]


def test_an_unknown_place_is_deleted_even_if_the_connection_is_lost_while_it_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ensemble, session, _first, second = two_in_line()
    successor = Line(session, "/line", LANES, 1, "web1", lambda: None, resumes=True)  # type: ignore[arg-type]
    begin_read, client_id = session.begin_read, session.client_id

    def lose_connection(path: str, watch: Watch | None = None) -> Callable[[], Znode | None]:
        session.client_id = None
        return begin_read(path, watch)

    with monkeypatch.context() as lossy:
        lossy.setattr(session, "begin_read", lose_connection)
        with contextlib.suppress(SessionTroubleError):
            successor.leave()
    session.client_id = client_id
    successor.leave()
    assert [f"/line/{name}" for name in ensemble.children("/line")] == [second.path]


def test_a_host_that_leaves_deletes_no_place_of_another_in_a_recreated_line() -> None:
    ensemble, session, first, _second = two_in_line()
    other = FakeSession(ensemble, random.Random(1), 0)
    path = str(first.path)
    session.delete(path)
    ensemble.apply([Write(CREATE, path, b"web3")], other.owner)
    first.leave()
    assert first.path is None
    assert ensemble.nodes[path].data == b"web3"
