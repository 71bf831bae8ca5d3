# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates: what is asked before a rollout continues, and what each answer means. Pure; `ask` does the asking.

A gate passes, fails, or is inconclusive. A command passes with exit status 0 and fails with 1. A URL passes if it
answers as expected, and fails if it answers otherwise. Anything else says nothing about the release.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .command import CommandEnd
from .web import WebAnswer

PASSED = "passed"
FAILED = "failed"
INCONCLUSIVE = "inconclusive"
LONGEST_LINE = 300
"""Characters shown of a gate's answer: every host reads the reason of a rollout."""


@dataclass(frozen=True)
class ExpectedValue:
    """What a value in a JSON answer must be: `path` leads to it, through keys and, in lists, indexes from 0."""

    path: tuple[str, ...]
    equals: Any = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def limits(self) -> bool:
        """Whether it must be a number within limits."""
        return self.at_least is not None or self.at_most is not None

    def __str__(self) -> str:
        """What is expected of it."""
        if not self.limits:
            return f"expected {json.dumps(self.equals)}"
        limits = {"at least": self.at_least, "at most": self.at_most}
        return "expected " + " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if limit is not None)


@dataclass(frozen=True)
class StepGate:
    """One gate: a `command` with an `environment`, or a `url` with what it must answer; `secrets` are never shown.

    `options` are those of the request. With a `value`, an unexpected status is inconclusive, because the question was
    not answered.
    """

    name: str
    timeout: float
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    url: str = ""
    options: Mapping[str, Any] | None = None
    statuses: frozenset[int] = frozenset({200})
    matches: re.Pattern[str] | None = None
    value: ExpectedValue | None = None
    secrets: frozenset[str] = frozenset()


class GateAnswer(NamedTuple):
    """A gate's outcome and the reason: one line, without secrets."""

    name: str
    outcome: str
    says: str

    def __str__(self) -> str:
        """The answer on one line."""
        verb = "is inconclusive" if self.outcome == INCONCLUSIVE else self.outcome
        return f"gate {self.name} {verb}" + (f": {self.says}" if self.says else "")


class GateVerdict(NamedTuple):
    """The outcome of all gates, and the answer that decides it; None if all passed."""

    outcome: str
    decided_by: GateAnswer | None = None


def verdict(answers: Sequence[GateAnswer]) -> GateVerdict:
    """A failure decides, otherwise an inconclusive answer."""
    for outcome in (FAILED, INCONCLUSIVE):
        for answer in answers:
            if answer.outcome == outcome:
                return GateVerdict(outcome, answer)
    return GateVerdict(PASSED)


def judge_command(gate: StepGate, ended: CommandEnd) -> GateAnswer:
    """The answer of a gate from the end of its command."""
    outcome = {0: PASSED, 1: FAILED}.get(-1 if ended.status is None else ended.status, INCONCLUSIVE)
    said = first_line(ended.output)
    status = "" if ended.status in {None, 0, 1} else f"exit status {ended.status}"
    why = ended.problem or status or ("" if said or outcome == PASSED else "exit status 1")
    return _answer(gate, outcome, ": ".join(filter(None, [why, said])))


def judge_answer(gate: StepGate, answer: WebAnswer) -> GateAnswer:
    """The answer of a gate from the response to its request."""
    if answer.status is None:
        return _answer(gate, INCONCLUSIVE, answer.problem)
    if answer.status not in gate.statuses:
        expected = " or ".join(str(status) for status in sorted(gate.statuses))
        outcome = INCONCLUSIVE if gate.value else FAILED
        return _answer(gate, outcome, f"status {answer.status}, expected {expected}")
    text = answer.body.decode("utf-8", "replace")
    if gate.matches and not gate.matches.search(text):
        return _answer(gate, FAILED, f"does not match: {text}")
    return _judge_value(gate, gate.value, text) if gate.value else _answer(gate, PASSED, f"status {answer.status}")


def _judge_value(gate: StepGate, value: ExpectedValue, text: str) -> GateAnswer:
    where = ".".join(value.path)
    try:
        found = value_at(json.loads(text), value.path)
    except LookupError:
        return _answer(gate, INCONCLUSIVE, f"no data: the answer has no {where}")
    except (ValueError, RecursionError):
        return _answer(gate, INCONCLUSIVE, f"the answer is not JSON: {text}")
    says = f"{where} is {json.dumps(found)}"
    if value.limits:
        number = number_of(found)
        if number is None:
            return _answer(gate, INCONCLUSIVE, f"{says}, expected a number")
        low, high = value.at_least, value.at_most
        fits = (low is None or number >= low) and (high is None or number <= high)
    else:
        fits = type(found) is type(value.equals) and found == value.equals
    return _answer(gate, PASSED, says) if fits else _answer(gate, FAILED, f"{says}, {value}")


def value_at(content: Any, path: Sequence[str]) -> Any:
    """The value that a path leads to. Raises `LookupError`."""
    for word in path:
        if isinstance(content, list) and word.isdigit():
            content = content[int(word)]
        elif isinstance(content, dict):
            content = content[word]
        else:
            raise LookupError(word)
    return content


def number_of(found: Any) -> float | None:
    """A number, possibly in a string, as in Prometheus; None for anything else."""
    if isinstance(found, bool) or not isinstance(found, (int, float, str)):
        return None
    try:
        number = float(found)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def first_line(text: str) -> str:
    """The first line that is not empty, without control characters."""
    line = next(filter(None, map(str.strip, text.splitlines())), "")
    return "".join(letter for letter in line if letter.isprintable())


def _answer(gate: StepGate, outcome: str, says: str) -> GateAnswer:
    line = first_line(says)
    for secret in sorted(gate.secrets, key=len, reverse=True):
        line = line.replace(secret, "********")
    return GateAnswer(gate.name, outcome, line[:LONGEST_LINE])
