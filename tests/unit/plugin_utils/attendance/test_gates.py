"""What the answers of gates mean, each by itself and all together."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.command import CommandEnd
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.gates import (
    FAILED,
    INCONCLUSIVE,
    LONGEST_LINE,
    PASSED,
    ExpectedValue,
    GateAnswer,
    StepGate,
    judge_answer,
    judge_command,
    verdict,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.web import WebAnswer

SMOKE = StepGate("smoke", 5.0, ("smoke-test",), secrets=frozenset({"tr0ub4dor"}))
RATE = ("data", "result", "0", "value", "1")


def prometheus(*values: str) -> WebAnswer:
    """What Prometheus answers to a query with these values; without data there are none."""
    result = [{"metric": {}, "value": [1780000000.0, value]} for value in values]
    return WebAnswer(
        200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()
    )


@pytest.mark.parametrize(
    ("end", "outcome", "says"),
    [
        (CommandEnd(0, "all is well\n"), PASSED, "all is well"),
        (CommandEnd(0), PASSED, ""),
        (CommandEnd(1, "\n  checkout fails\nline 2"), FAILED, "checkout fails"),
        (CommandEnd(1), FAILED, "exit status 1"),
        (CommandEnd(2, "usage: ..."), INCONCLUSIVE, "exit status 2: usage: ..."),
        (CommandEnd(None, problem="has not ended within 5 s"), INCONCLUSIVE, "has not ended within 5 s"),
        (CommandEnd(None, "went well", "was killed by signal 9"), INCONCLUSIVE, "was killed by signal 9: went well"),
    ],
)
def test_a_command_passes_with_0_fails_with_1_and_is_otherwise_inconclusive(
    end: CommandEnd, outcome: str, says: str
) -> None:
    assert judge_command(SMOKE, end) == GateAnswer("smoke", outcome, says)


def test_what_is_reported_is_a_short_line_without_secrets_and_control_characters() -> None:
    said = judge_command(SMOKE, CommandEnd(1, "token=tr0ub4dor\x1b[31m refused\n")).says
    assert said == "token=********[31m refused"
    assert len(judge_command(SMOKE, CommandEnd(1, "x" * 5_000)).says) == LONGEST_LINE


@pytest.mark.parametrize(
    ("answer", "keys", "outcome", "says"),
    [
        (WebAnswer(200, b"ok"), {}, PASSED, "status 200"),
        (WebAnswer(503, b""), {}, FAILED, "status 503, expected 200"),
        (WebAnswer(204), {"statuses": frozenset({204, 200})}, PASSED, "status 204"),
        (WebAnswer(302), {}, FAILED, "status 302, expected 200"),
        (WebAnswer(None, problem="no answer within 5 s"), {}, INCONCLUSIVE, "no answer within 5 s"),
        (WebAnswer(200, b"version 1.5"), {"matches": re.compile(r"1\.5")}, PASSED, "status 200"),
        (WebAnswer(200, b"version 1.4"), {"matches": re.compile(r"1\.5")}, FAILED, "does not match: version 1.4"),
    ],
)
def test_a_url_passes_where_it_answers_as_expected_and_fails_where_otherwise(
    answer: WebAnswer, keys: dict[str, Any], outcome: str, says: str
) -> None:
    gate = StepGate("health", 5.0, url="http://web", **keys)
    assert judge_answer(gate, answer) == GateAnswer("health", outcome, says)


@pytest.mark.parametrize(
    ("answer", "outcome", "says"),
    [
        (prometheus("0.01"), PASSED, 'data.result.0.value.1 is "0.01"'),
        (prometheus("0.5"), PASSED, 'data.result.0.value.1 is "0.5"'),
        (prometheus("0.7"), FAILED, 'data.result.0.value.1 is "0.7", expected at most 0.5'),
        (prometheus("+Inf"), FAILED, 'data.result.0.value.1 is "+Inf", expected at most 0.5'),
        (prometheus("NaN"), INCONCLUSIVE, 'data.result.0.value.1 is "NaN", expected a number'),
        (prometheus(), INCONCLUSIVE, "no data: the answer has no data.result.0.value.1"),
        (WebAnswer(200, b"<html>"), INCONCLUSIVE, "the answer is not JSON: <html>"),
        (WebAnswer(200, b"[" * 100_000), INCONCLUSIVE, "the answer is not JSON: " + "[" * 276),
        (WebAnswer(503, b"{}"), INCONCLUSIVE, "status 503, expected 200"),
    ],
)
def test_a_value_within_limits_passes_one_beyond_fails_and_none_is_inconclusive(
    answer: WebAnswer, outcome: str, says: str
) -> None:
    gate = StepGate("rate", 5.0, url="http://prometheus", value=ExpectedValue(RATE, at_most=0.5))
    assert judge_answer(gate, answer) == GateAnswer("rate", outcome, says)


@pytest.mark.parametrize(
    ("expected", "found", "outcome"),
    [
        (ExpectedValue(("a",), "up"), '{"a": "up"}', PASSED),
        (ExpectedValue(("a",), 1), '{"a": true}', FAILED),
        (ExpectedValue(("a",), True), '{"a": true}', PASSED),
        (ExpectedValue(("a",), "1"), '{"a": 1}', FAILED),
        (ExpectedValue(("a",), None), '{"a": null}', PASSED),
        (ExpectedValue(("a", "b"), 1), '{"a": 5}', INCONCLUSIVE),
        (ExpectedValue(("a", "x"), 1), '{"a": [1]}', INCONCLUSIVE),
        (ExpectedValue(("a",), at_least=2, at_most=3), '{"a": 2}', PASSED),
        (ExpectedValue(("a",), at_least=2, at_most=3), '{"a": 1}', FAILED),
        (ExpectedValue(("a",), at_least=0), '{"a": true}', INCONCLUSIVE),
    ],
)
def test_a_value_is_compared_with_its_type(expected: ExpectedValue, found: str, outcome: str) -> None:
    gate = StepGate("value", 5.0, url="http://web", value=expected)
    assert judge_answer(gate, WebAnswer(200, found.encode())).outcome == outcome


def test_one_that_failed_decides_then_one_that_is_inconclusive() -> None:
    passed, failed, unknown = (GateAnswer(outcome, outcome, "") for outcome in (PASSED, FAILED, INCONCLUSIVE))
    assert verdict([passed, passed]) == (PASSED, None)
    assert verdict([passed, unknown, failed]) == (FAILED, failed)
    assert verdict([unknown, passed]) == (INCONCLUSIVE, unknown)
