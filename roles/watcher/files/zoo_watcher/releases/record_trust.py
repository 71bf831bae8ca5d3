# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this host may deploy a release, as far as the signature on its record says.

`release_signature.py` has the rules, ssh-keygen verifies; this module asks both, and remembers what was accepted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Callable

from zoo_watcher.config.config import Config
from zoo_watcher.errors import DeployError, SessionTroubleError
from zoo_watcher.host.layout import Layout
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.release_signature import (
    NOT_AFTER,
    ROLLOUT,
    SERIAL,
    SIGNATURE,
    Accepted,
    UntrustedRecord,
    check_age,
    check_date,
    check_form,
    check_serial,
    digest_of,
    has_ended,
    signed_text,
)

from .accepted_releases import AcceptedRelease, AcceptedReleases
from .record_verifier import RecordVerifier


class RecordTrust:
    """Used only by the loop, on a host that demands a signature."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self._app = config.app.root
        self._verifier = RecordVerifier(config)
        self._memory = AcceptedReleases(layout.accepted, self._app)

    def find_refusal(self, release: Release) -> str | None:
        """Why the published release is refused; None if it is accepted, which is on the disk by then.

        Raises `SessionTroubleError` if that can't be told now.
        """
        try:
            with self._verifying("the published record") as signers:
                self._accept(release, signers)
        except UntrustedRecord as exc:
            return str(exc)
        return None

    def check_stable(self, stable: Release, desired: Release, history: Callable[[], Iterable[Release]]) -> None:
        """Refuse a release that a rollout has this host roll back to, unless a signature vouches for it.

        Every agent may write the rollout. It may be a release that was accepted here, or that the signed record of the
        desired one names, or one in the `history` that this host has missed. Raises `UntrustedRecord`, and
        `SessionTroubleError` if that can't be told now.
        """
        with self._verifying("the previous release") as signers:
            known = self._memory.read()
            if any(one.is_of(stable) and self._counts_still(one, signers) for one in known):
                return
            if _is_named(stable, desired):
                self._remember(stable, desired, 0, signers)
                return
            why = "its record is not in the history"
            for past in history():
                if past.same_as(stable):
                    try:
                        self._accept_past(past, desired, known, signers)
                    except UntrustedRecord as exc:
                        why = str(exc)
                    else:
                        return
        raise UntrustedRecord(
            f"{stable.commit_id} of {stable.url} is not deployed: it is to be the previous release, and was not "
            f"accepted here by its signature: {why}"
        )

    def find_staleness(self, release: Release) -> str | None:
        """What to report about an accepted release whose validity has ended; the release stays."""
        if not has_ended(release, datetime.now(timezone.utc)):
            return None
        end = release.extra[NOT_AFTER]
        return (
            f"the published record was valid until {end}, and no newer one has come; publish, or find who keeps it back"
        )

    @contextlib.contextmanager
    def _verifying(self, what: str) -> Iterator[str]:
        """The digest of the current signers. Raises `SessionTroubleError` for what may pass."""
        try:
            yield self._verifier.digest()
        except DeployError as exc:
            raise SessionTroubleError(f"{what} can't be verified now: {exc}") from exc

    def _accept(self, release: Release, signers: str) -> None:
        check_form(self._app, release)
        text = signed_text(self._app, release)
        digest = digest_of(text)
        revoked, known = self._without_revoked(self._memory.read(), signers)
        is_last = check_serial(release, digest, known)
        before = _find(known, release, digest) if is_last else None
        if before is not None and before.signers == signers:
            return
        if before is None:
            check_date(release, datetime.now(timezone.utc))
        self._verify(release, text, before)
        self._remember(release, release, int(release.extra[SERIAL]), signers, before, revoked)

    def _accept_past(self, past: Release, desired: Release, known: Sequence[AcceptedRelease], signers: str) -> None:
        check_form(self._app, past)
        _revoked, known = self._without_revoked(known, signers)
        check_age(int(past.extra[SERIAL]), int(desired.extra[SERIAL]), known)
        text = signed_text(self._app, past)
        before = _find(known, past, digest_of(text))
        if before is None:
            check_date(past, datetime.now(timezone.utc))
        self._verify(past, text, before)
        self._remember(past, past, int(past.extra[SERIAL]), signers, before)

    def _without_revoked(
        self, known: Sequence[AcceptedRelease], signers: str
    ) -> tuple[list[AcceptedRelease], list[AcceptedRelease]]:
        """The releases with the highest serials whose key is revoked by now, and the rest, the highest first.

        A thief of a key may have given the highest possible serial; it no longer counts once the key is revoked.
        """
        left = sorted(known, key=lambda one: one.serial, reverse=True)
        revoked = []
        while left and left[0].signers != signers and self._verifier.is_revoked(left[0].content, left[0].signature):
            revoked.append(left.pop(0))
        return revoked, left

    def _counts_still(self, one: AcceptedRelease, signers: str) -> bool:
        """Whether an accepted release still is, with the current signers; that is remembered."""
        if one.signers != signers:
            if self._verifier.find_problem(one.content, one.signature, one.since):
                return False
            self._memory.add(replace(one, signers=signers))
        return True

    def _verify(self, release: Release, text: bytes, before: AcceptedRelease | None) -> None:
        # What was accepted before was signed by then: that the key has expired since does not matter.
        problem = self._verifier.find_problem(text, release.extra[SIGNATURE], before.since if before else None)
        if problem:
            raise UntrustedRecord(problem)

    def _remember(
        self,
        release: Release,
        record: Release,
        serial: int,
        signers: str,
        before: AcceptedRelease | None = None,
        forgotten: Sequence[AcceptedRelease] = (),
    ) -> None:
        """Remember a release that is accepted by the signature on a record, its own or one that names it."""
        since = before.since if before else time.time()
        text = signed_text(self._app, record)
        what = release.url, release.commit_id, release.relative_path
        accepted = AcceptedRelease(
            serial, digest_of(text), *what, since, signers, text.decode("ascii"), record.extra[SIGNATURE]
        )
        self._memory.add(accepted, forgotten)


def _find(known: Iterable[AcceptedRelease], release: Release, digest: str) -> AcceptedRelease | None:
    serial = release.extra[SERIAL]
    return next((one for one in known if (one.serial, one.digest) == (serial, digest)), None)


def _is_named(stable: Release, desired: Release) -> bool:
    """Whether the signed plan of the desired release names `stable`: the same repository and place, and `from`."""
    plan = desired.extra.get(ROLLOUT)
    named = plan.get("from") if isinstance(plan, Mapping) else None
    return Accepted(0, "", desired.url, str(named).lower(), desired.relative_path).is_of(stable)
