"""What an event contains of a znode's value: no template, whatever else is in it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.events import event_value

PAGE = "web1 unhealthy: <h1>{{ title }}</h1>"


def test_json_has_null_in_place_of_each_string_that_is_a_template() -> None:
    gate = {"phase": "halted", "step": 1, "reason": PAGE, "more": [{"a": "{% x %}", "b": "x"}, "#jinja2:", None]}
    data = json.dumps(gate).encode()
    assert event_value(data) == {
        "value": base64.b64encode(data).decode(),
        "encoding": "base64",
        "json": {"phase": "halted", "step": 1, "reason": None, "more": [{"a": None, "b": "x"}, None, None]},
    }


def test_a_template_that_only_the_decoded_text_has_is_null_too() -> None:
    assert event_value(b'{"a": "\\u007b{ 1 }}"}') == {
        "value": '{"a": "\\u007b{ 1 }}"}',
        "encoding": "text",
        "json": {"a": None},
    }


@pytest.mark.parametrize(
    "value",
    [{"{{ 1 }}": 1}, {"a": [{"{# #}": "{{ 1 }}"}]}, {"a": "{{ 1 }}", "b": 1e400}, [[["{{ 1 }}"]] * 2, 2**70]],
    ids=["a key", "a key below", "a number", "a long number"],
)
def test_what_cannot_be_in_an_event_for_another_reason_is_sent_without_json(value: Any) -> None:
    assert "json" not in event_value(json.dumps(value).encode())
    assert "json" not in event_value(b"[" * 900 + json.dumps(value).encode() + b"]" * 900)


def test_a_text_with_a_template_that_is_not_json_is_sent_in_base64_only() -> None:
    assert event_value(PAGE.encode()) == {"value": base64.b64encode(PAGE.encode()).decode(), "encoding": "base64"}
