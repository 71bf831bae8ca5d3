"""The znodes of a rollout: what they carry and refuse, where they are, and how a rollout begins."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    PROVED_AT,
    ROLLED_BACK_FROM,
    AppPaths,
    InvalidRecord,
    InvalidRelease,
    Release,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE, HALTED, RUNNING
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_plan import InvalidRollout
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import (
    ADMITTED,
    ENTRIES,
    FAILED,
    GIVEN_UP,
    IN_FLIGHT,
    LOST,
    PROVED,
    TOO_SLOW,
    Gate,
    HostEntry,
    RolloutPaths,
    RolloutRecord,
    begin,
    choose_stable,
    rollout_of,
    was_proved,
)

URL = "https://git.example.org/shop"
CANARY = {"steps": [{"hosts": 1, "soak": 60}], "maxInFlight": "20%"}


def release_of(letter: str, **extra: Any) -> Release:
    """A release whose commit is one letter over and over."""
    return Release(URL, letter * 40, "shop", extra=extra)


def state_of(letter: str, phase: str) -> RolloutRecord:
    """The rollout of such a release in some phase."""
    return RolloutRecord(release=release_of(letter).to_object(), phase=phase, fleet=3, counts={PROVED: 3})


# --- how a rollout begins


def test_a_rollout_begins_with_the_places_of_the_fleet_as_it_is_then() -> None:
    state = begin(release_of("b"), CANARY, release_of("a"), 24)
    assert json.loads(state.dated("2026-11-29T00:00:00Z").to_node()) == {
        "plan": CANARY,
        "release": {"url": URL, "commitId": "b" * 40, "relativePath": "shop"},
        "from": {"url": URL, "commitId": "a" * 40, "relativePath": "shop"},
        "phase": "running",
        "step": 0,
        "fleet": 24,
        "places": 4,
        "counts": dict.fromkeys(ENTRIES, 0),
        "forgiven": 0,
        "forgives": 0,
        "had": 0,
        "givenUp": 0,
        "departed": 0,
        "resumes": "running",
        "waitsFor": "",
        "moves": 0,
        "since": "2026-11-29T00:00:00Z",
        "reason": "",
        "by": "",
    }


def test_places_are_a_share_of_the_live_hosts_and_steps_of_the_whole_fleet() -> None:
    """While half of a fleet is down, as with a zone, no more of the serving hosts may switch at once."""
    state = begin(release_of("b"), CANARY, release_of("a"), 40, 20)
    assert (state.places, state.fleet) == (4, 40)
    assert begin(release_of("b"), CANARY, release_of("a"), 40, 0).places == 1


def test_without_a_release_for_those_that_wait_there_are_no_steps_but_places() -> None:
    state = begin(release_of("b"), CANARY, None, 24)
    assert [step.hosts for step in state.parsed_plan().steps] == ["100%"]
    assert state.places == 4


def test_a_state_has_its_plan_once() -> None:
    """With a copy in each of its releases, a long plan would be more than a znode holds."""
    plan = {"steps": [{"names": ["web-0000.example.org"]}]}
    state = begin(release_of("b", ref="main", rollout=plan), plan, release_of("a", rollout=plan), 24)
    assert state.to_node().count(b"web-0000") == 1
    assert (state.release["ref"], state.release["commitId"]) == ("main", "b" * 40)


@pytest.mark.parametrize("content", [False, None, "fast"])
def test_an_invalid_plan_begins_no_rollout(content: Any) -> None:
    with pytest.raises(InvalidRollout, match=r"^(rollout|plan): expected "):
        begin(release_of("b"), content, None, 1)


def test_the_policy_counts_for_a_release_without_a_rollout_of_its_own() -> None:
    policy = {"rollout": True}
    assert rollout_of(release_of("b"), policy) is True
    assert rollout_of(release_of("b", rollout=False), policy) is False
    assert rollout_of(release_of("b", rollout=CANARY), policy) == CANARY
    assert rollout_of(release_of("b", rollout=None), policy) is True
    assert rollout_of(release_of("b"), {}) is None


# --- what hosts have while they wait


def test_the_stable_release_is_the_newest_other_one_that_is_known_to_work() -> None:
    """Because its rollout is done, or a publisher has noted that the fleet proved it."""
    proved = {PROVED_AT: "2026-11-29T00:00:00Z"}
    history = {1: release_of("a", **proved), 3: release_of("c"), 5: release_of("e")}
    rollouts = {2: state_of("b", DONE), 4: state_of("d", HALTED), 5: state_of("e", RUNNING)}
    assert choose_stable(release_of("f"), None, history, rollouts) == release_of("b")
    assert choose_stable(release_of("b"), None, history, rollouts) is None, "it is what is known to work"
    newer = {**history, 6: release_of("f", **proved)}
    assert choose_stable(release_of("0"), None, newer, rollouts) == newer[6], (
        "published after the last rollout was done"
    )
    assert choose_stable(release_of("f"), None, {3: release_of("c")}, {}) is None


def test_what_is_published_during_a_rollback_has_the_stable_release_that_the_rollback_returns_to() -> None:
    back = release_of("a", rolledBackFrom="b" * 40)
    history = {1: release_of("a", **{PROVED_AT: "2026-11-29T00:00:00Z"}), 2: release_of("b"), 3: back}
    found = choose_stable(release_of("c"), None, history, {2: state_of("b", HALTED), 3: state_of("a", RUNNING)})
    assert found == history[1]


def test_a_rollback_that_is_done_in_spite_of_its_failures_does_not_make_its_release_known_to_work() -> None:
    back = release_of("b", **{ROLLED_BACK_FROM: "c" * 40})
    history = {1: release_of("a", **{PROVED_AT: "2026-11-29T00:00:00Z"}), 2: back}
    whole = RolloutRecord(release=back.to_object(), phase=DONE, fleet=3, counts={PROVED: 3})
    assert choose_stable(release_of("f"), None, history, {2: whole}) == back
    marred = replace(whole, counts={FAILED: 2, PROVED: 1})
    assert choose_stable(release_of("f"), None, history, {2: marred}) == history[1]
    assert not replace(marred, plan={"maxFailures": 2}).has_proved, "they still serve what it goes back from"


@pytest.mark.parametrize(
    "rollout",
    [
        RolloutRecord(phase=DONE, fleet=3, counts={FAILED: 3}, forgiven=3),
        RolloutRecord(phase=DONE, fleet=3, counts={LOST: 3}, plan={"maxFailures": "100%"}),
        RolloutRecord(phase=DONE, fleet=3),
    ],
    ids=["promoted by force each time", "its plan accepts any failure", "every host was held"],
)
def test_a_release_that_no_host_has_proved_is_not_known_to_work(rollout: RolloutRecord) -> None:
    history = {1: release_of("a", **{PROVED_AT: "2026-11-29T00:00:00Z"}), 2: release_of("b")}
    done = replace(rollout, release=release_of("b").to_object())
    assert choose_stable(release_of("c"), None, history, {2: done}) == history[1]
    one = replace(done, counts={**done.counts, PROVED: 1})
    assert choose_stable(release_of("c"), None, history, {2: one}) == history[2], "the failures were accepted"


@pytest.mark.parametrize("odd", [["a"], {"a": 1}, 1, True])
def test_an_invalid_commit_in_the_history_was_not_rolled_back_from(odd: object) -> None:
    history = {1: release_of("a", **{PROVED_AT: "2026-11-29T00:00:00Z"}), 2: release_of("b", **{ROLLED_BACK_FROM: odd})}
    assert choose_stable(release_of("f"), None, history, {}) == history[1]


def test_the_stable_release_is_at_the_same_place_and_not_one_that_was_rolled_back_from() -> None:
    proved = {PROVED_AT: "2026-11-29T00:00:00Z"}
    history = {1: release_of("a", **proved), 2: release_of("b", **proved)}
    elsewhere = {**history, 3: replace(release_of("c", **proved), relative_path="admin")}
    assert choose_stable(release_of("f"), None, elsewhere, {}) == history[2]
    back = {**history, 3: release_of("a", **{ROLLED_BACK_FROM: "b" * 40})}
    assert choose_stable(release_of("f"), None, back, {}) == history[1]
    again = {**back, 4: release_of("b", **proved)}
    assert choose_stable(release_of("f"), None, again, {}) == again[4]


def test_a_publisher_may_name_the_stable_commit_whether_in_the_history_or_not() -> None:
    history = {1: Release("https://elsewhere.example.org/shop", "a" * 40, "shop"), 2: release_of("b")}
    assert choose_stable(release_of("c"), {"from": "A" * 40}, history, {}) == history[1]
    assert choose_stable(release_of("c"), {"from": "d" * 40}, history, {}) == release_of("d")
    assert choose_stable(release_of("c"), {"from": "c" * 40}, history, {}) is None, "it is the release itself"
    elsewhere = {1: replace(release_of("a"), relative_path="old")}
    assert choose_stable(release_of("c"), {"from": "a" * 40}, elsewhere, {}) == release_of("a"), "at the same place"
    with pytest.raises(InvalidRelease, match=r'^from: commitId: expected 40 or 64 hex digits, got "main"'):
        choose_stable(release_of("c"), {"from": "main"}, history, {})


def test_a_rollback_has_no_stable_release() -> None:
    assert choose_stable(release_of("a", **{ROLLED_BACK_FROM: "b" * 40}), None, {}, {2: state_of("c", DONE)}) is None


def test_a_release_was_proved_if_it_is_known_to_work_or_was_until_it_was_rolled_back_from() -> None:
    history = {
        1: release_of("a", **{PROVED_AT: "2026-11-24T10:15:30+00:00"}),
        2: release_of("b"),
        3: release_of("c"),
        4: release_of("a", **{ROLLED_BACK_FROM: "b" * 40}),
    }
    rollouts = {2: state_of("b", DONE), 3: state_of("c", HALTED)}
    assert [was_proved(release_of(letter), history, rollouts) for letter in "abcd"] == [True, True, False, False]
    elsewhere = {1: replace(history[1], relative_path="other")}
    assert not was_proved(release_of("a"), elsewhere, {})


# --- the znodes


def test_a_state_is_written_and_read_without_loss_and_keeps_what_a_later_version_adds() -> None:
    state = begin(release_of("b", ref="main"), CANARY, release_of("a"), 24)
    node = json.dumps({**state.to_object(), "later": [1]}).encode()
    read = RolloutRecord.from_node(node)
    assert read.to_object() == {**state.to_object(), "later": [1]}
    assert RolloutRecord.from_node(state.to_node()) == state


def test_counts_of_later_versions_are_left_out_and_missing_ones_are_none() -> None:
    content = {**begin(release_of("b"), True, None, 1).to_object(), "counts": {"proved": 3, "later": 1}}
    assert RolloutRecord.from_object(content).counts == {**dict.fromkeys(ENTRIES, 0), "proved": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"phase": "later"},
            "phase: expected one of running, soaking, paused, halted, rolling_back, done, rolled_back",
        ),
        ({"phase": []}, "phase: expected one of "),
        ({"resumes": None}, "resumes: expected one of "),
        ({"step": 2}, "step: expected a number below 2, got 2"),
        ({"step": -1}, "step: expected a whole number, got -1"),
        ({"fleet": True}, "fleet: expected a whole number, got true"),
        ({"places": "4"}, 'places: expected a whole number, got "4"'),
        ({"counts": [1]}, "counts: expected an object of whole numbers, got [1]"),
        ({"counts": {"proved": -1}}, 'counts: expected an object of whole numbers, got {"proved": -1}'),
        ({"forgiven": 1.5}, "forgiven: expected a whole number, got 1.5"),
        ({"release": {}}, "release: url, commitId, relativePath: missing"),
        ({"release": None}, "release: expected an object, got null"),
        ({"release": "b"}, 'release: expected an object, got "b"'),
        ({"from": {"url": URL}}, "from: commitId, relativePath: missing"),
        ({"plan": False}, "plan: expected an object or true, got false"),
        ({"plan": {"maxInFlight": 0}}, "rollout.maxInFlight: expected at least 1, got 0"),
        ({"places": 0}, "places: expected at least 1, got 0"),
        ({"reason": 5}, "reason: expected a string, got 5"),
        ({"since": None}, "since: expected a string, got null"),
    ],
)
def test_an_impossible_state_is_refused(changes: dict[str, Any], message: str) -> None:
    content = {**begin(release_of("b"), CANARY, release_of("a"), 24).to_object(), **changes}
    with pytest.raises(InvalidRecord) as caught:
        RolloutRecord.from_node(json.dumps(content).encode())
    assert str(caught.value).startswith(message)


def test_the_gate_has_what_waiting_hosts_must_know() -> None:
    state = RolloutRecord(phase=HALTED, step=1, moves=4, reason="h0 failed", by="", since="2026-11-29T00:00:00Z")
    assert json.loads(state.gate.to_node()) == {
        "phase": "halted",
        "step": 1,
        "moves": 4,
        "reason": "h0 failed",
        "by": "",
        "since": "2026-11-29T00:00:00Z",
        "failures": 0,
    }
    assert RolloutRecord(phase=HALTED, counts={"failed": 2}).gate.failures == 0
    assert RolloutRecord(phase=DONE, counts={"failed": 2, "lost": 1, "proved": 4}).gate.failures == 3
    assert Gate.from_node(state.gate.to_node()) == state.gate
    with pytest.raises(InvalidRecord, match=r"^phase: expected one of "):
        Gate.from_node(b'{"phase": "later"}')


def test_an_entry_has_the_outcome_of_a_host() -> None:
    entry = HostEntry.from_node(b'{"state": "failed", "since": "2026-11-29T00:00:00Z", "message": "status 404"}')
    assert (entry.state, entry.message) == ("failed", "status 404")
    assert HostEntry(state=PROVED).to_object() == {"state": "proved", "since": "", "moves": 0}
    with pytest.raises(InvalidRecord, match=r"^state: expected one of admitted, .*, got null$"):
        HostEntry.from_node(b'{"state": null}')
    with pytest.raises(InvalidRecord, match=r"^message: expected a string, got 5$"):
        HostEntry.from_node(b'{"state": "lost", "message": 5}')


@pytest.mark.parametrize("own", ["given up: the agent died", "did not finish within 5 s"])
def test_a_hosts_own_failure_message_does_not_mean_that_others_have_given_it_up(own: str) -> None:
    entry = HostEntry(FAILED, message=own)
    assert not entry.is_given_up
    assert entry.next_message is None
    assert HostEntry(LOST, message=f"{GIVEN_UP}{TOO_SLOW}5 s, twice").is_given_up


def test_each_znode_of_a_rollout_has_its_place() -> None:
    app = AppPaths("/app/shop")
    paths = RolloutPaths(app.rollout(17179869188))
    assert (app.policy, app.rollouts) == ("/app/shop/policy", "/app/shop/rollouts")
    assert app.bad("b" * 40) == f"/app/shop/bad/{'b' * 40}"
    assert paths.root == "/app/shop/rollouts/17179869188"
    assert (paths.gate, paths.line, paths.lanes) == tuple(f"{paths.root}/{name}" for name in ("gate", "line", "lanes"))
    assert (paths.back, paths.back_lanes) == (f"{paths.root}/back", f"{paths.root}/back_lanes")
    assert paths.entry("h0", ADMITTED) == f"{paths.in_flight}/h0" == f"{paths.root}/in_flight/h0"
    assert paths.entry("h0", PROVED) == f"{paths.hosts}/h0" == f"{paths.root}/hosts/h0"
    assert {paths.entry("h0", state) for state in IN_FLIGHT} == {f"{paths.in_flight}/h0"}
