"""What a host's entry in the roster costs the ensemble, and what is written into it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kazoo.exceptions import NoAuthError, NoNodeError

from zoo_watcher.config.config import Config
from zoo_watcher.errors import SessionTroubleError
from zoo_watcher.zookeeper.roster import RosterMembership
from zoo_watcher.zookeeper.roster_memory import RosterMemory
from zoo_watcher.zookeeper.session import Session

ENTRY = "/app/business/roster/web1"
FORMER = "/app/business/roster/web0"
STATUS = 7
"""The `czxid` of the host's status."""
CREATION = [f"get {ENTRY}", f"create {ENTRY}", f"get {ENTRY}"]
"""The requests of a host that joins the roster."""


@dataclass
class Ensemble:
    """Znodes in memory behind the requests of a `Session`; `requests` has those that were made."""

    client_id: tuple[int, bytes] | None = (1, b"secret")
    znodes: dict[str, bytes] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    writes: int = 0
    requests: list[str] = field(default_factory=list)
    refused: str = ""

    @property
    def client(self) -> Ensemble:
        """As in `Session`."""
        return self

    def ask(self, request: Callable[..., Any], path: str, *arguments: Any, **options: Any) -> Any:
        """As in `Session`."""
        name = request.__name__.removesuffix("_async")
        self.requests.append(f"{name} {path}")
        if name == self.refused:
            raise NoAuthError
        return request(path, *arguments, **options)

    def get_async(self, path: str) -> tuple[bytes, Any]:
        """As in kazoo's client, but answered immediately, like the requests below."""
        if path not in self.znodes:
            raise NoNodeError
        return self.znodes[path], SimpleNamespace(version=3, mzxid=self.written[path])

    def create_async(self, path: str, value: bytes, makepath: bool) -> None:
        assert makepath
        self.set_async(path, value, 3)

    def set_async(self, path: str, value: bytes, version: int) -> Any:
        assert version == 3
        self.writes += 1
        self.znodes[path], self.written[path] = value, self.writes
        return SimpleNamespace(version=3, mzxid=self.writes)

    def exists_async(self, path: str) -> Any:
        return path in self.znodes or None

    def delete_async(self, path: str, version: int) -> None:
        assert version == 3
        if self.znodes.pop(path, None) is None:
            raise NoNodeError


