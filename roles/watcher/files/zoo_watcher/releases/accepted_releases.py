# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which releases this host has accepted by the signatures on their records, saved before it acts on them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo_watcher.config.config import Config
from zoo_watcher.errors import PassingError
from zoo_watcher.host.filesystem import disk_errors, read_json, write_durably
from zoo_watcher.host.layout import Layout
from zoo_watcher.wire.release_signature import Accepted

from .record_verifier import RecordVerifier

KEPT = 50
"""How many are remembered: as many as in a history."""
LATEST = 2**33
"""An upper bound for any time since the epoch shown by this host's clock."""


@dataclass(frozen=True)
class AcceptedRelease(Accepted):
    """`since` is when it was accepted, in seconds since the epoch; `signers` the digest of those who might sign then.

    `text` and `signature` are those of the record by which it was accepted, because the signers can change.
    """

    since: float = 0.0
    signers: str = ""
    text: str = ""
    signature: str = ""

    @property
    def content(self) -> bytes:
        """The signed content."""
        return self.text.encode("ascii", "replace")

    @property
    def what(self) -> tuple[int, str, str, str, str]:
        """The identity of the record."""
        return self.serial, self.digest, self.url, self.commit_id, self.relative_path

    def to_object(self) -> dict[str, Any]:
        """Its form in the file."""
        return {
            "serial": self.serial,
            "digest": self.digest,
            "url": self.url,
            "commitId": self.commit_id,
            "relativePath": self.relative_path,
            "since": self.since,
            "signers": self.signers,
            "text": self.text,
            "signature": self.signature,
        }

    @classmethod
    def from_object(cls, record: Mapping[str, Any]) -> AcceptedRelease:
        """One from the file. Raises whatever a wrong form causes."""
        keys = ("digest", "url", "commitId", "relativePath", "signers", "text", "signature")
        texts = digest, url, commit_id, path, signers, text, signature = tuple(record[key] for key in keys)
        since = float(record["since"])
        if not all(isinstance(one, str) for one in texts) or not 0 <= since < LATEST:
            raise TypeError("expected strings, and a time")
        return cls(int(record["serial"]), digest, url, commit_id, path, since, signers, text, signature)


class AcceptedReleases:
    """The file of an application's accepted releases; it has others if the agent had another application before."""

    def __init__(self, file: Path, app: str) -> None:
        self._file = file
        self._app = app

    def read(self) -> tuple[AcceptedRelease, ...]:
        """All, the latest first; none if there is no file.

        Raises `DeployError`: an unreadable file does not count as empty, or an earlier record could be replayed.
        """
        return self._read_all().get(self._app, ())

    def add(self, release: AcceptedRelease, forgotten: Collection[AcceptedRelease] = ()) -> None:
        """Remember one durably; it replaces the same one with other signers, and those to be `forgotten`.

        Raises `DeployError`.
        """
        known = self._read_all()
        gone = {release.what, *(one.what for one in forgotten)}
        others = [one for one in known.get(self._app, ()) if one.what not in gone]
        # The highest serial stays, however many others there are.
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


def accepted_places(config: Config, layout: Layout, places: Collection[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Those of these commits and places that were accepted and still are by the signers that this host demands now.

    Raises `DeployError`.
    """
    verifier = RecordVerifier(config)
    signers = verifier.digest()
    known = AcceptedReleases(layout.accepted, config.app.root).read()
    candidates = [one for one in known if (one.commit_id, one.relative_path) in places]
    return frozenset(
        (one.commit_id, one.relative_path)
        for one in candidates
        if one.signers == signers or verifier.find_problem(one.content, one.signature, one.since) is None
    )
