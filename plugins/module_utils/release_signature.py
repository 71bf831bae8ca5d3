# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signature of a release's record: what it covers, which serial comes next, and which records a host refuses.

Standard library and records only; publishers, the git hook and the agent ship this same file. Nothing here runs
ssh-keygen: `signed_text` is what publishers have it sign, and hosts verify.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Callable

from .records import InvalidRecord, Release, quote

NAMESPACE = "zoo.deploy"
"""The namespace of such signatures for ssh-keygen: one made for git does not count."""
APP, SERIAL, NOT_AFTER, SIGNATURE = "app", "serial", "notAfter", "signature"
"""The keys that a signed record has in addition to those of a release."""
ROLLOUT = "rollout"
HIGHEST_SERIAL = 2**53 - 1
"""The highest whole number that every JSON reader represents exactly."""
HIGHEST_GIVEN = 10**15
"""The highest that a person may give: far more are left above it."""
LEAP = 1_000_000
"""How far the next serial may be above the last: somebody who has a key for a moment can't use them all up."""
LONGEST = 20_000
"""The most characters of a signature. One with a certificate has a few thousand."""
ARMOUR = "-----BEGIN SSH SIGNATURE-----"


class UntrustedRecord(InvalidRecord):
    """A record that a host which demands a signature does not deploy; the message is the reason."""


@dataclass(frozen=True)
class Accepted:
    """A release that a host has accepted: the serial of its record, and the digest of what was signed."""

    serial: int
    digest: str
    url: str
    commit_id: str
    relative_path: str

    def is_of(self, release: Release) -> bool:
        """Whether it is the same commit of the same repository at the same place."""
        return (self.url, self.commit_id, self.relative_path) == (
            release.url,
            release.commit_id,
            release.relative_path,
        )


