# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent remembers across restarts: the commits that were healthy here, and the generation that failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from zoo_watcher.host.filesystem import load_json, write_durably
from zoo_watcher.wire.records import COMMIT_ID, GAVE_UP


@dataclass(frozen=True)
class Failure:
    """A generation that is not tried again: how it ended (`failed` or `rolled_back`) and why."""

    generation: int
    state: str
    message: str


@dataclass(frozen=True)
class ReleaseJournal:
    """`healthy` has the commits that were active and healthy, the latest first, each once."""

    healthy: tuple[str, ...] = ()
    failure: Failure | None = None

    @classmethod
    def load(cls, path: Path) -> ReleaseJournal:
        """The journal in a file; an empty one where none can be read, for it is only a memory."""
        return load_json(path, cls._from_object, cls())

    @classmethod
    def _from_object(cls, record: Mapping[str, Any]) -> ReleaseJournal:
        return cls(tuple(_commits(record)), _failure(record.get("failure")))

    def save(self, path: Path) -> None:
        """Write the journal, durably. Raises `OSError`."""
        write_durably(path, json.dumps({"healthy": self.healthy, "failure": self.failure and asdict(self.failure)}))

    def with_healthy(self, commit_id: str, keep: int) -> ReleaseJournal:
        """The journal after `commit_id` was seen healthy; the newest `keep` are remembered."""
        others = [other for other in self.healthy if other != commit_id]
        return ReleaseJournal(healthy=(commit_id, *others)[:keep], failure=None)

    def with_failure(self, failure: Failure) -> ReleaseJournal:
        """The journal after a generation failed."""
        return replace(self, failure=failure)

    def failed(self, generation: int) -> Failure | None:
        """How `generation` failed here, or None."""
        return self.failure if self.failure and self.failure.generation == generation else None


def _commits(record: Mapping[str, Any]) -> list[str]:
    return [commit_id for commit_id in record["healthy"] if COMMIT_ID.fullmatch(commit_id)]


def _failure(record: Mapping[str, Any] | None) -> Failure | None:
    if not record or record["state"] not in GAVE_UP:
        return None
    return Failure(int(record["generation"]), str(record["state"]), str(record["message"]))
