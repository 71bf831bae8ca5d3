# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout in ZooKeeper: its state, the entries of its hosts, where these are, and how it begins.

Standard library, records and the plan only: the agent ships this same file. `rollout_rules` says how a state changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .records import PROVED_AT, ROLLED_BACK_FROM, InvalidRecord, InvalidRelease, Release, _key, _Record, quote
from .rollout_phases import DONE, PHASES, RUNNING, SOAKING
from .rollout_plan import InvalidRollout, Plan, read_plan

ADMITTED = "admitted"
URGENT = "urgent"
PROVED = "proved"
FAILED = "failed"
LOST = "lost"
RETURNING = "returning"
RETURNED = "returned"
ENTRIES = (ADMITTED, URGENT, PROVED, FAILED, LOST, RETURNING, RETURNED)
IN_FLIGHT = frozenset({ADMITTED, URGENT, RETURNING})
"""The entries of hosts on their way: they are below `in_flight`, all others below `hosts`."""
NOT_BACK = "did not return: "
"""The prefix of the message of a host that gave up on the way back, or was given up."""
TOO_SLOW = "did not finish within "
"""The prefix of the message of a host that is lost because it hangs."""
TRIES_AGAIN = "tries again: "
"""The prefix of the message of such a host that is on its way once more."""
GIVEN_UP = "given up: "
"""The prefix of the message of a host that hangs at its second try too."""
FAILURES = frozenset({FAILED, LOST})

GATES = "gates"
"""What a paused rollout waits for, if not for a person: somebody who asks the gates of its step."""
_NUMBERS = ("step", "fleet", "places", "forgiven", "forgives", "had", "given_up", "departed", "moves")
_TEXTS = ("reason", "by", "since")


@dataclass(frozen=True)
class RolloutPaths:
    """The znodes of one rollout; `root` is `AppPaths.rollout` of its generation, and has the state."""

    root: str

    @property
    def gate(self) -> str:
        """Phase and step, which every host of the rollout watches."""
        return f"{self.root}/gate"

    @property
    def in_flight(self) -> str:
        """The parent of the entries of hosts on their way."""
        return f"{self.root}/in_flight"

    @property
    def hosts(self) -> str:
        """The parent of the entries of hosts that have an outcome."""
        return f"{self.root}/hosts"

    @property
    def proving(self) -> str:
        """The parent of an ephemeral for each proved host that proves the release once more, as after a boot."""
        return f"{self.root}/proving"

    def entry(self, name: str, state: str) -> str:
        """One host's entry, which is at another place while it is on its way."""
        return f"{self.in_flight if state in IN_FLIGHT else self.hosts}/{name}"

    @property
    def line(self) -> str:
        """The parent of the places in the line of hosts that wait to be admitted."""
        return f"{self.root}/line"

    @property
    def lanes(self) -> str:
        """The parent of the line's lanes."""
        return f"{self.root}/lanes"

    @property
    def back(self) -> str:
        """The parent of the places in the line of hosts that wait to return."""
        return f"{self.root}/back"

    @property
    def back_lanes(self) -> str:
        """The parent of that line's lanes."""
        return f"{self.root}/back_lanes"


@dataclass(frozen=True)
class Gate(_Record):
    """The part of a rollout's state that waiting hosts have to know; written with it whenever phase or step change.

    `failures` is how many hosts had failed or were lost when the rollout was done; 0 until then.
    """

    phase: str = _key("phase", default=RUNNING)
    step: int = _key("step", default=0)
    moves: int = _key("moves", default=0)
    reason: str = _key("reason", default="")
    by: str = _key("by", default="")
    since: str = _key("since", default="")
    failures: int = _key("failures", default=0)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_choice("phase", self.phase, PHASES)
        _check_numbers(self, ("step", "moves", "failures"))
        _check_texts(self, _TEXTS)


