# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The paths below the base of one agent."""

from __future__ import annotations

import os
from pathlib import Path

from zoo_watcher.frozen import dataclass
from zoo_watcher.wire.records import AGENT_DIRECTORY, COMMIT_ID

from .filesystem import make_directory, remove_tree

READABLE = 0o755
"""Mode of the directories on the way to a release: the application's own user reads them."""
PRIVATE = 0o700
"""Mode of those that only the agent has to read."""


@dataclass(frozen=True)
class Layout:
    """The directories under one base."""

    base: Path

    @property
    def own(self) -> Path:
        """The agent's own directory."""
        return self.base / AGENT_DIRECTORY

    @property
    def repository(self) -> Path:
        """The object store."""
        return self.own / "repository.git"

    @property
    def releases(self) -> Path:
        """Complete release directories, one per commit."""
        return self.own / "releases"

    @property
    def manifests(self) -> Path:
        """What each release directory was made of."""
        return self.own / "manifests"

    @property
    def staging(self) -> Path:
        """What is being created. Anything here when nothing runs is left over."""
        return self.own / "staging"

    @property
    def shared(self) -> Path:
        """What outlives a release; linked into each."""
        return self.own / "shared"

    @property
    def status(self) -> Path:
        """The agent's last status, for anybody on the host."""
        return self.own / "status.json"

    @property
    def journal(self) -> Path:
        """What the agent remembers of this host."""
        return self.own / "journal.json"

    @property
    def accepted(self) -> Path:
        """Which releases were accepted by the signatures of their records."""
        return self.own / "accepted.json"

    @property
    def file_journal(self) -> Path:
        """What the agent remembers of the files that it keeps."""
        return self.own / "files.json"

    @property
    def proof(self) -> Path:
        """Where the new contents of a directory are shown to the command that proves them."""
        return self.own / "proof"

    @property
    def lock(self) -> Path:
        """Held by the agent that works in this base."""
        return self.own / "agent.lock"

    @property
    def controls(self) -> Path:
        """What a person on this host tells the agent to do; see `Controls`."""
        return self.own / "controls"

    def control(self, name: str) -> Path:
        """The marker of one of the controls."""
        return self.controls / name

    @property
    def session(self) -> Path:
        """The session that a restarted agent resumes, if the service manager provides no runtime directory."""
        return self.own / "session.json"

    @property
    def roster(self) -> Path:
        """Which entry of the roster belongs to this host."""
        return self.own / "roster.json"

    def release(self, commit_id: str) -> Path:
        """The complete release directory of a commit."""
        return self.releases / commit_id

    def manifest(self, commit_id: str) -> Path:
        """What the release directory of a commit was made of."""
        return self.manifests / f"{commit_id}.json"

    def place(self, relative_path: str) -> Path:
        """The symlink through which the application sees the live release."""
        return self.base / relative_path

    def make(self) -> None:
        """Create the directories. Raises `OSError`."""
        make_directory(self.base, READABLE, parents=True)
        for directory in (self.own, self.releases):
            make_directory(directory, READABLE)
        for directory in (self.manifests, self.staging):
            make_directory(directory, PRIVATE)

    def clean_staging(self) -> None:
        """Remove what an interrupted deployment left; what can't be removed stays. Raises `OSError`."""
        for left in self.in_staging():
            remove_tree(left)

    def in_staging(self) -> list[Path]:
        """What is in the staging directory. Raises `OSError`."""
        return sorted(self.staging.iterdir()) if self.staging.is_dir() else []

    def begun_packs(self) -> list[Path]:
        """What git leaves in the object store if it is killed: incomplete packs, and the `.keep` marks of one.

        By these marks, git keeps a pack until its ref is created.
        """
        packs = self.repository / "objects" / "pack"
        return [left for pattern in ("*tmp_*", ".tmp-*", "*.keep") for left in packs.glob(pattern)]

    def unused(self, name: str) -> Path:
        """An unused path in the staging directory that begins with `name`."""
        return self.staging / f"{name}.{os.urandom(6).hex()}"

    def staged(self) -> list[str]:
        """The commits that have a complete release directory."""
        if not self.releases.is_dir():
            return []
        return [entry.name for entry in self.releases.iterdir() if COMMIT_ID.fullmatch(entry.name)]
