"""What a module prints and returns: some of it was written by others, and Ansible prints it or refuses all of it."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import (
    ARGSPEC,
    DEEPEST,
    TOO_DEEP,
    ZnodeModule,
    returnable,
    user_and_host,
)
from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    CONNECTION_OPTIONS,
    ZooKeeperError,
    environment_variable,
)
from support.module_args import given_args

ODD = "/a  b: \x1b[31mred\x9b2J \u202eback\u061c\ufeff\nsecond\tline\u00a0of\u3000two"
HARMLESS = "/a  b: ?[31mred?2J ?back?? second line of two"


@pytest.fixture(name="module")
def started() -> Iterator[ZnodeModule]:
    """A module without options."""
    with given_args({}):
        yield ZnodeModule(argument_spec={})


def test_a_failure_does_nothing_to_a_terminal(module: ZnodeModule, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        module.fail(ZooKeeperError(ODD, path="/a  b"))
    said = json.loads(capsys.readouterr().out)
    assert (said["failed"], said["msg"], said["path"]) == (True, HARMLESS, "/a  b")


def test_text_for_a_person_in_a_result_does_nothing_to_a_terminal(
    module: ZnodeModule, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        module.exit_json(msg=ODD, foreseen=[ODD], degraded=[], value=ODD)
    said = json.loads(capsys.readouterr().out)
    assert (said["msg"], said["foreseen"], said["degraded"], said["value"]) == (HARMLESS, [HARMLESS], [], ODD)


def test_an_option_that_is_refused_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with given_args({"state": "\x9b2J"}), pytest.raises(SystemExit):
        ZnodeModule(argument_spec={"state": {"type": "str", "choices": ["present"]}})
    said = json.loads(capsys.readouterr().out)["msg"]
    assert said.endswith("got: ?2J")


@pytest.mark.parametrize(
    "given",
    [
        {"users": "ann"},
        {"users": ["ann"]},
        {"users": [{"pasword": "barley"}]},
        {"users": [{"password": "barley"}, "ann"]},
        {"users": {"password": "barley"}, "seconds": "soon"},
        {"seconds": "soon"},
    ],
)
def test_an_option_that_is_refused_shows_no_secret_of_another(
    given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    user = {"type": "list", "elements": "dict", "options": {"password": {"type": "str", "no_log": True}}}
    with given_args({"key": "sesame", **given}), pytest.raises(SystemExit):
        ZnodeModule(argument_spec={"key": {"type": "str", "no_log": True}, "users": user, "seconds": {"type": "float"}})
    said = capsys.readouterr().out
    assert json.loads(said)["failed"]
    assert not {"sesame", "barley"} & set(re.findall(r"\w+", said))


def test_a_module_that_fails_later_shows_what_it_was_given_but_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with given_args({"key": "sesame", "path": "/x"}), pytest.raises(SystemExit):
        ZnodeModule(argument_spec={"key": {"type": "str", "no_log": True}, "path": {"type": "str"}}).fail_json("no")
    said = capsys.readouterr().out
    assert json.loads(said)["invocation"]["module_args"]["path"] == "/x"
    assert "sesame" not in said


def test_a_warning_does_nothing_to_a_terminal(module: ZnodeModule, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, text: said.append(text))
    module.warn(ODD)
    assert said == [HARMLESS]


@pytest.mark.parametrize(
    "result",
    [
        {"path": "/a", "stat": {"version": 1}, "text": "\u00e4\U0001f600", "list": [None, True, 1.5]},
        {},
        {"a": {"b": []}},
    ],
)
def test_a_result_is_returned_as_it_is(result: dict[str, Any]) -> None:
    assert returnable(result) == result


def test_a_lone_surrogate_is_escaped_in_keys_and_values() -> None:
    assert returnable({"\udfff": ["a\ud800", ("b\udc80",)]}) == {"\\udfff": ["a\\ud800", ["b\\udc80"]]}


def test_what_is_nested_too_deeply_is_cut_and_marked() -> None:
    deep = returnable(json.loads("[" * 900 + "]" * 900))
    assert json.dumps(deep) == "[" * DEEPEST + json.dumps(TOO_DEEP) + "]" * DEEPEST


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 54321"), OSError("No username set")])
def test_a_user_without_a_name_here_publishes_by_its_number(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", fail)
    assert user_and_host() == f"{os.getuid()}@{socket.gethostname()}"


def test_an_empty_variable_leaves_an_option_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in CONNECTION_OPTIONS:
        monkeypatch.setenv(environment_variable(option), "")
    with given_args({}):
        found = ZnodeModule(argument_spec=ARGSPEC).params
    assert found == {option: spec.get("default") for option, spec in CONNECTION_OPTIONS.items()}