@dataclass(frozen=True)
class HostEntry(_Record):
    """The state of a host in a rollout; `since` is RFC 3339, `message` is why it failed.

    `moves` is how often phase or step had changed by then: it tells a forgiven failure from a later one. `step`, from
    0, was open when it was admitted; None in an entry that another version has written.
    """

    state: str = _key("state", default="")
    since: str = _key("since", default="")
    message: str | None = _key("message", default=None)
    moves: int = _key("moves", default=0)
    step: int | None = _key("step", default=None)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_choice("state", self.state, ENTRIES)
        _check_numbers(self, ("moves",) if self.step is None else ("moves", "step"))
        _check_texts(self, ("since", *([] if self.message is None else ["message"])))

    @property
    def is_given_up(self) -> bool:
        """Whether the host did not get there, or back, and is no longer waited for."""
        return self._says(NOT_BACK) or (self.state == LOST and self._says(GIVEN_UP))

    @property
    def has_second_try(self) -> bool:
        """Whether the host was lost because it hangs, and is on its way once more."""
        return self._says(TRIES_AGAIN)

    @property
    def next_message(self) -> str | None:
        """The message of its entry once it is on its way again."""
        return f"{TRIES_AGAIN}{self.message}" if self.state == LOST and self._says(TOO_SLOW) else None

    def _says(self, beginning: str) -> bool:
        return (self.message or "").startswith(beginning)


@dataclass(frozen=True)
class RolloutRecord(_Record):
    """The state of a rollout, changed by compare-and-set only.

    `plan` is `rollout` as it was published, `release` the record of the release, `stable` that of the one that hosts
    have while they wait (None: there is none). `step` counts from 0, `places` is fixed, `fleet` is how many hosts the
    last count found, `counts` the number of entries of each kind. `forgiven` is how many of the failures no longer
    count, those from before `moves` was `forgives`. `had` is how many hosts had the release before, `given_up` how
    often a host on its way was given up, `departed` how often a host gave its place back because it was held, or had
    left a bad release. `resumes` is the phase that was paused, `waits_for` is `GATES` if it is paused for them. `moves`
    is how often phase or step have changed, or a soak has started over: it tells a soak from an earlier one of the same
    step. `since` (RFC 3339, of the last move) is for people only.
    """

    plan: Mapping[str, Any] | bool = _key("plan", default=True)
    release: Mapping[str, Any] = _key("release", default_factory=dict)
    stable: Mapping[str, Any] | None = _key("from", default=None)
    phase: str = _key("phase", default=RUNNING)
    step: int = _key("step", default=0)
    fleet: int = _key("fleet", default=0)
    places: int = _key("places", default=1)
    counts: Mapping[str, int] = _key("counts", default_factory=dict)
    forgiven: int = _key("forgiven", default=0)
    forgives: int = _key("forgives", default=0)
    had: int = _key("had", default=0)
    given_up: int = _key("givenUp", default=0)
    departed: int = _key("departed", default=0)
    resumes: str = _key("resumes", default=RUNNING)
    waits_for: str = _key("waitsFor", default="")
    moves: int = _key("moves", default=0)
    since: str = _key("since", default="")
    reason: str = _key("reason", default="")
    by: str = _key("by", default="")
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # `decide` makes hundreds of these a second in a test; what it does not change is checked by `from_object`.
        object.__setattr__(self, "counts", {kind: self.counts.get(kind, 0) for kind in ENTRIES})

    def changed(self, **changes: Any) -> RolloutRecord:
        """A copy with these fields changed, like `dataclasses.replace` at a tenth of its cost."""
        record = object.__new__(RolloutRecord)
        vars(record).update(vars(self), **changes)
        return record

    @classmethod
    def from_object(cls, content: Mapping[str, Any]) -> RolloutRecord:
        """The state in a decoded JSON object. Raises `InvalidRecord`."""
        _check_counts(content.get("counts", {}))
        record = super().from_object(content)
        _check_choice("phase", record.phase, PHASES)
        _check_choice("resumes", record.resumes, PHASES)
        _check_choice("waitsFor", record.waits_for, ("", GATES))
        _check_numbers(record, _NUMBERS)
        _check_texts(record, _TEXTS)
        _check_release("release", record.release)
        if record.stable is not None:
            _check_release("from", record.stable)
        steps = len(record.parsed_plan().steps)
        if record.step >= steps:
            raise InvalidRecord(f"step: expected a number below {steps}, got {record.step}")
        if not record.places:
            raise InvalidRecord("places: expected at least 1, got 0")
        return record

    def parsed_plan(self) -> Plan:
        """The effective plan: without a stable release, on which hosts could wait, there are no steps."""
        plan = read_plan(self.plan)
        if plan is None:
            raise InvalidRollout(f"plan: expected an object or true, got {quote(self.plan)}")
        return plan if self.stable else plan.without_steps()

    @property
    def is_rollback(self) -> bool:
        """Whether the release was published as a rollback."""
        return bool(self.release.get(ROLLED_BACK_FROM))

    @property
    def entries(self) -> int:
        """How many hosts have an entry."""
        return sum(self.counts.values())

    @property
    def reached(self) -> int:
        """How many hosts the steps have reached: one that only leaves a bad release does not count."""
        return self.entries - self.counts[RETURNING]

    @property
    def in_flight(self) -> int:
        """How many hosts are on their way, there or back."""
        return self.counts[ADMITTED] + self.counts[URGENT] + self.counts[RETURNING]

    @property
    def failures(self) -> int:
        """How many failures count."""
        return self.counts[FAILED] + self.counts[LOST] - self.forgiven

    @property
    def is_marred(self) -> bool:
        """Whether it is a rollback, which continues whatever fails, and any host has failed.

        Its plan was for the release that it rolls back from, and so were the failures that it accepts.
        """
        return self.is_rollback and self.failures > 0

    @property
    def has_proved(self) -> bool:
        """Whether it proves that the release works. It may be done on no host, or with each failure forgiven."""
        return self.phase == DONE and self.counts[PROVED] > 0 and not self.is_marred

    @property
    def gate(self) -> Gate:
        """The content of the gate."""
        failures = self.counts[FAILED] + self.counts[LOST] if self.phase == DONE else 0
        return Gate(self.phase, self.step, self.moves, self.reason, self.by, self.since, failures)

    def dated(self, now: str) -> RolloutRecord:
        """The same, to be written `now`: a state that has just moved has no time yet."""
        return self if self.since else replace(self, since=now)


