# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a publisher signs the record of a release, with a key of SSH."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from .connection import ZooKeeperError
from .records import AppPaths, InvalidRecord, Release, quote
from .release_signature import (
    HIGHEST_SERIAL,
    NAMESPACE,
    is_serial,
    needs_signature,
    next_serial,
    numbered,
    signed_text,
    with_signature,
)
from .releases import Published, read_history

LONGEST_TO_SIGN = 60.0
"""Seconds that ssh-keygen may take: a key in hardware waits for a touch."""
MOST_DAYS = 36_500

SIGNING_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "sign_with": {"type": "path"},
    "sign_days": {"type": "float"},
}
"""What a publisher has to say of it, in the form of a module's options."""


class SigningError(ZooKeeperError):
    """The record can't be signed, so nothing is published."""


def check_signing(options: Mapping[str, Any]) -> None:
    """Raise an `InvalidRecord` where the options can't be followed."""
    days, serial, key = options["sign_days"], options.get("serial"), options["sign_with"]
    for name, value in (("sign_days", days), ("serial", serial)):
        if value is not None and not key:
            raise InvalidRecord(f"{name}: only with sign_with, the key that signs the record")
    if days is not None and not 0 < days <= MOST_DAYS:
        raise InvalidRecord(f"sign_days: expected more than 0 and at most {MOST_DAYS}, got {days:g}")
    if serial is not None and not is_serial(serial):
        raise InvalidRecord(f"serial: expected a whole number from 1 to {HIGHEST_SERIAL}, got {serial}")
    if key and not os.path.isfile(key):
        raise InvalidRecord(f"sign_with: no file at {quote(key)}")


def lacks_signature(options: Mapping[str, Any], published: Release | None) -> bool:
    """Whether what is published is to be published anew, because it has no signature that counts."""
    return bool(options["sign_with"]) and published is not None and needs_signature(published, _now())


def with_serial(
    client: Any, paths: AppPaths, options: Mapping[str, Any], release: Release, before: Published
) -> Release:
    """The release with the serial that follows what is published `before` and in the history, and with its end."""
    known = [before.release, *(entry.release for entry in read_history(client, paths))]
    serial = options.get("serial") or next_serial(one for one in known if one is not None)
    days = options["sign_days"]
    end = None if days is None else (_now() + timedelta(days=days)).isoformat(timespec="seconds")
    return numbered(paths.root, release, serial, end)


def sign(paths: AppPaths, key: str, release: Release) -> Release:
    """The release that has its number, signed. Raises `SigningError`, `InvalidRecord`."""
    return with_signature(release, signature_of(signed_text(paths.root, release), key))


def signature_of(text: bytes, key: str) -> str:
    """The signature of a text by the key in a file, or by one that an ssh-agent has where the file is the public half.

    Raises `SigningError`.
    """
    command = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", key]
    try:
        # In a session of its own: nobody is asked for a passphrase on a terminal.
        done = subprocess.run(
            command, input=text, capture_output=True, timeout=LONGEST_TO_SIGN, check=False, start_new_session=True
        )
    except subprocess.TimeoutExpired as exc:
        raise SigningError(f"sign_with: {key}: ssh-keygen has not signed within {LONGEST_TO_SIGN:g} s") from exc
    except OSError as exc:
        raise SigningError(f"sign_with: ssh-keygen: {exc.strerror}; install OpenSSH's client") from exc
    if done.returncode:
        raise SigningError(f"sign_with: {key}: {_reason(done.stderr)}")
    return done.stdout.decode("ascii", "replace")


def _reason(output: bytes) -> str:
    """What ssh-keygen says of why it has not signed."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    said = "; ".join(line for line in lines if not line.startswith(("@", "Signing data on standard input")))
    return f"ssh-keygen does not sign with it: {said or 'it gives no reason'}"


def _now() -> datetime:
    return datetime.now(timezone.utc)
