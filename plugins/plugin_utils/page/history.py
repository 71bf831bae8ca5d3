# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The publications as a page shows them: when, by whom, and with which outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.records import ROLLED_BACK_FROM
from ansible_collections.zoo.deploy.plugins.module_utils.release_outcomes import (
    BAD,
    DONE_NOWHERE,
    OF_ANY,
    OF_DESIRED,
    PROVED,
)
from ansible_collections.zoo.deploy.plugins.module_utils.releases import SUBJECT
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import FAILURES
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.host_line import short

from .moments import Moment, moment
from .plain_data import mapping

TONES = {PROVED: "good", BAD: "bad", "halted": "bad", "rolled back": "bad", "done with failures": "bad"}
"""Good and bad outcomes; any other one is neither."""


class OutcomeWord(NamedTuple):
    """A word for a publication's outcome."""

    word: str
    tone: str


class PublicationRow(NamedTuple):
    """A publication. `is_desired` marks the current one; one without a valid release has a `problem`."""

    entry: str
    commit: str
    subject: str
    at: Moment | None
    ref: str
    publisher: str
    outcomes: list[OutcomeWord]
    is_desired: bool
    problem: str


def publications(releases: Mapping[str, Any], fleet: Mapping[str, Any], now: datetime) -> list[PublicationRow]:
    """The history, the newest first. If the fleet was read later, the outcome of the desired one is as of then."""
    desired = fleet.get("generation")
    return [_publication(_brought_up(entry, fleet), desired, now) for entry in releases.get("history") or []]


def _brought_up(entry: Mapping[str, Any], fleet: Mapping[str, Any]) -> Mapping[str, Any]:
    """An entry whose rollout was in progress when the history was read, with its present state."""
    words, rollout = entry.get("outcome") or [], fleet.get("rollout") or {}
    going = [word for word in words if word in OF_DESIRED.values()]
    if not going or not rollout or entry.get("generation") != fleet.get("generation"):
        return entry
    known = [_word(rollout, mapping(entry.get("release"))), *([BAD] if rollout.get("bad") else []), *words]
    return {**entry, "outcome": list(dict.fromkeys(word for word in known if word not in going or word == known[0]))}


def _word(rollout: Mapping[str, Any], release: Mapping[str, Any]) -> str:
    """The outcome of a rollout, or its state while in progress."""
    phase, counts = rollout["phase"], mapping(rollout.get("counts"))
    if phase != DONE:
        return OF_DESIRED.get(phase) or OF_ANY[phase]
    if not counts:
        return DONE_NOWHERE
    is_marred = ROLLED_BACK_FROM in release and any(counts.get(kind) for kind in FAILURES)
    return PROVED if counts.get(PROVED) and not is_marred else OF_ANY[DONE]


def _publication(entry: Mapping[str, Any], desired: int | None, now: datetime) -> PublicationRow:
    release = mapping(entry.get("release"))
    ref = release.get("ref")
    return PublicationRow(
        str(entry.get("entry") or ""),
        short(release.get("commitId")),
        str(release.get(SUBJECT) or ""),
        moment(release.get("publishedAt"), now),
        str(ref) if ref and ref != release.get("commitId") else "",
        str(release.get("publisher") or ""),
        [OutcomeWord(word, TONES.get(word, "plain")) for word in entry.get("outcome") or []],
        desired is not None and entry.get("generation") == desired,
        str(entry.get("problem") or ""),
    )


def bad_commits(releases: Mapping[str, Any], fleet: Mapping[str, Any]) -> list[str]:
    """The commits in the history that are marked as bad, and the current one if its rollout is."""
    history: Sequence[Mapping[str, Any]] = releases.get("history") or []
    marked = [mapping(one.get("release")).get("commitId") for one in history if BAD in (one.get("outcome") or [])]
    own = fleet.get("commit_id") if (fleet.get("rollout") or {}).get("bad") else None
    return list(dict.fromkeys(str(commit) for commit in [own, *marked] if commit))
