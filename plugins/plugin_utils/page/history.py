# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was published, as a page has it: when, by whom, and what it has come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.release_outcomes import BAD, PROVED
from ansible_collections.zoo.deploy.plugins.module_utils.releases import SUBJECT
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.host_line import short

from .moments import Moment, moment
from .plain_data import mapping

TONES = {PROVED: "good", BAD: "bad", "halted": "bad", "gone back": "bad", "done with failures": "bad"}
"""How an outcome is to be taken; any other one is neither good nor bad."""


class Outcome(NamedTuple):
    """A word of what a publication has come to."""

    word: str
    tone: str


class Publication(NamedTuple):
    """A publication. `is_desired` tells the one that counts now; one without a valid release has a `problem`."""

    entry: str
    commit: str
    subject: str
    at: Moment | None
    ref: str
    publisher: str
    outcomes: list[Outcome]
    is_desired: bool
    problem: str


def publications(releases: Mapping[str, Any], now: datetime) -> list[Publication]:
    """The history, the newest first."""
    return [_publication(entry, releases.get("generation"), now) for entry in releases.get("history") or []]


def _publication(entry: Mapping[str, Any], desired: int | None, now: datetime) -> Publication:
    release = mapping(entry.get("release"))
    ref = release.get("ref")
    return Publication(
        str(entry.get("entry") or ""),
        short(release.get("commitId")),
        str(release.get(SUBJECT) or ""),
        moment(release.get("publishedAt"), now),
        str(ref) if ref and ref != release.get("commitId") else "",
        str(release.get("publisher") or ""),
        [Outcome(word, TONES.get(word, "plain")) for word in entry.get("outcome") or []],
        desired is not None and entry.get("generation") == desired,
        str(entry.get("problem") or ""),
    )


def bad_commits(releases: Mapping[str, Any], fleet: Mapping[str, Any]) -> list[str]:
    """The commits in the history that are marked as bad, and the one whose rollout is."""
    history: Sequence[Mapping[str, Any]] = releases.get("history") or []
    marked = [mapping(one.get("release")).get("commitId") for one in history if BAD in (one.get("outcome") or [])]
    own = fleet.get("commit_id") if (fleet.get("rollout") or {}).get("bad") else None
    return list(dict.fromkeys(str(commit) for commit in [own, *marked] if commit))
