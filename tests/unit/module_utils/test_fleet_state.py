"""How a fleet is described: by commit, by state, by the reason of a failure."""

from __future__ import annotations

from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.fleet_state import describe_fleet
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus

DESIRED, BEFORE = "9" * 40, "2" * 40


def agent(name: str, state: str = "active", generation: int | None = 7, **keys: Any) -> dict[str, AgentStatus]:
    """A live agent, by its name."""
    return {name: AgentStatus(name=name, state=state, generation=generation, **{"commit_id": DESIRED, **keys})}


def test_what_a_fleet_serves_is_grouped_by_commit_the_most_frequent_first() -> None:
    fleet = {**agent("a"), **agent("b", commit_id=BEFORE), **agent("d"), **agent("c", "idle", None, commit_id=None)}
    assert describe_fleet(fleet, 7, DESIRED)["served"] == [
        {"commit_id": DESIRED, "desired": True, "agents": ["a", "d"]},
        {"commit_id": BEFORE, "desired": False, "agents": ["b"]},
        {"commit_id": None, "desired": False, "agents": ["c"]},
    ]


def test_agents_are_grouped_by_state_and_each_says_whether_it_has_proved_the_release() -> None:
    fleet = {**agent("b", "checking"), **agent("a"), **agent("c"), **agent("d", generation=6)}
    found = describe_fleet(fleet, 7, DESIRED)
    assert found["states"] == {"active": ["a", "c", "d"], "checking": ["b"]}
    assert {one["name"]: one["converged"] for one in found["agents"]} == {"a": True, "b": False, "c": True, "d": False}


def test_failures_are_grouped_by_reason_those_that_are_tried_again_too() -> None:
    down = "fetching: no route to host"
    fleet = {
        **agent("a", "failed", message="disk full"),
        **agent("b", "rolled_back", message="disk full"),
        **agent("c", "fetching", message=f"{down}; tried again in 4 s", waits_for="fetch"),
        **agent("d", "fetching", message=f"{down}; trying again", waits_for="fetch"),
        **agent("e", "failed"),
        **agent("f", "failed", 6, message="of a release that is not desired any more"),
        **agent("g", "staging", message="nothing that would be a failure"),
    }
    assert describe_fleet(fleet, 7, DESIRED)["failures"] == [
        {"reason": "disk full", "agents": ["a", "b"]},
        {"reason": down, "agents": ["c", "d"]},
        {"reason": "failed", "agents": ["e"]},
    ]


def test_a_file_that_could_not_be_put_in_place_is_a_failure() -> None:
    bad = {"znode": "/c/x", "format": "value", "state": "failed", "zxid": 5, "message": "no number"}
    mute = {"znode": "/c/x", "format": "value", "state": "failed", "zxid": 5}
    good = {**bad, "state": "current"}
    fleet = {
        **agent("a", files={"/etc/x": bad, "/etc/y": good}),
        **agent("b", "failed", message="disk full", files={"/etc/x": bad, "/etc/z": mute}),
    }
    assert describe_fleet(fleet, 7, DESIRED)["failures"] == [
        {"reason": "/etc/x: no number", "agents": ["a", "b"]},
        {"reason": "/etc/z: failed", "agents": ["b"]},
        {"reason": "disk full", "agents": ["b"]},
    ]


def test_where_nothing_is_published_nobody_has_proved_or_failed_it() -> None:
    found = describe_fleet({**agent("a", "idle", None, commit_id=None), **agent("b", "failed", None)}, None, None)
    assert [one["converged"] for one in found["agents"]] == [False, False]
    assert found["failures"] == []
    assert [one["desired"] for one in found["served"]] == [False, False]


def test_an_empty_fleet_serves_nothing() -> None:
    nothing: dict[str, Any] = {"agents": [], "served": [], "states": {}, "failures": [], "degraded": []}
    assert describe_fleet({}, 7, DESIRED) == nothing


def test_a_host_that_is_held_or_in_trouble_is_degraded_although_the_release_is_proved() -> None:
    mark = {"since": "2026-11-24T10:15:30+00:00", "by": "ann", "reason": "disk swap"}
    bad = {"znode": "/c/x", "format": "value", "state": "failed", "zxid": 5, "message": "no number"}
    trouble = ["registration not made, path=/service/web/a: no permission"]
    fleet = {
        **agent("a", held=mark),
        **agent("b", drained=mark, troubles=trouble),
        **agent("c", files={"/etc/x": bad}, troubles=trouble),
        # d has not proved the release, which says more; the troubles of e, by another program, are not a list.
        **agent("d", "idle", held=mark),
        **agent("e", troubles=5),
    }
    assert describe_fleet(fleet, 7, DESIRED)["degraded"] == [
        "a is held since 2026-11-24T10:15:30+00:00 by ann: disk swap",
        "b is drained since 2026-11-24T10:15:30+00:00 by ann: disk swap",
        "b and c: registration not made, path=/service/web/a: no permission",
        "c: /etc/x: no number",
    ]
