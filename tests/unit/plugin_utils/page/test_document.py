"""The page as a document: what others have written is text in it, and nothing comes from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from datetime import datetime, timezone
from html.parser import HTMLParser
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.page.document import to_document
from support.fleet_results import APP, HOSTILE, STATES, FleetState, agent, fleet_state, hostile

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
        """As the parser calls it."""
        self.elements.append((tag, dict(attrs)))
        self._tag = tag

    def handle_data(self, data: str) -> None:
        """As the parser calls it."""
        if self._tag in self.inside:
            self.inside[self._tag].append(data)

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  # as the parser has it
        """As the parser calls it."""
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


def test_what_ansible_adds_to_a_result_is_not_in_the_data() -> None:
    state = FleetState([agent("web1")], keys={"invocation": {"module_args": {"digest_password": "x"}}, "_ansible": 1})
    data = json.loads(to_document(APP, {**state.releases, "failed": False}, state.fleet, NOW, "json"))
    assert not {"invocation", "failed", "_ansible"} & {*data["fleet"], *data["releases"]}


def test_the_policy_of_the_page_allows_its_own_script_and_style_only() -> None:
    page = page_of(hostile(), reload=5)
    policies = (attributes for tag, attributes in page.elements if tag == "meta" and "http-equiv" in attributes)
    (policy,) = (str(attributes["content"]) for attributes in policies)
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
