"""The page as a document: what others have written stays text, and nothing is loaded from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timezone
from html.parser import HTMLParser
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, InvalidRecord
from ansible_collections.zoo.deploy.plugins.plugin_utils.page.document import to_document
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_report import report
from support.fleet_results import (
    APP,
    HOSTILE,
    STATES,
    UNHEALTHY,
    FleetState,
    agent,
    failed,
    fleet_state,
    hostile,
    rollout,
)

NOW = datetime(2026, 11, 29, 15, 4, 10, tzinfo=timezone.utc)


class Page(HTMLParser):
    """The elements of a page, with their attributes, and what is in its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self._tag = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by the parser."""
        self.elements.append((tag, dict(attrs)))
        self._tag = tag

    def handle_data(self, data: str) -> None:
        """Called by the parser."""
        if self._tag in self.inside:
            self.inside[self._tag].append(data)

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  # as the parser has it
        """Called by the parser."""
        self._tag = ""


def page_of(state: FleetState, **keys: Any) -> Page:
    """The page of a fleet."""
    return Page(to_document(APP, state.releases, state.fleet, NOW, "html", **keys))


def test_nothing_that_others_have_written_becomes_an_element_or_an_attribute() -> None:
    page = page_of(hostile())
    harmless = [page_of(fleet_state(name, 5)) for name in STATES]
    known = {tag for one in harmless for tag, _attributes in one.elements}
    assert {tag for tag, _attributes in page.elements} <= known
    counts = Counter(tag for tag, _attributes in page.elements)
    assert (counts["script"], counts["style"], counts["img"]) == (2, 1, 0)
    names = {name for _tag, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in {"style", "src", "srcset", "action"}]
    links = {attributes["href"] for tag, attributes in page.elements if tag in {"a", "link", "use"}}
    assert [one for one in links if one and not re.match(r"#[a-z]+-?[a-z0-9]*$|data:image/svg", one)] == [
        "https://example.com/<b>"
    ]


@pytest.mark.parametrize("name", STATES)
def test_the_data_of_the_page_is_all_that_the_modules_have_returned(name: str) -> None:
    state = fleet_state(name, 5)
    data = json.loads(page_of(state).inside["script"][0])
    assert data["fleet"] == json.loads(json.dumps(state.fleet))
    assert data["releases"] == json.loads(json.dumps(state.releases))
    assert sorted(name for names in data["kinds"].values() for name in names) == sorted(
        [*(one["name"] for one in state.fleet["agents"]), *state.fleet["missing_agents"]]
    )
    assert json.loads(to_document(APP, state.releases, state.fleet, NOW, "json")) == data


@pytest.mark.parametrize("is_open", [True, False])
def test_a_page_says_that_anybody_can_deploy_where_that_is_so(is_open: bool) -> None:
    state = FleetState([agent("web1")], is_open=is_open)
    text = to_document(APP, state.releases, state.fleet, NOW, "html")
    assert ("Anybody who reaches the ensemble can deploy; secure.yml closes the application" in text) is is_open


@pytest.mark.parametrize(
    ("host", "is_told_apart"),
    [
        # The one that has stopped it says why.
        (failed("web-2"), False),
        # These say something else, or nothing.
        (failed("web-9", message="h"), True),
        (agent("web-9", "fetching", waits_for="health", message="h"), True),
        (agent("web-9", "fetching", waits_for="health"), True),
    ],
)
def test_why_a_rollout_has_stopped_is_shown_once(host: AgentStatus, is_told_apart: bool) -> None:
    stopped = rollout("halted", 0, {"web-2": ("failed", 0)}, 2, reason=f"web-2 failed: {UNHEALTHY}")
    state = FleetState([host], rollout=stopped)
    text = to_document(APP, state.releases, state.fleet, NOW, "html")
    assert ("<strong>The rollout:</strong> web-2 failed: not healthy within 5 s" in text) is is_told_apart
    assert "not healthy within 5 s" in text


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("at once, failed", "rollback.yml, or deploy a fix"),
        ("halted", "rollback.yml, or deploy a fix; promote.yml with zoo_force=true goes on in spite of it"),
        ("soaking", "it goes on by itself; status.yml shows it, pause.yml or abort.yml stops it"),
        ("healthy", None),
        ("at once, under way", None),
    ],
)
def test_a_page_says_what_to_do_next_as_the_table_does(name: str, step: str | None) -> None:
    state = fleet_state(name, 5)
    text = to_document(APP, state.releases, state.fleet, NOW, "html")
    told = re.findall(r"(?:<strong>Next:</strong> |<dt>Next</dt><dd>)(.*?)<", text)
    table = [one.partition(": ")[2] for one in report(state.fleet, NOW) if one.startswith("Next: ")]
    assert told == table == [step][: step is not None]


@pytest.mark.parametrize("seconds", [0, 10])
def test_a_page_loads_itself_again_without_scripts_too(seconds: int) -> None:
    again = [
        attributes["content"]
        for tag, attributes in page_of(fleet_state("soaking", 5), reload=seconds).elements
        if tag == "meta" and attributes.get("http-equiv") == "refresh"
    ]
    assert again == ["10"][: seconds > 0]


def test_a_link_leads_to_the_same_host_when_the_page_is_written_again() -> None:
    before = FleetState([agent("web1"), agent("web2")])
    later = FleetState([agent("web0"), agent("web1"), failed("web2")])
    rows = []
    for state in (before, later):
        elements = page_of(state).elements
        rows.append(
            {str(one["title"]).partition(":")[0]: one["href"] for tag, one in elements if tag == "a" and "title" in one}
        )
    assert rows[0].keys() == {"web1", "web2"}
    assert rows[0].items() <= rows[1].items()


def test_only_hosts_with_a_row_are_linked_to() -> None:
    others = [failed(f"web{number:03}") for number in range(150)]
    state = FleetState([*others, failed("zzz", message="disk full"), *(agent(f"ok{number}") for number in range(200))])
    page = page_of(state)
    known = {f"#{attributes['id']}" for _tag, attributes in page.elements if "id" in attributes}
    linked = {str(attributes["href"]) for tag, attributes in page.elements if tag == "a"}
    assert {one for one in linked if one.startswith("#")} <= known
    text = to_document(APP, state.releases, state.fleet, NOW, "html")
    assert "<strong>Failed: zzz</strong>" in text


ODD: tuple[Any, ...] = (
    *(None, True, -1, 10**400, 1.5, "", " ", "\ud800", "\u202e", "x" * 10_000, "</script><!--", "__proto__"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "10000-01-01"),
    *([], [None], [[]], ["a", 5, {}], {}, {"": ""}, {"a": {}}, {"step": [], "since": [], "by": {}}),
    *(
        {"/x": {"znode": "/x", "format": one, "state": two, "zxid": 1, "message": []}}
        for one, two in (([], {}), (5, "failed"))
    ),
    json.loads("[" * 100 + "]" * 100),
)
"""What another program may have written in place of anything."""


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_a_status_of_which_any_part_is_anything_has_its_place(value: Any) -> None:
    keys = [one.metadata["key"] for one in fields(AgentStatus) if "key" in one.metadata]
    written = [
        json.dumps({**agent("web1", state).to_object(), key: value}).encode()
        for state in ("active", "failed", "fetching")
        for key in [*keys, "converged", "new"]
    ]
    agents = []
    for number, data in enumerate(written):
        # Data that is not a status at all is not listed.
        with suppress(InvalidRecord):
            agents.append(AgentStatus.from_node(data).with_changes(name=f"web{number:03}"))
    state = FleetState(agents)
    page = page_of(state)
    names = {one.name for one in agents}
    assert names == {name for kind in json.loads(page.inside["script"][0])["kinds"].values() for name in kind}
    assert sum(str(attributes.get("class")).startswith("host ") for _tag, attributes in page.elements) == len(names)


def test_what_ansible_adds_to_a_result_is_not_in_the_data() -> None:
    state = FleetState([agent("web1")], keys={"invocation": {"module_args": {"digest_password": "x"}}, "_ansible": 1})
    data = json.loads(to_document(APP, {**state.releases, "failed": False}, state.fleet, NOW, "json"))
    assert not {"invocation", "failed", "_ansible"} & {*data["fleet"], *data["releases"]}


def test_the_policy_of_the_page_allows_its_own_script_and_style_only() -> None:
    page = page_of(hostile(), reload=5)
    heads = {attributes.get("http-equiv"): attributes for tag, attributes in page.elements if tag == "meta"}
    policy = str(heads["Content-Security-Policy"]["content"])
    assert policy.startswith("default-src 'none'; ")
    for kind, text in (("script", page.inside["script"][1]), ("style", page.inside["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'; " in policy
    assert "unsafe" not in policy


def test_a_template_in_a_text_stays_what_it_is() -> None:
    text = to_document(APP, hostile().releases, hostile().fleet, NOW, "html")
    assert "{{ 7*7 }}" in text
    assert HOSTILE not in text
    assert "ssssssss" not in text
