"""What each event changes in a rollout: each verb in each phase, and each rule in a simple case.

`test_rollout_histories` checks the rules through random histories.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import Release
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_events import (
    Ask,
    Command,
    Count,
    Decision,
    Event,
    Has,
    Outcome,
    Tick,
    Withdraw,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_failures import (
    LONGEST_REASON,
    Timer,
    gives_up,
    overdue,
    timer,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import (
    DONE,
    FINAL,
    HALTED,
    PAUSED,
    PHASES,
    ROLLED_BACK,
    ROLLING_BACK,
    RUNNING,
    SOAKING,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import (
    ADMITTED,
    ENTRIES,
    FAILED,
    GATES,
    LOST,
    PROVED,
    RETURNED,
    RETURNING,
    URGENT,
    HostEntry,
    RolloutRecord,
    begin,
    describe,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_rules import decide
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_steps import count

STABLE = Release("https://git.example.org/shop", "a" * 40, "shop")
RELEASE = Release("https://git.example.org/shop", "b" * 40, "shop")
ROLLBACK = Release("https://git.example.org/shop", "a" * 40, "shop", extra={"rolledBackFrom": "b" * 40})
CANARY = {"steps": [{"hosts": 1, "soak": 60}, {"hosts": "50%"}], "maxInFlight": 2}
NO_STABLE: Any = {"stable": None}


def state_of(content: object = None, release: Release = RELEASE, **changes: Any) -> RolloutRecord:
    """The state of a rollout to ten hosts, with some fields changed."""
    stable = None if release is ROLLBACK else STABLE
    return replace(begin(release, CANARY if content is None else content, stable, 10), **changes)


def after(state: RolloutRecord, *events: Event) -> Decision:
    """The decision about the last of some events, each of which follows the previous one."""
    plan = state.parsed_plan()
    decision = Decision(state)
    for event in events:
        decision = decide(plan, decision.state, event)
    return decision


# --- a rollout from beginning to end


def test_a_release_reaches_the_canary_then_half_of_the_fleet_then_all() -> None:
    state = state_of()
    plan = state.parsed_plan()
    canary = after(state, Ask("h0", {}), Outcome("h0", ADMITTED, PROVED), Count(10, 9)).state
    assert (canary.phase, canary.step, canary.moves, canary.counts[PROVED]) == (SOAKING, 0, 1, 1)
    assert timer(plan, canary) == Timer(60.0, (1,))
    state = after(canary, Tick((1,), 60.0)).state
    assert (state.phase, state.step) == (RUNNING, 1)
    for number in range(1, 5):
        state = after(state, Ask(f"h{number}", {}), Outcome(f"h{number}", ADMITTED, PROVED)).state
    assert after(state, Ask("h5", {})).why == "step 2 of 3 does not take h5"
    state = after(state, Count(10, 5)).state
    assert (state.phase, state.step) == (RUNNING, 2)
    for number in range(5, 10):
        state = after(state, Ask(f"h{number}", {}), Outcome(f"h{number}", ADMITTED, PROVED)).state
    assert after(state, Count(10, 0)).state.phase == DONE


def test_a_host_waits_while_all_places_are_taken() -> None:
    state = after(state_of({"maxInFlight": 2}), Ask("h0", {}), Ask("h1", {})).state
    assert after(state, Ask("h2", {})) == Decision(state, None, "all places are taken (2)")
    assert after(state, Outcome("h0", ADMITTED, PROVED), Ask("h2", {})).entry == ADMITTED


def test_places_are_those_of_the_fleet_at_the_beginning() -> None:
    state = after(state_of({"maxInFlight": "20%"}), Count(100, 100)).state
    assert (state.fleet, state.places) == (100, 2)


def test_a_step_of_labels_takes_hosts_with_these_and_ends_when_none_of_them_is_left() -> None:
    state = state_of({"steps": [{"labels": {"zone": "a"}}]})
    plan = state.parsed_plan()
    assert after(state, Ask("h0", {"zone": "b"})).why == "step 1 of 2 does not take h0"
    state = after(state, Ask("h1", {"zone": "a"}), Outcome("h1", ADMITTED, PROVED)).state
    live = {"h0": {"zone": "b"}, "h1": {"zone": "a"}, "h2": {"zone": "a"}}
    assert count(plan, state, live, {"h1": PROVED}) == Count(3, 1)
    assert count(plan, state, live, {"h1": PROVED, "gone": LOST}, {"h2": "is held"}) == Count(
        4, 0, passed=("h2 is held",)
    )
    assert after(state, Count(3, 1)).state.step == 0
    assert after(state, Count(3, 0)).state.step == 1


def test_a_lost_host_that_is_back_is_left_for_the_step() -> None:
    state = state_of(counts={LOST: 1, PROVED: 9}, step=2)
    live: dict[str, dict[str, str]] = {f"h{number}": {} for number in range(10)}
    entries = {**dict.fromkeys(live, PROVED), "h0": LOST}
    assert count(state.parsed_plan(), state, live, entries) == Count(10, 1)


def test_the_last_step_is_not_complete_while_a_host_is_left_however_many_have_the_release() -> None:
    """One of ten was lost, which is accepted, and is back."""
    state = state_of({"maxFailures": 1}, counts={LOST: 1, PROVED: 9})
    assert after(state, Count(10, 1)).state is state
    assert after(state, Count(10, 0)).state.phase == DONE


def test_a_step_is_not_complete_while_a_host_is_on_its_way() -> None:
    state = after(state_of(), Ask("h0", {})).state
    assert after(state, Count(10, 0)).state is state


def test_a_step_that_pauses_waits_for_a_person_after_its_soak() -> None:
    state = after(state_of({"steps": [{"hosts": 1, "soak": 5, "pause": True}]}), Has("h0"), Count(10, 9)).state
    assert state.phase == SOAKING
    state = after(state, Tick((1,), 5.0)).state
    assert (state.phase, state.reason) == (PAUSED, "step 1 waits for a person")
    assert after(state, Command("promote", "ann")).state.step == 1


GATED = {"steps": [{"hosts": 1, "soak": 5, "gate": True}]}
BOTH = {"steps": [{"hosts": 1, "gate": True, "pause": True}]}


def at_gates(content: object = None) -> RolloutRecord:
    """A rollout whose first step waits for its gates."""
    state = after(state_of(GATED if content is None else content), Has("h0"), Count(10, 9)).state
    return after(state, Tick((1,), 5.0)).state if state.phase == SOAKING else state


def test_a_step_waits_for_its_gates_after_its_soak_and_nobody_begins_meanwhile() -> None:
    state = at_gates()
    assert (state.phase, state.waits_for, state.reason) == (PAUSED, GATES, "step 1 waits for its gates")
    assert timer(state.parsed_plan(), state) is None
    assert after(state, Ask("h1", {})).why == "the rollout is paused: step 1 waits for its gates"
    passed = after(state, Command("pass", "the gates of ann", moves=state.moves)).state
    assert (passed.phase, passed.step, passed.waits_for, passed.by) == (RUNNING, 1, "", "the gates of ann")
    assert after(state, Command("promote", "ann")).state.step == 1, "a person may pass over them"


def test_a_step_waits_for_its_gates_first_and_then_for_a_person() -> None:
    state = after(at_gates(BOTH), Command("pass", "the gates of ann")).state
    assert (state.phase, state.step, state.waits_for) == (PAUSED, 0, "")
    assert state.reason == "step 1 waits for a person"
    assert after(state, Command("pass", "the gates of ann")).why.startswith("refused: it does not wait for its gates")
    assert after(state, Command("promote", "ann")).state.step == 1


@pytest.mark.parametrize("verb", ["pass", "promote", "pause", "halt"])
def test_answers_of_gates_about_a_state_count_for_no_later_one(verb: str) -> None:
    state = at_gates({"steps": [{"hosts": 1, "gate": True}, {"hosts": 2, "gate": True}]})
    asked = state.moves
    for wish in ("pause", "halt", "promote"):
        moved = after(state, Command(wish, "ann", "because")).state
        refused = after(moved, Command(verb, "gate", moves=asked))
        assert refused.state is moved
        assert refused.why.startswith("refused: it has moved on meanwhile: ")
    second = after(state, Command("pass", "gate", moves=asked), Has("h1"), Count(10, 8)).state
    assert (second.step, second.waits_for) == (1, GATES)
    assert after(second, Command(verb, "gate", moves=asked)).state is second
    failed = after(state, Outcome("h0", PROVED, FAILED)).state
    assert failed.phase == HALTED
    assert after(failed, Command(verb, "gate", moves=asked)).state is failed


def test_a_person_who_pauses_what_waits_for_gates_takes_it_out_of_their_hands() -> None:
    state = after(at_gates(), Command("pause", "ann", "let me look")).state
    assert (state.phase, state.waits_for, state.reason) == (PAUSED, "", "let me look")
    assert after(state, Command("pass", "the gates of bob")).state is state
    assert after(state, Command("promote", "ann")).state.step == 1


@pytest.mark.parametrize("phase", PHASES)
def test_only_what_waits_for_gates_passes_them(phase: str) -> None:
    state = state_of(GATED, phase=phase)
    assert after(state, Command("pass", "gate")).state is state


def test_a_rollback_and_a_first_release_wait_for_no_gates() -> None:
    assert not any(step.gate for step in state_of(GATED, ROLLBACK).parsed_plan().steps)
    assert not any(step.gate for step in state_of(GATED, **NO_STABLE).parsed_plan().steps)


def test_an_accepted_failure_restarts_a_soak() -> None:
    state = state_of({**CANARY, "maxFailures": 1}, phase=SOAKING, moves=7, counts={PROVED: 1}, reason="without web1")
    failed = after(state, Outcome("h0", PROVED, FAILED, "fell ill")).state
    assert (failed.phase, failed.step, failed.reason) == (SOAKING, 0, "without web1")
    assert after(failed, Tick((7,), 60.0)).state is failed, "one of its hosts has failed in these seconds"
    assert after(failed, Tick((8,), 60.0)).state.step == 1


def test_a_soak_is_over_for_a_clock_that_has_seen_all_of_it() -> None:
    state = state_of(phase=SOAKING, moves=7)
    assert after(state, Tick((7,), 59.9)).state is state
    assert after(state, Tick((6,), 3_600.0)).state is state, "what was seen was another soak"
    assert after(state, Tick((7,), 60.0)).state.step == 1


def test_time_without_progress_stops_a_rollout_and_says_nothing_about_the_release() -> None:
    state = after(state_of({"progressDeadline": 60}), Ask("h0", {})).state
    due = timer(state.parsed_plan(), state)
    assert due is not None
    assert due.seconds == 60.0
    proved = after(state, Outcome("h0", ADMITTED, PROVED)).state
    assert after(proved, Tick(due.of, 60.0)).state is proved, "a host has come further since"
    halted = after(state, Tick(due.of, 60.0, ("h0",)))
    said = "no host has made progress for 60 s; on their way: h0"
    assert (halted.state.phase, halted.state.reason) == (HALTED, said)
    assert not halted.is_bad


def test_a_host_that_takes_the_place_of_a_held_one_has_all_its_time() -> None:
    state = after(state_of({"progressDeadline": 60}), Ask("h0", {})).state
    before = timer(state.parsed_plan(), state)
    assert before is not None
    state = after(state, Withdraw("h0", ADMITTED), Ask("h1", {})).state
    assert after(state, Tick(before.of, 60.0, ("h1",))).state.phase == RUNNING


def test_a_leaving_host_that_never_finishes_is_given_up_and_stops_no_rollout() -> None:
    state = after(state_of({"steps": [{"hosts": 2}], "maxInFlight": 2}), Ask("h0", {}, leaves=True)).state
    plan = state.parsed_plan()
    due = timer(plan, state)
    assert due is not None
    assert gives_up(state)
    assert after(state, Tick(due.of, 600.0, ("h0",))).state is state
    given_up = after(state, overdue(plan, state, "h0", HostEntry(RETURNING)))
    assert (given_up.entry, given_up.state.phase, given_up.state.in_flight) == (None, RUNNING, 0)
    assert given_up.state.failures == 0
    beside = after(state, Ask("h1", {})).state
    assert not gives_up(beside), "the one that is to have the release has come no further either"
    due = timer(plan, beside)
    assert due is not None
    assert after(beside, Tick(due.of, 600.0, ("h0", "h1"))).state.phase == HALTED


def test_a_host_that_has_the_release_needs_no_place_and_gets_an_entry() -> None:
    state = state_of(phase=HALTED)
    assert after(state, Has("h0")).entry == PROVED
    assert after(state_of(counts={LOST: 1}), Has("h0", LOST)).state.counts == state_of(counts={PROVED: 1}).counts
    assert after(state, Has("h0", FAILED)).why == "h0 is failed already"


def test_a_host_that_withdraws_gives_its_place_back_and_has_not_failed() -> None:
    state = after(state_of(True), Ask("h0", {})).state
    withdrawn = after(state, Withdraw("h0", ADMITTED))
    assert (withdrawn.entry, withdrawn.state.entries) == (None, 0)
    assert after(withdrawn.state, Withdraw("h0", None)).why == "h0 is not on its way"


# --- failures


@pytest.mark.parametrize("phase", [RUNNING, SOAKING, PAUSED])
@pytest.mark.parametrize(("entry", "outcome"), [(ADMITTED, FAILED), (ADMITTED, LOST), (PROVED, FAILED)])
def test_one_failure_too_many_stops_a_rollout_and_its_release_is_bad(phase: str, entry: str, outcome: str) -> None:
    state = state_of(phase=phase, counts={entry: 1})
    decision = after(state, Outcome("h0", entry, outcome, "status 404, expected 200\ngit said: ..."))
    assert (decision.state.phase, decision.entry, decision.is_bad) == (HALTED, outcome, True)
    assert decision.state.reason == f"h0 {outcome}: status 404, expected 200"
    refused = after(decision.state, Ask("h1", {}))
    assert refused == Decision(decision.state, None, f"the rollout is halted: {decision.state.reason}")


def test_a_reason_that_every_host_reads_is_short() -> None:
    state = state_of(counts={ADMITTED: 1})
    reason = after(state, Outcome("h0", ADMITTED, FAILED, "x" * 2_000)).state.reason
    assert reason == f"h0 failed: {'x' * LONGEST_REASON}"


def test_failures_that_were_accepted_stop_nothing_when_the_fleet_shrinks_but_the_next_one_does() -> None:
    state = state_of({"maxFailures": "20%"}, counts={ADMITTED: 3, FAILED: 1})
    state = after(state, Outcome("h0", ADMITTED, FAILED)).state
    assert state.phase == RUNNING
    smaller = after(state, Count(5, 3)).state
    assert (smaller.phase, smaller.fleet) == (RUNNING, 5)
    assert after(smaller, Outcome("h1", ADMITTED, PROVED)).state.phase == RUNNING
    assert after(smaller, Outcome("h1", ADMITTED, FAILED)).state.phase == HALTED


def test_a_release_that_most_of_the_fleet_had_before_is_neither_rolled_back_nor_bad() -> None:
    """It was published once more, for the few that had failed."""
    state = state_of({"onFailure": "rollback"})
    for number in range(6):
        state = after(state, Has(f"h{number}")).state
    decision = after(state, Ask("h9", {}), Outcome("h9", ADMITTED, FAILED))
    assert (decision.state.phase, decision.is_bad) == (HALTED, False)


def test_a_release_that_few_had_before_is_rolled_back() -> None:
    state = state_of({"onFailure": "rollback"})
    decision = after(state, Has("h0"), Ask("h9", {}), Outcome("h9", ADMITTED, FAILED))
    assert (decision.state.phase, decision.is_bad) == (ROLLING_BACK, True)


@pytest.mark.parametrize(("having", "phase", "is_bad"), [(6, HALTED, False), (5, ROLLING_BACK, True)])
def test_hosts_that_had_the_release_count_before_they_have_reported_it(having: int, phase: str, is_bad: bool) -> None:
    state = after(state_of({"onFailure": "rollback"}), Has("h0"), Ask("h9", {})).state
    state = replace(state, fleet=13)
    decision = after(state, Outcome("h9", ADMITTED, FAILED, having=having))
    assert (decision.state.phase, decision.is_bad) == (phase, is_bad)
    assert decision.state.had == (1 if is_bad else 7), "each says so itself later"


def test_a_failure_causes_a_rollback_if_the_plan_asks_for_it_and_there_is_a_stable_release() -> None:
    state = state_of({"onFailure": "rollback"}, counts={ADMITTED: 1})
    assert after(state, Outcome("h0", ADMITTED, LOST)).state.phase == ROLLING_BACK
    assert after(replace(state, **NO_STABLE), Outcome("h0", ADMITTED, LOST)).state.phase == HALTED


def test_a_host_that_is_on_its_way_when_a_rollout_is_halted_reaches_its_outcome() -> None:
    state = after(state_of(counts={ADMITTED: 2}), Outcome("h0", ADMITTED, FAILED)).state
    state = after(state, Outcome("h1", ADMITTED, PROVED)).state
    assert (state.phase, state.counts[PROVED], state.moves) == (HALTED, 1, 1)


@pytest.mark.parametrize("entry", [LOST, FAILED])
def test_a_host_that_was_lost_or_tries_again_is_admitted_again_whatever_the_step_takes(entry: str) -> None:
    state = state_of({"maxFailures": 1, **CANARY}, counts={entry: 1})
    assert after(state, Ask("h1", {})).entry is None
    assert after(state, Ask("h0", {}, entry)).entry == ADMITTED


def test_a_forgiven_failure_that_is_repaired_excuses_no_other() -> None:
    state = state_of({"maxInFlight": 5, "maxFailures": 1}, phase=HALTED, counts={LOST: 2})
    state = after(state, Command("promote", "ann", force=True)).state
    assert (state.phase, state.failures) == (RUNNING, 0)
    state = after(state, Ask("h0", {}), Outcome("h0", ADMITTED, FAILED)).state
    state = after(state, Ask("h1", {}, LOST), Ask("h2", {}, LOST)).state
    assert (state.phase, state.failures) == (RUNNING, 1)
    assert after(state, Outcome("h1", ADMITTED, FAILED)).state.phase == HALTED


def test_a_failure_that_is_not_forgiven_uses_up_none_that_is() -> None:
    state = state_of({"maxInFlight": 5, "maxFailures": 1}, phase=HALTED, counts={FAILED: 2})
    state = after(state, Command("promote", "ann", force=True)).state
    state = after(state, Ask("h2", {}), Outcome("h2", ADMITTED, LOST)).state
    state = after(state, Ask("h2", {}, LOST, moves=state.moves), Outcome("h2", ADMITTED, PROVED)).state
    assert (state.failures, state.forgiven) == (0, 2)
    assert after(state, Ask("h3", {}), Outcome("h3", ADMITTED, FAILED)).state.phase == RUNNING


# --- the way back


def rolling_back(**counts: int) -> RolloutRecord:
    """A rollout with two places that is rolling back."""
    return state_of({"maxInFlight": 2, "onFailure": "rollback"}, phase=ROLLING_BACK, counts=counts)


def test_hosts_return_at_once_except_proved_ones_which_take_turns() -> None:
    state = rolling_back(proved=2, admitted=1, failed=1, lost=1)
    state = after(state, *(Ask(entry, {}, entry) for entry in (ADMITTED, FAILED, LOST))).state
    assert state.counts[RETURNING] == 3
    assert after(state, Ask("h0", {}, PROVED)).why == "all places on the way back are taken (2)"
    assert after(state, Ask("h0", {}, PROVED, urgent=True)).entry == RETURNING
    state = after(state, Outcome(ADMITTED, RETURNING, RETURNED), Outcome(FAILED, RETURNING, RETURNED)).state
    assert after(state, Ask("h0", {}, PROVED)).entry == RETURNING


@pytest.mark.parametrize("entry", [None, RETURNING, RETURNED])
def test_a_host_that_has_nothing_to_return_from_stays_where_it_is(entry: str | None) -> None:
    state = rolling_back(returning=1, returned=1)
    assert after(state, Ask("h0", {}, entry)) == Decision(state, entry, "the rollout is rolling back")


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_host_that_is_at_the_stable_release_has_returned_unless_it_was_proved(entry: str) -> None:
    decision = after(rolling_back(**{entry: 1}), Outcome("h0", entry, RETURNED))
    if entry in {PROVED, RETURNED}:
        assert decision.why == f"h0 is {entry}, which does not become returned"
    else:
        assert decision.entry == RETURNED
    assert after(state_of(counts={FAILED: 1}), Outcome("h0", FAILED, RETURNED)).why, "nobody returns while it goes on"


def test_it_is_rolled_back_when_a_count_finds_nobody_on_the_way_or_left() -> None:
    state = rolling_back(returning=1, returned=3)
    assert after(state, Count(10, 0)).state is state
    state = after(state, Outcome("h0", RETURNING, RETURNED)).state
    assert after(state, Count(10, 1)).state is state
    live: dict[str, dict[str, str]] = {"h0": {}, "h1": {}, "h2": {}, "h3": {}}
    entries = {"h0": RETURNED, "h1": PROVED, "h2": FAILED, "dead": PROVED}
    assert count(state.parsed_plan(), state, live, entries, {"h2": "is held"}) == Count(5, 1, ("dead", "h1", "h2"))
    assert after(state, Count(10, 0)).state.phase == ROLLED_BACK


def test_a_host_that_comes_back_later_returns_at_once() -> None:
    state = replace(rolling_back(proved=3, returning=2), phase=ROLLED_BACK)
    state = after(state, Ask("h0", {}, PROVED)).state
    assert (state.phase, state.counts[RETURNING]) == (ROLLED_BACK, 3)
    assert after(state, Outcome("h0", RETURNING, RETURNED)).entry == RETURNED
    assert after(state, Has("late")).entry == PROVED


@pytest.mark.parametrize("outcome", [FAILED, LOST])
def test_a_host_that_does_not_get_back_gives_its_place_to_another(outcome: str) -> None:
    assert after(rolling_back(returning=1), Outcome("h0", RETURNING, outcome)).state.in_flight == 0


def test_a_host_that_withdraws_on_its_way_back_keeps_an_entry_by_which_it_returns_later() -> None:
    state = after(rolling_back(returning=1), Withdraw("h0", RETURNING))
    assert (state.entry, state.state.in_flight) == (FAILED, 0)
    assert after(state.state, Ask("h0", {}, FAILED)).entry == RETURNING


def test_time_without_progress_ends_the_way_back_and_says_who_did_not_return() -> None:
    state = rolling_back(proved=1, returned=2)
    due = timer(state.parsed_plan(), state)
    assert due is not None
    assert due.seconds == 600.0
    ended = after(state, Tick(due.of, 600.0, ("h7",))).state
    assert (ended.phase, ended.reason) == (ROLLED_BACK, "did not return: h7")


def test_a_returning_host_that_never_finishes_is_given_up_and_the_others_go_on() -> None:
    state = replace(rolling_back(returning=1, proved=1), reason="h3 failed")
    plan = state.parsed_plan()
    due = timer(plan, state)
    assert due is not None
    assert after(state, Tick(due.of, 600.0)).state is state, "who it is has to be given up first"
    given_up = overdue(plan, state, "h0", HostEntry(RETURNING))
    why = "did not return: did not finish within 600 s"
    assert given_up == Outcome("h0", RETURNING, FAILED, why, is_given_up=True)
    state = after(state, given_up).state
    assert (state.phase, state.in_flight) == (ROLLING_BACK, 0)
    ended = after(state, Count(10, 0, ("h0", "h1"))).state
    assert (ended.phase, ended.reason) == (ROLLED_BACK, "h3 failed; did not return: h0, h1")


def test_a_host_that_never_finishes_when_all_is_rolled_back_is_given_up_too() -> None:
    state = replace(rolling_back(returning=1, returned=1), phase=ROLLED_BACK)
    plan = state.parsed_plan()
    due = timer(plan, state)
    assert due is not None
    assert gives_up(state)
    assert after(state, Tick(due.of, 600.0)).state is state
    ended = after(state, overdue(plan, state, "h0", HostEntry(RETURNING))).state
    assert (ended.phase, ended.in_flight) == (ROLLED_BACK, 0)
    assert timer(plan, ended) is None


# --- a host with a release that is known to be bad returns before its turn


def test_a_host_with_a_bad_release_may_return_while_it_waits_within_the_places() -> None:
    state = after(state_of({"steps": [{"hosts": 2}], "maxInFlight": 2}), Ask("h0", {}, leaves=True)).state
    assert state.counts[RETURNING] == 1
    assert after(state, Ask("h1", {}), Ask("h2", {})).why == "all places are taken (2)"
    assert after(state, Ask("h1", {}), Ask("h2", {}, leaves=True)).why == "all places are taken (2)"
    one = after(state_of(), Ask("h0", {}, leaves=True), Ask("h1", {}))
    assert one.entry == ADMITTED, "who returns is none of the hosts that the step asks for"


@pytest.mark.parametrize("outcome", [RETURNED, FAILED, LOST])
@pytest.mark.parametrize("phase", [RUNNING, PAUSED, HALTED])
def test_the_outcome_of_leaving_early_is_not_a_failure_of_the_release(phase: str, outcome: str) -> None:
    state = state_of(phase=phase, counts={RETURNING: 1})
    decision = after(state, Outcome("h0", RETURNING, outcome))
    assert (decision.state.phase, decision.entry, decision.state.entries) == (phase, None, 0)
    assert after(state, Withdraw("h0", RETURNING)).entry is None


@pytest.mark.parametrize("changes", [{"phase": HALTED}, {"step": 2}, {"stable": None}, {"phase": ROLLED_BACK}])
def test_no_host_leaves_early_where_that_is_of_no_use(changes: dict[str, Any]) -> None:
    decision = after(state_of(**changes), Ask("h0", {}, leaves=True))
    assert (decision.entry or "none") == (RETURNING if changes.get("phase") == ROLLED_BACK else "none")


# --- the rollout of a rollback


def test_urgent_hosts_need_no_place_in_a_rollback() -> None:
    state = state_of(CANARY, ROLLBACK)
    assert len(state.parsed_plan().steps) == 1
    state = after(state, Ask("h0", {}), Ask("h1", {})).state
    assert after(state, Ask("h2", {})).why == "all places are taken (2)"
    urgent = after(state, Ask("h2", {}, urgent=True))
    assert urgent.entry == URGENT
    assert after(urgent.state, Outcome("h2", URGENT, PROVED)).entry == PROVED
    assert after(state_of(True), Ask("h0", {}, urgent=True)).entry == ADMITTED, "it is no rollback"


def test_a_rollback_that_fails_does_not_make_its_release_bad() -> None:
    decision = after(state_of(CANARY, ROLLBACK, counts={ADMITTED: 1}), Outcome("h0", ADMITTED, FAILED))
    assert not decision.is_bad


def test_a_rollback_goes_on_to_all_others_whichever_host_fails_and_reports_failures_at_the_end() -> None:
    state = state_of(CANARY, ROLLBACK)
    state = after(state, Ask("h0", {}), Outcome("h0", ADMITTED, FAILED)).state
    state = after(state, Ask("h1", {}), Outcome("h1", ADMITTED, LOST)).state
    assert after(state, Ask("h2", {})).entry == ADMITTED
    ended = after(state, Count(10, 0)).state
    assert (ended.phase, ended.reason) == (DONE, "2 of 10 hosts failed or were lost")


def test_a_rollback_is_not_stopped_by_its_deadline_and_a_host_that_never_finishes_makes_room() -> None:
    state = after(state_of(CANARY, ROLLBACK), Ask("h0", {})).state
    plan = state.parsed_plan()
    due = timer(plan, state)
    assert due is not None
    assert after(state, Tick(due.of, 600.0)).state is state
    given_up = overdue(plan, state, "h0", HostEntry(ADMITTED))
    lost = after(state, given_up)
    assert lost.entry == LOST
    again = after(lost.state, Ask("h0", {}, LOST)).state
    second_try = HostEntry(ADMITTED, message=HostEntry(LOST, message=given_up.message).next_message)
    ended = overdue(plan, again, "h0", second_try)
    assert ended.message == "given up: did not finish within 600 s, twice"
    assert not HostEntry(LOST, message=given_up.message).is_given_up
    assert HostEntry(LOST, message=ended.message).is_given_up
    assert after(again, Tick(due.of, 600.0)).state is again
    assert timer(plan, again) != due, "its time begins anew"
    assert timer(plan, state_of(CANARY, ROLLBACK)) is None, "there is nobody to make room"


def test_a_step_says_which_of_its_hosts_it_went_without() -> None:
    state = state_of({"steps": [{"names": ["h0", "h1", "wbe2"], "pause": True}]})
    plan = state.parsed_plan()
    live: dict[str, dict[str, str]] = {"h0": {}, "h1": {}}
    counted = count(plan, state, live, {"h0": PROVED}, {"h1": "is held"})
    assert counted == Count(2, 0, passed=("wbe2 is not live", "h1 is held"))
    paused = after(state, counted).state
    said = "step 1 went without some of its hosts: wbe2 is not live, h1 is held"
    assert (paused.phase, paused.reason) == (PAUSED, f"step 1 waits for a person; {said}")
    running = after(state_of({"steps": [{"names": ["wbe2"]}]}), Count(3, 0, passed=("wbe2 is not live",))).state
    assert describe(running.parsed_plan(), running).endswith("went without some of its hosts: wbe2 is not live")


# --- people

VERBS = ("promote", "pause", "halt")
ANSWERS = {
    ("promote", RUNNING): RUNNING,
    ("promote", SOAKING): RUNNING,
    ("promote", PAUSED): RUNNING,
    ("promote", HALTED): "refused: the rollout is halted: h1 failed",
    ("pause", RUNNING): PAUSED,
    ("pause", SOAKING): PAUSED,
    ("pause", PAUSED): "it is paused already",
    ("pause", HALTED): "refused: the rollout is halted: h1 failed",
    ("halt", RUNNING): HALTED,
    ("halt", SOAKING): HALTED,
    ("halt", PAUSED): HALTED,
    ("halt", HALTED): "it is halted already",
    **{(verb, DONE): "the rollout is done" for verb in VERBS},
    **{(verb, ROLLING_BACK): "refused: the rollout is rolling back: h1 failed" for verb in VERBS},
    **{(verb, ROLLED_BACK): "refused: the rollout is rolled back: h1 failed" for verb in VERBS},
}


@pytest.mark.parametrize(("verb", "phase", "force"), list(product(VERBS, PHASES, [False, True])))
def test_every_verb_has_an_answer_in_every_phase(verb: str, phase: str, force: bool) -> None:
    """It changes the phase and records who did so and why, or the answer is the reason why not."""
    state = state_of(phase=phase, reason="h1 failed")
    decision = after(state, Command(verb, "ann", "because", force))
    expected = RUNNING if (verb, phase, force) == ("promote", HALTED, True) else ANSWERS[verb, phase]
    if expected in PHASES:
        moved = decision.state
        assert (moved.phase, moved.by, moved.reason, moved.moves, moved.since) == (expected, "ann", "because", 1, "")
    else:
        assert decision == Decision(state, None, expected)


def test_after_a_pause_in_a_soak_the_pause_of_the_plan_waits_for_a_person_all_the_same() -> None:
    state = state_of({"steps": [{"hosts": 1, "soak": 300, "pause": True}]}, phase=SOAKING)
    state = after(state, Command("pause", "ann"), Command("promote", "ann")).state
    assert (state.phase, state.step, state.reason) == (PAUSED, 0, "step 1 waits for a person")
    assert after(state, Command("promote", "ann")).state.step == 1


def test_promoting_opens_the_next_step_and_after_a_pause_goes_on_in_the_same() -> None:
    assert after(state_of(), Command("promote", "ann")).state.step == 1
    assert after(state_of(phase=SOAKING), Command("promote", "ann")).state.step == 1
    assert after(state_of(), Command("pause", "ann"), Command("promote", "ann")).state.step == 0
    assert after(state_of(phase=SOAKING), Command("pause", "ann"), Command("promote", "ann")).state.step == 1
    assert after(state_of(phase=HALTED), Command("promote", "ann", force=True)).state.step == 0
    assert after(state_of(step=2), Command("promote", "ann")).why == "the last step is open already"
    assert after(state_of(step=2, phase=SOAKING), Command("promote", "ann")).state.phase == DONE


@pytest.mark.parametrize("phase", PHASES)
def test_every_event_has_an_answer_in_every_phase_and_what_is_final_does_not_move(phase: str) -> None:
    """With each entry, even one that does not fit: nothing raises, and an event without an effect gets a reason."""
    state = state_of(phase=phase, counts=dict.fromkeys(ENTRIES, 1))
    plan = state.parsed_plan()
    entries = [None, *ENTRIES]
    events: list[Event] = [
        *(Ask("h0", {}, entry, urgent) for entry, urgent in product(entries, [False, True])),
        *(Has("h0", entry) for entry in entries),
        *(Outcome("h0", entry, outcome) for entry, outcome in product(entries, ENTRIES)),
        *(Withdraw("h0", entry) for entry in entries),
        *(Count(fleet, left) for fleet, left in product([0, 10, 11], [0, 1])),
        *(Tick(of, waited) for of, waited in product([(), (0,), (0, *[1] * 7)], [0.0, 1e9])),
    ]
    for event in events:
        decision = decide(plan, state, event)
        assert (decision.state is state) == bool(decision.why), event
        if phase in FINAL:
            assert decision.state.moves == 0, event
        if phase == DONE:
            assert decision.why == "the rollout is done"
    assert describe(plan, state)
