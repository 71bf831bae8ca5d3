"""When a wait for a fleet is over, and what is reported about it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import (
    NO_EARLIER_WAIT,
    NOTHING_PROVED,
    UNANSWERED,
    Description,
    EarlierWait,
    FleetWait,
    Limits,
    Verdict,
    WaitResult,
    absences,
    advice,
    by_commit,
    come_to,
    grouped,
    listed,
)
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus
from ansible_collections.zoo.deploy.plugins.module_utils.releases import ReleaseProof
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import Gate
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import Node

ALL_OF_THEM = Limits(1, 0)
DESIRED, BEFORE = "9" * 40, "2" * 40
REFUSED = "https://git.example.org/x.git: credentials refused: could not read"
DOWN = "fetching from https://git.example.org/x.git: no route to host"


def agent(name: str, state: str, generation: int | None = 7, **keys: Any) -> dict[str, AgentStatus]:
    """A live agent, by its name."""
    return {name: AgentStatus(name=name, state=state, generation=generation, commit_id=BEFORE, **keys)}


def refused(name: str, pause: int = 4) -> dict[str, AgentStatus]:
    """An agent that may not read the repository."""
    return agent(name, "fetching", message=f"{REFUSED}; tried again in {pause} s", waits_for="credentials")


def cut_off(name: str) -> dict[str, AgentStatus]:
    """An agent that can't reach the git server."""
    return agent(name, "fetching", message=f"{DOWN}; trying again", waits_for="fetch")


def course(
    limits: Limits = ALL_OF_THEM,
    seconds: float = 300.0,
    earlier: EarlierWait = NO_EARLIER_WAIT,
    names: list[str] | None = None,
) -> FleetWait:
    """A wait for generation 7 that begins at 0."""
    return FleetWait(ReleaseProof("/app/x/config", 7, DESIRED, names), limits, seconds, earlier)


def test_it_is_over_at_once_when_all_have_proved_it() -> None:
    result = course().look({**agent("a", "active"), **agent("b", "active")}, None, 0.0)
    assert result
    assert (result.problem, result.verdict.proved, result.to_result()["converged"]) == (None, ["a", "b"], True)


def test_what_was_seen_last_proves_nothing_if_the_ensemble_does_not_answer_at_the_end() -> None:
    wait = course()
    proved = wait.unanswered(agent("a", "active"))
    assert (proved.problem, proved.timed_out, proved.to_result()["converged"]) == (UNANSWERED, True, False)
    pending = course().unanswered(agent("a", "checking"))
    assert str(pending.problem).startswith(f"{UNANSWERED}; seen last: not proved in time by 1 of 1: a is checking")


def test_a_failure_is_reported_with_the_outcomes_of_stragglers_within_a_second() -> None:
    wait = course()
    first = {**agent("a", "failed", message="disk full"), **agent("b", "staging"), **agent("c", "staging")}
    assert wait.look(first, None, 10.0) is None
    assert wait.left(10.0) == 1.0
    second = {**first, **agent("b", "failed", message="disk full"), **agent("c", "active")}
    assert wait.look({**second, **agent("c", "checking")}, None, 10.4) is None
    result = wait.look(second, None, 10.5)
    assert result
    assert result.verdict == (["c"], ["a", "b"], [])
    assert str(result.problem).startswith("not deployed on 2 of 3: a and b are failed (disk full); the fleet serves 2")


def test_a_failure_of_all_is_reported_at_once() -> None:
    result = course().look({**agent("a", "failed"), **agent("b", "rolled_back")}, None, 0.0)
    assert result
    assert str(result.problem).startswith("not deployed on 2 of 2: a is failed; b is rolled_back; ")
    assert not result.timed_out


def test_a_straggler_is_waited_for_no_longer_than_the_deadline() -> None:
    wait = course(seconds=0.0)
    result = wait.look({**agent("a", "failed"), **agent("b", "staging")}, None, 0.0)
    assert result
    assert (result.verdict.failed, result.timed_out) == (["a"], False)


def test_it_is_over_when_all_that_are_left_need_a_person() -> None:
    wait = course()
    fleet = {**agent("a", "active"), **refused("b"), **refused("c", 8)}
    assert wait.look(fleet, None, 5.0) is None
    result = wait.look(fleet, None, 6.0)
    assert result
    said = f"not proved by 2 of 3, none of which could go on: b and c are fetching ({REFUSED}; tried again in 4 s); the"
    assert str(result.problem).startswith(said)
    assert not result.timed_out


