# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a text is signed by an allowed signer, according to this machine's ssh-keygen.

Standard library only; publishers, the git hook and the agent ship this same file.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import subprocess

LONGEST_TO_VERIFY = 10.0
"""Seconds that ssh-keygen may take; it takes a hundredth of one."""
NOT_RUN = (126, 127)
"""The exit status if ssh-keygen, or one of its libraries, is missing."""
LONGEST_REASON = 500
NOBODY = "No principal matched."
"""ssh-keygen's last line, whatever the reason is."""
REVOKED = "Key is revoked"
"""Its verbose message about a revoked key; any other means that this can't be determined."""
UNTOLD = "it does not verify"
_CHECK = re.compile(r"sshkey_check_revoked(?: failed)?: (.*?)\r?$", re.MULTILINE)
"""The line with that message; versions before 8.5 add `failed`."""
PLAUSIBLE = 1_577_836_800.0
"""The beginning of 2020: a clock with an earlier time is wrong."""


class VerificationError(Exception):
    """Whether a signature counts can't be determined now; `reason` is a word for what is lacking."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class Signers(NamedTuple):
    """The files of allowed signers and of revoked keys; `environment` is what ssh-keygen gets."""

    file: str
    revoked: str | None = None
    environment: Mapping[str, str] | None = None

    def find_problem(self, text: bytes, signature: str, namespace: str, moment: float | None = None) -> str | None:
        """What is wrong with the signature of a text; None for nothing.

        Whether a signer's key is valid is checked for `moment`, a time since the epoch, or for now; whether it is
        revoked, in any case. Raises `VerificationError` if that can't be determined.
        """
        if moment is None or moment < PLAUSIBLE:
            return self.find_signer(text, signature, namespace)[1]
        as_of = f"-Overify-time={time.strftime('%Y%m%d%H%M%S', time.localtime(moment))}"
        # A moment in the future: a clock was wrong then, or is now.
        if moment > time.time() and self.find_signer(text, signature, namespace)[1] is None:
            return None
        return self.find_signer(text, signature, namespace, as_of)[1]

    def find_signer(self, text: bytes, signature: str, namespace: str, *as_of: str) -> tuple[str, str | None]:
        """The signer of a text by the name in their file, and what is wrong; the name is empty if anything is.

        Raises `VerificationError` if that can't be determined.
        """
        with _readable(signature) as given:
            files = ["-f", self.file, *as_of]
            found = self._run(["find-principals", *files], b"", given)
            if found.returncode:
                return "", f"it is signed by nobody in {self.file}: {_reason(found)}"
            why = NOBODY
            names = _lines(found.stdout)
            for principal in [*names, *(name for name in self._names_of(_key_of(signature)) if name not in names)]:
                words = ["verify", "-n", namespace, "-I", principal, *files]
                verified = self._run(words, text, given)
                if verified.returncode:
                    why = _reason(verified)
                    continue
                if self._objection(words, text, given) is not None:
                    return "", f"the key of {principal}, by which it is signed, is revoked in {self.revoked}"
                return principal, None
        return "", f"its signature does not count: {why}"

    def is_revoked(self, text: bytes, signature: str, namespace: str) -> bool:
        """Whether the key of a signature is known to be revoked, whoever may sign by now.

        Raises `VerificationError`.
        """
        if self.revoked is None:
            return False
        with _readable(signature) as given:
            # It checks the revoked keys before it checks who may sign.
            return (
                self._objection(["verify", "-n", namespace, "-I", "anybody", "-f", self.file], text, given) == REVOKED
            )

    def _objection(self, words: Sequence[str], text: bytes, given: _Given) -> str | None:
        """ssh-keygen's objection to a signature by the revoked keys; None for none, `UNTOLD` if it gives no reason.

        Raises `VerificationError` if it can't use them.
        """
        if self.revoked is None:
            return None
        done = self._run([*words, "-vvv", "-r", self.revoked], text, given)
        reasons = _CHECK.findall(done.stderr.decode("utf-8", "replace"))
        if reasons and reasons[0] != REVOKED:
            raise VerificationError(f"revoked keys: {self.revoked}: {reasons[0]}", "disk")
        if reasons:
            return REVOKED
        return UNTOLD if done.returncode else None

    def _names_of(self, key: str | None) -> list[str]:
        """The names with this key: if several lines have it, ssh-keygen names only the first."""
        if key is None:
            return []
        try:
            with open(self.file, encoding="utf-8", errors="surrogateescape") as file:
                lines = [line.strip() for line in file if key in line.split()]
        except OSError as exc:
            raise VerificationError(f"{self.file}: {exc.strerror}", "disk") from exc
        fields = [line[1:].partition('"')[0] if line.startswith('"') else line.split()[0] for line in lines]
        return [name for field in fields for name in field.split(",") if name and not name.startswith(("!", "#"))]

    def _run(self, words: Sequence[str], text: bytes, given: _Given) -> subprocess.CompletedProcess[bytes]:
        # Imported here: an agent that runs no command does not need it in memory.
        import subprocess  # noqa: PLC0415

        given.rewind()
        try:
            done = subprocess.run(
                ["ssh-keygen", "-Y", *words, "-s", given.path],
                input=text,
                capture_output=True,
                timeout=LONGEST_TO_VERIFY,
                check=False,
                pass_fds=[given.descriptor],
                env=self.environment,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as exc:
            raise VerificationError(f"ssh-keygen has not ended within {LONGEST_TO_VERIFY:g} s", "timeout") from exc
        except (OSError, MemoryError) as exc:
            raise VerificationError(f"ssh-keygen can't be started: {str(exc) or 'out of memory'}", "process") from exc
        if done.returncode < 0:
            raise VerificationError(f"ssh-keygen was killed by signal {-done.returncode}", "killed")
        if done.returncode in NOT_RUN:
            raise VerificationError(f"ssh-keygen can't be run: {_reason(done)}; is it being upgraded?", "process")
        return done


def _lines(output: bytes) -> list[str]:
    """The possible signers: one per line, or in earlier versions of ssh-keygen several, separated by commas."""
    text = output.decode("utf-8", "surrogateescape")
    return [name for line in text.splitlines() for name in line.split(",") if name]


def _key_of(signature: str) -> str | None:
    """The public key in an armoured signature, in the form of a file of signers; None if it has another form."""
    lines = [line.strip() for line in signature.splitlines() if not line.startswith("-----")]
    try:
        content = base64.b64decode("".join(lines))
        (length,) = struct.unpack_from(">I", content, 10)
    except (ValueError, struct.error):
        return None
    return base64.b64encode(content[14 : 14 + length]).decode("ascii")


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return "; ".join([line for line in lines if line != NOBODY] or [NOBODY])[:LONGEST_REASON]


class _Given(NamedTuple):
    """An open file, and its path for a child process."""

    descriptor: int
    path: str

    def rewind(self) -> None:
        """Have it read from its beginning: except on Linux, a child shares the position in it."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)


@contextlib.contextmanager
def _readable(text: str) -> Iterator[_Given]:
    """A file with this text: ssh-keygen does not read the signature from a stream. Raises `VerificationError`."""
    try:
        given = _in_memory() if hasattr(os, "memfd_create") else _on_disk()
    except OSError as exc:
        raise VerificationError(f"no file for a signature: {exc.strerror}", "process") from exc
    try:
        os.write(given.descriptor, text.encode("utf-8", "replace"))
        yield given
    except OSError as exc:
        raise VerificationError(f"a signature can't be handed to ssh-keygen: {exc.strerror}", "process") from exc
    finally:
        os.close(given.descriptor)


def _in_memory() -> _Given:
    descriptor = os.memfd_create("signature")
    return _Given(descriptor, f"/proc/self/fd/{descriptor}")


def _on_disk() -> _Given:
    import tempfile  # noqa: PLC0415

    descriptor, name = tempfile.mkstemp(prefix="signature")
    os.unlink(name)
    return _Given(descriptor, f"/dev/fd/{descriptor}")
