"""What a page shows first, and what needs attention."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.page.hosts import (
    MOST_BLOCKS,
    MOST_ROWS,
    details,
    group_hosts,
    names_by_kind,
    read_hosts,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.page.summary import MOST_NAMES, reasons, summarize
from support.fleet_results import FIRST, GENERATION, NEW, OLD, UNHEALTHY, FleetState, agent, failed, files, fleet_state

NOW = datetime(2026, 11, 29, 15, 4, 10, tzinfo=timezone.utc)
SHORT, BEFORE = NEW[:10], OLD[:10]


def said(state: FleetState) -> tuple[str, str]:
    """The level and the title of a page's summary."""
    groups = group_hosts(read_hosts(state.fleet, NOW))
    summary = summarize(state.releases, state.fleet, groups)
    return summary.level, summary.title


def told(state: FleetState) -> list[tuple[str, list[str], str]]:
    """The reasons, with the first hosts of each."""
    hosts = read_hosts(state.fleet, NOW)
    named = reasons(group_hosts(hosts), hosts)
    return [(reason.kind.name, [host.name for host in reason.hosts], reason.text) for reason in named]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing published", ("warn", "Nothing is published")),
        ("no release", ("bad", "What is published is not a release")),
        ("no agent", ("warn", "5 hosts are missing")),
        ("nobody", ("warn", "No agent is live")),
        ("healthy", ("good", f"All 5 hosts serve {SHORT}")),
        ("at once, under way", ("busy", f"Rolling out: 1 of 5 hosts serve {SHORT}")),
        ("at once, failed", ("bad", "2 hosts have failed")),
        ("soaking", ("busy", f"Rolling out: 1 of 5 hosts serve {SHORT}")),
        ("paused", ("warn", "The rollout is paused")),
        ("running", ("busy", f"Rolling out: 2 of 5 hosts serve {SHORT}")),
        ("halted", ("bad", "web-2 has failed, the rollout is halted")),
        ("gone back", ("bad", "web-2 has failed, the rollout has rolled back")),
        ("done", ("good", f"All 5 hosts serve {SHORT}")),
        ("locked, missing, degraded, stuck and drifted", ("warn", "web-5 is missing, web-3 can't go on")),
    ],
)
def test_the_first_sentence_describes_the_state(name: str, expected: tuple[str, str]) -> None:
    assert said(fleet_state(name, 5)) == expected


def test_a_fleet_of_one_host_is_described_in_the_singular() -> None:
    assert said(FleetState([agent("web1")])) == ("good", f"The only host serves {SHORT}")


def test_each_reason_is_shown_once_the_worst_and_the_most_frequent_first() -> None:
    state = FleetState(
        [
            failed("a", message="disk full"),
            *(failed(name) for name in "bcd"),
            agent("e", troubles=["no permission"], files=files("bad")),
            agent("f"),
        ],
        missing=["g"],
    )
    assert told(state) == [
        ("failed", ["b", "c", "d"], UNHEALTHY.replace(OLD, BEFORE)),
        ("failed", ["a"], "disk full"),
        ("missing", ["g"], "in the roster, and its agent is not live"),
        ("degraded", ["e"], "no permission"),
    ]


def test_one_reason_of_many_hosts_names_some_and_counts_the_others() -> None:
    hosts = read_hosts(FleetState(map(failed, map(str, range(40)))).fleet, NOW)
    (reason,) = reasons(group_hosts(hosts), hosts)
    assert (len(reason.hosts), reason.left) == (MOST_NAMES, 40 - MOST_NAMES)


def test_a_host_that_failed_is_distinguished_from_those_that_only_rolled_back_with_it() -> None:
    names = names_by_kind(read_hosts(fleet_state("gone back", 5).fleet, NOW))
    assert {kind: hosts for kind, hosts in names.items() if hosts} == {
        "failed": ["web-2"],
        "back": ["web-1", "web-3"],
        "waiting": ["web-4", "web-5"],
    }


@pytest.mark.parametrize(
    ("size", "failed_rows", "calm_rows"), [(MOST_BLOCKS, 150, 150), (MOST_BLOCKS + 1, MOST_ROWS, 0)]
)
def test_a_large_fleet_has_rows_only_for_what_needs_attention(size: int, failed_rows: int, calm_rows: int) -> None:
    agents = [failed(str(number)) if number < 150 else agent(str(number)) for number in range(size)]
    bad, calm = group_hosts(read_hosts(FleetState(agents).fleet, NOW))
    assert (bad.kind.name, len(bad.rows), bad.size) == ("failed", failed_rows, 150)
    assert (calm.kind.name, len(calm.rows), calm.left) == ("proved", calm_rows, size - 150 - calm_rows)


def detail(*agents: Any, **keys: Any) -> dict[str, list[str]]:
    """The details of the first host."""
    (host, *_others) = read_hosts(FleetState(agents, **keys).fleet, NOW)
    return dict(details(host, GENERATION, NOW))


def test_the_details_of_a_host_have_all_of_its_status() -> None:
    mark = {"since": "s", "by": "ann", "reason": "swap"}
    assert detail(
        failed("web1", held=mark, troubles=["a\nb"], files=files("bad"), message="one\ntwo", version="1")
    ) == {
        "Message": ["one", "two"],
        "Serves": [OLD],
        "Can go back to": [FIRST],
        "Held": ["held since s by ann: swap"],
        "Troubles": ["a", "b"],
        "Failed step": ["checking after 5.00 s"],
        "Timings": ["fetching 0.22 s, staging 0.15 s, activating 0.00 s, checking 0.02 s"],
        "Files": [
            "/etc/shop: current, from /config/shop",
            "/etc/nginx/sites-enabled/shop.conf: failed, from /config/shop/nginx (bad)",
        ],
        "Logs": ["journalctl -u zoo-watcher@shop"],
        "Agent": ["version 1"],
    }


def test_an_odd_status_of_another_program_loses_only_the_details_that_it_lacks() -> None:
    odd: dict[str, Any] = {
        "timings": "x",
        "files": 5,
        "troubles": 5,
        "unit": 5,
        "commit_id": 5,
        "since": [],
        "failed_step": [1],
    }
    assert detail(agent("web1", generation=None, previous_commit_id=None, version=None, **odd)) == {
        "Serves": ["5"],
        "State is about": ["no release yet"],
    }


def test_a_host_of_a_rollout_shows_its_outcome_and_step() -> None:
    host = next(host for host in read_hosts(fleet_state("halted", 5).fleet, NOW) if host.name == "web-2")
    assert dict(details(host, GENERATION, NOW))["In the rollout"] == ["failed in step 2 since 2026-11-29 14:59:53 UTC"]