def test_a_problem_that_may_pass_by_itself_is_waited_for_as_long_as_requested() -> None:
    wait = course(Limits(1, 0, retry_timeout=60.0))
    fleet = {**cut_off("a"), **refused("b")}
    assert wait.look(fleet, None, 5.0) is None
    assert wait.left(5.0) == 60.0
    assert wait.look({**fleet, **agent("a", "staging")}, None, 50.0) is None  # it goes on, so the time starts again
    assert wait.look(fleet, None, 60.0) is None
    assert wait.look(fleet, None, 119.0) is None
    assert wait.look(fleet, None, 120.0) is None  # the stragglers have a second
    result = wait.look(fleet, None, 121.0)
    assert result
    assert "none of which could go on for 60 s: a is fetching" in str(result.problem)


def test_an_agent_that_goes_on_is_waited_for() -> None:
    wait = course(Limits(1, 0, retry_timeout=0.0))
    for now in (1.0, 100.0, 299.0):
        assert wait.look({**refused("a"), **agent("b", "staging")}, None, now) is None
    result = wait.look({**refused("a"), **agent("b", "staging")}, None, 300.0)
    assert result
    assert (result.timed_out, result.verdict.pending) == (True, ["a", "b"])


def test_a_fleet_that_is_too_small_may_still_grow() -> None:
    wait = course(Limits(2, 0, retry_timeout=0.0))
    for now in (1.0, 100.0, 299.0):
        assert wait.look(refused("a"), None, now) is None


def test_a_percentage_is_of_all_who_were_live_or_are_named_and_one_more_lost_is_too_many() -> None:
    fleet = {name: one for letter in "abcdefghij" for name, one in agent(letter, "active").items()}
    limits = Limits("80%", "10%")
    wait = course(limits, earlier=EarlierWait(seen=sorted(fleet)))
    result = wait.look({name: fleet[name] for name in "abcdefgh"}, None, 0.0)
    assert result
    assert (result.problem, result.lost) == (None, ["i", "j"])
    wait = course(limits, earlier=EarlierWait(seen=sorted(fleet)))
    seven = {name: fleet[name] for name in "abcdefg"}
    assert wait.look(seven, None, 0.0) is None
    result = wait.look(seven, None, 300.0)
    assert result
    assert result.problem == "published, but timed out waiting for agents: 7 live, at least 8 required (80% of 10)"


def test_a_percentage_of_failures_is_rounded_down() -> None:
    fleet = {name: one for letter in "abcdefghijklmnopqrs" for name, one in agent(letter, "active").items()}
    one, two = agent("a", "failed"), {**agent("a", "failed"), **agent("b", "failed")}
    allowed = course(Limits(1, "10%")).look({**fleet, **one}, None, 0.0)
    assert allowed
    assert (allowed.problem, allowed.verdict.failed) == (None, ["a"])
    refused_by_two = course(Limits(1, "10%")).look({**fleet, **two}, None, 0.0)
    assert refused_by_two
    assert str(refused_by_two.problem).startswith("not deployed on 2 of 19: a and b are failed; ")


def test_a_percentage_of_no_agents_requires_one() -> None:
    assert course(Limits("80%", 0)).look({}, None, 0.0) is None
    nobody_needed = course(Limits("0%", 0)).look({}, None, 0.0)
    assert nobody_needed
    assert nobody_needed.problem is None


def test_two_successive_waits_are_one_that_ends_like_the_second() -> None:
    first = WaitResult({**agent("a", "active"), **agent("b", "failed")}, Verdict(["a"], ["b"], []), ["gone"])
    later = agent("a", "active", message="later")
    second = WaitResult({**later, **agent("c", "active")}, Verdict(["c"], [], ["a"]), ["left"], "late", timed_out=True)
    both = second._replace(live=frozenset("abc")).after(first)
    assert both.agents["a"].message == "later"
    assert sorted(both.agents) == ["a", "b", "c"]
    assert both.verdict == (["c"], ["b"], ["a"])
    assert (both.lost, both.problem, both.timed_out) == (["gone", "left"], "late", True)
    assert (sorted(second.after(first).agents), second.after(first).lost) == (["a", "c"], ["a", "b", "gone", "left"])
    back = second._replace(live=frozenset(["a", "b", "gone"])).after(first)
    assert (sorted(back.agents), back.lost) == (["a", "b", "c"], ["left"])