def describe(plan: Plan, state: RolloutRecord) -> str:
    """What the rollout waits for, or how it has ended."""
    step = f"step {state.step + 1} of {len(plan.steps)}"
    said = f"the rollout is {state.phase.replace('_', ' ')}"
    if state.phase == RUNNING:
        said = f"{step} is open; {state.in_flight} are on their way, {state.places} may be"
    if state.phase == SOAKING:
        said = f"{step} soaks for {plan.steps[state.step].soak:g} s"
    return f"{said}: {state.reason}" if state.reason else said


def rollout_of(release: Release, policy: Mapping[str, Any]) -> Any:
    """The `rollout` of a release's record, or else of the application's policy; None if neither has one."""
    own = release.extra.get("rollout")
    return policy.get("rollout") if own is None else own


def begin(release: Release, content: Any, stable: Release | None, fleet: int, live: int | None = None) -> RolloutRecord:
    """The first state of a rollout of `release`; `content` is from `rollout_of`. Raises `InvalidRollout`.

    `live` is how many hosts of the fleet are live, by default all: no larger share of the serving hosts may switch at
    once because others are down.
    """
    record = RolloutRecord(
        plan=content, release=_without_plan(release), stable=_without_plan(stable) if stable else None, fleet=fleet
    )
    return replace(record, places=record.parsed_plan().places(fleet if live is None else live))


def _without_plan(release: Release) -> dict[str, Any]:
    """The record of a release without its rollout: the record alone may fill a znode."""
    return {key: value for key, value in release.to_object().items() if key != "rollout"}


