# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks this host's ssh-keygen about the signature on a record, each question once while the signers stay the same."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from zoo_watcher.config.config import Config
from zoo_watcher.errors import KilledError, PassingError
from zoo_watcher.host.command import inherited
from zoo_watcher.wire.release_signature import NAMESPACE, digest_of
from zoo_watcher.wire.ssh_signature import Signers, VerificationError

from .release_directory import allowed_signers

MOST_KNOWN = 1000
"""The most answers remembered: somebody may write more and more records that nobody has signed."""
ANEW = 30.0
"""Seconds after which a refused signature is checked again: the clock may have been wrong, or a key is now valid."""


class RecordVerifier:
    """Used on a host that demands a signature. Raises `PassingError` if something can't be told now."""

    def __init__(self, config: Config) -> None:
        self._files = str(config.require_signature), config.revoked_signers
        self._digest = ""
        self._problems: dict[tuple[str, float | None], tuple[str | None, float]] = {}
        self._revoked: dict[str, bool] = {}

    def digest(self) -> str:
        """The digest of those who may sign now, by which all other answers are remembered."""
        digest = str(allowed_signers(*self._files))
        if digest != self._digest or len(self._problems) > MOST_KNOWN:
            self._digest, self._problems, self._revoked = digest, {}, {}
        return digest

    def find_problem(self, text: bytes, signature: str, moment: float | None = None) -> str | None:
        """Why a signature does not count, now or as of a moment; None if it does."""
        what = _digest_of(text, signature), moment
        problem, asked = self._problems.get(what, (None, None))
        if asked is None or (problem and time.monotonic() - asked >= ANEW):
            with _translated():
                problem = self._signers().find_problem(text, signature, NAMESPACE, moment)
            self._check_unchanged()
            self._problems[what] = problem, time.monotonic()
        return problem

    def is_revoked(self, text: bytes, signature: str) -> bool:
        """Whether the signing key is revoked by now."""
        what = _digest_of(text, signature)
        if what not in self._revoked:
            with _translated():
                revoked = self._signers().is_revoked(text, signature, NAMESPACE)
            self._check_unchanged()
            self._revoked[what] = revoked
        return self._revoked[what]

    def _signers(self) -> Signers:
        return Signers(*self._files, inherited())

    def _check_unchanged(self) -> None:
        if self._digest != allowed_signers(*self._files):
            raise PassingError("require_signature: the signers were changed meanwhile", "disk")


def _digest_of(text: bytes, signature: str) -> str:
    """The key by which an answer is remembered: a record may be long."""
    return digest_of(text) + digest_of(signature.encode("utf-8", "replace"))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except VerificationError as exc:
        raise KilledError(str(exc)) if exc.reason == "killed" else PassingError(str(exc), exc.reason) from exc