def test_what_an_agent_reports_about_an_earlier_generation_ends_nothing() -> None:
    wait = course()
    earlier = agent("a", "fetching", 6, message=REFUSED, waits_for="credentials")
    assert all(wait.look(earlier, None, now) is None for now in (1.0, 100.0, 299.0))


def test_missing_hosts_of_the_roster_are_named_and_not_a_failure_without_a_limit() -> None:
    result = course().look(agent("a", "active"), None, 0.0, ["a", "b", "c"])
    assert result
    assert (result.problem, result.missing, result.lost) == (None, ["b", "c"], [])
    assert result.to_result()["missing_agents"] == ["b", "c"]
    assert absences(result.to_result()) == ["missing, expected and not live: b and c"]


@pytest.mark.parametrize(
    ("share", "expected"), [(1, "at most 1"), ("50%", "at most 1 (50% of 3)"), ("0%", "at most 0 (0% of 3)")]
)
def test_too_many_missing_hosts_are_waited_for_until_the_deadline_and_named(share: int | str, expected: str) -> None:
    wait = course(Limits(1, 0, max_missing=share))
    assert wait.look(agent("a", "active"), None, 299.0, ["a", "b", "c"]) is None
    result = wait.look(agent("a", "active"), None, 300.0, ["a", "b", "c"])
    assert result
    assert result.problem == f"published, but 2 of 3 are missing, expected {expected}: b and c"
    assert (result.timed_out, result.to_result()["converged"]) == (True, False)


def test_a_host_that_comes_back_is_no_longer_missing() -> None:
    wait = course(Limits(1, 0, max_missing=0))
    assert wait.look(agent("a", "active"), None, 5.0, ["a", "b"]) is None
    assert wait.look({**agent("a", "active"), **agent("b", "fetching")}, None, 6.0, ["a", "b"]) is None
    result = wait.look({**agent("a", "active"), **agent("b", "active")}, None, 7.0, ["a", "b"])
    assert result
    assert (result.problem, result.missing) == (None, [])


def test_missing_hosts_are_named_once_with_each_failure() -> None:
    failed = course().look(agent("a", "failed", message="disk full"), None, 0.0, ["a", "b"])
    assert failed
    assert "a is failed (disk full); missing, expected and not live: b; the fleet serves" in str(failed.problem)
    few = course(Limits(2, 0)).look(agent("a", "active"), None, 300.0, ["a", "b"])
    assert few
    assert few.problem == (
        "published, but timed out waiting for agents: 1 live, at least 2 required; missing, expected and not live: b"
    )


def test_a_lost_host_is_missing_too_and_named_once_in_warnings() -> None:
    wait = course(earlier=EarlierWait(seen=["b"]))
    result = wait.look(agent("a", "active"), None, 0.0, ["a", "b", "c"])
    assert result
    assert (result.lost, result.missing) == (["b"], ["b", "c"])
    assert absences(result.to_result()) == [
        "live at first and gone before the end: b",
        "missing, expected and not live: c",
    ]


def test_where_agents_are_named_the_roster_does_not_count() -> None:
    wait = course(Limits(1, 0, max_missing=0), names=["a", "new"])
    result = wait.look(agent("a", "active"), None, 300.0, ["a", "other"])
    assert result
    assert result.missing == ["new"]
    assert str(result.problem).startswith("not proved in time by 1 of 2: new is not live; the fleet serves ")
    done = wait.look({**agent("a", "active"), **agent("new", "active")}, None, 301.0, ["a", "other"])
    assert done
    assert (done.problem, done.missing) == (None, [])


def test_a_percentage_of_failures_does_not_count_missing_hosts() -> None:
    fleet = {**agent("a", "active"), **agent("b", "failed")}
    result = course(Limits("100%", "25%")).look(fleet, None, 0.0, ["a", "b", "c", "d"])
    assert result
    assert str(result.problem).startswith("not deployed on 1 of 2: b is failed; ")


