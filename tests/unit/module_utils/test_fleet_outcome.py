"""When a wait for a fleet is over, and what is said of it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import (
    NO_EARLIER_WAIT,
    Description,
    EarlierWait,
    FleetWait,
    Limits,
    Verdict,
    WaitResult,
    advice,
    at_least,
    at_most,
    by_commit,
    grouped,
    listed,
    parse_share,
)
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, InvalidRecord
from ansible_collections.zoo.deploy.plugins.module_utils.releases import ReleaseProof

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
    """An agent that does not reach the git server."""
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


def test_a_failure_is_told_with_what_the_stragglers_come_to_within_a_second() -> None:
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


def test_a_failure_of_all_is_told_at_once() -> None:
    result = course().look({**agent("a", "failed"), **agent("b", "rolled_back")}, None, 0.0)
    assert result
    assert str(result.problem).startswith("not deployed on 2 of 2: a is failed; b is rolled_back; ")
    assert not result.timed_out


def test_a_straggler_is_waited_for_no_longer_than_the_deadline() -> None:
    wait = course(seconds=0.0)
    result = wait.look({**agent("a", "failed"), **agent("b", "staging")}, None, 0.0)
    assert result
    assert (result.verdict.failed, result.timed_out) == (["a"], False)


def test_it_is_over_when_all_who_are_left_need_somebody() -> None:
    wait = course()
    fleet = {**agent("a", "active"), **refused("b"), **refused("c", 8)}
    assert wait.look(fleet, None, 5.0) is None
    result = wait.look(fleet, None, 6.0)
    assert result
    said = f"not proved by 2 of 3, none of which could go on: b and c are fetching ({REFUSED}; tried again in 4 s); the"
    assert str(result.problem).startswith(said)
    assert not result.timed_out


def test_what_may_pass_by_itself_is_hoped_for_as_long_as_is_asked_for() -> None:
    wait = course(Limits(1, 0, retry_timeout=60.0))
    fleet = {**cut_off("a"), **refused("b")}
    assert wait.look(fleet, None, 5.0) is None
    assert wait.left(5.0) == 60.0
    assert wait.look({**fleet, **agent("a", "staging")}, None, 50.0) is None  # it goes on: the hope begins anew
    assert wait.look(fleet, None, 60.0) is None
    assert wait.look(fleet, None, 119.0) is None
    assert wait.look(fleet, None, 120.0) is None  # the stragglers
    result = wait.look(fleet, None, 121.0)
    assert result
    assert "none of which could go on for 60 s: a is fetching" in str(result.problem)


def test_one_who_goes_on_is_waited_for() -> None:
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
    assert result.problem == "published, but 7 agents are live in time, expected at least 8 (80% of 10)"


def test_a_percentage_of_failures_is_rounded_down() -> None:
    fleet = {name: one for letter in "abcdefghijklmnopqrs" for name, one in agent(letter, "active").items()}
    one, two = agent("a", "failed"), {**agent("a", "failed"), **agent("b", "failed")}
    allowed = course(Limits(1, "10%")).look({**fleet, **one}, None, 0.0)
    assert allowed
    assert (allowed.problem, allowed.verdict.failed) == (None, ["a"])
    refused_by_two = course(Limits(1, "10%")).look({**fleet, **two}, None, 0.0)
    assert refused_by_two
    assert str(refused_by_two.problem).startswith("not deployed on 2 of 19: a and b are failed; ")


def test_a_percentage_of_nobody_asks_for_one() -> None:
    assert course(Limits("80%", 0)).look({}, None, 0.0) is None
    nobody_needed = course(Limits("0%", 0)).look({}, None, 0.0)
    assert nobody_needed
    assert nobody_needed.problem is None


@given(st.integers(0, 100), st.integers(0, 100_000))
def test_a_percentage_is_reached_by_no_fewer_and_exceeded_by_no_more(percent: int, fleet: int) -> None:
    exact = Fraction(percent * fleet, 100)
    least, most = at_least(f"{percent}%", fleet), at_most(f"{percent}%", fleet)
    assert exact - 1 < most <= exact <= least < exact + 1 or (least == 1 and exact == 0)
    assert (least == 0) == (percent == 0)
    assert most <= fleet
    assert least <= max(fleet, 1)


@given(st.integers(0, 100_000), st.integers(0, 100_000), st.booleans())
def test_a_number_is_the_same_of_every_fleet(number: int, fleet: int, written: bool) -> None:
    value = str(number) if written else number
    assert at_least(value, fleet) == at_most(value, fleet) == number


@pytest.mark.parametrize("value", ["many", "", "-1", -1, "-5%", "101%", "5 %%", "%", "1.5", True, None, "5% "])
def test_what_is_neither_a_number_nor_a_percentage_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRecord, match=r'^expected a whole number of agents or a percentage such as "80%", got '):
        parse_share(value)


def test_two_waits_one_after_the_other_are_one_that_ends_as_the_second_one() -> None:
    first = WaitResult({**agent("a", "active"), **agent("b", "failed")}, Verdict(["a"], ["b"], []), ["gone"])
    later = agent("a", "active", message="later")
    second = WaitResult({**later, **agent("c", "active")}, Verdict(["c"], [], ["a"]), ["left"], "late", timed_out=True)
    both = second.after(first)
    assert both.agents["a"].message == "later"
    assert sorted(both.agents) == ["a", "b", "c"]
    assert both.verdict == (["c"], ["b"], ["a"])
    assert (both.lost, both.problem, both.timed_out) == (["gone", "left"], "late", True)


def test_what_an_agent_says_of_an_earlier_generation_ends_nothing() -> None:
    wait = course()
    earlier = agent("a", "fetching", 6, message=REFUSED, waits_for="credentials")
    assert all(wait.look(earlier, None, now) is None for now in (1.0, 100.0, 299.0))


def test_a_turn_is_over_at_a_reason_that_was_not_told_yet() -> None:
    fleet = {**cut_off("a"), **agent("b", "staging")}
    assert course(earlier=EarlierWait(told=[DOWN])).look(fleet, None, 5.0) is None
    wait = course(earlier=EarlierWait(told=[]))
    assert wait.look(fleet, None, 5.0) is None
    result = wait.look({**fleet, **refused("c")}, None, 6.0)
    assert result
    assert result.timed_out
    assert wait.reasons(result) == [DOWN, REFUSED]


def test_the_hope_of_a_turn_is_what_is_left_of_it() -> None:
    wait = course(Limits(1, 0, retry_timeout=60.0), earlier=EarlierWait(told=[DOWN], stuck=58.0))
    assert wait.look(cut_off("a"), None, 0.0) is None
    assert wait.left(0.0) == 2.0
    wait = course(Limits(1, 0, retry_timeout=60.0), earlier=EarlierWait(told=[DOWN], stuck=58.0))
    wait.look(agent("a", "staging"), None, 0.0)
    wait.look(cut_off("a"), None, 1.0)
    assert wait.left(1.0) == 60.0


def test_named_agents_are_waited_for_also_where_they_are_not_live_and_no_others() -> None:
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
        ([], "no server has a release; desired is 9999999999: mend that, or deploy a fix"),
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
        ([DESIRED], "the fleet serves 9999999999; desired is 9999999999: mend that, or deploy a fix"),
    ],
)
def test_the_state_of_the_fleet_and_the_next_step_are_named(commits: list[str], said: str) -> None:
    statuses = [AgentStatus(name=str(number), commit_id=commit_id) for number, commit_id in enumerate(commits)]
    assert advice([*statuses, AgentStatus(name="new")], DESIRED) == said


def test_a_commit_that_is_none_breaks_nothing() -> None:
    odd: Any = ["no", "text"]
    statuses = [AgentStatus(name="a", commit_id=odd), AgentStatus(name="b", commit_id=BEFORE)]
    assert by_commit(statuses) == {None: ["a"], BEFORE: ["b"]}
    assert advice(statuses, DESIRED).startswith("the fleet serves 2222222222; ")


def test_equal_reasons_are_said_once() -> None:
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
