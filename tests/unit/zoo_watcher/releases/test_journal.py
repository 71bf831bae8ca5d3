"""What the agent remembers across restarts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_watcher.releases.journal import Failure, ReleaseJournal

COMMITS = st.from_regex(r"\A[0-9a-f]{40}\Z")
A, B, C = "a" * 40, "b" * 40, "c" * 40


def test_the_latest_healthy_commit_is_first_and_each_is_there_once() -> None:
    journal = ReleaseJournal()
    for commit_id in (A, B, A, C, C):
        journal = journal.with_healthy(commit_id, keep=5)
    assert journal.healthy == (C, A, B)


def test_no_more_commits_are_remembered_than_are_kept() -> None:
    assert ReleaseJournal((A, B)).with_healthy(C, keep=2).healthy == (C, A)


def test_a_failure_is_of_one_generation_and_forgotten_with_the_next_success() -> None:
    failure = Failure(7, "rolled_back", "port closed")
    journal = ReleaseJournal((A,)).with_failure(failure)
    assert journal.failed(7) == failure
    assert journal.failed(8) is None
    assert journal.healthy == (A,)
    assert journal.with_healthy(B, keep=5).failed(7) is None


@given(
    healthy=st.lists(COMMITS, unique=True, max_size=5),
    generation=st.integers(min_value=0),
    state=st.sampled_from(("failed", "rolled_back")),
    message=st.text(st.characters(codec="utf-8")),
)
def test_what_was_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, healthy: list[str], generation: int, state: str, message: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "journal.json"
    for journal in (
        ReleaseJournal(tuple(healthy)),
        ReleaseJournal(tuple(healthy), Failure(generation, state, message)),
    ):
        journal.save(path)
        assert ReleaseJournal.load(path) == journal


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"healthy": 1}',
        b'{"healthy": [1]}',
        b'{"healthy": [], "failure": 3}',
        b'{"healthy": [], "failure": {"state": "failed"}}',
        b'{"healthy": [], "failure": {"state": "failed", "generation": "x", "message": ""}}',
        b'{"healthy": [], "failure": {"state": [], "generation": 1, "message": ""}}',
        b"[" * 100_000,
    ],
)
def test_a_journal_that_cannot_be_read_is_an_empty_one(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "journal.json"
    if content is not None:
        path.write_bytes(content)
    assert ReleaseJournal.load(path) == ReleaseJournal()


def test_a_name_that_is_no_commit_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    path.write_text(json.dumps({"healthy": [A, "../../etc", "HEAD", B], "failure": None}))
    assert ReleaseJournal.load(path).healthy == (A, B)