def test_a_turn_is_over_at_a_reason_that_was_not_reported_yet() -> None:
    fleet = {**cut_off("a"), **agent("b", "staging")}
    assert course(earlier=EarlierWait(told=[DOWN])).look(fleet, None, 5.0) is None
    wait = course(earlier=EarlierWait(told=[]))
    assert wait.look(fleet, None, 5.0) is None
    result = wait.look({**fleet, **refused("c")}, None, 6.0)
    assert result
    assert result.timed_out
    assert wait.reasons(result) == [DOWN, REFUSED]


def test_a_turn_waits_for_progress_only_as_long_as_is_left() -> None:
    wait = course(Limits(1, 0, retry_timeout=60.0), earlier=EarlierWait(told=[DOWN], stuck=58.0))
    assert wait.look(cut_off("a"), None, 0.0) is None
    assert wait.left(0.0) == 2.0
    wait = course(Limits(1, 0, retry_timeout=60.0), earlier=EarlierWait(told=[DOWN], stuck=58.0))
    wait.look(agent("a", "fetching"), None, 0.0)
    wait.look(cut_off("a"), None, 3.0)
    assert wait.left(3.0) == 60.0


def test_named_agents_and_no_others_are_waited_for_even_if_they_are_not_live() -> None:
    wait = course(names=["new1", "new2"])
    fleet = {**agent("new1", "active"), **agent("old", "failed")}
    assert wait.look(fleet, None, 0.0) is None
    result = wait.look(fleet, None, 300.0)
    assert result
    assert str(result.problem).startswith("not proved in time by 1 of 2: new2 is not live; ")
    assert result.lost == []
    done = wait.look({**fleet, **agent("new2", "active")}, None, 301.0)
    assert done
    assert done.problem is None


def test_where_nothing_is_published_an_agent_need_only_be_live() -> None:
    proof = ReleaseProof("/app/x/config", None, names=["a", "b"])
    assert proof.judge({**agent("a", "idle", None)}) == (["a"], [], ["b"])


@pytest.mark.parametrize(
    ("commits", "said"),
    [
        ([], "no server has a release; desired is 9999999999: correct that, or deploy a fix"),
        (
            [BEFORE, BEFORE],
            "the fleet serves 2222222222; desired is still 9999999999: roll back (rollback.yml), or deploy a fix",
        ),
        (
            [BEFORE, DESIRED, BEFORE],
            (
                "the fleet serves 2222222222 on 2 and 9999999999 on 1; desired is 9999999999: "
                "roll back (rollback.yml), or deploy a fix"
            ),
        ),
        ([DESIRED], "the fleet serves 9999999999; desired is 9999999999: correct that, or deploy a fix"),
    ],
)
def test_the_state_of_the_fleet_and_the_next_step_are_named(commits: list[str], said: str) -> None:
    statuses = [AgentStatus(name=str(number), commit_id=commit_id) for number, commit_id in enumerate(commits)]
    assert advice([*statuses, AgentStatus(name="new")], DESIRED) == said


def test_an_invalid_commit_breaks_nothing() -> None:
    odd: Any = ["no", "text"]
    statuses = [AgentStatus(name="a", commit_id=odd), AgentStatus(name="b", commit_id=BEFORE)]
    assert by_commit(statuses) == {None: ["a"], BEFORE: ["b"]}
    assert advice(statuses, DESIRED).startswith("the fleet serves 2222222222; ")


def test_equal_reasons_are_reported_once() -> None:
    names = {f"web{number}": Description("failed (disk full)") for number in range(8)}
    assert grouped(names) == "web0, web1, web2, web3, web4 and 3 more are failed (disk full)"
    retried = {
        "a": Description("fetching (no route; tried again in 4 s)"),
        "b": Description("fetching (no route; tried again in 16 s)"),
        "c": Description("fetching (no route; trying again)"),
        "d": Description("idle"),
    }
    assert grouped(retried) == "a, b and c are fetching (no route; tried again in 4 s); d is idle"
    files = {name: Description("failed (no such user)", of="/etc/x on ") for name in "ab"}
    assert grouped(files) == "/etc/x on a and b is failed (no such user)"
    many = {f"{number}": Description(f"failed ({number})") for number in range(8)}
    assert grouped(many).endswith("; 4 is failed (4); and 3 more")


