# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a release is to be rolled out: `rollout` in its record, or in the policy of its application.

Standard library, `znode_names` and `shares` only: the agent ships this same file.

    {"steps": [{"hosts": 1, "soak": 60}, {"labels": {"zone": "a"}}, {"hosts": "50%", "pause": true}],
     "maxInFlight": "10%", "maxFailures": 0, "minHealthy": 10, "progressDeadline": 600, "onFailure": "rollback"}

Each step opens the release to more hosts: until this many in all have it (`hosts`, a number or a percentage of the
fleet; `percent` is the same without the sign), to the hosts with these `names`, or to those with all these `labels`.
The last step is always the whole fleet; it is added if it is missing. `true` is a rollout of one host at a time. After
a step with `gate`, no step opens until its gates have been asked; an `unattended` rollout has no such step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Union

from .shares import at_most, parse_share
from .znode_names import InvalidRecord, quote

MAX_STEPS = 100
LONGEST = 30 * 24 * 3600
"""The most seconds for a soak, and the like."""
ON_FAILURE = ("halt", "rollback")
KEYS = (
    "steps",
    "maxInFlight",
    "minHealthy",
    "maxFailures",
    "progressDeadline",
    "onFailure",
    "from",
    "unattended",
)
WHICH_HOSTS = ("hosts", "percent", "names", "labels")
STEP_KEYS = (*WHICH_HOSTS, "soak", "gate", "pause")

Share = Union[int, str]
"""A number of hosts, or a percentage such as `10%`."""


class InvalidRollout(InvalidRecord):
    """A `rollout` that can't be followed."""


