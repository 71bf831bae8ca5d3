"""The markers by which a person on a host tells its agent what to do."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo_watcher.host import controls as module
from zoo_watcher.host.controls import (
    DRAINED,
    HELD,
    RETRY,
    Controls,
    Mark,
    answers,
    make_mark,
    read_mark,
    refuse_retry,
    remove_mark,
    write_mark,
)
from zoo_watcher.host.filesystem import write_durably
from zoo_watcher.host.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A base in which no agent has run yet."""
    (tmp_path / "base").mkdir()
    return Layout(tmp_path / "base")


def refreshed(layout: Layout) -> Controls:
    """The controls as a new agent reads them."""
    controls = Controls(layout)
    controls.refresh()
    return controls


def test_a_marker_says_what_was_written_until_it_is_removed(layout: Layout) -> None:
    assert refreshed(layout).held is None
    mark = write_mark(layout, HELD, "disk swap", "ann")
    assert json.loads(layout.control(HELD).read_text()) == {"since": mark.since, "reason": "disk swap", "by": "ann"}
    assert layout.control(HELD).stat().st_mode & 0o777 == 0o644, "who only looks needs no privilege"
    controls = refreshed(layout)
    assert (controls.held, controls.drained, controls.retry, controls.troubles) == (mark, None, None, [])
    assert remove_mark(layout, HELD)
    controls.refresh()
    assert controls.held is None
    assert not remove_mark(layout, HELD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"since": 1, "reason": "r", "by": "b"}',
        '{"since": "s", "reason": "r"}',
        json.dumps({"since": "s", "reason": "r" * 1000, "by": "b"}),
        "\udcff",
        "[" * 100_000,
    ],
)
def test_a_damaged_marker_counts_and_is_a_trouble(layout: Layout, text: str) -> None:
    layout.own.mkdir()
    layout.controls.mkdir()
    layout.control(DRAINED).write_text(text, errors="surrogateescape")
    controls = refreshed(layout)
    assert controls.drained is not None
    assert str(layout.control(DRAINED)) in controls.drained.reason
    assert controls.troubles == [f"{layout.control(DRAINED)}: expected a JSON object with since, reason and by"]
    assert read_mark(layout.control(DRAINED)) == controls.drained, "it says the same as long as it is the same"


def test_anything_but_a_regular_file_is_a_damaged_marker_too(layout: Layout) -> None:
    layout.control(HELD).mkdir(parents=True)
    os.mkfifo(layout.control(DRAINED))
    layout.control(RETRY).symlink_to("nowhere")
    controls = refreshed(layout)
    assert controls.held is not None
    assert controls.drained is not None
    assert controls.retry is None
    assert controls.troubles == [
        f"{layout.control(name)}: {name} is not a regular file" for name in (HELD, DRAINED, RETRY)
    ]


def test_a_file_in_place_of_the_directory_is_a_trouble_and_not_a_marker(layout: Layout) -> None:
    layout.own.mkdir()
    layout.controls.touch()
    controls = refreshed(layout)
    assert (controls.held, controls.drained, controls.retry) == (None, None, None)
    assert controls.troubles == [f"{layout.controls}: not a directory; move it away"]


def test_a_file_that_replaces_the_directory_ends_no_hold(layout: Layout) -> None:
    mark = write_mark(layout, HELD, "disk swap", "ann")
    controls = refreshed(layout)
    layout.controls.rename(layout.own / "aside")
    layout.controls.touch()
    controls.refresh()
    assert (controls.held, controls.drained) == (mark, None)


def test_a_damaged_request_is_a_trouble_and_not_a_request(layout: Layout) -> None:
    write_mark(layout, HELD, "x", "ann")
    layout.control(RETRY).write_text("{")
    controls = refreshed(layout)
    assert (controls.retry, len(controls.troubles)) == (None, 1)


