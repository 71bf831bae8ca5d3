"""Whether an ensemble is whole."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.ensemble import furthest, lacking

EPOCH = 0x100000000


def member(name: str, mode: str, zxid: int = EPOCH + 7, **more: Any) -> dict[str, Any]:
    """An answer of a serving member."""
    return {"member": name, "mode": mode, "zxid": zxid, **more}


def silent(name: str) -> dict[str, Any]:
    """What is known of a member that is down."""
    return {"member": name, "problem": "no answer"}


LEADER, FOLLOWER = member("a", "leader"), member("b", "follower")


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ([LEADER, FOLLOWER], ""),
        ([member("a", "standalone")], ""),
        ([member("a", "standalone"), silent("b")], "b: no answer"),
        ([silent("a"), silent("b")], "a: no answer; b: no answer"),
        ([FOLLOWER, FOLLOWER], "0 members lead, 0 stand alone"),
        ([LEADER, LEADER, FOLLOWER], "2 members lead, 0 stand alone"),
        ([LEADER, member("b", "standalone")], "1 members lead, 1 stand alone"),
        ([LEADER, FOLLOWER, member("c", "read-only")], "read-only, being cut off from the others: c"),
        ([member("a", "read-only")], "read-only, being cut off from the others: a"),
        ([LEADER, member("b", "observer")], ""),
        ([LEADER, member("b", "follower", EPOCH + 6)], "not in sync: b"),
        ([{**LEADER, "synced_followers": 0}, FOLLOWER], "a leads, and of 1 followers 0 are in sync"),
        # A member that does not report its zxid does not count as out of sync.
        ([LEADER, {"member": "b", "mode": "follower"}], ""),
    ],
)
def test_an_ensemble_lacks_what_keeps_it_from_being_whole(answers: list[dict[str, Any]], problem: str) -> None:
    assert lacking(answers, EPOCH + 7) == problem


def test_the_beginning_of_an_epoch_is_not_a_transaction_that_others_could_have() -> None:
    assert furthest([LEADER, member("b", "follower", 2 * EPOCH), silent("c")]) == EPOCH + 7
    assert furthest([silent("a")]) == 0
