# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may happen in a rollout, and the decision that it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Union

from .rollout_records import FAILURES, RETURNING, RolloutRecord


class Ask(NamedTuple):
    """A host asks for a place, on the way there or back; `entry` is what it has in the rollout, if anything.

    `moves` are those of that entry. `leaves`: what it has is known to be bad, and it asks to return before its turn.
    """

    name: str
    labels: Mapping[str, str]
    entry: str | None = None
    urgent: bool = False
    moves: int = 0
    leaves: bool = False


class Has(NamedTuple):
    """A host runs the release already, and is healthy; `moves` are those of its entry."""

    name: str
    entry: str | None = None
    moves: int = 0


class Outcome(NamedTuple):
    """A host that had `entry` has come to `outcome`; `message` says why it failed, `moves` are those of its entry.

    It `is_given_up` by others: it has come to nothing by itself. `having` is how many have the release and no entry
    yet: they had it before. Who tells an outcome that stops the rollout has counted them.
    """

    name: str
    entry: str | None
    outcome: str
    message: str = ""
    moves: int = 0
    is_given_up: bool = False
    having: int = 0


class Withdraw(NamedTuple):
    """A host that is on its way can't go on: it is held, or its configuration does not let it deploy the release."""

    name: str
    entry: str | None


class Count(NamedTuple):
    """The fleet was counted, after the state was read: its size, and how many hosts are `left` (see `count`).

    `behind` are the names of those that have not returned, `passed` says of hosts of the open step why it does not wait
    for them.
    """

    fleet: int
    left: int
    behind: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()


class Tick(NamedTuple):
    """The asker has seen `waited` seconds pass in which a timer's `of` was the same.

    `behind` are the names of the hosts on their way; going back, as in `Count`.
    """

    of: tuple[int, ...]
    waited: float
    behind: tuple[str, ...] = ()


class Command(NamedTuple):
    """A person wants it: `verb` is `promote`, `pause` or `halt`; or gates were asked, and the step may `pass` them.

    `moves` are those of the state that it is about; None for any.
    """

    verb: str
    by: str
    reason: str = ""
    force: bool = False
    moves: int | None = None


Event = Union[Ask, Has, Outcome, Withdraw, Count, Tick, Command]


class Decision(NamedTuple):
    """What an event comes to: the state; the entry of the host that acts, None for none; where nothing changes, `why`.

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
    """The decision that the entry of a host becomes another one."""
    counts = dict(state.counts)
    if event.entry is not None:
        counts[event.entry] -= 1
    if after is not None:
        counts[after] += 1
    # A failure that was forgiven, and is none any more, excuses no other.
    was_forgiven = event.entry in FAILURES and getattr(event, "moves", 0) < state.forgives
    forgiven = max(0, state.forgiven - 1) if was_forgiven else state.forgiven
    has_departed = isinstance(event, Withdraw) or (event.entry == RETURNING and after is None)
    departed = state.departed + has_departed
    return Decision(state.changed(counts=counts, forgiven=forgiven, departed=departed), after)