def is_of_this_ensemble(generation: int, czxid: int) -> bool:
    """Whether a rollout, whose znode was created by the transaction `czxid`, belongs to a publication in this ensemble.

    It begins after its release was published. One that was copied from another ensemble has that one's generation.
    """
    return generation < czxid


def choose_stable(
    release: Release, content: Any, history: Mapping[int, Release], rollouts: Mapping[int, RolloutRecord]
) -> Release | None:
    """The release that hosts have while they wait for `release`; `history` and `rollouts` are by generation.

    It is the commit that `from` in the rollout's `content` names, or else the newest known to work at the same place:
    its rollout has proved it, or a publisher has recorded that the fleet did, and no person has rolled back from it
    since. There is none if that is the release itself, nor for a rollback, whose own release is the one that works.
    Raises `InvalidRelease` if `from` is not a commit.
    """
    if release.extra.get(ROLLED_BACK_FROM):
        return None
    named = content.get("from") if isinstance(content, Mapping) else None
    if named is not None:
        given = _named(release, named)
        here = [past for past in _newest_first(history) if past.relative_path == release.relative_path]
        return next((past for past in [*here, given] if past.commit_id == given.commit_id != release.commit_id), None)
    newest = newest_known(release.relative_path, history, rollouts)
    return newest if newest and newest.commit_id != release.commit_id else None


def newest_known(
    relative_path: str, history: Mapping[int, Release], rollouts: Mapping[int, RolloutRecord]
) -> Release | None:
    """The newest release at a place that is known to work, in the sense of `choose_stable`."""
    left = {str(past.extra.get(ROLLED_BACK_FROM)): number for number, past in sorted(history.items())}
    proved = _proved(relative_path, history, rollouts)
    stays = {number: past for number, past in proved.items() if left.get(past.commit_id, 0) < number}
    return stays[max(stays)] if stays else None


def was_proved(release: Release, history: Mapping[int, Release], rollouts: Mapping[int, RolloutRecord]) -> bool:
    """Whether a commit is known to work at its place, or was until a person rolled back from it."""
    proved = _proved(release.relative_path, history, rollouts)
    return any(past.commit_id == release.commit_id for past in proved.values())


def _proved(
    relative_path: str, history: Mapping[int, Release], rollouts: Mapping[int, RolloutRecord]
) -> dict[int, Release]:
    """The releases that a whole fleet, or a rollout, has proved at a place."""
    works = {number: past for number, past in history.items() if PROVED_AT in past.extra}
    works.update({number: Release.from_object(past.release) for number, past in rollouts.items() if past.has_proved})
    return {number: past for number, past in works.items() if past.relative_path == relative_path}


def _named(release: Release, commit_id: Any) -> Release:
    """Another commit of the same repository at the same place."""
    try:
        return Release(release.url, commit_id, release.relative_path)
    except InvalidRelease as exc:
        raise InvalidRelease(f"from: {exc}") from exc


def _newest_first(releases: Mapping[int, Release]) -> list[Release]:
    return [releases[generation] for generation in sorted(releases, reverse=True)]


def _check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidRecord(f"{key}: expected one of {', '.join(choices)}, got {quote(value)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_numbers(record: object, names: tuple[str, ...]) -> None:
    for name in names:
        if not _is_number(getattr(record, name)):
            raise InvalidRecord(f"{name}: expected a whole number, got {quote(getattr(record, name))}")


def _check_texts(record: object, names: tuple[str, ...]) -> None:
    for name in names:
        if not isinstance(getattr(record, name), str):
            raise InvalidRecord(f"{name}: expected a string, got {quote(getattr(record, name))}")


def _check_counts(counts: object) -> None:
    if not isinstance(counts, Mapping) or not all(map(_is_number, counts.values())):
        raise InvalidRecord(f"counts: expected an object of whole numbers, got {quote(counts)}")


def _check_release(key: str, release: object) -> None:
    if not isinstance(release, Mapping):
        raise InvalidRecord(f"{key}: expected an object, got {quote(release)}")
    try:
        Release.from_object(release)
    except InvalidRecord as exc:
        raise InvalidRecord(f"{key}: {exc}") from exc