def test_a_marker_that_cannot_be_read_now_counts_as_before(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = write_mark(layout, HELD, "disk swap", "ann")
    controls = refreshed(layout)

    def no_descriptor(path: Path) -> Mark | None:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr(module, "read_mark", no_descriptor)
    controls.refresh()
    assert (controls.held, controls.drained, controls.retry) == (mark, None, None)
    assert controls.troubles[0] == f"{layout.control(HELD)}: Too many open files"
    # An agent that has never read it stays on the safe side.
    new = refreshed(layout)
    assert new.held is not None
    assert new.drained is not None


def test_a_request_is_answered_once_even_where_it_cannot_be_deleted(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = write_mark(layout, RETRY, "", "ann")
    controls = refreshed(layout)
    assert controls.retry == request

    def read_only(_source: Path, _target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "rename", read_only)
    controls.answer_retry(request, "generation 7 is tried again", done=True)
    assert controls.answer == {
        "since": request.since,
        "request": request.request,
        "done": True,
        "message": "generation 7 is tried again",
    }
    controls.refresh()
    assert controls.retry is None


def test_the_answer_to_a_request_leaves_a_newer_one_to_be_answered(layout: Layout) -> None:
    first = write_mark(layout, RETRY, "", "ann")
    controls = refreshed(layout)
    newer = write_mark(layout, RETRY, "", "bob")
    controls.answer_retry(first, "generation 7 is tried again", done=True)
    controls.refresh()
    assert controls.retry == newer
    controls.answer_retry(newer, "nothing to retry: generation 7 is queued here", done=False)
    controls.refresh()
    assert controls.retry is None
    assert not os.listdir(layout.controls)


def test_a_request_that_comes_while_another_is_put_back_is_not_overwritten(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_mark(layout, RETRY, "", "ann")
    controls = refreshed(layout)
    write_mark(layout, RETRY, "", "bob")
    read = module.read_mark
    newest: list[Mark] = []

    def read_late(path: Path) -> Mark | None:
        if not newest:
            newest.append(write_mark(layout, RETRY, "", "cid"))
        return read(path)

    monkeypatch.setattr(module, "read_mark", read_late)
    controls.answer_retry(first, "generation 7 is tried again", done=True)
    controls.refresh()
    assert [controls.retry] == newest
    assert os.listdir(layout.controls) == [RETRY]


def test_when_two_people_make_a_marker_at_the_same_time_the_second_gets_that_of_the_first(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[Mark] = []
    link = os.link

    def link_late(source: Path, target: Path) -> None:
        # As another process, which writes to a file of another name.
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 0)
            first.append(write_mark(layout, HELD, "disk swap", "ann"))
        link(source, target)

    monkeypatch.setattr(os, "link", link_late)
    mark = make_mark(layout, HELD, "audit", "bob")
    assert [mark] == first == [refreshed(layout).held]
    assert os.listdir(layout.controls) == [HELD]


def test_a_damaged_marker_is_replaced(layout: Layout) -> None:
    write_mark(layout, HELD, "disk swap", "ann")
    layout.control(HELD).write_text("{")
    mark = make_mark(layout, HELD, "audit", "bob")
    assert (mark.by, refreshed(layout).held) == ("bob", mark)
    assert os.listdir(layout.controls) == [HELD]


@pytest.mark.parametrize("make", [make_mark, write_mark])
def test_on_a_full_disk_a_marker_is_empty_and_counts(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, make: Callable[[Layout, str, str, str], Mark]
) -> None:
    def write(path: Path, text: str) -> None:
        if text:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_durably(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_durably", write)
        mark = make(layout, HELD, "audit", "bob")
        assert (mark.by, mark.damage) == ("bob", "its reason is not noted: No space left on device")
        held = refreshed(layout).held
        assert held
        assert held.since == mark.since
        with pytest.raises(OSError, match="No space"):
            write_mark(layout, RETRY, "", "bob")
    assert os.listdir(layout.controls) == [HELD]
    assert make_mark(layout, HELD, "audit", "bob") == refreshed(layout).held, "there is room again"


def test_a_symlink_in_the_way_of_a_new_marker_is_not_written_through(layout: Layout, tmp_path: Path) -> None:
    valuable = tmp_path / "valuable"
    valuable.write_text("mine")
    layout.controls.mkdir(parents=True)
    layout.control(f".new..held.{os.getpid()}").symlink_to(valuable)
    with pytest.raises(OSError, match="not a regular file"):
        make_mark(layout, HELD, "disk swap", "ann")
    assert valuable.read_text() == "mine"


MARK = Mark("2026", "disk swap", "ann")


@pytest.mark.parametrize(
    ("held", "generation", "state", "has_failed", "refusal"),
    [
        (None, None, "idle", False, "nothing to retry: nothing is published"),
        (None, 7, "active", False, "nothing to retry: generation 7 is active here"),
        (MARK, 7, "active", False, "nothing to retry: generation 7 is active here"),
        (None, 7, None, False, "nothing to retry: generation 7 has not been tried here yet"),
        (MARK, 7, None, False, "generation 7 is not tried: held since 2026; release it first"),
        (MARK, 7, "failed", True, "generation 7 is not tried: held since 2026; release it first"),
        (None, 7, "failed", True, None),
        (None, 7, None, True, None),
    ],
)
def test_only_what_failed_is_retried_and_only_where_nobody_holds_the_host(
    held: Mark | None, generation: int | None, state: str | None, has_failed: bool, refusal: str | None
) -> None:
    assert refuse_retry(held, generation, state, has_failed=has_failed) == refusal


def test_two_requests_of_the_same_instant_are_told_apart(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "now", lambda: "2026-11-24T10:15:30.412+00:00")
    first = write_mark(layout, RETRY, "", "ann")
    controls = refreshed(layout)
    controls.answer_retry(first, "generation 7 is tried again", done=True)
    second = write_mark(layout, RETRY, "", "ann")
    controls.refresh()
    assert controls.retry == second
    assert (answers(controls.answer, first), answers(controls.answer, second)) == (True, False)
