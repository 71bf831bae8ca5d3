# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this host may deploy a release, as far as the signature of its record says.

`release_signature.py` has the rules, ssh-keygen verifies; here both are asked, and what was accepted is remembered.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Callable

from zoo_watcher.config.config import Config
from zoo_watcher.errors import DeployError, PassingError, SessionTroubleError
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.ssh_signature import find_problem
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.release_signature import (
    NAMESPACE,
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
from .release_directory import allowed_signers


class RecordTrust:
    """Used by the loop alone, on a host that demands a signature."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self._app = config.app.root
        self._files = str(config.require_signature), config.revoked_signers
        self._memory = AcceptedReleases(layout.accepted, self._app)

    def find_refusal(self, release: Release) -> str | None:
        """Why the release that is published is refused; None where it is accepted, which is on the disk by then.

        Raises `SessionTroubleError` where that can't be told now.
        """
        try:
            with self._verifying("the published record") as signers:
                self._accept(release, signers)
        except UntrustedRecord as exc:
            return str(exc)
        return None

    def check_stable(self, stable: Release, desired: Release, history: Callable[[], Iterable[Release]]) -> None:
        """Refuse a release that a rollout has this host go back to, unless a signature vouches for it.

        Every agent may write the rollout. It may be a release that was accepted here, or that the signed record of the
        desired one names, or one in the `history` that this host has missed. Raises `UntrustedRecord`, and
        `SessionTroubleError` where that can't be told now.
        """
        with self._verifying("the release of before") as signers:
            known = self._memory.read()
            if any(one.is_of(stable) and one.signers == signers for one in known):
                return
            if _is_named(stable, desired):
                self._remember(stable, 0, "", signers)
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
            f"{stable.commit_id} of {stable.url} is not deployed: it is to be the release of before, and was not "
            f"accepted here by its signature: {why}"
        )

    def find_staleness(self, release: Release) -> str | None:
        """What there is to tell of an accepted release whose time is over; it stays."""
        if not has_ended(release, datetime.now(timezone.utc)):
            return None
        end = release.extra[NOT_AFTER]
        return (
            f"the published record counted until {end}, and no newer one has come; publish, or find who keeps it back"
        )

    @contextlib.contextmanager
    def _verifying(self, what: str) -> Iterator[str]:
        """The digest of the present signers. Raises `SessionTroubleError` for what may be otherwise the next time."""
        try:
            signers = str(allowed_signers(*self._files))
            yield signers
            if signers != allowed_signers(*self._files):
                raise PassingError("require_signature: the signers were changed meanwhile", "disk")
        except DeployError as exc:
            raise SessionTroubleError(f"{what} can't be verified now: {exc}") from exc

    def _accept(self, release: Release, signers: str) -> None:
        check_form(self._app, release)
        text = signed_text(self._app, release)
        digest, known = digest_of(text), self._memory.read()
        is_last = check_serial(release, digest, known)
        before = _find(known, release, digest) if is_last else None
        if before is not None and before.signers == signers:
            return
        if before is None:
            check_date(release, datetime.now(timezone.utc))
        self._verify(release, text, before)
        self._remember(release, int(release.extra[SERIAL]), digest, signers, before)

    def _accept_past(self, past: Release, desired: Release, known: tuple[AcceptedRelease, ...], signers: str) -> None:
        check_form(self._app, past)
        check_age(int(past.extra[SERIAL]), int(desired.extra[SERIAL]), known)
        text = signed_text(self._app, past)
        digest = digest_of(text)
        before = _find(known, past, digest)
        self._verify(past, text, before)
        self._remember(past, int(past.extra[SERIAL]), digest, signers, before)

    def _verify(self, release: Release, text: bytes, before: AcceptedRelease | None) -> None:
        # What was accepted before was signed by then: that the key has ended since takes nothing from it.
        moment = before.since if before else None
        problem = find_problem(text, release.extra[SIGNATURE], NAMESPACE, *self._files, moment)
        if problem:
            raise UntrustedRecord(problem)

    def _remember(
        self, release: Release, serial: int, digest: str, signers: str, before: AcceptedRelease | None = None
    ) -> None:
        since = before.since if before else time.time()
        what = release.url, release.commit_id, release.relative_path
        self._memory.add(AcceptedRelease(serial, digest, *what, since, signers))


def _find(known: Iterable[AcceptedRelease], release: Release, digest: str) -> AcceptedRelease | None:
    serial = release.extra[SERIAL]
    return next((one for one in known if (one.serial, one.digest) == (serial, digest)), None)


def _is_named(stable: Release, desired: Release) -> bool:
    """Whether the signed plan of the desired release names it: the same repository and place, and `from`."""
    plan = desired.extra.get(ROLLOUT)
    named = plan.get("from") if isinstance(plan, Mapping) else None
    return Accepted(0, "", desired.url, str(named).lower(), desired.relative_path).is_of(stable)
