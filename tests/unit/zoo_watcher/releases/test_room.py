"""What a deployment has to leave free."""

from __future__ import annotations

import os
import resource
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from zoo_watcher.errors import PassingError
from zoo_watcher.releases.room import CutOff, Floor, files_up_to

MIB = 2**20


def disk(monkeypatch: pytest.MonkeyPatch, size: int, free: int, inodes: int = 1_000_000, left: int = 900_000) -> None:
    """Let every path be on a file system with this many MiB and inodes."""
    blocks = (4096, 4096, size * 256, free * 256 + 100, free * 256, inodes, left + 100, left, 0, 255)
    facts = os.statvfs_result(blocks)
    monkeypatch.setattr(os, "statvfs", lambda _path: facts)


@pytest.mark.parametrize(
    ("floor", "size", "free", "more", "fits"),
    [
        (None, 100_000, 256, 0, True),
        (None, 100_000, 255, 0, False),
        (None, 100_000, 1256, 1000, True),
        (None, 100_000, 1256, 1001, False),
        (None, 1000, 50, 0, True),
        (None, 1000, 49, 0, False),
        (0, 1000, 0, 0, True),
        (600 * MIB, 1000, 600, 0, True),
        (600 * MIB, 1000, 599, 0, False),
    ],
)
def test_the_configured_number_of_bytes_stays_free(
    monkeypatch: pytest.MonkeyPatch, floor: int | None, size: int, free: int, more: int, fits: bool
) -> None:
    disk(monkeypatch, size, free)
    if fits:
        Floor(floor).check(Path("/srv"), more * MIB)
    else:
        with pytest.raises(PassingError, match=rf"^{free}\.0 MiB free at /srv, .* \(min_free_bytes\): make room$"):
            Floor(floor).check(Path("/srv"), more * MIB)


@pytest.mark.parametrize(("files", "fits"), [(256, True), (257, False)])
def test_a_small_file_takes_a_block(monkeypatch: pytest.MonkeyPatch, files: int, fits: bool) -> None:
    disk(monkeypatch, 100_000, 257)
    with nullcontext() if fits else pytest.raises(PassingError, match="min_free_bytes"):
        Floor().check(Path("/srv"), 0, files)


@pytest.mark.parametrize(
    ("floor", "inodes", "left", "more", "fits"),
    [
        (None, 1_000_000, 10_000, 0, True),
        (None, 1_000_000, 10_000, 1, False),
        (None, 2048, 102, 0, True),
        (None, 2048, 101, 0, False),
        (0, 2048, 0, 0, True),
        (20_000, 1_000_000, 19_999, 0, False),
        (20_000, 0, 0, 100, True),
    ],
)
def test_the_configured_number_of_inodes_stays_free(
    monkeypatch: pytest.MonkeyPatch, floor: int | None, inodes: int, left: int, more: int, fits: bool
) -> None:
    disk(monkeypatch, 100_000, 50_000, inodes, left)
    if fits:
        Floor(None, floor).check(Path("/srv"), 0, more)
    else:
        with pytest.raises(PassingError, match=rf"^{left} inodes free at /srv, .* \(min_free_inodes\): make room$"):
            Floor(None, floor).check(Path("/srv"), 0, more)


def test_the_room_is_what_is_above_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 100_000, 300)
    assert Floor().room(Path("/srv")) == 44 * MIB
    assert Floor(400 * MIB).room(Path("/srv")) == 0
    assert Floor(0).room(Path("/srv")) is None


def test_a_program_can_write_no_larger_file_and_this_process_can_afterwards(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with files_up_to(1000):
        done = subprocess.run(["dd", "if=/dev/zero", f"of={tmp_path}/file", "bs=2000", "count=1"], check=False)
    assert done.returncode != 0
    assert (tmp_path / "file").stat().st_size <= 1000
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before


@pytest.mark.parametrize(
    ("commit_id", "room", "after", "stands"),
    [
        ("a", 1_000, 30, True),
        ("a", 1_100, 30, True),
        ("a", 1_101, 30, False),
        ("a", 500, 30, True),
        ("a", 1_000, CutOff.LASTS - 1, True),
        ("a", 1_000, CutOff.LASTS, False),
        ("a", 1_000, -1, False),
        ("b", 1_000, 30, False),
    ],
)
def test_a_fetch_that_was_cut_off_is_repeated_once_there_is_more_room_or_after_a_while(
    commit_id: str, room: int, after: float, stands: bool
) -> None:
    assert CutOff("a", 1_000, 5_000.0).stands(commit_id, room, 5_000.0 + after) is stands
