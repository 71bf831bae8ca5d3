"""The options `gates` and `notify`: what they may be, and the one line for each mistake, which shows no value."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from ansible_collections.zoo.deploy.plugins.doc_fragments.attending import ModuleDocFragment
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_attending import GATE_OPTIONS
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.command import CommandEnd
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.gates import (
    ExpectedValue,
    StepGate,
    judge_command,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.options import (
    OF_COMMANDS,
    OF_URLS,
    OF_VALUES,
    InvalidOption,
    Notification,
    read_gates,
    read_notification,
)
from support.documents import ROOT, blocks


def test_a_gate_is_a_command_or_a_url_with_what_it_has_to_answer() -> None:
    command = {
        "name": "smoke",
        "command": "smoke --only 'check out'",
        "environment": {"TOKEN": "s3cret"},
        "timeout": 60,
    }
    url = {
        "name": "rate",
        "url": "https://ann:p%40ss@prometheus/api?query=up",
        "headers": {"Authorization": "Bearer abcdef"},
        "url_username": "ann",
        "url_password": "hunter2",
        "validate_certs": False,
        "status_code": [200, "204"],
        "matches": "up|on",
        "json": {"path": "data.0", "at_most": "0.5"},
    }
    smoke, rate = read_gates(json.dumps([command, url]))
    words = ("smoke", "--only", "check out")
    assert smoke == StepGate("smoke", 60.0, words, {"TOKEN": "s3cret"}, secrets=frozenset({"s3cret"}))
    assert rate == StepGate(
        "rate",
        30.0,
        url=str(url["url"]),
        options={
            "validate_certs": False,
            "url_username": "ann",
            "url_password": "hunter2",
            "force_basic_auth": True,
            "headers": {"Authorization": "Bearer abcdef"},
        },
        statuses=frozenset({200, 204}),
        matches=re.compile("up|on"),
        value=ExpectedValue(("data", "0"), at_most=0.5),
        secrets=rate.secrets,
    )
    assert {"hunter2", "p@ss", "p%40ss", "Bearer abcdef", "abcdef", "query=up", url["url"]} <= rate.secrets


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ({"command": "x", "environment": {"TOKEN": " tr0ub4dor\n"}}, "tr0ub4dor"),
        ({"command": "x", "environment": {"TOKEN": "tr0u\tb4dor"}}, "refused: tr0u\tb4dor"),
        ({"url": "https://web/x?user=1&token=tr0u%2Bb4dor"}, "refused: tr0u+b4dor"),
        ({"url": "https://web/x?user=1&token=tr0u%2Bb4dor"}, "refused: tr0u%2Bb4dor"),
        ({"url": "https://web/x", "headers": {"X-Token": 'tr0u"b\\4dor'}}, r"refused: tr0u\"b\\4dor"),
        ({"url": "https://web/x", "url_username": "ann", "url_password": "trüb4dor"}, r"refused: tr\u00fcb4dor"),
        ({"url": "https://web/x", "url_username": "ann", "url_password": "b4dor"}, "refused: Basic YW5uOmI0ZG9y"),
        ({"url": "https://ann:b4dor@web/x"}, "refused: Basic YW5uOmI0ZG9y"),
        ({"url": "https://web/x", "headers": {"Cookie": "lang=en; id=tr0ub4dor; a=b"}}, "no session tr0ub4dor"),
        (
            {"url": "https://web/x", "headers": {"Authorization": 'Digest user="ann", key="tr0ub4dor"'}},
            "<i>tr0ub4dor</i>",
        ),
        ({"url": "https://web/x", "headers": {"Authorization": "Basic YW5uOmI0ZG9y"}}, "wrong password b4dor of ann"),
        ({"url": "https://web/x", "headers": {"Authorization": "basic YW5uOmI0ZG9y"}}, "refused: ann:b4dor"),
        ({"url": "https://web/x", "headers": {"X-Token": "tr0u<\"b4dor'&"}}, "refused: tr0u&lt;&quot;b4dor&#x27;&amp;"),
        ({"url": "https://web/x", "headers": {"X-Token": "tr0u<\"b4dor'&"}}, "refused: tr0u&lt;&#34;b4dor&#39;&amp;"),
        ({"url": "https://web/x", "headers": {"X-Token": "tr0u<\"b4dor'&"}}, "refused: tr0u&lt;\"b4dor'&amp;"),
    ],
)
def test_a_secret_is_also_recognized_in_forms_that_the_other_side_may_print(gate: dict[str, Any], says: str) -> None:
    (read,) = read_gates([{"name": "x", **gate}])
    told = judge_command(read, CommandEnd(1, says)).says
    assert "********" in told
    assert not any(part in told for part in ("tr0u", "b4dor", "YW5u")), told


def test_a_word_of_a_header_that_names_a_value_is_shown() -> None:
    (read,) = read_gates([{"name": "x", "url": "https://web/x", "headers": {"Cookie": "session=tr0ub4dor; Path=/"}}])
    assert judge_command(read, CommandEnd(1, "the session has expired")).says == "the session has expired"


@pytest.mark.parametrize("headers", [{"Authorization": "Basic tr0ub4dor"}, {"Authorization": "Basic //79"}])
def test_a_header_that_only_looks_like_basic_authentication_is_a_secret_all_the_same(headers: dict[str, str]) -> None:
    (read,) = read_gates([{"name": "x", "url": "https://web/x", "headers": headers}])
    assert headers["Authorization"] in read.secrets


@pytest.mark.parametrize("option", [None, [], "", "[]"])
def test_there_may_be_no_gates(option: Any) -> None:
    assert read_gates(option) == []


COMMAND = {"name": "a", "command": "true"}
URL = {"name": "a", "url": "http://web/tr0ub4dor"}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("smoke", "gates: expected JSON, where it is a text: Expecting value: line 1 column 1 (char 0)"),
        ({"command": "true"}, "gates: expected a list, of objects with a command or a url"),
        (["true"], "gates[0]: expected an object with a command or a url"),
        ([{"name": "a"}], "gates[0]: expected either command or url, got neither"),
        ([{**COMMAND, **URL}], "gates[0]: expected either command or url, got command and url"),
        ([COMMAND, COMMAND], "gates: a is the name of several"),
        ([{"command": "true"}], "gates[0].name: expected a line of text, which tells it from others"),
        ([{**COMMAND, "name": "a\nb"}], "gates[0].name: expected a line of text, which tells it from others"),
        ([{**COMMAND, "comand": 1}], "gates[0].comand: no such key; expected one of name, timeout, command, "),
        ([{**COMMAND, "headers": {}}], "gates[0].headers: no such key; expected one of name, timeout, command"),
        ([{**COMMAND, "command": "'tr0ub4dor"}], "gates[0].command: no closing quotation"),
        ([{**COMMAND, "command": []}], "gates[0].command: expected a command, a string or a list of words"),
        ([{**COMMAND, "command": [1]}], "gates[0].command: expected a command, a string or a list of words"),
        ([{**COMMAND, "timeout": 0}], "gates[0].timeout: expected seconds, more than 0 and at most 3600"),
        ([{**COMMAND, "timeout": "long"}], "gates[0].timeout: expected seconds, more than 0 and at most 3600"),
        ([{**COMMAND, "timeout": float("nan")}], "gates[0].timeout: expected seconds, more than 0 and at most 3600"),
        ([{**COMMAND, "timeout": 10**400}], "gates[0].timeout: expected seconds, more than 0 and at most 3600"),
        ([{**COMMAND, "environment": {"A": 1}}], "gates[0].environment: expected an object whose values are strings"),
        ([{**URL, "url": "ftp://tr0ub4dor"}], "gates[0].url: expected one of http or https, "),
        ([{**URL, "url": "http://web/a b"}], "gates[0].url: expected one of http or https, "),
        ([{**URL, "url": "http://web:x"}], "gates[0].url: expected one of http or https, "),
        ([{**URL, "headers": {"A": "tr0ub4dor\r\nB: c"}}], "gates[0].headers: expected names and values of one line"),
        ([{**URL, "status_code": "OK"}], "gates[0].status_code: expected a status of HTTP, such as 200, or a list"),
        ([{**URL, "status_code": float("inf")}], "gates[0].status_code: expected a status of HTTP, such as 200, or"),
        (
            [{**URL, "matches": "a{99999999999}"}],
            "gates[0].matches: expected a regular expression: the repetition number",
        ),
        ([{**URL, "matches": "("}], "gates[0].matches: expected a regular expression: missing )"),
        ([{**URL, "json": {"equals": 1}}], "gates[0].json: expected an object with path, and equals, at_least or"),
        ([{**URL, "json": {"path": "a"}}], "gates[0].json: expected either equals, or at_least or at_most or both"),
        (
            [{**URL, "json": {"path": "a", "equals": 1, "at_most": 1}}],
            "gates[0].json: expected either equals, or at_least or at_most or both",
        ),
        ([{**URL, "json": {"path": "a..b", "equals": 1}}], "gates[0].json.path: expected keys and places with dots"),
        ([{**URL, "json": {"path": "a", "at_most": "few"}}], "gates[0].json.at_most: expected a number"),
        ([{**URL, "url_password": 5}], "gates[0].url_password: expected a string"),
        ([{**URL, "validate_certs": "no"}], "gates[0].validate_certs: expected true or false"),
    ],
)
def test_a_mistake_is_one_line_that_says_where_and_shows_no_secret(option: Any, message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        read_gates(option)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert "tr0ub4dor" not in str(caught.value)


def test_a_file_of_a_gate_may_be_in_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like that of any option that is a path."""
    monkeypatch.setenv("HOME", "/home/ann")
    files = {"ca_path": "~/ca.pem", "client_cert": "$HOME/ann.pem", "client_key": "keys/ann.pem"}
    (gate,) = read_gates([{**URL, **files}])
    found = {key: (gate.options or {})[key] for key in files}
    assert found == {"ca_path": "/home/ann/ca.pem", "client_cert": "/home/ann/ann.pem", "client_key": "keys/ann.pem"}


