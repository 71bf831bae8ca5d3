"""A `rollout` as people write it: what it means, and what is reported if it can't be followed."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.rollout_plan import (
    MAX_STEPS,
    WHOLE_FLEET,
    InvalidRollout,
    Plan,
    RolloutStep,
    check_publishable,
    parsed_rollout,
    read_plan,
)


def plan_of(**keys: Any) -> Plan:
    """The plan in a `rollout` with these keys."""
    plan = read_plan(keys)
    assert plan is not None
    return plan


def test_every_key_has_its_place() -> None:
    """The example in the module's docstring, and names."""
    plan = plan_of(
        steps=[
            {"hosts": 1, "soak": 60},
            {"labels": {"zone": "a"}},
            {"names": ["web-1", "web-2"]},
            {"hosts": "50%", "pause": True, "gate": True},
        ],
        maxInFlight="10%",
        maxFailures=2,
        minHealthy=5,
        progressDeadline=300,
        onFailure="rollback",
    )
    assert plan == Plan(
        steps=(
            RolloutStep(hosts=1, soak=60.0),
            RolloutStep(labels=(("zone", "a"),)),
            RolloutStep(names=frozenset({"web-1", "web-2"})),
            RolloutStep(hosts="50%", pause=True, gate=True),
            WHOLE_FLEET,
        ),
        max_in_flight="10%",
        max_failures=2,
        min_healthy=5.0,
        progress_deadline=300.0,
        on_failure="rollback",
    )


def test_an_unattended_plan_waits_for_no_gates() -> None:
    assert plan_of(unattended=True).unattended
    assert plan_of(unattended=False, steps=[{"hosts": 1, "gate": True}]).steps[0].gate


@pytest.mark.parametrize("content", [True, {}, {"a later version's": "key"}])
def test_by_default_it_is_one_host_at_a_time_and_no_failure_is_accepted(content: Any) -> None:
    plan = read_plan(content)
    assert plan == Plan()
    assert plan.places(1_000) == 1
    assert plan.accepts(0, 1_000)
    assert not plan.accepts(1, 1_000)


@pytest.mark.parametrize("content", [False, None])
def test_false_is_not_a_rollout(content: Any) -> None:
    assert read_plan(content) is None


@pytest.mark.parametrize("last", [{"hosts": "100%"}, {"percent": 100}])
def test_the_whole_fleet_is_the_last_step_and_is_not_added_twice(last: dict[str, Any]) -> None:
    assert plan_of(steps=[{"percent": 10}, {**last, "soak": 5}]).steps == (
        RolloutStep(hosts="10%"),
        RolloutStep(hosts="100%", soak=5.0),
    )


def test_a_step_takes_the_hosts_that_it_names_those_with_all_its_labels_or_any() -> None:
    labels = {"zone": "a", "disk": "ssd"}
    assert RolloutStep(names=frozenset({"h1"})).takes("h1", {})
    assert not RolloutStep(names=frozenset({"h1"})).takes("h2", labels)
    assert RolloutStep(labels=(("disk", "ssd"), ("zone", "a"))).takes("h1", labels)
    assert not RolloutStep(labels=(("disk", "ssd"), ("zone", "b"))).takes("h1", labels)
    assert RolloutStep(hosts=1).takes("h1", {})


