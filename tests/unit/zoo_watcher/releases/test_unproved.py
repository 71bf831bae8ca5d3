"""Which live releases are unproved, and what each is owed, whatever has happened before."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from zoo_watcher.releases.journal import ReleaseJournal
from zoo_watcher.releases.rollback import PlacedRelease
from zoo_watcher.releases.unproved import Unproved, find_unproved, proved_first

A, B, C = "a" * 40, "b" * 40, "c" * 40
PLACES = ("site", "other", "third")


@dataclass
class Host:
    """What is live at each place, what it is owed, and the journal that has to record this across a restart."""

    journal: ReleaseJournal = field(default_factory=ReleaseJournal)
    live: dict[str, str] = field(default_factory=dict)
    owed: dict[str, Unproved] = field(default_factory=dict)
    generation: int = 0

    def begin(self, path: str, commit_id: str, *, swaps: bool) -> None:
        """Begin to activate a release. It is not swapped in if something prevents that."""
        self.generation += 1
        self.journal = self.journal.with_attempt(self.generation, commit_id, path, self.live.get(path))
        if swaps or self.live.get(path) == commit_id:
            self.live[path] = commit_id
            self.owed[path] = Unproved(PlacedRelease(commit_id, path), self.generation, needs_use=True)

    def use(self, path: str) -> None:
        """Run the hook and the units for the live release."""
        if path in self.owed:
            self.journal = self.journal.with_use(self.live[path], path)
            owed = self.owed[path]
            self.owed[path] = replace(owed, needs_use=False)

    def go_back(self, path: str, commit_id: str, *, swaps: bool) -> None:
        """Go back from the live release, if that is unproved."""
        owed = self.owed.get(path)
        if owed is None or commit_id == self.live[path]:
            return
        self.journal = self.journal.with_return(0, owed.release.where, (commit_id, path), "why")
        if swaps:
            left, self.live[path] = self.live[path], commit_id
            self.owed[path] = Unproved(
                PlacedRelease(commit_id, path), owed.generation, needs_use=True, left=left, why="why"
            )

    def cancel(self) -> None:
        """Interrupt on purpose what is under way."""
        self.journal = self.journal.without_attempt()

    def prove(self, path: str) -> None:
        """Find the live release healthy, and the entire host with it. Hook and units of others are still owed."""
        if path in self.live:
            commit_id = self.live[path]
            self.journal = self.journal.with_healthy(commit_id, path, 5)
            self.owed = {other: one for other, one in self.owed.items() if other != path and one.needs_use}

    def leave(self, path: str) -> None:
        """Find the live release unhealthy and keep it: it has its outcome, and nothing else has."""
        if path in self.live:
            self.journal = self.journal.without_release(self.live[path], path)
            self.owed.pop(path, None)


COMMITS, PATHS = st.sampled_from((A, B, C)), st.sampled_from(PLACES)
STEPS = st.one_of(
    st.tuples(st.just("begin"), PATHS, COMMITS, st.booleans()),
    st.tuples(st.just("go_back"), PATHS, COMMITS, st.booleans()),
    st.tuples(st.sampled_from(("use", "prove", "leave")), PATHS),
    st.just(("cancel",)),
)


@given(st.lists(STEPS, max_size=12))
def test_no_live_release_that_is_owed_anything_is_ever_forgotten(steps: list[tuple[object, ...]]) -> None:
    host = Host()
    for name, *words in steps:
        if name in {"begin", "go_back"}:
            getattr(host, str(name))(*words[:-1], swaps=words[-1])
        else:
            getattr(host, str(name))(*words)
        live = [PlacedRelease(commit_id, path) for path, commit_id in host.live.items()]
        found = [(one.release, one.needs_use) for one in find_unproved(live, host.journal)]
        owed = [host.owed[path] for path in host.live if path in host.owed]
        assert found == [(one.release, one.needs_use) for one in owed]


def test_a_commit_that_was_left_at_one_place_is_still_owed_its_proof_at_another() -> None:
    begun = ReleaseJournal().with_attempt(1, B, "site", A).with_attempt(2, B, "other", A)
    back = begun.with_return(1, (B, "site"), (A, "site"), "not healthy")
    live = [PlacedRelease(A, "site"), PlacedRelease(B, "other")]
    for over, owed in ((live[0], live[1]), (live[1], live[0])):
        journal = back.without_release(over.commit_id, over.path)
        assert [one.release for one in find_unproved(live, journal)] == [owed]


def test_a_release_gone_back_to_is_owed_its_hooks_though_the_one_left_is_healthy_at_another_place() -> None:
    back = ReleaseJournal().with_attempt(1, B, "other", A).with_return(1, (B, "other"), (A, "other"), "not healthy")
    journal = back.with_attempt(2, B, "site", None).with_healthy(B, "site", 5)
    live = [PlacedRelease(B, "site"), PlacedRelease(A, "other")]
    assert [(one.release, one.needs_use) for one in find_unproved(live, journal)] == [(live[1], True)]


RELEASES = st.builds(PlacedRelease, COMMITS, PATHS)


@given(
    st.lists(st.builds(Unproved, RELEASES), unique_by=lambda one: one.release.path),
    st.none() | RELEASES,
    st.lists(st.builds(Unproved, RELEASES)),
    st.booleans(),
)
def test_a_live_release_is_proved_first_unless_the_deployment_proves_it_or_takes_its_place(
    unproved: list[Unproved], target: PlacedRelease | None, tried: list[Unproved], has_yielded: bool
) -> None:
    first = proved_first(unproved, target, tried, has_yielded=has_yielded)
    waiting = [one for one in unproved if one.release not in {other.release for other in tried}]
    if target is None:
        assert first == next(iter(waiting), None)
    elif first is not None:
        assert first in waiting
        assert first.release != target
        assert first.release.path != target.path or has_yielded
    else:
        before = (
            unproved[: [one.release for one in unproved].index(target)] if Unproved(target) in unproved else unproved
        )
        assert all(one not in waiting or (one.release.path == target.path and not has_yielded) for one in before)


def test_a_release_that_was_never_healthy_at_its_place_is_unproved_even_without_an_attempt() -> None:
    live = [PlacedRelease(B, "site"), PlacedRelease(B, "other")]
    journal = ReleaseJournal().with_healthy(A, "site", 5)
    assert find_unproved(live, journal, "site") == [Unproved(live[0])]
    assert find_unproved(live, journal.with_healthy(B, "site", 5), "site") == []
    assert find_unproved(live, journal) == []


def test_an_end_on_purpose_during_a_rollback_is_not_held_against_the_release_that_is_left() -> None:
    begun = ReleaseJournal().with_attempt(7, B, "site", A)
    back = begun.with_return(7, (B, "site"), (A, "site"), "not healthy")
    assert back.attempts(7, B) == 1
    assert back.without_attempt().attempts(7, B) == 0
    assert back.attempts(7, A) == 0, "it is no deployment of that"


def test_a_release_gone_back_to_that_has_its_outcome_is_owed_nothing() -> None:
    back = ReleaseJournal().with_attempt(7, B, "site", A).with_return(7, (B, "site"), (A, "site"), "not healthy")
    live = [PlacedRelease(A, "site")]
    assert find_unproved(live, back) == [Unproved(live[0], 7, True, 1, B, "not healthy")]
    assert find_unproved(live, back.without_release(A, "site")) == []
    assert find_unproved(live, back.without_release(B, "site")) == []


def test_the_attempts_in_the_journal_of_an_older_version_are_known(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    attempts = [
        {"generation": number, "commit_id": commit, "times": 1, "path": "site"} for number, commit in [(8, C), (7, B)]
    ]
    path.write_text(json.dumps({"healthy": [A], "attempt": attempts[0], "interrupted": attempts[1]}))
    journal = ReleaseJournal.load(path)
    assert find_unproved([PlacedRelease(B, "site")], journal) == [Unproved(PlacedRelease(B, "site"), 7, True, 1)]
    assert journal.attempts(8, C) == 1
    journal.save(path)
    assert ReleaseJournal.load(path) == journal
