# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a signing publisher may take from the ensemble: only what is signed by somebody it trusts.

Its signature would vouch for anything it took from other records.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from .connection import ZooKeeperError
from .records import HISTORY_LIMIT, AppPaths, InvalidRecord, Release
from .release_signature import (
    LEAP,
    NAMESPACE,
    ROLLOUT,
    SERIAL,
    SIGNATURE,
    UntrustedRecord,
    check_form,
    ends_soon,
    is_serial,
    next_serial,
    parsed_date,
    signed_text,
)
from .releases import HistoryEntry
from .ssh_signature import Signers, VerificationError

_PUBLIC = re.compile(r"(ssh|ecdsa|sk)-[A-Za-z0-9@.-]+")
"""The type of a public key, the first word of its file."""
FROM = "from"


class ReleaseTrust:
    """Whom a publisher trusts in an application: all in the file `signers`; without one, the holder of its own `key`.

    `history` is what was published, the newest first.
    """

    def __init__(self, paths: AppPaths, key: str, signers: str | None, history: Sequence[HistoryEntry] = ()) -> None:
        """Raises `ZooKeeperError`."""
        self._history = [entry for entry in history[:HISTORY_LIMIT] if entry.release]
        self._app = paths.root
        self._policy = paths.policy
        self._is_sure = signers is not None
        self.whom = f"anybody in {signers}" if signers else f"the key {key}"
        self._own = None if signers else _file_of(key)
        self._signers = Signers(signers or str(self._own and self._own.name))
        self._label = signers or f"the public half of {key}"
        self._problems: dict[tuple[str, bytes, float | None], str | None] = {}

    def find_problem(self, release: Release, moment: float | None = None) -> str | None:
        """Why a record is not trusted; None if it is signed, as of a moment or now.

        Raises `ZooKeeperError` if that can't be determined.
        """
        try:
            check_form(self._app, release)
            signature, text = release.extra[SIGNATURE], signed_text(self._app, release)
        except UntrustedRecord as exc:
            return str(exc)
        what = signature, text, moment
        if what not in self._problems:
            try:
                self._problems[what] = self._signers.find_problem(text, signature, NAMESPACE, moment)
            except VerificationError as exc:
                raise ZooKeeperError(f"sign_with: what is published can't be verified: {exc}") from exc
        problem = self._problems[what]
        return problem and problem.replace(self._signers.file, self._label)

    def counts(self, release: Release) -> bool:
        """Whether a record is signed, now or when it was published: it counts even if its key has expired since.

        That time is not signed: to keep out somebody who has an expired key, delete the key from the file.
        """
        if self.find_problem(release) is None:
            return True
        moment = _published_at(release)
        return moment is not None and self.find_problem(release, moment) is None

    def why_untrusted(self, published: Release) -> str | None:
        """Why the published release is not trusted; None if it counts, and is not an earlier record republished."""
        if not self.counts(published):
            return self.find_problem(published)
        return self._newer_than(published)

    def trusted_history(self) -> list[HistoryEntry]:
        """The entries of the history that count, the highest serial first: anybody who can write can reorder them."""
        signed = [entry for entry in self._history if entry.release and self.counts(entry.release)]
        return sorted(signed, key=lambda entry: _serial(entry.release), reverse=True)

    def next_serial(self, published: Release | None) -> int:
        """The serial of the record after the published one. Raises `InvalidRecord` if a person has to give it."""
        return next_serial(self._known(published), self.whom, self.counts, is_sure=self._is_sure)

    def check_given(self, published: Release | None, serial: int) -> None:
        """Refuse a serial that hosts would refuse after the highest one that counts. Raises `InvalidRecord`."""
        highest = max((_serial(one) for one in self._known(published) if self.counts(one)), default=0)
        if serial <= highest:
            raise InvalidRecord(
                f"serial: {serial} is not above {highest}, the last one, so hosts would refuse it; leave serial out"
            )
        if highest and serial - highest > LEAP:
            raise InvalidRecord(
                f"serial: {serial} is more than {LEAP} above {highest}, the last one, so hosts would refuse it"
            )

    def _known(self, published: Release | None) -> list[Release]:
        """The published release, and those before."""
        return [one for one in (published, *(entry.release for entry in self._history)) if one]

    def needs_signature(self, published: Release, lasts: timedelta | None) -> bool:
        """Whether the published record lacks a signature that counts for long enough, or hosts have a newer record."""
        if self.find_problem(published) is not None or self._newer_than(published):
            return True
        return ends_soon(published, datetime.now(timezone.utc), lasts)

    def _newer_than(self, published: Release) -> str | None:
        """The problem with a signed record that was republished after a later one that counts."""
        serial = _serial(published)
        later = (entry.release for entry in self._history if _serial(entry.release) > serial)
        newer = next((one for one in later if one and self.counts(one)), None)
        if newer is None:
            return None
        return f"its record is replayed: its serial is {serial}, and {_serial(newer)} was published since"

    def check_plan(self, release: Release) -> None:
        """Refuse a policy's plan that names a release: the policy is not signed. Raises `InvalidRecord`."""
        if release.extra != without_from(release).extra:
            raise InvalidRecord(
                f"{self._policy}: rollout.from: the policy is not signed, so it names no release in a signed record; "
                "name it in rollout"
            )