def signed_text(app: str, release: Release) -> bytes:
    """What the signature of a release's record in an application covers: canonical JSON, with sorted keys.

    Raises `UntrustedRecord` if it can't be signed.
    """
    content = {
        APP: app,
        "url": release.url,
        "ref": release.ref,
        "commitId": release.commit_id,
        "relativePath": release.relative_path,
        ROLLOUT: release.extra.get(ROLLOUT),
        SERIAL: release.extra.get(SERIAL),
        NOT_AFTER: release.extra.get(NOT_AFTER),
    }
    try:
        # In a reader's form: a publisher's keys may still be numbers, which sort differently.
        read = json.loads(json.dumps(content, allow_nan=False))
        return json.dumps(read, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (ValueError, TypeError, RecursionError) as exc:
        raise UntrustedRecord(f"there is no signature of what it says: {exc}") from exc


def digest_of(text: bytes) -> str:
    """The digest of a signed text, by which a host remembers it."""
    return hashlib.sha256(text).hexdigest()


def check_form(app: str, release: Release) -> None:
    """Refuse a record that has no signature, belongs to another application, or has invalid keys.

    Raises `UntrustedRecord`.
    """
    signature = release.extra.get(SIGNATURE)
    if signature is None:
        raise UntrustedRecord("its record is not signed")
    if not isinstance(signature, str) or not signature.startswith(ARMOUR) or len(signature) > LONGEST:
        raise UntrustedRecord(f"signature: expected what begins with {ARMOUR}, got {quote(signature)}")
    owner = release.extra.get(APP)
    if owner != app:
        raise UntrustedRecord(f"its record was signed for the application {quote(owner)}, not for {app}")
    serial = release.extra.get(SERIAL)
    if not is_serial(serial):
        raise UntrustedRecord(f"serial: expected a whole number from 1 to {HIGHEST_SERIAL}, got {quote(serial)}")
    if release.extra.get(NOT_AFTER) is not None:
        parsed_date(release.extra[NOT_AFTER])


def is_serial(value: object) -> bool:
    """Whether the value is a valid serial."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= HIGHEST_SERIAL


def parsed_date(text: object) -> datetime:
    """The time, with its zone, from an RFC 3339 string. Raises `UntrustedRecord`."""
    expected = f"notAfter: expected a time such as 2026-11-24T10:15:30+00:00, got {quote(text)}"
    if not isinstance(text, str):
        raise UntrustedRecord(expected)
    try:
        date = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in {"Z", "z"} else text)
    except ValueError as exc:
        raise UntrustedRecord(expected) from exc
    if date.tzinfo is None:
        raise UntrustedRecord(expected)
    return date


def has_ended(release: Release, now: datetime) -> bool:
    """Whether the record has expired; one without an end never does. Raises `UntrustedRecord`."""
    not_after = release.extra.get(NOT_AFTER)
    return not_after is not None and parsed_date(not_after) < now


def check_serial(release: Release, digest: str, accepted: Sequence[Accepted]) -> bool:
    """Refuse a record whose serial may not follow those that a host has `accepted`; whether it is the last of these.

    `digest` is that of its signed text. A host that has not accepted any serial takes any. Raises `UntrustedRecord`.
    """
    serial = int(release.extra[SERIAL])
    last = max(accepted, key=lambda one: one.serial, default=None)
    if last is None or not last.serial:
        return False
    if serial == last.serial:
        if digest != last.digest:
            raise UntrustedRecord(f"serial {serial} was accepted here with another content, {last.commit_id}")
        return True
    if serial < last.serial:
        if any((one.serial, one.digest) == (serial, digest) for one in accepted):
            raise UntrustedRecord(f"its record is replayed: serial {serial} was accepted here, and {last.serial} since")
        raise UntrustedRecord(f"serial {serial} is lower than {last.serial}, which was accepted here")
    if serial - last.serial > LEAP:
        raise UntrustedRecord(f"serial {serial} is more than {LEAP} above {last.serial}, which was accepted here")
    return False


def check_date(release: Release, now: datetime) -> None:
    """Refuse an expired record that was not accepted before. Raises `UntrustedRecord`."""
    if has_ended(release, now):
        raise UntrustedRecord(f"its record has expired: it was valid until {release.extra[NOT_AFTER]}")


def check_age(serial: int, below: int, accepted: Iterable[Accepted]) -> None:
    """Refuse a record from the history, which a rollout rolls back to, unless this host has only missed it.

    It has to be older than the desired one, whose serial is `below`, and newer than everything else that the host has
    accepted. Raises `UntrustedRecord`.
    """
    if serial >= below:
        raise UntrustedRecord(f"serial {serial} is not lower than {below}, that of the published release")
    highest = max((one.serial for one in accepted if one.serial < below), default=0)
    if serial < highest:
        raise UntrustedRecord(f"serial {serial} is lower than {highest}, and was never accepted here")


def next_serial(published: Iterable[Release], whom: str, counts: Callable[[Release], bool], *, is_sure: bool) -> int:
    """The serial of the next record: one above the highest of those `published`, now or earlier, that count.

    A record that does not count, because it is not signed by `whom` the publisher knows, was forged by somebody who
    can write but not sign. If such a record has the highest serial, and the publisher is not `is_sure` that it knows
    all who may sign, or no record counts, a person has to decide. Raises `UntrustedRecord`.
    """
    claims = [one for one in published if SIGNATURE in one.extra and is_serial(one.extra.get(SERIAL))]
    claims.sort(key=lambda one: int(one.extra[SERIAL]), reverse=True)
    last = next((one for one in claims if counts(one)), None)
    is_highest = not claims or (last is not None and last.extra[SERIAL] == claims[0].extra[SERIAL])
    if not is_highest and not (is_sure and last):
        what = "give serial, one that is above what hosts have accepted"
        remedy = what if is_sure else f"give signers, the file of all who may publish, or {what[5:]}"
        raise UntrustedRecord(
            f"serial: the record with the highest one, {claims[0].extra[SERIAL]}, is not signed by {whom}; {remedy}"
        )
    serial = int(last.extra[SERIAL]) + 1 if last else 1
    if not is_serial(serial):
        raise UntrustedRecord(f"serial: {serial - 1} is the last that there is; revoke the key that has signed it")
    return serial


def ends_soon(release: Release, now: datetime, lasts: timedelta | None) -> bool:
    """Whether a publisher whose records last this long must renew one: half of that is over, or it has expired.

    Raises `UntrustedRecord`.
    """
    return has_ended(release, now + lasts / 2 if lasts else now)


def unsigned(release: Release) -> Release:
    """The release without what a signature added to its record, as if to be published again."""
    extra = {key: value for key, value in release.extra.items() if key not in {APP, SERIAL, NOT_AFTER, SIGNATURE}}
    return replace(release, extra=extra)


def numbered(app: str, release: Release, serial: int, not_after: str | None) -> Release:
    """The release with everything that is signed; only the signature itself is missing."""
    extra: Mapping[str, Any] = {**unsigned(release).extra, APP: app, SERIAL: serial}
    return replace(release, extra=extra if not_after is None else {**extra, NOT_AFTER: not_after})


def with_signature(release: Release, signature: str) -> Release:
    """The release with the signature of the result of `numbered`."""
    return replace(release, extra={**release.extra, SIGNATURE: signature})
