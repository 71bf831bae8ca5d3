"""The roster entry of a base is remembered, and never taken from a copy of another host's base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from zoo_watcher.zookeeper import session_memory
from zoo_watcher.zookeeper.roster_memory import OwnEntry, RosterMemory

ENTRY = OwnEntry("/app/business/roster/web1", 8589934610)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file in which the entry is remembered."""
    return tmp_path / "roster.json"


def test_the_next_agent_has_what_was_saved_last(file: Path) -> None:
    memory = RosterMemory(file, "")
    assert memory.former is None
    memory.save(ENTRY._replace(path="/app/business/roster/web0"))
    memory.save(ENTRY)
    assert RosterMemory(file, "").former == ENTRY


def test_an_entry_that_is_already_saved_is_not_written_again(file: Path) -> None:
    RosterMemory(file, "").save(ENTRY)
    inode = file.stat().st_ino
    RosterMemory(file, "").save(ENTRY)
    assert file.stat().st_ino == inode


def test_an_entry_below_another_chroot_is_out_of_reach(file: Path) -> None:
    RosterMemory(file, "/x").save(ENTRY)
    assert RosterMemory(file, "").former is None
    RosterMemory(file, "").save(ENTRY)
    assert RosterMemory(file, "").former == ENTRY


def test_the_entry_of_the_host_from_which_a_base_was_copied_is_not_this_hosts(file: Path, tmp_path: Path) -> None:
    RosterMemory(file, "").save(ENTRY)
    (tmp_path / "clone").mkdir()
    assert RosterMemory(Path(shutil.copy2(file, tmp_path / "clone")), "").former is None


def test_an_entry_from_before_a_boot_may_be_another_hosts(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RosterMemory(file, "").save(ENTRY)
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(session_memory, "BOOT", boot)
    assert RosterMemory(file, "").former is None


def test_where_no_boot_is_known_an_entry_may_be_another_hosts(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_memory, "BOOT", tmp_path / "hidden")
    monkeypatch.delenv(session_memory.BOOT_VARIABLE, raising=False)
    RosterMemory(file, "").save(ENTRY)
    assert RosterMemory(file, "").former is None


def test_an_entry_that_an_earlier_version_has_saved_has_an_unknown_writer(file: Path) -> None:
    RosterMemory(file, "").save(ENTRY)
    record = json.loads(file.read_text())
    del record["mzxid"]
    file.write_text(json.dumps(record))
    assert RosterMemory(file, "").former == OwnEntry(ENTRY.path, None)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"path": 7, "chroot": "", "place": null}', '{"path": "/a/b", "chroot": "", "place": null}'],
)
def test_a_malformed_file_counts_as_none(file: Path, text: str) -> None:
    file.write_text(text)
    assert RosterMemory(file, "").former is None


def test_a_file_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = RosterMemory(tmp_path / "missing" / "roster.json", "")
    memory.save(ENTRY)
    assert "roster entry not remembered" in caplog.text
