"""A session is remembered across restarts, in a form compatible with earlier versions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from zoo_watcher.zookeeper import session_memory
from zoo_watcher.zookeeper.session_memory import SessionMemory, chroot_of, memory_file

CLIENT_ID = (0x1234, b"\x00secret")
OTHER_ID = (0x5678, b"\x00other")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file in which the session is remembered."""
    return tmp_path / "session.json"


def test_the_next_agent_has_what_was_saved_last(file: Path) -> None:
    memory = SessionMemory(file)
    assert (memory.client_id, memory.paths) == (None, frozenset())
    memory.save(CLIENT_ID, {"/a"})
    memory.save(CLIENT_ID, ["/b", "/a"])
    later = SessionMemory(file)
    assert (later.client_id, later.paths) == (CLIENT_ID, frozenset({"/a", "/b"}))


def test_the_file_has_the_session_and_the_paths_and_only_its_owner_can_read_it(file: Path) -> None:
    SessionMemory(file, "/x").save(CLIENT_ID, {"/b", "/a"})
    record = json.loads(file.read_text())
    assert record.pop("place").endswith(f" {file.parent.stat().st_ino}")
    assert record == {"id": 0x1234, "password": CLIENT_ID[1].hex(), "held": ["/a", "/b"], "chroot": "/x"}
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("before", "now"), [("", "/b"), ("/a", "/b"), ("/a", "")])
def test_a_session_of_another_chroot_is_a_former_one(file: Path, before: str, now: str) -> None:
    SessionMemory(file, before).save(CLIENT_ID, {"/x"})
    same = SessionMemory(file, before)
    assert (same.client_id, same.paths, same.former) == (CLIENT_ID, frozenset({"/x"}), None)
    other = SessionMemory(file, now)
    assert (other.client_id, other.paths, other.former) == (None, frozenset(), CLIENT_ID)


OWN, OTHER = "/app/shop/agents/web1", "/app/shop/agents/web2"


@pytest.mark.parametrize(
    ("held", "own", "is_former"),
    [
        ({OWN, "/service/web1"}, OWN, False),
        ({OTHER, "/service/web1"}, OWN, True),
        ({"/app/other/agents/web1"}, OWN, True),
        ({"/x"}, OWN, False),
        (set(), OWN, False),
        ({OTHER}, None, False),
        ({OWN, "/service/agents/web1"}, OWN, False),
        ({OWN, "/service/agents/web1", OTHER}, OWN, True),
        ({"x", "/agents"}, OWN, False),
    ],
)
def test_a_session_with_a_status_that_the_agent_may_not_delete_is_a_former_one(
    file: Path, held: set[str], own: str | None, is_former: bool
) -> None:
    SessionMemory(file).save(CLIENT_ID, held)
    memory = SessionMemory(file, "", own, ["/service/agents", "/service"])
    assert (memory.client_id, memory.former) == ((None, CLIENT_ID) if is_former else (CLIENT_ID, None))


def test_a_session_of_an_earlier_version_is_resumed_whatever_the_chroot(file: Path) -> None:
    file.write_text('{"id": 7, "password": "00ff", "held": ["/x"]}')
    memory = SessionMemory(file, "/a")
    assert (memory.client_id, memory.paths, memory.former) == ((7, b"\x00\xff"), frozenset({"/x"}), None)
    memory.save((7, b"\x00\xff"), {"/x"})
    assert SessionMemory(file, "/b").former == (7, b"\x00\xff"), "from now on the chroot is known"


@pytest.mark.parametrize("chroot", ["", "/other"])
def test_a_session_of_a_copied_file_is_neither_resumed_nor_closed(file: Path, tmp_path: Path, chroot: str) -> None:
    SessionMemory(file).save(CLIENT_ID, {"/x"})
    (tmp_path / "clone").mkdir()
    copy = shutil.copy2(file, tmp_path / "clone")
    memory = SessionMemory(Path(copy), chroot)
    assert (memory.client_id, memory.paths, memory.former) == (None, frozenset(), None)
    memory.save(OTHER_ID, {"/y"})
    assert SessionMemory(Path(copy), chroot).client_id == OTHER_ID


def test_a_session_from_before_a_boot_is_not_resumed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SessionMemory(file).save(CLIENT_ID, {"/x"})
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(session_memory, "BOOT", boot)
    assert SessionMemory(file).client_id is None
    SessionMemory(file).save(OTHER_ID, {"/x"})
    assert SessionMemory(file).client_id == OTHER_ID


def test_a_boot_is_known_from_the_unit_where_the_kernels_file_is_hidden(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = session_memory.place_of(file)
    monkeypatch.setenv(session_memory.BOOT_VARIABLE, session_memory.BOOT.read_text().strip().replace("-", ""))
    monkeypatch.setattr(session_memory, "BOOT", tmp_path / "hidden")
    assert session_memory.place_of(file) == place
    monkeypatch.setenv(session_memory.BOOT_VARIABLE, "nothing")
    assert session_memory.place_of(file) is None


@pytest.mark.parametrize(
    ("hosts", "chroot"),
    [("a:1,b:2", ""), ("a:1,b:2/", ""), ("a:1/x", "/x"), ("a:1,[::1]:2/x/y/", "/x/y"), ("a:1/x,b:2/x", "/x")],
)
def test_a_chroot_is_what_follows_the_hosts(hosts: str, chroot: str) -> None:
    assert chroot_of(hosts) == chroot


def test_a_file_without_paths_is_of_a_session_that_held_nothing(file: Path) -> None:
    file.write_text('{"id": 7, "password": "00ff"}')
    assert SessionMemory(file).client_id == (7, b"\x00\xff")
    assert SessionMemory(file).paths == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"id": 7}', '{"id": "x", "password": ""}', '{"id": 7, "password": "zz"}'),
        *(f'{{"id": {number}, "password": ""}}' for number in (0, 2**63, -(2**63) - 1, 10**400, "Infinity", "NaN")),
    ],
)
def test_a_file_that_cannot_be_read_counts_as_no_session(file: Path, text: str) -> None:
    file.write_text(text)
    assert SessionMemory(file).client_id is None


def test_an_unchanged_session_is_not_written_again(file: Path) -> None:
    memory = SessionMemory(file)
    memory.save(CLIENT_ID, {"/a"})
    file.unlink()
    memory.save(CLIENT_ID, ["/a"])
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    SessionMemory(tmp_path / "none" / "session.json").save(CLIENT_ID, {"/a"})
    assert "session not remembered" in caplog.text
    assert CLIENT_ID[1].hex() not in caplog.text


def test_a_session_that_could_not_be_written_is_written_once_it_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "late" / "session.json"
    memory = SessionMemory(file)
    for _again in range(3):
        memory.save(CLIENT_ID, {"/a"})
    assert caplog.text.count("session not remembered") == 1
    file.parent.mkdir()
    memory.save(CLIENT_ID, {"/a"})
    assert SessionMemory(file).paths == {"/a"}


def test_a_forgotten_session_is_gone_and_may_be_forgotten_twice(file: Path) -> None:
    memory = SessionMemory(file)
    memory.save(CLIENT_ID, ())
    memory.forget()
    memory.forget()
    assert SessionMemory(file).client_id is None


def test_the_file_is_in_the_units_directory_where_it_has_one(tmp_path: Path) -> None:
    assert memory_file("/run/zoo-watcher/a", tmp_path) == Path("/run/zoo-watcher/a/session.json")
    assert memory_file(None, tmp_path / "session.json") == tmp_path / "session.json"