@pytest.mark.parametrize(
    ("share", "fleet", "places"), [(1, 10, 1), ("10%", 9, 1), ("10%", 59, 5), (5, 2, 5), (1, 0, 1)]
)
def test_there_is_one_place_at_least_and_a_percentage_is_never_exceeded(share: Any, fleet: int, places: int) -> None:
    assert plan_of(maxInFlight=share).places(fleet) == places


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("fast", 'rollout: expected an object, true or false, got "fast"'),
        ([], "rollout: expected an object, true or false, got []"),
        ({"steps": "all"}, 'rollout.steps: expected a list of at most 100 steps, got "all"'),
        ({"steps": [{"hosts": 1}, 5]}, "rollout.steps[1]: expected an object, got 5"),
        ({"steps": [{}]}, "rollout.steps[0]: expected one of hosts, percent, names and labels, got {}"),
        (
            {"steps": [{"hosts": 1, "percent": 5}]},
            'rollout.steps[0]: expected one of hosts, percent, names and labels, got {"hosts": 1, "percent": 5}',
        ),
        ({"steps": [{"hosts": 0}]}, "rollout.steps[0].hosts: expected at least 1, got 0"),
        (
            {"steps": [{"hosts": "half"}]},
            'rollout.steps[0].hosts: expected a whole number of agents or a percentage such as "80%", got "half"',
        ),
        ({"steps": [{"percent": "50"}]}, 'rollout.steps[0].percent: expected a whole number from 1 to 100, got "50"'),
        ({"steps": [{"percent": True}]}, "rollout.steps[0].percent: expected a whole number from 1 to 100, got true"),
        ({"steps": [{"names": []}]}, "rollout.steps[0].names: expected a list of hosts' names, got []"),
        ({"steps": [{"names": "h1"}]}, 'rollout.steps[0].names: expected a list of hosts\' names, got "h1"'),
        (
            {"steps": [{"labels": {"zone": 1}}]},
            'rollout.steps[0].labels: expected an object whose values are strings, got {"zone": 1}',
        ),
        ({"steps": [{"hosts": 1, "soak": -1}]}, "rollout.steps[0].soak: expected seconds from 0 to 2592000, got -1"),
        (
            {"steps": [{"hosts": 1, "soak": float("nan")}]},
            "rollout.steps[0].soak: expected seconds from 0 to 2592000, got NaN",
        ),
        ({"steps": [{"hosts": 1, "pause": 1}]}, "rollout.steps[0].pause: expected true or false, got 1"),
        ({"steps": [{"hosts": 1, "gate": "x"}]}, 'rollout.steps[0].gate: expected true or false, got "x"'),
        ({"unattended": 1}, "rollout.unattended: expected true or false, got 1"),
        (
            {"unattended": True, "steps": [{"hosts": 1, "gate": True}]},
            "rollout.unattended: expected steps without gate, for nobody may be there to ask",
        ),
        (
            {"steps": [{"hosts": "50%"}, {"hosts": 4}, {"percent": 20}]},
            "rollout.steps[2]: 20% is less than a step before it has; expected all hosts that have the release by then",
        ),
        ({"maxInFlight": 0}, "rollout.maxInFlight: expected at least 1, got 0"),
        ({"maxInFlight": "0%"}, 'rollout.maxInFlight: expected at least 1, got "0%"'),
        (
            {"maxFailures": -1},
            'rollout.maxFailures: expected a whole number of agents or a percentage such as "80%", got -1',
        ),
        ({"minHealthy": "10"}, 'rollout.minHealthy: expected seconds from 0 to 2592000, got "10"'),
        ({"progressDeadline": 0}, "rollout.progressDeadline: expected seconds from 1 to 2592000, got 0"),
        ({"onFailure": "panic"}, 'rollout.onFailure: expected halt or rollback, got "panic"'),
        ({"onFailure": ["halt"]}, 'rollout.onFailure: expected halt or rollback, got ["halt"]'),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused_by_its_key(content: Any, message: str) -> None:
    with pytest.raises(InvalidRollout) as caught:
        read_plan(content)
    assert str(caught.value) == message


def test_the_number_of_steps_is_limited() -> None:
    assert len(plan_of(steps=[{"hosts": 1}] * MAX_STEPS).steps) == MAX_STEPS + 1
    with pytest.raises(InvalidRollout, match=r"^rollout\.steps: expected a list of at most 100 steps, got "):
        plan_of(steps=[{"hosts": 1}] * (MAX_STEPS + 1))


@pytest.mark.parametrize(
    "text",
    ["slowly", "[" * 100_000, '{"from": NaN}', '{"from": 1e999}', {"from": float("nan")}, {"from": [float("inf")]}],
)
def test_a_rollout_that_is_not_json_is_refused(text: Any) -> None:
    with pytest.raises(InvalidRollout, match=r"^rollout: expected an object, true or false, got "):
        parsed_rollout(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"step": [{"hosts": 1}]}, 'rollout: no such key "step"; expected one of steps, maxInFlight, '),
        ({"onfailure": "rollback"}, 'rollout: no such key "onfailure"; '),
        ({"steps": [{"hosts": 1, "puase": True}]}, 'rollout.steps[0]: no such key "puase"; expected one of hosts, '),
    ],
)
def test_a_plan_with_a_misspelt_key_is_not_published(content: Any, message: str) -> None:
    read_plan(content)
    with pytest.raises(InvalidRollout) as refused:
        check_publishable(content)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "healthy", "deadline"),
    [
        ({"minHealthy": 900}, 900, 600),
        ({"progressDeadline": 10}, 10, 10),
        ({"minHealthy": 60, "progressDeadline": 59.5}, 60, 59.5),
    ],
)
def test_a_plan_that_leaves_hosts_no_time_to_prove_the_release_is_not_published(
    content: Any, healthy: float, deadline: float
) -> None:
    """A healthy release would be halted or rolled back. Agents still follow such a plan."""
    read_plan(content)
    with pytest.raises(InvalidRollout) as refused:
        check_publishable(content)
    said = (
        f"healthy for {healthy:g} s (minHealthy), and where none makes progress for {deadline:g} s (progressDeadline)"
    )
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        *(None, True, False, {"from": "main", "steps": [{"hosts": 1, "soak": 3}]}),
        *({"minHealthy": 599}, {"progressDeadline": 11}, {"minHealthy": 0, "progressDeadline": 1}),
    ],
)
def test_a_plan_of_known_keys_may_be_published(content: Any) -> None:
    check_publishable(content)
