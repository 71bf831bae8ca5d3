"""What the agent remembers across restarts."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_watcher.releases.journal import MOST_PLACES, Failure, KnownJournal, Place, ReleaseJournal

COMMITS = st.from_regex(r"\A[0-9a-f]{40}\Z")
A, B, C = "a" * 40, "b" * 40, "c" * 40


def test_the_latest_healthy_commit_is_first_and_each_is_there_once() -> None:
    journal = ReleaseJournal()
    for commit_id in (A, B, A, C, C):
        journal = journal.with_healthy(commit_id, "site", keep=5)
    assert journal.healthy == journal.place("site").healthy == (C, A, B)


def test_no_more_commits_are_remembered_than_are_kept() -> None:
    journal = ReleaseJournal((A, B), places=(Place("site", (A, B)),)).with_healthy(C, "site", keep=2)
    assert journal.healthy == journal.place("site").healthy == (C, A)


def test_a_failure_is_of_one_generation_until_it_is_forgotten() -> None:
    failure = Failure(7, "rolled_back", "port closed", C)
    journal = ReleaseJournal((A,)).with_failure(failure)
    assert journal.failed(7, C) == failure
    assert journal.failed(8, C) is None
    assert journal.failed(7, B) is None, "a rebuilt ensemble gives the number to another release"
    assert journal.healthy == (A,)
    assert journal.with_healthy(B, "site", keep=5).failed(7, C) == failure, "what is proved may be another release"
    assert journal.without_failure().failed(7, C) is None


def test_a_failure_in_the_journal_of_an_older_version_is_of_any_commit_of_its_generation(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    failure = {"generation": 7, "state": "failed", "message": "port closed"}
    path.write_text(json.dumps({"healthy": [], "failure": failure}))
    assert ReleaseJournal.load(path).failed(7, A) == Failure(7, "failed", "port closed")


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
        ReleaseJournal(tuple(healthy), Failure(generation, state, message, A)),
        ReleaseJournal(tuple(healthy), places=(Place("srv/www", tuple(healthy)), Place("web", (), "/\udcff"))),
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


def test_a_name_that_is_not_a_commit_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    path.write_text(json.dumps({"healthy": [A, "../../etc", "HEAD", B], "failure": None}))
    assert ReleaseJournal.load(path).healthy == (A, B)


def test_a_failure_is_forgotten_for_another_try() -> None:
    journal = ReleaseJournal((A,)).with_failure(Failure(7, "failed", "no space", B))
    assert journal.without_failure() == ReleaseJournal((A,))


def test_a_place_that_cannot_be_read_spoils_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    good = {"path": "site", "healthy": [A, "HEAD"], "before": None}
    wrong: list[object] = [1, None, {}, {**good, "path": "../x"}, {**good, "path": 3}, {**good, "healthy": 3}]
    for places, expected in (([*wrong, good], (Place("site", (A,)),)), ("site", ()), (None, ())):
        path.write_text(json.dumps({"healthy": [B], "failure": None, "places": places}))
        assert ReleaseJournal.load(path) == ReleaseJournal((B,), None, expected)


def test_an_earlier_versions_journal_counts_all_as_healthy_at_the_place_that_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    path.write_text(json.dumps({"healthy": [A, B], "failure": None}))
    journal = ReleaseJournal.load(path)
    assert journal.with_place("site", A, "x").place("site").healthy == (A, B)
    assert journal.with_place("web", None, None).place("web").healthy == ()


def test_a_place_is_remembered_as_it_was_before_its_first_release() -> None:
    journal = ReleaseJournal().with_place("site", None, "/srv/old")
    assert journal.with_place("site", A, "x").place("site").before == "/srv/old"
    assert journal.with_place("site", None, "/srv/other").place("site").before == "/srv/other"
    healthy = journal.with_healthy(A, "site", keep=5)
    assert healthy.with_place("site", None, None).place("site") == Place("site", (A,), "/srv/old")


def test_the_place_that_was_used_last_is_first_and_their_number_is_limited() -> None:
    journal = ReleaseJournal()
    for number in range(MOST_PLACES + 1):
        journal = journal.with_place(str(number), None, None)
    assert len(journal.places) == MOST_PLACES
    assert journal.places[0].path == str(MOST_PLACES)
    assert journal.with_place("7", None, None).places[0].path == "7"
    assert journal.without_places(lambda path: path != "7").places == (Place("7"),)


def test_the_attempts_at_a_release_are_counted_until_it_has_an_outcome(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    journal = ReleaseJournal((A,)).with_attempt(7, B, "site", A).with_attempt(7, B, "site", B)
    journal.save(path)
    assert ReleaseJournal.load(path) == journal
    assert [journal.attempts(7, B), journal.attempts(8, B), journal.attempts(7, C)] == [2, 0, 0]
    assert journal.without_attempt().attempts(7, B) == 1
    assert journal.without_attempt().without_attempt().without_attempt().attempts(7, B) == 0
    assert journal.with_attempt(8, B, "site", B).attempts(8, B) == 1
    assert journal.with_healthy(B, "site", keep=5).attempts(7, B) == 0
    assert journal.without_release(B, "site").attempts(7, B) == 0


def test_interrupted_activations_of_a_release_are_counted_for_its_rollback_too(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    journal = ReleaseJournal((A,)).with_attempt(7, B, "site", A).without_attempt().with_broken_off()
    journal = journal.with_attempt(7, B, "site", B).without_attempt().with_broken_off()
    journal.save(path)
    assert ReleaseJournal.load(path) == journal
    assert [journal.broken_off(7, B), journal.broken_off(8, B), journal.attempts(7, B)] == [2, 0, 0]
    assert journal.with_attempt(8, B, "site", B).broken_off(8, B) == 0
    assert journal.with_attempt(7, C, "site", B).broken_off(7, C) == 0
    back = journal.with_return(7, (B, "site"), (A, "site"), "why").unproved(A, "site")
    assert back
    assert back.broken_off == 2
    assert journal.without_release(B, "site").broken_off(7, B) == 0
    assert ReleaseJournal().with_broken_off() == ReleaseJournal()


def test_a_live_release_is_unproved_until_it_has_an_outcome_or_a_newer_one_is_healthy(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    begun = ReleaseJournal((A,)).with_attempt(7, B, "site", A)
    newer = begun.without_attempt().with_attempt(8, C, "site", B)
    newer.save(path)
    assert ReleaseJournal.load(path) == newer
    for journal in (
        begun,
        begun.without_attempt(),
        newer,
        newer.without_attempt(),
        newer.with_attempt(9, A, "site", B),
    ):
        attempt = journal.unproved(B, "site")
        assert attempt
        assert attempt.generation == 7
        assert not journal.unproved(B, "other")
        assert not journal.unproved(None, "site")
    for commit_id in (B, C):
        assert not newer.with_healthy(commit_id, "site", keep=5).unproved(B, "site")
        failed = newer.without_release(commit_id, "site").with_failure(Failure(8, "failed", "", commit_id))
        assert (failed.unproved(B, "site") is None) is (commit_id == B)
    assert not newer.with_attempt(8, C, "site", C).unproved(B, "site"), "it is live no more"


@pytest.mark.parametrize("attempt", [None, 3, {}, {"generation": 7, "commit_id": A, "times": "x"}])
def test_an_attempt_that_cannot_be_read_is_left_out(tmp_path: Path, attempt: object) -> None:
    path = tmp_path / "journal.json"
    path.write_text(json.dumps({"healthy": [A], "attempt": attempt}))
    assert ReleaseJournal.load(path) == ReleaseJournal((A,))


def test_a_journal_that_cannot_be_written_counts_and_is_written_as_soon_as_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "none" / "journal.json"
    known = KnownJournal(path)
    problem = known.remember(ReleaseJournal((A,)))
    assert problem
    assert problem.errno == errno.ENOENT
    assert known.settle()
    known.forget()
    assert known.read() == ReleaseJournal((A,))
    path.parent.mkdir()
    assert known.settle() is None
    assert ReleaseJournal.load(path) == ReleaseJournal((A,))
    ReleaseJournal((B,)).save(path)
    assert known.settle() is None
    assert known.read() == ReleaseJournal((B,)), "it is owed no more"


def test_a_persons_request_that_cannot_be_written_does_not_count(tmp_path: Path) -> None:
    known = KnownJournal(tmp_path / "none" / "journal.json")
    with pytest.raises(FileNotFoundError):
        known.save(ReleaseJournal((A,)))
    assert known.read() == ReleaseJournal()
