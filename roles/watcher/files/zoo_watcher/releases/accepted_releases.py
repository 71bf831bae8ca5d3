# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases this host has accepted by the signatures of their records, on its disk before it acts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo_watcher.config.config import Config
from zoo_watcher.errors import PassingError
from zoo_watcher.host.filesystem import disk_errors, read_json, write_durably
from zoo_watcher.host.layout import Layout
from zoo_watcher.wire.release_signature import Accepted

from .release_directory import allowed_signers

KEPT = 50
"""How many are remembered: as many as a history has."""


@dataclass(frozen=True)
class AcceptedRelease(Accepted):
    """`since` is when it was accepted, a time since the epoch; `signers` the digest of those who might sign then."""

    since: float = 0.0
    signers: str = ""

    @property
    def what(self) -> tuple[int, str, str, str, str]:
        """Which record it was."""
        return self.serial, self.digest, self.url, self.commit_id, self.relative_path

    def to_object(self) -> dict[str, Any]:
        """It as the file has it."""
        return {
            "serial": self.serial,
            "digest": self.digest,
            "url": self.url,
            "commitId": self.commit_id,
            "relativePath": self.relative_path,
            "since": self.since,
            "signers": self.signers,
        }

    @classmethod
    def from_object(cls, record: Mapping[str, Any]) -> AcceptedRelease:
        """It from the file. Raises what a wrong form brings about."""
        digest, url, commit_id, path, signers = (
            record[key] for key in ("digest", "url", "commitId", "relativePath", "signers")
        )
        if not all(isinstance(text, str) for text in (digest, url, commit_id, path, signers)):
            raise TypeError("expected texts")
        return cls(int(record["serial"]), digest, url, commit_id, path, float(record["since"]), signers)


class AcceptedReleases:
    """The file with those of an application; others are in it where the agent has had another application before."""

    def __init__(self, file: Path, app: str) -> None:
        self._file = file
        self._app = app

    def read(self) -> tuple[AcceptedRelease, ...]:
        """All, the latest first; none where there is no file.

        Raises `DeployError`: what can't be read is not taken for nothing, or an earlier record could be replayed.
        """
        return self._read_all().get(self._app, ())

    def add(self, release: AcceptedRelease) -> None:
        """Remember one durably, in the place of the same one with other signers. Raises `DeployError`."""
        known = self._read_all()
        others = [one for one in known.get(self._app, ()) if one.what != release.what]
        # The highest serial stays, whatever it is crowded by.
        kept = sorted([release, *others], key=lambda one: one.serial, reverse=True)[:KEPT]
        known[self._app] = tuple(kept if release in kept else [*kept[:-1], release])
        content = {app: [one.to_object() for one in releases] for app, releases in known.items()}
        with disk_errors("noting which release is accepted"):
            write_durably(self._file, json.dumps(content))

    def _read_all(self) -> dict[str, tuple[AcceptedRelease, ...]]:
        with disk_errors("reading which releases were accepted"):
            known = read_json(self._file, _from_object, None) if self._file.exists() else {}
        if known is None:
            remedy = "remove it, and this host accepts any record that is signed as it demands, also an earlier one"
            raise PassingError(f"{self._file}: not as an agent has written it; {remedy}", "disk")
        return known


def _from_object(content: Any) -> dict[str, tuple[AcceptedRelease, ...]]:
    return {app: tuple(map(AcceptedRelease.from_object, releases)) for app, releases in content.items()}


def accepted_places(config: Config, layout: Layout) -> frozenset[tuple[str, str]] | None:
    """The commits and places of the releases that were accepted with the present signers; None where none are demanded.

    Raises `DeployError`.
    """
    signers = allowed_signers(config.require_signature, config.revoked_signers)
    if signers is None:
        return None
    known = AcceptedReleases(layout.accepted, config.app.root).read()
    return frozenset((one.commit_id, one.relative_path) for one in known if one.signers == signers)
