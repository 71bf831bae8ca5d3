# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person should know at once: the state of the fleet in a sentence, what needs attention, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import (
    DONE,
    GOING_ON,
    HALTED,
    PAUSED,
    ROLLED_BACK,
    ROLLING_BACK,
    STOPPED,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.host_line import short
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.plain_text import brief, cut

from .hosts import Group, PageHost
from .kinds import FAILED, KINDS, UNDER_WAY, UP_TO_DATE, Kind

BAD, WARN, BUSY, GOOD = "bad", "warn", "busy", "good"
"""The levels: something has failed, a person should look, it continues on its own, all is well."""
MOST_REASONS, MOST_NAMES, LONGEST_NAME = 8, 12, 48
"""How many reasons are shown, how many hosts are named with each, and how much of a name the first sentence has."""
ENDINGS = {
    HALTED: "the rollout is halted",
    ROLLING_BACK: "the rollout is rolling back",
    ROLLED_BACK: "the rollout has rolled back",
    PAUSED: "the rollout is paused",
}


class Summary(NamedTuple):
    """The state of a fleet, in a sentence."""

    level: str
    title: str


class Reason(NamedTuple):
    """Why some hosts are of a kind that needs attention: the first of these hosts, and how many there are."""

    kind: Kind
    text: str
    hosts: list[PageHost]
    size: int

    @property
    def left(self) -> int:
        """How many are not named."""
        return self.size - len(self.hosts)


def summarize(releases: Mapping[str, Any], fleet: Mapping[str, Any], groups: Sequence[Group]) -> Summary:
    """The sentence above all others."""
    counts = {group.kind: group.size for group in groups}
    whole = sum(counts.values())
    if releases.get("problem"):
        return Summary(BAD, "What is published is not a release")
    if not fleet.get("commit_id"):
        return Summary(WARN, "Nothing is published")
    if not whole:
        return Summary(WARN, "No agent is live")
    phase = (fleet.get("rollout") or {}).get("phase", DONE)
    troubles = [_counted(kind, counts[kind], groups) for kind in KINDS if kind in counts and kind.needs_attention]
    parts = [*troubles[:2], *([ENDINGS[phase]] if phase in ENDINGS else [])]
    if parts:
        title = ", ".join(parts)
        is_bad = FAILED in counts or phase in STOPPED
        return Summary(BAD if is_bad else WARN, title if troubles else title.capitalize())
    commit, proved = short(fleet["commit_id"]), counts.get(UP_TO_DATE, 0)
    if proved == whole:
        return Summary(GOOD, f"All {whole:,} hosts serve {commit}" if whole > 1 else f"The only host serves {commit}")
    goes_on = "Rolling out: " if phase in GOING_ON or UNDER_WAY in counts else ""
    return Summary(BUSY, f"{goes_on}{proved:,} of {whole:,} hosts serve {commit}")


def _counted(kind: Kind, count: int, groups: Sequence[Group]) -> str:
    """How many hosts are of a kind, or the only one's name."""
    if count == 1:
        name = next(group.rows[0].name for group in groups if group.kind == kind)
        return f"{cut(brief(name), LONGEST_NAME)} {kind.says[0]}"
    return f"{count:,} hosts {kind.says[1]}"


def reasons(groups: Sequence[Group], hosts: Sequence[PageHost]) -> list[Reason]:
    """What needs attention, each reason once, the worst kinds first, then the most frequent reason."""
    told = []
    for kind in (group.kind for group in groups if group.kind.needs_attention):
        members: dict[str, list[PageHost]] = {}
        for host in hosts:
            if host.kind == kind:
                members.setdefault(host.reason, []).append(host)
        most_first = sorted(members.items(), key=lambda pair: -len(pair[1]))
        told += [Reason(kind, text, named[:MOST_NAMES], len(named)) for text, named in most_first]
    return told
