"""Which hosts a release would change, and in which step; the numbers are checked with the rules themselves."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import Release
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_events import Ask, Count, Has, Outcome, Tick
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE, HALTED, PAUSED, RUNNING
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_plan import Plan, read_plan
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_preview import (
    LiveHost,
    Preview,
    describe_command,
    preview,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import PROVED, RolloutRecord, begin
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_rules import decide
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_steps import count

A, B = {"zone": "a"}, {"zone": "b"}
FLEET = {"web1": LiveHost(A), "web2": LiveHost(A), "web3": LiveHost(B), "web4": LiveHost(B)}
EVERYBODY = sorted(FLEET)


def plan(*steps: dict[str, Any], **keys: Any) -> Plan:
    """A plan with these steps, and the whole fleet at the end."""
    read = read_plan({"steps": list(steps), **keys})
    assert read is not None
    return read


def short(found: Preview) -> list[tuple[list[str], int, int]]:
    """The hosts that change in each step, the fewest and the most."""
    return [(step.hosts, step.fewest, step.count) for step in found.steps]


def fixed(*names: str) -> tuple[list[str], int, int]:
    """A step whose hosts are known."""
    return list(names), len(names), len(names)


def anybody(fewest: int, most: int | None = None) -> tuple[list[str], int, int]:
    """A step that takes the hosts that come first."""
    return [], fewest, fewest if most is None else most


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], [fixed(*EVERYBODY)]),
        ([{"hosts": 1}], [anybody(1), anybody(3)]),
        ([{"hosts": 1}, {"hosts": "50%"}], [anybody(1), anybody(1), anybody(2)]),
        ([{"hosts": 4}], [fixed(*EVERYBODY), fixed()]),
        ([{"hosts": 9}], [fixed(*EVERYBODY), fixed()]),
        ([{"percent": 10}], [anybody(1), anybody(3)]),
        ([{"names": ["web2", "elsewhere"]}], [fixed("web2"), fixed("web1", "web3", "web4")]),
        ([{"names": ["elsewhere"]}], [fixed(), fixed(*EVERYBODY)]),
        ([{"labels": A}, {"labels": B}], [fixed("web1", "web2"), fixed("web3", "web4"), fixed()]),
        ([{"labels": A}, {"names": ["web1", "web3"]}], [fixed("web1", "web2"), fixed("web3"), fixed("web4")]),
        ([{"labels": {"zone": "c"}}], [fixed(), fixed(*EVERYBODY)]),
        # One of those with the label may have been the first.
        ([{"hosts": 1}, {"labels": A}], [anybody(1), (["web1", "web2"], 1, 2), anybody(1, 2)]),
        ([{"hosts": 3}, {"labels": A}], [anybody(3), (["web1", "web2"], 0, 1), anybody(0, 1)]),
        ([{"hosts": 1}, {"names": ["web1"]}, {"hosts": 3}], [anybody(1), (["web1"], 0, 1), anybody(1, 2), anybody(1)]),
        ([{"labels": A}, {"hosts": 1}], [fixed("web1", "web2"), fixed(), fixed("web3", "web4")]),
        ([{"labels": A}, {"hosts": 3}], [fixed("web1", "web2"), anybody(1), anybody(1)]),
    ],
)
def test_each_step_names_its_hosts_or_their_number(
    steps: list[dict[str, Any]], expected: list[tuple[list[str], int, int]]
) -> None:
    assert short(preview(plan(*steps), FLEET, [])) == expected


def test_without_a_plan_all_switch_at_once() -> None:
    found = preview(None, {**FLEET, "web5": LiveHost(has_it=True)}, ["web6"])
    assert short(found) == [fixed(*EVERYBODY)]
    assert found.lines() == [
        "4 hosts would change",
        "step 1 of 1, all hosts at once: web1, web2, web3 and web4",
        "already there: web5",
        "missing, expected and not live: web6",
    ]


def test_a_host_that_has_the_release_may_fill_a_step_by_number_and_a_held_one_fills_none() -> None:
    fleet = {**FLEET, "web1": LiveHost(A, has_it=True), "web2": LiveHost(A, is_held=True)}
    found = preview(plan({"hosts": 1}, {"hosts": 2}, {"labels": A}), fleet, ["web5", "web0"], places=2)
    assert short(found) == [anybody(0, 1), anybody(0, 2), fixed(), anybody(0, 1)]
    assert (found.unchanged, found.held, found.missing) == (["web1"], ["web2"], ["web0", "web5"])
    assert found.lines() == [
        "2 hosts would change, 2 at a time",
        "step 1 of 4, 1 host in all: 0 to 1, whichever comes first",
        "step 2 of 4, 2 hosts in all: 0 to 2, whichever come first",
        "step 3 of 4, hosts with zone=a: nobody",
        "step 4 of 4, all hosts: 0 to 1, whichever comes first",
        "already there: web1",
        "held, and stay as they are: web2",
        "missing, expected and not live: web0 and web5",
    ]


def test_a_percentage_is_of_the_fleet_including_missing_hosts() -> None:
    missing = [f"gone{number}" for number in range(4)]
    assert short(preview(plan({"hosts": "25%"}), FLEET, missing)) == [anybody(2), anybody(2)]
    (line, *_others) = preview(plan({"hosts": "25%", "soak": 5, "pause": True}), FLEET, missing).lines()[1:]
    assert line == (
        "step 1 of 2, 2 hosts in all (25% of 8), then a soak of 5 s, then a pause for a person: 2, whichever come first"
    )


def test_a_held_host_that_has_it_is_there_already() -> None:
    found = preview(plan(), {"web1": LiveHost(has_it=True, is_held=True)}, [])
    assert (found.unchanged, found.held, found.lines()) == (
        ["web1"],
        [],
        ["0 hosts would change", "already there: web1"],
    )


def test_an_empty_fleet_changes_nothing() -> None:
    found = preview(plan({"hosts": 1}), {}, [])
    assert short(found) == [fixed(), fixed()]
    assert found.lines() == ["0 hosts would change"]


def test_the_lines_name_the_hosts_that_may_be_left() -> None:
    assert preview(plan({"hosts": 1}, {"labels": A}), FLEET, [], places=3).lines() == [
        "4 hosts would change, 3 at a time",
        "step 1 of 3, 1 host in all: 1, whichever comes first",
        "step 2 of 3, hosts with zone=a: 1 to 2 of web1 and web2",
        "step 3 of 3, all hosts: 1 to 2, whichever come first",
    ]


def test_a_rollout_that_goes_on_takes_the_hosts_that_earlier_steps_have_left() -> None:
    entered = {**FLEET, "web1": LiveHost(A, is_entered=True), "web3": LiveHost(B, has_it=True, is_entered=True)}
    steps = plan({"hosts": 1}, {"labels": A}, {"hosts": 3})
    assert short(preview(steps, entered, [], first=1)) == [fixed("web2"), fixed(), fixed("web4")]
    found = preview(steps, entered, [], first=3)
    assert short(found) == [fixed("web2", "web4")]
    assert [step.number for step in found.steps] == [4]
    assert found.unchanged == ["web3"]
    assert short(preview(steps, FLEET, [], first=1)) == [anybody(2, 3), anybody(0, 1), anybody(1)]


def test_a_host_that_has_an_entry_and_is_gone_fills_a_step_by_number() -> None:
    steps = plan({"hosts": 1}, {"hosts": 3})
    assert short(preview(steps, FLEET, ["web5"], reached=1)) == [anybody(0), anybody(2), anybody(2)]


def test_a_host_that_was_lost_and_is_live_again_begins_once_more() -> None:
    fleet = {
        "web1": LiveHost(is_entered=True, is_lost=True),
        "web2": LiveHost(is_entered=True, is_lost=True, is_held=True),
    }
    assert preview(plan({"hosts": 1}), fleet, []).lines() == [
        "1 host would change",
        "step 1 of 2, 1 host in all: nobody",
        "step 2 of 2, all hosts: nobody",
        "lost on the way, and begins once more: web1",
        "held, and stay as they are: web2",
    ]


RELEASE, STABLE = Release("u", "1" * 40, "p"), Release("u", "2" * 40, "p")


def followed(content: dict[str, Any], fleet: dict[str, LiveHost], random_: random.Random) -> list[list[str]]:
    """The hosts that change in each step if a fleet follows the rules, in a random order."""
    state, entries = begin(RELEASE, content, STABLE, len(fleet)), dict[str, str]()
    steps, silent = state.parsed_plan(), [name for name, host in fleet.items() if host.has_it]
    random_.shuffle(silent)
    labels = {name: host.labels for name, host in fleet.items()}
    held = {name: "is held" for name, host in fleet.items() if host.is_held}
    changed: list[list[str]] = [[] for _step in steps.steps]
    while state.phase != DONE:
        able = [name for name in fleet if name not in entries and name not in held and not fleet[name].has_it]
        random_.shuffle(able)
        for name in able:
            if silent and random_.random() < 0.3:  # it reports the release when it is known to be healthy
                had = silent.pop()
                state, entries[had] = decide(steps, state, Has(had)).state, PROVED
            asked = decide(steps, state, Ask(name, labels[name]))
            if not asked.why:
                state = decide(steps, asked.state, Outcome(name, asked.entry, PROVED)).state
                entries[name] = PROVED
                changed[state.step].append(name)
        unable = {**held, **dict.fromkeys(silent, "says so later")}
        counted: Count = count(steps, state, labels, entries, unable)
        state = decide(steps, state, counted).state
        if state.phase not in {RUNNING, DONE}:
            state = decide(steps, state, Tick((state.moves,), 10.0)).state
    return changed


def random_content(random_: random.Random) -> dict[str, Any]:
    """A plan of some steps of all kinds."""
    numbers = sorted(random_.sample(range(1, 12), 4))
    kinds: list[dict[str, Any]] = [
        *({"hosts": number} for number in numbers),
        *({"percent": number * 8} for number in numbers),
        *({"labels": {"zone": zone}} for zone in "abc"),
        *({"names": random_.sample(NAMES, 3)} for _time in range(3)),
    ]
    chosen = random_.sample(kinds, random_.randint(0, 5))
    rising = {key: iter(sorted(step[key] for step in chosen if key in step)) for key in ("hosts", "percent")}
    steps = [{key: next(rising[key]) if key in rising else value for key, value in step.items()} for step in chosen]
    return {"steps": [{**step, "soak": random_.choice([0, 5])} for step in steps], "maxInFlight": random_.randint(1, 4)}


NAMES = [f"web{number:02}" for number in range(10)]


@pytest.mark.parametrize("seed", range(300))
def test_what_is_foreseen_is_what_happens(seed: int) -> None:
    random_ = random.Random(seed)
    content = random_content(random_)
    fleet = {
        name: LiveHost({"zone": random_.choice("abc")}, has_it=random_.random() < 0.2, is_held=random_.random() < 0.1)
        for name in random_.sample(NAMES, random_.randint(0, 10))
    }
    steps = read_plan(content)
    found = preview(steps, fleet, [])
    for _time in range(5):
        changed = followed(content, fleet, random_)
        assert sorted(itertools.chain.from_iterable(changed)) == sorted(
            name for name, host in fleet.items() if host.would_change
        )
        for step, names in zip(found.steps, changed):
            assert step.fewest <= len(names) <= step.count, (content, fleet, found.lines(), changed)
            if step.hosts:
                assert set(names) <= set(step.hosts), (content, fleet, found.lines(), changed)


@pytest.mark.parametrize(
    ("phase", "on_the_way", "waiting", "said"),
    [
        (
            PAUSED,
            1,
            2,
            "paused at step 1 of 2; 1 host on the way would come to an end; 2 hosts that have not begun would ",
        ),
        (
            HALTED,
            0,
            1,
            "halted at step 1 of 2; no host is on its way; 1 host that has not begun would keep what is live",
        ),
    ],
)
def test_what_a_person_would_stop_is_described(phase: str, on_the_way: int, waiting: int, said: str) -> None:
    state = RolloutRecord(phase=phase, counts={"admitted": on_the_way, "proved": 1})
    assert describe_command(state, 2, waiting).startswith(f"the rollout would be {said}")


def test_what_a_person_would_let_go_on_is_described() -> None:
    assert describe_command(RolloutRecord(phase=RUNNING), 2, 3) == "step 1 of 2 would be open"
    assert describe_command(RolloutRecord(phase=DONE), 2, 0) == "the rollout would be done"


class CountedName(str):
    """A name that counts how often it is looked up."""

    __slots__ = ()
    lookups = 0

    def __hash__(self) -> int:
        type(self).lookups += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


def test_a_large_fleet_is_looked_through_once_for_each_step_by_labels() -> None:
    count = 200
    fleet: dict[str, LiveHost] = {CountedName(f"web{n}"): LiveHost(labels={"zone": str(n % 2)}) for n in range(count)}
    by_zone = read_plan({"steps": [{"labels": {"zone": zone}} for zone in "01"]})
    CountedName.lookups = 0
    found = preview(by_zone, fleet, [], size=count)
    assert [step.count for step in found.steps] == [100, 100, 0]
    assert CountedName.lookups < 20 * count
