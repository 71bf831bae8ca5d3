"""Disk use is the space really used on disk, and measuring it takes no more than a hundredth of the time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo_watcher.host.layout import Layout
from zoo_watcher.metrics.disk_use import DiskMeter, DiskUse, FileSystem, measure, rest_after

MEBIBYTE = 2**20


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A base with its directories."""
    made = Layout(tmp_path / "base")
    made.make()
    return made


def test_a_file_that_releases_share_counts_once(layout: Layout) -> None:
    for commit_id in ("a" * 40, "b" * 40):
        layout.release(commit_id).mkdir(parents=True)
    big = layout.release("a" * 40) / "big"
    big.write_bytes(os.urandom(MEBIBYTE))
    os.link(big, layout.release("b" * 40) / "big")
    found = measure(layout)
    assert found is not None
    assert MEBIBYTE <= found.releases < 1.5 * MEBIBYTE
    assert found.object_store < MEBIBYTE


@pytest.mark.parametrize("name", ["two\nlines", "a\ttab", os.fsdecode(b"\xff")])
def test_the_base_may_have_any_name(tmp_path: Path, name: str) -> None:
    layout = Layout(tmp_path / name)
    layout.make()
    found = measure(layout)
    assert found is not None
    assert found.releases > 0


def test_a_base_that_does_not_exist_uses_no_space(tmp_path: Path) -> None:
    found = measure(Layout(tmp_path / "nothing"))
    assert found is not None
    assert (found.object_store, found.releases) == (0, 0)


@pytest.mark.parametrize(
    ("du", "said"),
    [
        ("echo du: unrecognized option; exit 1", "du ended with status 1: du: unrecognized option"),
        ("printf '4096\\t%s\\n' /elsewhere", "du gave no sizes: 4096"),
    ],
)
def test_a_host_with_an_incompatible_du_has_no_figure_and_logs_why(
    layout: Layout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    du: str,
    said: str,
) -> None:
    script = tmp_path / "du"
    script.write_text(f"#!/bin/sh\n{du}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert measure(layout) is None
    assert f"disk use not measured: {said}" in caplog.text


def test_there_is_a_figure_even_if_a_file_is_deleted_while_du_runs(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "du"
    said = "du: cannot access 'releases/x': No such file or directory\\n4096\\treleases\\n"
    script.write_text(f'#!/bin/sh\nprintf "{said}"\nexit 1\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = measure(layout)
    assert found is not None
    assert found.releases == 4096


@pytest.mark.parametrize(("took", "rest"), [(0.01, 60.0), (0.6, 60.0), (30.0, 3000.0)])
def test_a_measurement_is_followed_by_a_rest_of_a_hundred_times_its_length(took: float, rest: float) -> None:
    assert rest_after(took) == rest


def test_a_change_is_measured_after_the_rest(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    class EndError(Exception):
        """Ends the endless loop."""

    meter = DiskMeter(layout)
    told: list[DiskUse | None] = []

    def sleep(_rest: float) -> None:
        told.append(meter.latest)
        if len(told) == 3:
            raise EndError
        meter.note_change()

    found = [DiskUse(1.0, 10, 20), None, DiskUse(3.0, 10, 40)]
    monkeypatch.setattr("zoo_watcher.metrics.disk_use.measure", lambda _layout: found[len(told)])
    monkeypatch.setattr("zoo_watcher.metrics.disk_use.time.sleep", sleep)
    with pytest.raises(EndError):
        meter.run()
    assert told == [found[0], found[0], found[2]], "what can't be measured now leaves the last figure"


def test_the_file_system_of_a_directory_is_known_while_that_is_there(tmp_path: Path) -> None:
    found = FileSystem.of(tmp_path)
    assert found is not None
    assert 0 < found.free <= found.size
    assert FileSystem.of(tmp_path / "nothing") is None