def test_names_are_listed_up_to_a_limit() -> None:
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


def gate(phase: str, **keys: Any) -> Node:
    """The gate of a rollout in a phase."""
    return Node("/app/x/rollouts/7/gate", Gate(phase, **keys).to_node(), None)


@pytest.mark.parametrize("phase", ["running", "soaking", "rolling_back"])
def test_a_rollout_that_goes_on_decides_about_failures(phase: str) -> None:
    fleet = {**agent("a", "rolled_back"), **agent("b", "waiting"), **agent("c", "active")}
    assert course().look(fleet, None, 5.0, gate=gate(phase)) is None
    assert course().look(agent("a", "active"), None, 5.0, gate=gate(phase)) is None, "it may soak"


@pytest.mark.parametrize(
    ("phase", "said"),
    [("halted", "the rollout is halted: a failed"), ("rolled_back", "the rollout has rolled back: a failed")],
)
def test_it_is_over_when_a_rollout_has_stopped(phase: str, said: str) -> None:
    fleet = {**agent("a", "failed"), **agent("b", "halted")}
    wait = course()
    assert wait.look(fleet, None, 5.0, gate=gate(phase, reason="a failed")) is None, "the stragglers have a second"
    result = wait.look(fleet, None, 6.0, gate=gate(phase, reason="a failed"))
    assert result
    assert said in str(result.problem)
    assert not result.timed_out


def test_it_is_over_and_has_not_failed_if_a_rollout_waits_for_a_person() -> None:
    fleet = {**agent("a", "active"), **agent("b", "waiting")}
    result = course().look(fleet, None, 5.0, gate=gate("paused", reason="latency", by="ann"))
    assert result
    assert (result.problem, result.to_result()["converged"]) == (None, False)
    assert str(result.to_result()["msg"]).startswith("the rollout is paused by ann at step 1: latency; promote it")


def test_a_release_whose_rollout_waits_for_a_person_is_not_proved_by_a_later_wait_for_files() -> None:
    fleet = {**agent("a", "active"), **agent("b", "waiting")}
    release = course().look(fleet, None, 5.0, gate=gate("paused", reason="latency"))
    assert release
    files = WaitResult(fleet, Verdict(["a", "b"], [], []), [], live=frozenset("ab"))
    both = files.after(release.after(NOTHING_PROVED))
    assert both.verdict == (["a"], [], ["b"])
    assert (both.to_result()["converged"], both.to_result()["msg"]) == (False, release.to_result()["msg"])
    assert "msg" not in files._replace(problem="late").after(release).to_result(), "the error says what is to be said"


def test_failures_that_a_rollout_accepted_are_not_failures_of_the_wait() -> None:
    fleet = {**agent("a", "failed"), **agent("b", "active")}
    result = course().look(fleet, None, 5.0, gate=gate("done", failures=1))
    assert result
    assert (result.problem, result.verdict.failed) == (None, ["a"])


@pytest.mark.parametrize("accepted", [0, 1])
def test_a_host_that_has_failed_since_its_rollout_was_done_is_one_that_failed(accepted: int) -> None:
    fleet = {**agent("a", "failed"), **(agent("b", "failed") if accepted else {}), **agent("c", "active")}
    result = course().look(fleet, None, 5.0, gate=gate("done", failures=accepted))
    assert result
    assert str(result.problem).startswith(f"not deployed on {accepted + 1} of {accepted + 2}: ")


def test_hosts_that_follow_a_rollout_that_is_done_without_them_are_reported_as_following() -> None:
    fleet = {**agent("a", "active"), **agent("b", "waiting", message="waits for its turn")}
    result = course(seconds=0.0).look(fleet, None, 5.0, gate=gate("done"))
    assert result
    assert result.problem == (
        "not proved in time by 1 of 2: b is waiting (waits for its turn); hosts that are not held follow by "
        "themselves: wait for that (wait_timeout), or roll back (rollback.yml)"
    )


@pytest.mark.parametrize(("state", "held"), [("checking", None), ("waiting", {"by": "ann"})])
def test_a_host_that_is_held_or_on_its_way_when_all_is_done_is_not_reported_as_following(
    state: str, held: dict[str, str] | None
) -> None:
    fleet = {**agent("a", "active"), **agent("b", state, held=held)}
    result = course(seconds=0.0).look(fleet, None, 5.0, gate=gate("done"))
    assert result
    assert str(result.problem).endswith(": roll back (rollback.yml), or deploy a fix")


