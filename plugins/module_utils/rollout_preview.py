# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a release would change, and in which step: for check mode, before anything is published or promoted.

No I/O. It assumes that no host fails and none joins. A step by number takes any hosts, the fastest first, so only their
number is known; of a later step by names or labels, only the least number of its hosts that are left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from .fleet_outcome import listed
from .rollout_phases import DONE, HALTED, PAUSED
from .rollout_plan import ALL, Plan, RolloutStep
from .rollout_records import RolloutRecord
from .shares import at_least

AT_ONCE = "all hosts at once"
MOST_LISTED = 20


@dataclass(frozen=True)
class LiveHost:
    """A host with a live agent: whether it runs the release, is held by a person, or has an entry in the rollout.

    `is_lost`: by that entry it was lost on its way; now it is live again.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    has_it: bool = False
    is_held: bool = False
    is_entered: bool = False
    is_lost: bool = False

    @property
    def would_change(self) -> bool:
        """Whether it does not have the release yet."""
        return not (self.has_it or self.is_held or self.is_entered)

    @property
    def would_try_again(self) -> bool:
        """Whether it starts over, whichever step is open."""
        return self.is_lost and not (self.has_it or self.is_held)


@dataclass(frozen=True)
class StepPreview:
    """The effect of a step: from `fewest` to `count` hosts change, out of `hosts` if it is known which, otherwise any.

    `number` is from 1, `says` is the plan's description of it.
    """

    number: int
    says: str
    hosts: list[str]
    fewest: int
    count: int

    def describe(self, steps: int) -> str:
        """A line for a person."""
        return f"step {self.number} of {steps}, {self.says}: {self._who()}"

    def _who(self) -> str:
        known, number = len(self.hosts), _between(self.fewest, self.count)
        if not self.count:
            return "nobody"
        if not self.hosts:
            return f"{number}, whichever {'comes' if self.count == 1 else 'come'} first"
        names = listed(self.hosts, MOST_LISTED)
        return names if self.fewest == self.count == known else f"{number} of {names}"


def _between(fewest: int, most: int) -> str:
    return str(most) if fewest == most else f"{fewest} to {most}"


class Preview(NamedTuple):
    """The steps still to come, out of `of`, and the hosts that do not change: sorted names.

    At most `places` change at once; None: all may.
    """

    steps: list[StepPreview]
    of: int
    places: int | None
    unchanged: list[str]
    held: list[str]
    missing: list[str]
    again: list[str]
    changes: int

    def to_result(self) -> dict[str, Any]:
        """The part of a module's result about it."""
        return {
            "steps": [asdict(step) for step in self.steps],
            "unchanged_agents": self.unchanged,
            "held_agents": self.held,
            "missing_agents": self.missing,
            "foreseen": self.lines(),
        }

    def lines(self) -> list[str]:
        """The same, for a person."""
        turns = f", {self.places} at a time" if self.places is not None and self.changes > 1 else ""
        apart = (
            ("lost on the way, and begins once more", self.again),
            ("already there", self.unchanged),
            ("held, and stay as they are", self.held),
            ("missing, expected and not live", self.missing),
        )
        return [
            f"{hosts(self.changes)} would change{turns}",
            *(step.describe(self.of) for step in self.steps if self.changes),
            *(f"{what}: {listed(names, MOST_LISTED)}" for what, names in apart if names),
        ]


def hosts(number: int) -> str:
    """The number with its noun."""
    return f"{number} host" if number == 1 else f"{number} hosts"


def preview(
    plan: Plan | None,
    fleet: Mapping[str, LiveHost],
    missing: Collection[str],
    places: int = 1,
    first: int = 0,
    size: int | None = None,
    reached: int | None = None,
) -> Preview:
    """What happens to a fleet; `plan` is None if all hosts switch at once.

    `fleet` are the live hosts by name, `missing` the others of the roster. The step `first`, from 0, is already open.
    Percentages are of `size`, by default the whole fleet. `reached` hosts have been reached by then, some of which may
    be gone; by default those of the fleet that have an entry.
    """
    changing = sorted(name for name, host in fleet.items() if host.would_change)
    again = sorted(name for name, host in fleet.items() if host.would_try_again)
    if plan is None:
        steps = [StepPreview(1, AT_ONCE, changing, len(changing), len(changing))]
    else:
        entered = sum(host.is_entered for host in fleet.values()) if reached is None else reached
        silent = sum(host.has_it and not host.is_entered for host in fleet.values())
        whole = len({*fleet, *missing}) if size is None else size
        steps = _Foresight(fleet, changing, entered, silent, whole).steps(plan, first)
    return Preview(
        steps=steps,
        of=len(plan.steps) if plan else 1,
        places=places if plan else None,
        unchanged=sorted(name for name, host in fleet.items() if host.has_it),
        held=sorted(name for name, host in fleet.items() if host.is_held and not host.has_it),
        missing=sorted(missing),
        again=again,
        changes=len(changing) + len(again),
    )