@dataclass(frozen=True)
class RolloutStep:
    """The hosts to which a release is opened, and what has to pass after they have it.

    One of `hosts`, `names` and `labels` is set. `soak` is in seconds; with `gate` the gates have to be asked, and with
    `pause` a person has to promote the release.
    """

    hosts: Share | None = None
    names: frozenset[str] = frozenset()
    labels: tuple[tuple[str, str], ...] = ()
    soak: float = 0.0
    gate: bool = False
    pause: bool = False

    def takes(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether this step is for a host with this name and these labels; a step by number is for any."""
        if self.labels:
            return all(labels.get(key) == value for key, value in self.labels)
        return self.hosts is not None or name in self.names


ALL = "100%"
WHOLE_FLEET = RolloutStep(hosts=ALL)


@dataclass(frozen=True)
class Plan:
    """What a rollout has to comply with. Times are in seconds.

    An admitted host has to be healthy for `min_healthy` before another takes its place. If no host makes progress for
    `progress_deadline`, the rollout is stopped. An `unattended` one does not wait for gates; a controller that has some
    asks them during soaks.
    """

    steps: tuple[RolloutStep, ...] = (WHOLE_FLEET,)
    max_in_flight: Share = 1
    max_failures: Share = 0
    min_healthy: float = 10.0
    progress_deadline: float = 600.0
    on_failure: str = "halt"
    unattended: bool = False

    def places(self, fleet: int) -> int:
        """How many hosts of a fleet of this size may be on their way at once; at least one."""
        return max(1, at_most(self.max_in_flight, fleet))

    def accepts(self, failures: int, fleet: int) -> bool:
        """Whether a rollout to a fleet of this size continues with so many failures."""
        return failures <= at_most(self.max_failures, fleet)

    def is_last(self, step: int) -> bool:
        """Whether the step with this number is the last, which takes every host."""
        return step == len(self.steps) - 1

    def without_steps(self) -> Plan:
        """The same for a fleet that gets the release as soon as places allow: one step, without a soak."""
        return replace(self, steps=(WHOLE_FLEET,))


def parsed_rollout(option: Any) -> Any:
    """The publishable form of a rollout option, which may be JSON or a word in a string.

    Raises `InvalidRollout`, also for a number that JSON does not have.
    """
    content = option
    try:
        if isinstance(option, str):
            content = json.loads(option.lower() if option.lower() in {"true", "false"} else option)
        json.dumps(content, allow_nan=False)
    except (ValueError, RecursionError) as exc:
        raise InvalidRollout(f"rollout: expected an object, true or false, got {quote(option)}") from exc
    return content


def read_plan(content: object) -> Plan | None:
    """The plan in a decoded `rollout`; None if there is none, or it is `false`: all hosts at once.

    Raises `InvalidRollout`, which names the key. Unknown keys are ignored: a later version may know them.
    """
    if content is None or content is False:
        return None
    if content is True:
        return Plan()
    if not isinstance(content, Mapping):
        raise InvalidRollout(f"rollout: expected an object, true or false, got {quote(content)}")
    plan = Plan(
        steps=_steps(content.get("steps", [])),
        max_in_flight=_share("rollout.maxInFlight", content.get("maxInFlight", 1), least=1),
        max_failures=_share("rollout.maxFailures", content.get("maxFailures", 0), least=0),
        min_healthy=_seconds("rollout.minHealthy", content.get("minHealthy", 10)),
        progress_deadline=_seconds("rollout.progressDeadline", content.get("progressDeadline", 600), least=1),
        on_failure=_on_failure(content.get("onFailure", "halt")),
        unattended=_flag("rollout.unattended", content.get("unattended", False)),
    )
    if plan.unattended and any(step.gate for step in plan.steps):
        raise InvalidRollout("rollout.unattended: expected steps without gate, for nobody may be there to ask")
    return plan


def check_publishable(content: object) -> None:
    """Refuse a plan that can't be intended, before it is published: a misspelt limit would be none.

    `content` is one that `read_plan` has read, which agents follow anyway. Raises `InvalidRollout`.
    """
    if not isinstance(content, Mapping):
        return
    _check_known("rollout", content, KEYS)
    for number, step in enumerate(content.get("steps", [])):
        _check_known(f"rollout.steps[{number}]", step, STEP_KEYS)
    _check_proof(read_plan(content) or Plan())


def _check_proof(plan: Plan) -> None:
    """Refuse a plan whose deadline is over before a host can have proved anything."""
    if plan.min_healthy >= plan.progress_deadline:
        raise InvalidRollout(
            f"rollout: no host could prove a release: it would have to be healthy for {plan.min_healthy:g} s "
            f"(minHealthy), and where none makes progress for {plan.progress_deadline:g} s (progressDeadline), the "
            "rollout stops; expected a progressDeadline that is longer than a deployment and minHealthy together"
        )


def _check_known(where: str, content: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in content:
        if key not in known:
            raise InvalidRollout(f"{where}: no such key {quote(key)}; expected one of {', '.join(known)}")


def _steps(content: object) -> tuple[RolloutStep, ...]:
    if not isinstance(content, list) or len(content) > MAX_STEPS:
        raise InvalidRollout(f"rollout.steps: expected a list of at most {MAX_STEPS} steps, got {quote(content)}")
    steps = tuple(_step(f"rollout.steps[{number}]", step) for number, step in enumerate(content))
    _check_rising(steps)
    return steps if steps and steps[-1].hosts == ALL else (*steps, WHOLE_FLEET)


def _check_rising(steps: tuple[RolloutStep, ...]) -> None:
    """Each number counts all hosts that have the release by then, so none may be less than an earlier one."""
    highest = {False: 0, True: 0}
    for place, step in enumerate(steps):
        if step.hosts is None:
            continue
        number, is_percentage = parse_share(step.hosts)
        if number < highest[is_percentage]:
            raise InvalidRollout(
                f"rollout.steps[{place}]: {step.hosts} is less than a step before it has; "
                "expected all hosts that have the release by then"
            )
        highest[is_percentage] = number


def _step(where: str, content: object) -> RolloutStep:
    if not isinstance(content, Mapping):
        raise InvalidRollout(f"{where}: expected an object, got {quote(content)}")
    kinds = [key for key in WHICH_HOSTS if key in content]
    if len(kinds) != 1:
        raise InvalidRollout(f"{where}: expected one of hosts, percent, names and labels, got {quote(content)}")
    return RolloutStep(
        **_who(kinds[0], f"{where}.{kinds[0]}", content[kinds[0]]),
        soak=_seconds(f"{where}.soak", content.get("soak", 0)),
        gate=_flag(f"{where}.gate", content.get("gate", False)),
        pause=_flag(f"{where}.pause", content.get("pause", False)),
    )


def _who(kind: str, where: str, value: object) -> dict[str, Any]:
    """The field of a step that tells which hosts it takes."""
    if kind == "names":
        return {"names": _names(where, value)}
    if kind == "labels":
        return {"labels": _labels(where, value)}
    return {"hosts": _percent(where, value) if kind == "percent" else _share(where, value, least=1)}


def _share(where: str, value: Any, least: int) -> Share:
    try:
        number, is_percentage = parse_share(value)
    except InvalidRecord as exc:
        raise InvalidRollout(f"{where}: {exc}") from exc
    if number < least:
        raise InvalidRollout(f"{where}: expected at least {least}, got {quote(value)}")
    return f"{number}%" if is_percentage else number


def _percent(where: str, value: object) -> Share:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100:
        return f"{value}%"
    raise InvalidRollout(f"{where}: expected a whole number from 1 to 100, got {quote(value)}")


def _names(where: str, value: object) -> frozenset[str]:
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return frozenset(value)
    raise InvalidRollout(f"{where}: expected a list of hosts' names, got {quote(value)}")


def _labels(where: str, value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, Mapping) and value and all(isinstance(one, str) for one in value.values()):
        return tuple(sorted(value.items()))
    raise InvalidRollout(f"{where}: expected an object whose values are strings, got {quote(value)}")


def _seconds(where: str, value: object, least: float = 0) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= LONGEST:
        return float(value)
    raise InvalidRollout(f"{where}: expected seconds from {least:g} to {LONGEST}, got {quote(value)}")


def _flag(where: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidRollout(f"{where}: expected true or false, got {quote(value)}")


def _on_failure(value: object) -> str:
    for choice in ON_FAILURE:
        if value == choice:
            return choice
    raise InvalidRollout(f"rollout.onFailure: expected halt or rollback, got {quote(value)}")