def test_a_release_that_no_host_has_proved_is_not_deployed_whatever_failures_its_rollout_accepted() -> None:
    fleet = {**agent("a", "failed", message="disk full"), **agent("b", "rolled_back", message="disk full")}
    result = course().look(fleet, None, 5.0, gate=gate("done", failures=2))
    assert result
    assert str(result.problem).startswith("not deployed on 2 of 2: ")


@pytest.mark.parametrize("stuck", [refused("a"), cut_off("a"), agent("a", "checking", waits_for="health")])
def test_a_host_that_is_stuck_for_now_ends_no_wait_for_a_rollout_that_goes_on(stuck: dict[str, AgentStatus]) -> None:
    wait = course(seconds=200.0)
    fleet = {**stuck, **agent("b", "waiting"), **agent("c", "waiting")}
    for now in (5.0, 6.0, 70.0, 140.0):
        assert wait.look(fleet, None, now, gate=gate("running")) is None
    result = wait.look(fleet, None, 200.0, gate=gate("running"))
    assert result
    assert str(result.problem).startswith("the rollout goes on by itself, step 1 is open: 0 of 3 have proved it; a is")
    assert result.timed_out


def test_a_rollback_that_is_done_without_some_hosts_has_not_been_proved() -> None:
    fleet = {**agent("a", "failed", message="disk full"), **agent("b", "active")}
    wait = course()
    ended = gate("done", reason="1 of 2 hosts failed or were lost", failures=1)
    result = wait.look(fleet, None, 5.0, gate=ended)
    assert result
    assert str(result.problem).startswith("not deployed on 1 of 2: a is failed (disk full)")
    promoted = course().look(fleet, None, 5.0, gate=gate("done", reason="it is fine", by="ann", failures=1))
    assert promoted
    assert promoted.problem is None


def test_what_a_step_went_without_is_reported() -> None:
    wait = course(seconds=1.0)
    said = gate("running", reason="step 1 went without some of its hosts: web1 is held")
    result = wait.look(agent("a", "waiting"), None, 1.0, gate=said)
    assert result
    assert "step 1 is open, step 1 went without some of its hosts: web1 is held: 0 of 1" in str(result.problem)


@pytest.mark.parametrize(("state", "serves", "is_over"), [
    ("waiting", BEFORE, True), ("halted", BEFORE, True), ("waiting", None, False), ("fetching", BEFORE, False),
])  # fmt: skip
def test_a_new_host_that_serves_the_previous_release_may_count_while_it_waits(
    state: str, serves: str | None, is_over: bool
) -> None:
    proof = ReleaseProof("/app/x/config", 7, DESIRED, ["a"], accepts_waiting=True)
    status = AgentStatus(name="a", state=state, generation=7, commit_id=serves)
    result = FleetWait(proof, ALL_OF_THEM, 300.0).look({"a": status}, None, 5.0)
    assert (result is not None and result.problem is None) == is_over


@pytest.mark.parametrize("moves", [[], {}, "3", None])
def test_moves_of_a_gate_that_are_not_a_number_are_no_news(moves: Any) -> None:
    odd = Node("/app/x/rollouts/7/gate", json.dumps({"phase": "running", "moves": moves}).encode(), None)
    assert course(earlier=EarlierWait(moves=-1)).look(agent("a", "waiting"), None, 5.0, gate=odd) is None


def test_a_turn_is_over_when_a_rollout_has_moved() -> None:
    wait = course(earlier=EarlierWait(moves=1))
    fleet = {**agent("a", "active"), **agent("b", "waiting")}
    assert wait.look(fleet, None, 5.0, gate=gate("soaking", moves=1)) is None
    wait.look(fleet, None, 5.0, gate=gate("running", moves=2))
    result = wait.look(fleet, None, 6.0, gate=gate("running", moves=2))
    assert result
    assert result.timed_out