def test_a_notification_is_a_command_or_an_object_with_one() -> None:
    assert read_notification("tell 'the team'") == Notification(("tell", "the team"), {}, 30.0)
    assert read_notification(["tell", "a b"]) == Notification(("tell", "a b"), {}, 30.0)
    given = {"command": "tell", "environment": {"TOKEN": "x"}, "timeout": 5}
    assert read_notification(json.dumps(given)) == Notification(("tell",), {"TOKEN": "x"}, 5.0)
    assert read_notification(None) is None
    for wrong in ({"comand": "tell"}, {"timeout": 5}, 5, {"command": "tell", "timeout": -1}):
        with pytest.raises(InvalidOption, match=r"^notify\.\w+: "):
            read_notification(wrong)


def test_the_guide_shows_valid_gates_and_a_valid_notification() -> None:
    shown = [yaml.safe_load(block) for block in blocks(ROOT / "docs" / "guides" / "rollouts.md", "yaml")]
    options = {key: value for block in shown for key, value in block.items()}
    assert [gate.name for gate in read_gates(options["zoo_gates"])] == ["checkout", "failing requests"]
    assert read_notification(options["zoo_notify"])


def test_the_documentation_has_every_key_and_no_other() -> None:
    gates = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["gates"]["suboptions"]
    assert set(gates) == {"name", "timeout", *OF_COMMANDS, *OF_URLS} == set(GATE_OPTIONS)
    assert set(gates["json"]["suboptions"]) == set(OF_VALUES)
