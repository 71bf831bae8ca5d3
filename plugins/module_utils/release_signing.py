# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a publisher signs the record of a release, with an SSH key."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from .connection import ZooKeeperError
from .records import AppPaths, InvalidRecord, Release, quote
from .release_signature import HIGHEST_GIVEN, NAMESPACE, SIGNATURE, is_serial, numbered, signed_text, with_signature
from .release_trust import ReleaseTrust
from .releases import Published, read_history

LONGEST_TO_SIGN = 60.0
"""Seconds that ssh-keygen may take: a hardware key waits for a touch."""
MOST_DAYS = 36_500
ASKS = frozenset({"DISPLAY", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "WAYLAND_DISPLAY"})
"""The environment variables by which ssh-keygen would ask a person for a passphrase."""

SIGNING_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "sign_with": {"type": "path"},
    "signers": {"type": "path"},
    "sign_days": {"type": "float"},
}
"""The publisher's options for signing, in the form of a module's options."""


class SigningError(ZooKeeperError):
    """The record can't be signed, so nothing is published."""


def check_signing(options: Mapping[str, Any]) -> None:
    """Raise an `InvalidRecord` if the options are invalid."""
    days, serial, key = options["sign_days"], options.get("serial"), options["sign_with"]
    for name, value in (("signers", options["signers"]), ("sign_days", days), ("serial", serial)):
        if value is not None and not key:
            raise InvalidRecord(f"{name}: only with sign_with, the key that signs the record")
    if days is not None and not 0 < days <= MOST_DAYS:
        raise InvalidRecord(f"sign_days: expected more than 0 and at most {MOST_DAYS}, got {days:g}")
    if serial is not None and not (is_serial(serial) and serial <= HIGHEST_GIVEN):
        raise InvalidRecord(f"serial: expected a whole number from 1 to {HIGHEST_GIVEN}, got {serial}")
    for name in ("sign_with", "signers"):
        if options[name] and not os.path.isfile(options[name]):
            raise InvalidRecord(f"{name}: no file at {quote(options[name])}")


def trust_of(client: Any, paths: AppPaths, options: Mapping[str, Any]) -> ReleaseTrust | None:
    """Whom and what a signing publisher trusts; None for one that does not sign. Raises `ZooKeeperError`."""
    key, signers = options["sign_with"], options["signers"]
    return ReleaseTrust(paths, key, signers, read_history(client, paths)) if key else None


def lacks_signature(trust: ReleaseTrust | None, options: Mapping[str, Any], published: Release | None) -> bool:
    """Whether the published release must be published again, because its signature does not count, or not for long."""
    return trust is not None and published is not None and trust.needs_signature(published, _lasts(options))


def why_refused(before: Release | None) -> str | None:
    """The warning about a release that is not signed, if the one `before` was."""
    if before is None or SIGNATURE not in before.extra:
        return None
    return "the previous release was signed, and this one is not: a host that demands a signature refuses it"


def _lasts(options: Mapping[str, Any]) -> timedelta | None:
    days = options["sign_days"]
    return None if days is None else timedelta(days=days)


def with_serial(
    paths: AppPaths, trust: ReleaseTrust, options: Mapping[str, Any], release: Release, before: Published
) -> Release:
    """The release with the serial that follows what was published `before` and in the history, and with its end.

    Raises `InvalidRecord`.
    """
    serial, lasts = options.get("serial"), _lasts(options)
    if serial is None:
        serial = trust.next_serial(before.release)
    else:
        trust.check_given(before.release, serial)
    end = None if lasts is None else (datetime.now(timezone.utc) + lasts).isoformat(timespec="seconds")
    return numbered(paths.root, release, serial, end)


def sign(paths: AppPaths, trust: ReleaseTrust, key: str, release: Release) -> Release:
    """The numbered release, signed so that hosts accept it. Raises `SigningError`, `InvalidRecord`.

    To be called last of all: a hardware key has to be touched for it.
    """
    signed = with_signature(release, signature_of(signed_text(paths.root, release), key))
    problem = trust.find_problem(signed)
    if problem:
        raise SigningError(f"sign_with: {key}: {problem}; nothing is published")
    return signed


def signature_of(text: bytes, key: str) -> str:
    """The signature of a text by the key in a file, or by an ssh-agent's key if the file is the public half.

    Raises `SigningError`.
    """
    command = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", key]
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            timeout=LONGEST_TO_SIGN,
            check=False,
            # Nobody is asked for a passphrase, on a terminal or a desktop.
            env=without_askpass(),
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as exc:
        raise SigningError(f"sign_with: {key}: ssh-keygen has not signed within {LONGEST_TO_SIGN:g} s") from exc
    except OSError as exc:
        raise SigningError(f"sign_with: ssh-keygen: {exc.strerror}; install OpenSSH's client") from exc
    if done.returncode:
        raise SigningError(f"sign_with: {key}: {_reason(done.stderr)}")
    return done.stdout.decode("ascii", "replace")


def _reason(output: bytes) -> str:
    """ssh-keygen's reason for not signing."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    said = "; ".join(line for line in lines if not line.startswith(("@", "Signing data on standard input")))
    return f"ssh-keygen does not sign with it: {said or 'it gives no reason'}"


def without_askpass() -> dict[str, str]:
    """The environment, without the variables by which ssh-keygen would ask a person."""
    return {name: value for name, value in os.environ.items() if name not in ASKS}
