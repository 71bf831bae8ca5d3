"""The parts of a page: bars, ages, steps, files, the history, and what is plain data."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zoo.deploy.plugins.plugin_utils.page.bars import LEAST, WIDTH, percent, segments
from ansible_collections.zoo.deploy.plugins.plugin_utils.page.files import fleet_files
from ansible_collections.zoo.deploy.plugins.plugin_utils.page.history import bad_commits, publications
from ansible_collections.zoo.deploy.plugins.plugin_utils.page.moments import moment
from ansible_collections.zoo.deploy.plugins.plugin_utils.page.plain_data import cleaned, json_in_html, link
from ansible_collections.zoo.deploy.plugins.plugin_utils.page.steps import rules, step_views
from support.fleet_results import HOSTILE, NEW, UNSEEN, agent, files, fleet_state

NOW = datetime(2026, 11, 29, 15, 4, 10, tzinfo=timezone.utc)


@given(st.lists(st.integers(0, 10**6), max_size=9))
def test_the_parts_of_a_bar_fill_it_and_the_smallest_is_seen(counts: list[int]) -> None:
    drawn = segments(enumerate(counts))
    assert [part.size for part in drawn] == [count for count in counts if count]
    assert all(part.width >= LEAST - 0.01 for part in drawn)
    assert not drawn or abs(sum(part.width for part in drawn) - WIDTH) < 0.1
    ends = [0.0, *(part.begin + part.width for part in drawn)]
    assert all(abs(part.begin - end) < 0.1 for part, end in zip(drawn, ends))


@given(st.lists(st.integers(100, 200), min_size=1, max_size=9))
def test_a_bar_without_small_parts_is_in_proportion(counts: list[int]) -> None:
    assert [part.width for part in segments(enumerate(counts))] == [
        pytest.approx(WIDTH * count / sum(counts), abs=0.01) for count in counts
    ]


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 %"), (1, "< 1 %"), (100, "1 %"), (5000, "50 %"), (9999, "> 99 %"), (10_000, "100 %")]
)
def test_a_share_is_0_or_100_percent_only_if_it_is_exactly_that(count: int, said: str) -> None:
    assert percent(count, 10_000) == said


@pytest.mark.parametrize(
    ("given_time", "utc", "age"),
    [
        ("2026-11-29T15:04:09+00:00", "2026-11-29 15:04:09 UTC", "1 s ago"),
        ("2026-11-29T16:00:00+01:00", "2026-11-29 15:00:00 UTC", "4 min ago"),
        ("2026-11-29T12:00:00Z", "2026-11-29 12:00:00 UTC", "3 h ago"),
        ("2026-11-20T12:00:00", "2026-11-20 12:00:00 UTC", "9 d ago"),
        # That clock is ahead.
        ("2026-11-29T15:05:00+00:00", "2026-11-29 15:05:00 UTC", ""),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00", ""),
        ("yesterday\u202e", "yesterday\\u202e", ""),
        (5, "5", ""),
    ],
)
def test_a_time_has_an_age(given_time: Any, utc: str, age: str) -> None:
    found = moment(given_time, NOW)
    assert found
    assert (found.utc, found.age) == (utc, age)


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_missing_time_is_none(nothing: Any) -> None:
    assert moment(nothing, NOW) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("soaking", [("open", "open", "1 proved"), ("ahead", "to come", ""), ("ahead", "to come", "")]),
        ("paused", [("stopped", "paused", "1 proved"), ("ahead", "to come", ""), ("ahead", "to come", "")]),
        ("running", [("past", "done", "1 proved"), ("open", "open", "1 admitted, 1 proved"), ("ahead", "to come", "")]),
        ("halted", [("past", "done", "1 proved"), ("stopped", "halted", "1 failed"), ("ahead", "to come", "")]),
        (
            "gone back",
            [
                ("stopped", "rolled back", "1 returned"),
                ("stopped", "rolled back", "2 returned"),
                ("ahead", "to come", ""),
            ],
        ),
    ],
)
def test_each_step_has_its_state_and_the_outcomes_of_its_hosts(name: str, expected: list[tuple[str, str, str]]) -> None:
    views = step_views(fleet_state(name, 5).fleet["rollout"])
    assert [(view.place, view.state, view.came_to) for view in views] == expected
    assert [view.takes for view in views] == ["1 server", "25 %", "all servers"]
    assert [view.then for view in views] == ["soak 60 s", "soak 30 s", ""]
    assert [view.canary for view in views] == [True, False, False]


def test_a_plan_that_cannot_be_read_leaves_the_numbers_of_its_steps() -> None:
    rollout = {**fleet_state("running", 5).fleet["rollout"], "plan": {"steps": "none"}}
    assert [(view.number, view.takes) for view in step_views(rollout)] == [(1, ""), (2, ""), (3, "")]
    assert rules(rollout) == "one failure too many halts it"


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (0, "0 failures accepted"),
        (1, "1 failure accepted"),
        (2, "2 failures accepted"),
        ("10%", "10% failures accepted"),
    ],
)
def test_accepted_failures_are_counted_in_the_singular_and_the_plural(accepted: int | str, expected: str) -> None:
    rollout = {**fleet_state("running", 5).fleet["rollout"], "plan": {"maxFailures": accepted}}
    assert rules(rollout) == f"{expected}, one failure too many halts it"


def test_a_plan_that_rolls_back_says_so() -> None:
    rollout = {**fleet_state("running", 5).fleet["rollout"], "plan": {"onFailure": "rollback"}}
    assert rules(rollout) == "one failure too many rolls all back"


def test_a_file_of_many_hosts_is_shown_once_and_failures_come_first() -> None:
    found = fleet_files([agent("a", files=files()), agent("b", files=files("bad")), agent("c", files={"/x": 5})])
    assert [(file.dest, file.state, file.hosts["failed"], file.hosts["current"], file.messages) for file in found] == [
        ("/etc/nginx/sites-enabled/shop.conf", "failed", ["b"], ["a"], ["bad"]),
        ("/etc/shop", "current", [], ["a", "b"], []),
    ]


def test_the_history_has_the_outcome_of_each_publication() -> None:
    state = fleet_state("gone back", 5)
    newest, *older = publications(state.releases, state.fleet, NOW)
    assert [(word.word, word.tone) for word in newest.outcomes] == [("rolled back", "bad"), ("bad", "bad")]
    assert (newest.subject, newest.publisher, newest.ref, newest.is_desired) == (
        "breaks health",
        "ann@ctl",
        "main",
        True,
    )
    assert [one.is_desired for one in older] == [False, False]
    assert [[word.tone for word in one.outcomes] for one in older] == [["good"], ["good"]]
    assert bad_commits(state.releases, state.fleet) == [NEW]


@pytest.mark.parametrize(
    ("later", "words"),
    [
        ("running", ["rolling out"]),
        ("paused", ["paused"]),
        ("done", ["proved"]),
        ("gone back", ["rolled back", "bad"]),
        ("halted", ["halted", "bad"]),
    ],
)
def test_the_outcome_of_the_desired_release_is_that_of_its_rollout_by_now(later: str, words: list[str]) -> None:
    before, now = fleet_state("soaking", 5).releases, fleet_state(later, 5).fleet
    newest, *older = publications(before, now, NOW)
    assert [word.word for word in newest.outcomes] == words
    assert [[word.word for word in one.outcomes] for one in older] == [["proved"], ["proved"]]


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        ("https://git.example.com/shop.git", True),
        ("http://git.example.com/shop.git", True),
        ("https://[::1]/x", True),
        ("ssh://git@example.com/shop.git", False),
        ("git@example.com:shop.git", False),
        ("javascript:alert(1)", False),
        ("JAVASCRIPT://example.com/%0aalert(1)", False),
        ("data:text/html,x", False),
        ("https:javascript", False),
        ("https://example.com/\u202ex", False),
        ("https://example.com/a b", False),
        (" https://example.com", False),
        (5, False),
        (None, False),
    ],
)
def test_only_a_web_address_is_a_link(url: Any, linked: bool) -> None:
    assert link(url) == (url if linked else None)


def test_the_data_in_a_page_cannot_end_its_element_and_is_what_it_was() -> None:
    text = json_in_html(cleaned({"a": [HOSTILE, UNSEEN]}))
    assert text.isascii()
    assert not {"<", ">", "&"} & {*text}
    assert json.loads(text) == {"a": [HOSTILE, UNSEEN]}


def test_no_address_has_a_login_in_it() -> None:
    given_data = {"url": "https://token@example.com/x", "list": ("http://a:b@c", "a@b"), 5: None}
    assert cleaned(given_data) == {"url": "https://example.com/x", "list": ["http://c", "a@b"], "5": None}
