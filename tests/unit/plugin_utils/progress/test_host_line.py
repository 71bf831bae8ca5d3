"""The outcome of a deployment on one host, in a line."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.host_line import course, news, outcomes, short

TIMINGS = {"checking": 0.2, "fetching": 0.0814, "staging": 0.01, "activating": 0.002}


@pytest.mark.parametrize(
    ("agent", "outcome", "said"),
    [
        (
            {"state": "active", "timings": TIMINGS},
            "proved",
            "fetching 0.08 s  staging 0.01 s  activating 0.00 s  checking 0.20 s  proved",
        ),
        ({"state": "active"}, "proved", "proved"),
        (
            {
                "state": "rolled_back",
                "commitId": "2" * 40,
                "timings": {"fetching": 0.1, "activating": 0.0},
                "failedStep": {"step": "checking", "seconds": 30.014},
            },
            "failed",
            "fetching 0.10 s  activating 0.00 s  checking FAILED 30.01 s  back on 2222222222",
        ),
        # What another program may have written there.
        ({"state": "failed", "failedStep": {"step": "checking", "seconds": "\x1b"}}, "failed", "checking FAILED"),
        ({"state": "failed", "failedStep": {"step": "\x1b[2J", "seconds": 1}}, "failed", "FAILED"),
        ({"state": "failed", "failedStep": ["checking"]}, "failed", "FAILED"),
        ({"state": "failed", "failedStep": {"step": ["checking"]}}, "failed", "FAILED"),
        ({"state": "failed", "commitId": "2" * 40, "timings": {"fetching": 0.1}}, "failed", "fetching 0.10 s  FAILED"),
        ({"state": "rolled_back", "timings": "of another program"}, "failed", "FAILED  back on -"),
        ({"state": "failed", "timings": {"fetching": "\x1b[2J"}}, "failed", "FAILED"),
        ({"state": "failed", "timings": {"fetching": 10**400, "staging": True}}, "failed", "FAILED"),
        ({}, "gone", "gone: its agent is not live any more"),
        (
            {"state": "rolled_back", "commitId": "2" * 40, "timings": TIMINGS},
            "returned",
            "returned  back on 2222222222",
        ),
    ],
)
def test_a_line_has_the_steps_of_a_host_and_its_outcome(agent: dict[str, Any], outcome: str, said: str) -> None:
    assert course(agent, outcome) == said


def result(*names: str, failed: tuple[str, ...] = (), pending: tuple[str, ...] = (), **keys: Any) -> dict[str, Any]:
    """What a module returns about these agents."""
    agents = [{"name": name, "state": "active"} for name in names]
    return {"agents": agents, "failed_agents": [*failed], "pending_agents": [*pending], "lost_agents": [], **keys}


def test_an_agent_that_is_neither_waited_for_nor_failed_has_proved_it() -> None:
    seen = result("a", "b", "c", failed=("b",), pending=("c", "not live"), lost_agents=["gone"])
    assert outcomes(seen) == {"a": "proved", "b": "failed", "gone": "gone"}
    # In an outage no agent has been seen.
    assert outcomes({"msg": "can't reach ZooKeeper"}) == {}


def test_hosts_in_trouble_come_first_and_what_was_shown_is_not_repeated() -> None:
    seen = result("a", "b", "c", failed=("c",), lost_agents=["gone"])
    assert [line.split()[0] for line in news(seen, {"a": "proved"})] == ["c", "gone", "b"]
    # One that had proved it has failed since.
    assert [line.split()[0] for line in news(seen, {"a": "proved", "b": "proved", "c": "proved"})] == ["c", "gone"]


def test_a_host_that_rolled_back_with_the_others_has_not_failed() -> None:
    entries = {"b": {"state": "failed"}, "c": {"state": "returned"}, "d": {"state": "returned"}}
    entries["e"] = {"state": "returned"}
    rollout = {"hosts": entries, "reason": "e failed: fell ill: status 500"}
    seen = result("a", "b", "c", "d", "e", failed=("b", "c", "d", "e"), rollout=rollout)
    seen["agents"][3]["failedStep"] = {"step": "checking", "seconds": 5.0}
    assert outcomes(seen) == {"a": "proved", "b": "failed", "c": "returned", "d": "failed", "e": "failed"}
    assert [line.split()[0] for line in news(seen, {})] == ["b", "d", "e", "c", "a"]


def test_of_many_hosts_a_line_has_all_of_a_kind() -> None:
    lines = news(result(*(f"web{number:03}" for number in range(300)), failed=("web200",), lost_agents=["gone"]), {})
    proved = "web000, web001, web002, web003, web004 and 294 more  proved"
    assert lines == ["web200  FAILED", "gone  gone", proved]


@pytest.mark.parametrize(
    ("commit", "said"), [("a" * 40, "a" * 10), (None, "-"), ("", "-"), (5, "-"), ("\x1b", "\\x1b")]
)
def test_a_commit_is_short_whatever_somebody_wrote_there(commit: object, said: str) -> None:
    assert short(commit) == said
