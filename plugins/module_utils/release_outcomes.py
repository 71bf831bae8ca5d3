# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outcome of each publication of an application, in words. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from .records import PROVED_AT, ROLLED_BACK_FROM
from .releases import HistoryEntry
from .rollout_phases import DONE, HALTED, PAUSED, ROLLED_BACK, ROLLING_BACK, RUNNING, SOAKING
from .rollout_records import RolloutRecord

GONE_BACK_FROM = "rolled back from"
BAD = "bad"
PROVED = "proved"
DONE_NOWHERE = "done on no host"
OF_ANY = {DONE: "done with failures", HALTED: "halted", ROLLED_BACK: "rolled back"}
"""The outcome of a phase that has not proved the release, even if another one has been published since."""
OF_DESIRED = {RUNNING: "rolling out", SOAKING: "rolling out", PAUSED: "paused", ROLLING_BACK: "rolling back"}


def outcomes(
    history: Sequence[HistoryEntry], desired: int | None, rollouts: Mapping[int, RolloutRecord], bad: Collection[str]
) -> list[list[str]]:
    """The outcomes of each entry of the history, the newest first; empty if none is recorded.

    `desired` is the generation that is desired now, `rollouts` are by generation, `bad` the commits that are marked
    as such.
    """
    newer = [None, *history[:-1]]
    return [list(filter(None, _words(*pair, desired, rollouts, bad))) for pair in zip(history, newer)]


def _words(
    entry: HistoryEntry,
    newer: HistoryEntry | None,
    desired: int | None,
    rollouts: Mapping[int, RolloutRecord],
    bad: Collection[str],
) -> list[str]:
    # Of entries that were copied here in one transaction, with `config`, the newest is what was rolled out.
    is_older_copy = newer is not None and newer.generation == entry.generation
    release, rollout = entry.release, None if is_older_copy else rollouts.get(entry.generation)
    if release is None:
        return []
    phase = rollout.phase if rollout else ""
    proved = PROVED if PROVED_AT in release.extra or (rollout and rollout.has_proved) else ""
    now = OF_DESIRED.get(phase, "") if entry.generation == desired else ""
    left = newer and newer.release and newer.release.extra.get(ROLLED_BACK_FROM) == release.commit_id
    is_bad = BAD if release.commit_id in bad else ""
    is_nowhere = rollout is not None and phase == DONE and not rollout.entries
    come_to = DONE_NOWHERE if is_nowhere else OF_ANY.get(phase, "")
    return [proved or come_to or now, GONE_BACK_FROM if left else "", is_bad]