class _Foresight:
    """Goes through the steps of a plan.

    `left` are the hosts that have not certainly changed; `drawn` is the fewest and the most of them that have changed
    in steps by number. `entered` hosts have an entry; the `silent` ones have the release and will get an entry sooner
    or later, each when its checks pass.
    """

    def __init__(
        self, fleet: Mapping[str, LiveHost], changing: Sequence[str], entered: int, silent: int, size: int
    ) -> None:
        self._fleet = fleet
        self._left = list(changing)
        self._entered = entered
        self._silent = silent
        self._size = size
        self._drawn = (0, 0)

    def steps(self, plan: Plan, first: int) -> list[StepPreview]:
        """The steps from the open one, which also takes the hosts that earlier ones have left."""
        coming = [self._step(number, step) for number, step in enumerate(plan.steps)]
        begun, later = coming[: first + 1], coming[first + 1 :]
        known = all(step.hosts or not step.count for step in begun)
        opened = replace(
            begun[-1],
            hosts=sorted({name for step in begun for name in step.hosts}) if known else [],
            fewest=sum(step.fewest for step in begun),
            count=sum(step.count for step in begun),
        )
        return [opened, *later]

    def _step(self, number: int, step: RolloutStep) -> StepPreview:
        takes = self._any(step) if step.hosts is not None else self._named(step)
        return StepPreview(number + 1, says(step, self._size), *takes)

    def _any(self, step: RolloutStep) -> tuple[list[str], int, int]:
        """The hosts that change in a step by number, whichever they are."""
        (fewest, most), left = self._drawn, len(self._left)
        wanted = self._wanted(step)
        if wanted == (left, left) and not most:
            taken, self._left = self._left, []
            self._entered += left
            return taken, left, left
        self._drawn = (max(fewest, wanted[0]), max(most, wanted[1]))
        return [], max(0, wanted[0] - most), max(0, wanted[1] - fewest)

    def _wanted(self, step: RolloutStep) -> tuple[int, int]:
        """How many of the hosts that are left a step by number reaches, with those before: the fewest, and the most."""
        left = len(self._left)
        if step.hosts == ALL:
            return left, left
        most = at_least(step.hosts or 0, self._size) - self._entered
        return min(left, most - self._silent), min(left, most)

    def _named(self, step: RolloutStep) -> tuple[list[str], int, int]:
        """The hosts that change in a step by names or labels; some may have changed before."""
        taken = [name for name in self._left if step.takes(name, self._fleet[name].labels)]
        others = len(self._left) - len(taken)
        fewest, most = self._drawn
        earlier = (max(0, fewest - others), min(most, len(taken)))
        gone = set(taken)
        self._left = [name for name in self._left if name not in gone]
        self._drawn = (max(0, fewest - len(taken)), min(most, others))
        self._entered += len(taken)
        return taken, len(taken) - earlier[1], len(taken) - earlier[0]


def says(step: RolloutStep, fleet: int) -> str:
    """A plan's step in words, for a fleet of this size."""
    soak = [f"a soak of {step.soak:g} s"] if step.soak else []
    pause = ["a pause for a person"] if step.pause else []
    return ", then ".join([_takes(step, fleet), *soak, *pause])


def _takes(step: RolloutStep, fleet: int) -> str:
    if step.labels:
        return "hosts with " + ", ".join(f"{key}={value}" for key, value in step.labels)
    if step.names:
        return "hosts by name"
    if step.hosts == ALL:
        return "all hosts"
    number = at_least(step.hosts or 0, fleet)
    share = f" ({step.hosts} of {fleet})" if isinstance(step.hosts, str) else ""
    return f"{hosts(number)} in all{share}"


def describe_command(state: RolloutRecord, steps: int, waiting: int) -> str:
    """The effect of a person's command, by the state that it leads to; `waiting` hosts have not started."""
    step = f"step {state.step + 1} of {steps}"
    ends = f"{hosts(state.in_flight)} on the way would come to an end" if state.in_flight else "no host is on its way"
    others = f"{hosts(waiting)} that {'has' if waiting == 1 else 'have'} not begun"
    if state.phase == PAUSED:
        return f"the rollout would be paused at {step}; {ends}; {others} would wait until it is promoted"
    if state.phase == HALTED:
        return f"the rollout would be halted at {step}; {ends}; {others} would keep what is live"
    return "the rollout would be done" if state.phase == DONE else f"{step} would be open"