@pytest.mark.parametrize(
    ("earlier", "is_over"),
    [
        (EarlierWait(told=[], moves=1, outcomes=[1, 0]), False),
        (EarlierWait(told=[], moves=1, outcomes=[0, 0]), True),
        (EarlierWait(told=[], moves=1, outcomes=[0, 1]), True),
        # Without outcomes, as of a large fleet, there is no news; in the first turn nothing has been shown.
        (EarlierWait(told=[], moves=1), False),
        (EarlierWait(told=[]), True),
        # Nothing is shown at all.
        (EarlierWait(moves=1, outcomes=[0, 0]), False),
        (NO_EARLIER_WAIT, False),
    ],
)
def test_a_turn_is_over_when_a_host_of_a_rollout_has_an_outcome(earlier: EarlierWait, is_over: bool) -> None:
    wait = course(earlier=earlier)
    fleet = {**agent("a", "active"), **agent("b", "waiting")}
    assert wait.look(fleet, None, 5.0, gate=gate("running", moves=1)) is None
    result = wait.look(fleet, None, 6.0, gate=gate("running", moves=1))
    assert (result is not None and result.timed_out) == is_over


def test_without_a_rollout_a_turn_is_over_a_second_after_a_host_has_changed_its_state() -> None:
    fleet = {**agent("a", "active"), **agent("b", "staging"), **agent("c", "fetching")}
    later = {**fleet, **agent("b", "checking")}
    latest = {**later, **agent("c", "checking")}
    wait = course(earlier=EarlierWait(told=[]))
    # A deployment that takes no longer is reported at its end.
    assert [wait.look(fleet, None, 4.0), wait.look(later, None, 5.0), wait.left(5.0)] == [None, None, 1.0]
    assert [wait.look(later, None, 6.0), wait.look(latest, None, 6.5), wait.left(6.5)] == [None, None, 0.5]
    result = wait.look(latest, None, 7.0)
    assert result
    assert result.timed_out
    # The next turn begins with what that one has shown; if nothing is shown at all, it is no news.
    shown = come_to(1, 0, ["staging", "fetching"])
    for earlier, is_over in ((EarlierWait(told=[], outcomes=shown), True), (EarlierWait(outcomes=shown), False)):
        wait = course(earlier=earlier)
        assert wait.look(later, None, 5.0) is None
        assert (wait.look(later, None, 6.0) is not None) == is_over


def test_of_a_large_fleet_the_state_of_a_host_is_no_news() -> None:
    wait = course(earlier=EarlierWait(told=[]))
    fleet: dict[str, AgentStatus] = {}
    for number in range(201):
        fleet.update(agent(f"web{number}", "staging"))
    assert wait.look(fleet, None, 5.0) is None
    fleet.update(agent("web0", "active"))
    assert [wait.look(fleet, None, moment) for moment in (8.0, 10.0)] == [None, None]


@pytest.mark.parametrize("phase", ["running", "soaking"])
def test_a_rollout_that_goes_on_is_reported_at_the_deadline_without_advice_to_roll_back(phase: str) -> None:
    wait = course(seconds=1.0)
    agents = {**agent("a", "active"), **agent("b", "waiting")}
    assert wait.look(agents, None, 0.0, gate=gate(phase)) is None
    result = wait.look(agents, None, 1.0, gate=gate(phase))
    assert result
    assert str(result.problem).startswith("the rollout goes on by itself, step 1 ")
    assert str(result.problem).endswith(": 1 of 2 have proved it; b is waiting")
    assert result.timed_out


def test_a_fleet_that_has_all_proved_it_is_waited_for_while_the_rollout_soaks() -> None:
    wait = course(seconds=1.0)
    result = wait.look(agent("a", "active"), None, 1.0, gate=gate("soaking"))
    assert result
    assert result.problem == "the rollout goes on by itself, step 1 soaks: 1 of 1 have proved it"
    done = course().look(agent("a", "active"), None, 1.0, gate=gate("done"))
    assert done
    assert done.problem is None


def test_a_rollout_that_a_person_has_halted_does_not_call_its_commit_bad() -> None:
    result = course().look(agent("a", "halted"), None, 0.0, gate=gate("halted", by="ann", reason="lunch"))
    assert result is None
    wait = course(seconds=0.0)
    halted = wait.look(agent("a", "halted"), None, 0.0, gate=gate("halted", by="ann", reason="lunch"))
    assert halted
    assert str(halted.problem).startswith("the rollout is halted by ann: lunch: a is halted")
    assert "bad" not in str(halted.problem)
