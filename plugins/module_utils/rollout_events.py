# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may happen in a rollout, and the resulting decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Union

from .rollout_records import FAILURES, RETURNING, RolloutRecord


class Ask(NamedTuple):
    """A host asks for a place, on the way there or back; `entry` is its state in the rollout, if any.

    `moves` are those of that entry. `leaves`: its release is known to be bad, and it asks to return before its turn.
    """

    name: str
    labels: Mapping[str, str]
    entry: str | None = None
    urgent: bool = False
    moves: int = 0
    leaves: bool = False


class Has(NamedTuple):
    """A host already runs the release and is healthy; `moves` are those of its entry."""

    name: str
    entry: str | None = None
    moves: int = 0


class Outcome(NamedTuple):
    """The `outcome` of a host that had `entry`; `message` is why it failed, `moves` are those of its entry.

    If it `is_given_up`, others report it: it has no outcome of its own. `having` is how many hosts have the release and
    no entry yet: they had it before. An outcome that stops the rollout comes with that count.
    """

    name: str
    entry: str | None
    outcome: str
    message: str = ""
    moves: int = 0
    is_given_up: bool = False
    having: int = 0


class Withdraw(NamedTuple):
    """A host on its way can't continue: it is held, or its configuration does not let it deploy the release."""

    name: str
    entry: str | None


class Count(NamedTuple):
    """The fleet was counted after the state was read: its size, and how many hosts are `left` (see `count`).

    `behind` are the names of those that have not returned, `passed` tells why the open step does not wait for some of
    its hosts.
    """

    fleet: int
    left: int
    behind: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()


class Tick(NamedTuple):
    """An actor has seen `waited` seconds pass during which a timer's `of` was the same.

    `behind` are the names of the hosts on their way; when rolling back, as in `Count`.
    """

    of: tuple[int, ...]
    waited: float
    behind: tuple[str, ...] = ()


class Command(NamedTuple):
    """A person's command: `verb` is `promote`, `pause` or `halt`; or gates were asked, and the step may `pass` them.

    `moves` are those of the state that it is about; None for any.
    """

    verb: str
    by: str
    reason: str = ""
    force: bool = False
    moves: int | None = None


Event = Union[Ask, Has, Outcome, Withdraw, Count, Tick, Command]


class Decision(NamedTuple):
    """The result of an event: the state; the acting host's entry, None for none; `why` if nothing changes.

    `is_bad`: the release has just been found to be bad.
    """

    state: RolloutRecord
    entry: str | None = None
    why: str = ""
    is_bad: bool = False


def unchanged(state: RolloutRecord, event: Event, why: str) -> Decision:
    """The decision that nothing changes, and why."""
    return Decision(state, getattr(event, "entry", None), why)


def moved(state: RolloutRecord, event: Ask | Has | Outcome | Withdraw, after: str | None) -> Decision:
    """The decision that a host's entry changes."""
    counts = dict(state.counts)
    if event.entry is not None:
        counts[event.entry] -= 1
    if after is not None:
        counts[after] += 1
    # A forgiven failure that is no longer one excuses no other.
    was_forgiven = event.entry in FAILURES and getattr(event, "moves", 0) < state.forgives
    forgiven = max(0, state.forgiven - 1) if was_forgiven else state.forgiven
    has_departed = isinstance(event, Withdraw) or (event.entry == RETURNING and after is None)
    departed = state.departed + has_departed
    return Decision(state.changed(counts=counts, forgiven=forgiven, departed=departed), after)
