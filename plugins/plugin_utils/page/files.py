# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a fleet renders from znodes: each once, with its states, and the hosts in each state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.fleet_files import files_of
from ansible_collections.zoo.deploy.plugins.module_utils.records import FILE_STATES, AgentStatus
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.plain_text import brief

MOST = 100
"""How many files are shown, failed ones first."""
ORDER = ("failed", "pending", "missing", "current")


class FleetFile(NamedTuple):
    """A file of hosts: its path there, the znode and the format, and the hosts' names by its state.

    `messages` are the reasons of its failures, each once.
    """

    dest: str
    znode: str
    format: str
    hosts: dict[str, list[str]]
    messages: list[str]

    @property
    def state(self) -> str:
        """Its worst state on any host."""
        return next(state for state in ORDER if self.hosts.get(state))


def fleet_files(statuses: Iterable[AgentStatus]) -> list[FleetFile]:
    """Every file; those that have failed anywhere come first."""
    known: dict[tuple[str, str, str], FleetFile] = {}
    for status in statuses:
        for dest, file in files_of(status).items():
            made = FleetFile(dest, file.znode, file.format, {state: [] for state in FILE_STATES}, [])
            entry = known.setdefault(made[:3], made)
            entry.hosts[file.state].append(status.name)
            message = brief(file.message) if file.message else ""
            if message and message not in entry.messages:
                entry.messages.append(message)
    return sorted(known.values(), key=lambda file: (ORDER.index(file.state), file.dest))