class Host:
    """One agent process after the other on a host."""

    def __init__(self, file: Path, ensemble: Ensemble | None = None) -> None:
        self.ensemble = ensemble or Ensemble()
        self._file = file

    def start(self, version: str = "1", **keys: Any) -> RosterMembership:
        """Start a new process."""
        config = Config.from_object({"hosts": "127.0.0.1:1", "base": "/srv", "name": "web1", **keys})
        session = cast(Session, self.ensemble)
        return RosterMembership(config, session, RosterMemory(self._file, ""), version)

    def asked(self, membership: RosterMembership, status: int = STATUS) -> list[str]:
        """The requests that a turn of the loop makes."""
        self.ensemble.requests.clear()
        membership.enroll(status)
        return list(self.ensemble.requests)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that was never in the roster."""
    return Host(tmp_path / "roster.json")


def test_a_session_costs_one_request_and_a_turn_none(host: Host) -> None:
    first = host.start(labels={"zone": "a"})
    assert host.asked(first) == CREATION
    assert host.asked(first) == []
    later = host.start(labels={"zone": "a"})
    assert host.asked(later) == [f"get {ENTRY}"]
    host.ensemble.client_id = (2, b"new")
    assert host.asked(later) == [f"get {ENTRY}"]
    assert host.asked(later) == []


def test_a_host_whose_status_somebody_has_deleted_looks_for_its_entry_again(host: Host) -> None:
    membership = host.start()
    membership.enroll(STATUS)
    host.ensemble.znodes.clear()
    assert host.asked(membership) == []
    assert host.asked(membership, STATUS + 1) == CREATION


def test_an_entry_that_is_deleted_after_the_status_is_recreated_at_the_next_look_around(host: Host) -> None:
    membership = host.start()
    membership.enroll(STATUS)
    membership.look_again()
    assert host.asked(membership) == []
    assert host.asked(membership, STATUS + 1) == [f"get {ENTRY}"]
    host.ensemble.znodes.clear()
    membership.look_again()
    assert host.asked(membership, STATUS + 1) == CREATION
    membership.look_again()
    assert host.asked(membership, STATUS + 1) == [], "once is enough"


def test_nothing_is_asked_without_a_session(host: Host) -> None:
    host.ensemble.client_id = None
    assert host.asked(host.start()) == []


@pytest.mark.parametrize("change", [{"version": "2"}, {"labels": {"zone": "b"}}, {"labels": {}}])
def test_an_entry_that_differs_is_written_and_keeps_the_time_since_when_it_exists(
    host: Host, change: dict[str, Any]
) -> None:
    host.start(labels={"zone": "a"}).enroll(STATUS)
    before = json.loads(host.ensemble.znodes[ENTRY])
    changed = host.start(**{"labels": {"zone": "a"}, **change})
    assert host.asked(changed) == [f"get {ENTRY}", f"set {ENTRY}"]
    after = json.loads(host.ensemble.znodes[ENTRY])
    assert after.pop("labels", {}) == change.get("labels", {"zone": "a"})
    assert after == {**{key: before[key] for key in ("name", "since")}, "version": change.get("version", "1")}


def test_keys_that_others_have_written_stay_only_if_there_is_room_for_them(host: Host) -> None:
    host.start().enroll(STATUS)
    entry = {**json.loads(host.ensemble.znodes[ENTRY]), "others": "\u044e" * 170_000}
    host.ensemble.znodes[ENTRY] = json.dumps(entry, ensure_ascii=False).encode()
    assert host.asked(host.start(labels={"zone": "a"})) == [f"get {ENTRY}", f"set {ENTRY}"]
    assert json.loads(host.ensemble.znodes[ENTRY]).keys() == {"name", "since", "version", "labels"}


def test_a_refused_request_is_reported_and_repeated(host: Host) -> None:
    host.ensemble.refused = "create"
    membership = host.start()
    for _turn in range(2):
        with pytest.raises(SessionTroubleError, match=f"^roster entry not written: {ENTRY}: permission denied"):
            host.asked(membership)
    host.ensemble.refused = ""
    assert host.asked(membership) == CREATION


def test_the_entry_of_a_former_name_is_deleted_once(host: Host) -> None:
    host.start(name="web0").enroll(STATUS)
    moved = host.start()
    wanted = [*CREATION, "exists /app/business/agents/web0", f"get {FORMER}", f"delete {FORMER}"]
    assert host.asked(moved) == wanted
    assert list(host.ensemble.znodes) == [ENTRY]
    assert host.asked(host.start()) == [f"get {ENTRY}"]


def test_a_former_entry_that_another_host_has_taken_stays_while_that_is_down(host: Host, tmp_path: Path) -> None:
    host.start(name="web0").enroll(STATUS)
    before = host.ensemble.znodes[FORMER]
    Host(tmp_path / "other.json", host.ensemble).start(name="web0").enroll(STATUS)
    host.start().enroll(STATUS)
    assert host.ensemble.znodes[FORMER] == before
    assert sorted(host.ensemble.znodes) == [FORMER, ENTRY]


def test_a_former_entry_that_was_deleted_and_recreated_stays(host: Host) -> None:
    host.start(name="web0").enroll(STATUS)
    host.ensemble.create_async(FORMER, host.ensemble.znodes.pop(FORMER), makepath=True)
    host.start().enroll(STATUS)
    assert sorted(host.ensemble.znodes) == [FORMER, ENTRY]


def test_a_former_entry_that_somebody_else_has_deleted_is_not_a_trouble(host: Host) -> None:
    host.start(name="web0").enroll(STATUS)
    host.ensemble.znodes.clear()
    host.start().enroll(STATUS)
    assert list(host.ensemble.znodes) == [ENTRY]


def test_a_former_entry_that_may_not_be_deleted_is_reported_until_it_is_deleted(host: Host) -> None:
    host.start(name="web0").enroll(STATUS)
    host.ensemble.refused = "delete"
    moved = host.start()
    with pytest.raises(SessionTroubleError, match=f"^former roster entry not deleted: {FORMER}: permission denied"):
        moved.enroll(STATUS)
    host.ensemble.requests.clear()
    with pytest.raises(SessionTroubleError):
        moved.enroll(STATUS)
    # Each turn tries again, and the ensemble would never rest if each wrote the entry too.
    assert f"set {ENTRY}" not in host.ensemble.requests
    host.ensemble.refused = ""
    moved.enroll(STATUS)
    assert list(host.ensemble.znodes) == [ENTRY]
    assert host.asked(host.start()) == [f"get {ENTRY}"]