def without_from(release: Release) -> Release:
    """The release with a plan that names no earlier release."""
    plan = release.extra.get(ROLLOUT)
    if not isinstance(plan, Mapping) or plan.get(FROM) is None:
        return release
    left = {key: value for key, value in plan.items() if key != FROM}
    return replace(release, extra={**release.extra, ROLLOUT: left})


def _serial(release: Release | None) -> int:
    """The serial of a record; 0 if it has none."""
    serial: Any = release.extra.get(SERIAL) if release else None
    return int(serial) if is_serial(serial) else 0


def _published_at(release: Release) -> float | None:
    """When a record says that it was published; None if that is invalid or in the future."""
    try:
        moment = parsed_date(release.published_at).timestamp()
    except (UntrustedRecord, ValueError, OverflowError):
        return None
    return moment if moment <= datetime.now(timezone.utc).timestamp() else None


def _file_of(key: str) -> tempfile._TemporaryFileWrapper[str]:
    """A file of allowed signers with only this key. Raises `ZooKeeperError`."""
    try:
        file = tempfile.NamedTemporaryFile("w", prefix="signers", encoding="utf-8")  # noqa: SIM115  # as long as its object
        file.write(f"publisher {_public_half(key)}\n")
        file.flush()
    except OSError as exc:
        raise ZooKeeperError(f"sign_with: no file for its public half: {exc.strerror}") from exc
    return file


def _public_half(key: str) -> str:
    """The public key for a key file, which may hold the private one. Raises `ZooKeeperError`."""
    words = next(filter(None, map(_public_words, (key, f"{key}.pub"))), [])
    if not words:
        command = ["ssh-keygen", "-y", "-P", "", "-f", key]
        try:
            done = subprocess.run(command, capture_output=True, timeout=10, check=False, stdin=subprocess.DEVNULL)
            words = done.stdout.decode("utf-8", "replace").split()
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise ZooKeeperError(f"sign_with: ssh-keygen: {exc}; install OpenSSH's client") from exc
    if len(words) < 2 or "-cert-" in words[0]:
        raise ZooKeeperError(
            f"sign_with: {key}: its public half is not known, by which to verify what is published; "
            f"give signers, the file of all who may publish, or have it in {key}.pub"
        )
    return " ".join(words[:2])


def _public_words(path: str) -> list[str]:
    """The words of a public key file; none if it is not one."""
    if not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        words = file.readline().split()
    return words if len(words) > 1 and _PUBLIC.fullmatch(words[0]) else []
