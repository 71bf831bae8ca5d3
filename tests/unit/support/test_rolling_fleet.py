"""A look at a rollout in `tests/faults` distinguishes a host that was not admitted from one that follows."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from faults.support.ledger import LIMITS, Ledger
from faults.support.rolling_fleet import Look


def look_at(phase: str) -> Ledger:
    """The ledger after a look at a rollout in this phase, in which a host has the release but no entry."""
    fleet, ledger = MagicMock(), Ledger()
    fleet.ledger, fleet.lives.return_value = ledger, {"web00": "before", "web01": "release"}
    made = SimpleNamespace(entries={}, state={"phase": phase})
    Look(fleet, made, 3, ["before"])._look(made)  # type: ignore[arg-type]
    return ledger


def test_a_host_has_no_release_without_an_entry_while_the_rollout_goes_on() -> None:
    with pytest.raises(AssertionError, match=r"'web01'. have the release, and were not admitted"):
        look_at("running")


def test_a_host_that_was_away_follows_a_rollout_that_is_done() -> None:
    assert look_at("done").asked[LIMITS] == 1
