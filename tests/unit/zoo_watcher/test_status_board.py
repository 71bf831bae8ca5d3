"""The agent's status is written when it has changed, and never in place of another agent's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from zoo_watcher.config.config import Config
from zoo_watcher.errors import SessionTroubleError
from zoo_watcher.host.layout import Layout
from zoo_watcher.status_board import StatusBoard
from zoo_watcher.zookeeper.ephemerals import Ephemerals, TakenError
from zoo_watcher.zookeeper.session import Session
from zoo_watcher.zookeeper.session_states import SYNC_CONNECTED, SessionStates

COMMIT = "a" * 40


class Connected:
    """A session with a timeout of 10 s."""

    timeout = 10.0
    seconds_left = 10.0
    trying: dict[str, Any] | None = None

    def __init__(self) -> None:
        self.states = SessionStates()
        self.states.enter(SYNC_CONNECTED)


class Held:
    """Ephemerals: `values` by path, and the `owner` who has taken all paths, if any."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.owner: int | None = None

    @property
    def held(self) -> set[str]:
        """As in `Ephemerals`."""
        return set(self.values)

    def hold(self, path: str, value: bytes) -> None:
        """As in `Ephemerals`."""
        if self.owner is not None:
            raise TakenError(path, self.owner)
        self.values[path] = value


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A base with its directories."""
    made = Layout(tmp_path / "base")
    made.make()
    return made


@pytest.fixture
def session() -> Connected:
    """A session that is connected."""
    return Connected()


@pytest.fixture
def held() -> Held:
    """Ephemerals, none of them held."""
    return Held()


@pytest.fixture
def board(layout: Layout, session: Connected, held: Held) -> StatusBoard:
    """The status board of the agent `web1` of the application `/app`."""
    config = Config.from_object({"hosts": "zk1", "base": str(layout.base), "name": "web1", "app": "/app"})
    return StatusBoard(config, layout, cast(Session, session), cast(Ephemerals, held), "1.0")


def shown(layout: Layout) -> dict[str, Any]:
    """The content of the status file."""
    status: dict[str, Any] = json.loads(layout.status.read_text())
    return status


def test_a_state_has_the_time_of_its_beginning_and_the_commit_that_is_live(board: StatusBoard) -> None:
    board.enter("fetching", None, generation=7)
    since = board.status.since
    board.enter("fetching", None, message="no route to host")
    assert (board.status.since, board.status.generation, board.status.commit_id) == (since, 7, None)
    board.enter("active", COMMIT, message=None)
    assert (board.status.state, board.status.commit_id) == ("active", COMMIT)
    board.enter("failed", None)
    assert (board.status.state, board.status.commit_id) == ("failed", None)


def test_the_status_file_has_session_and_registrations_while_the_session_lasts(
    board: StatusBoard, layout: Layout, session: Connected, held: Held
) -> None:
    held.values["/service/web1"] = b"x"
    board.report()
    board.show()
    assert shown(layout)["session"] == SYNC_CONNECTED
    assert shown(layout)["registered"] == ["/service/web1"]
    session.seconds_left = 0
    board.show()
    assert shown(layout)["registered"] == []


def test_the_status_file_is_written_again_only_where_something_has_changed(board: StatusBoard, layout: Layout) -> None:
    board.show()
    layout.status.unlink()
    board.show()
    assert not layout.status.exists()
    board.set_files({"/etc/a": {"state": "current"}})
    board.show()
    assert shown(layout)["files"] == {"/etc/a": {"state": "current"}}


def test_the_status_is_in_the_agents_znode(board: StatusBoard, held: Held) -> None:
    board.enter("active", COMMIT, generation=7)
    board.report()
    (status,) = (json.loads(value) for value in held.values.values())
    assert (status["name"], status["state"], status["generation"]) == ("web1", "active", 7)


@pytest.mark.parametrize(("owner", "held_by"), [(0x99, "session 0x99 holds it"), (0, "it is a persistent znode")])
def test_a_name_that_another_agent_has_is_reported_and_does_not_end_this_one(
    board: StatusBoard, held: Held, owner: int, held_by: str
) -> None:
    held.owner = owner
    with pytest.raises(SessionTroubleError, match=rf"no status of web1: .* {held_by}; is another agent named web1\?"):
        board.report()
    held.owner = None
    board.report()
    assert held.values


def test_troubles_are_in_the_status_while_they_last(board: StatusBoard, held: Held) -> None:
    board.set_troubles(["/app/config: permission denied"])
    board.report()
    assert [json.loads(value)["troubles"] for value in held.values.values()] == [["/app/config: permission denied"]]
    board.set_troubles([])
    board.report()
    assert ["troubles" in json.loads(value) for value in held.values.values()] == [False]


def test_a_status_file_that_cannot_be_written_is_a_trouble_until_it_can(board: StatusBoard, layout: Layout) -> None:
    layout.status.mkdir()
    assert board.show(), "this is news"
    assert board.troubles == [f"status not written, path={layout.status}: Is a directory"]
    assert not board.show()
    layout.status.rmdir()
    assert board.show()
    assert board.troubles == []
    assert shown(layout)["state"] == "idle"


@pytest.mark.parametrize(
    ("length", "left"), [(100, {"state", "message"}), (1_000, {"state"})], ids=["it fits", "only without messages"]
)
def test_a_status_that_is_too_large_for_a_znode_leaves_out_the_messages_of_files(
    board: StatusBoard, held: Held, length: int, left: set[str]
) -> None:
    board.set_files({f"/etc/{number}": {"state": "failed", "message": "x" * length} for number in range(1_000)})
    board.report()
    told = json.loads(held.values["/app/agents/web1"])
    assert {key for file in told["files"].values() for key in file} == left
    assert ("troubles" in told) == ("message" not in left)


def test_a_status_that_is_too_large_even_so_leaves_out_the_files_and_reports_that(
    board: StatusBoard, held: Held, layout: Layout
) -> None:
    files = {f"/etc/{number}/{'x' * 1_000}": {"state": "current"} for number in range(1_000)}
    board.set_files(files)
    board.report()
    told = json.loads(held.values["/app/agents/web1"])
    assert "files" not in told
    assert told["troubles"][-1].endswith("the files are left out; `zoo-watcher status` has all")
    board.show()
    assert json.loads(layout.status.read_text())["files"] == files
