"""The outcome of each publication."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import Release
from ansible_collections.zoo.deploy.plugins.module_utils.release_outcomes import outcomes
from ansible_collections.zoo.deploy.plugins.module_utils.releases import HistoryEntry
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import FAILED, LOST, PROVED, RolloutRecord

ONE, TWO = "1" * 40, "2" * 40


def entry(generation: int, commit_id: str = ONE, **extra: str) -> HistoryEntry:
    """A publication."""
    return HistoryEntry(
        f"release-{generation}", generation, Release("https://git.example.com/x", commit_id, "x", extra=extra), None
    )


def test_a_history_is_described_newest_first() -> None:
    history = [
        entry(5, ONE, rolledBackFrom=TWO),
        entry(4, TWO),
        entry(3, TWO),
        HistoryEntry("release-2", 2, None, "no JSON"),
        entry(1, ONE, provedAt="2026-11-24T10:15:30+00:00"),
    ]
    rollouts = {5: RolloutRecord(), 4: RolloutRecord(phase="halted"), 3: RolloutRecord()}
    assert outcomes(history, 5, rollouts, {TWO}) == [
        ["rolling out"],
        ["halted", "rolled back from", "bad"],
        # Another release took its place.
        ["bad"],
        [],
        ["proved"],
    ]


def test_of_entries_that_were_copied_in_one_transaction_the_newest_has_the_outcome_of_the_rollout() -> None:
    history = [entry(7, TWO), entry(7, ONE)]
    rollouts = {7: RolloutRecord(phase="done", fleet=1, counts={PROVED: 1})}
    assert outcomes(history, 7, rollouts, ()) == [["proved"], []]


@pytest.mark.parametrize(
    ("phase", "desired", "superseded"),
    [
        ("running", ["rolling out"], []),
        ("soaking", ["rolling out"], []),
        ("paused", ["paused"], []),
        ("halted", ["halted"], ["halted"]),
        ("rolling_back", ["rolling back"], []),
        ("rolled_back", ["rolled back"], ["rolled back"]),
        ("done", ["proved"], ["proved"]),
    ],
)
def test_an_unfinished_phase_is_that_of_the_desired_release_only(
    phase: str, desired: list[str], superseded: list[str]
) -> None:
    rollouts = {1: RolloutRecord(phase=phase, fleet=1, counts={PROVED: 1})}
    assert outcomes([entry(1)], 1, rollouts, ()) == [desired]
    assert outcomes([entry(1)], 2, rollouts, ()) == [superseded]


def test_a_rollback_that_is_done_in_spite_of_its_failures_has_not_been_proved() -> None:
    back = entry(2, ONE, rolledBackFrom=TWO)
    assert back.release
    marred = RolloutRecord(release=back.release.to_object(), phase="done", fleet=3, counts={LOST: 3})
    assert outcomes([back], 2, {2: marred}, ()) == [["done with failures"]]
    accepting = replace(marred, plan={"maxFailures": 1}, counts={LOST: 1, PROVED: 2})
    assert outcomes([back], 2, {2: accepting}, ()) == [["done with failures"]]


def test_a_rollout_that_is_done_without_a_host_that_proved_the_release_has_not_proved_it() -> None:
    failed = RolloutRecord(phase="done", fleet=3, counts={FAILED: 3}, forgiven=3)
    assert outcomes([entry(2)], 2, {2: failed}, ()) == [["done with failures"]]
    assert outcomes([entry(2)], 2, {2: RolloutRecord(phase="done", fleet=3)}, ()) == [["done on no host"]]


def test_nothing_is_reported_about_a_publication_without_a_record() -> None:
    assert outcomes([entry(2), entry(1)], 2, {}, ()) == [[], []]
    assert outcomes([], None, {}, ()) == []
