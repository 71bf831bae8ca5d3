# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a text is signed by somebody who is allowed to, as ssh-keygen of this host says."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zoo_watcher.errors import KilledError, PassingError

from .command import inherited

if TYPE_CHECKING:
    import subprocess

LONGEST_TO_VERIFY = 10.0
"""Seconds that ssh-keygen may take; it takes a hundredth of one."""
LONGEST_REASON = 500
NOBODY = "No principal matched."
"""What ssh-keygen says at the end, whatever the reason is."""


def find_problem(
    text: bytes, signature: str, namespace: str, signers: str, revoked: str | None, moment: float | None = None
) -> str | None:
    """What is wrong with the signature of a text, None for nothing; `signers` and `revoked` are files.

    Whether a key of the signers is valid is looked at for `moment`, a time since the epoch, or for now; whether it is
    revoked, in any case. Raises `PassingError` where that can't be found out.
    """
    with _in_memory(signature) as descriptor:
        given = ["-s", f"/proc/self/fd/{descriptor}", "-f", signers]
        if moment is not None:
            given.append(f"-Overify-time={time.strftime('%Y%m%d%H%M%S', time.localtime(moment))}")
        found = _run(["find-principals", *given], b"", descriptor)
        if found.returncode:
            return f"it is signed by nobody in {signers}: {_reason(found)}"
        why = NOBODY
        for principal in _principals(found.stdout):
            words = ["verify", "-n", namespace, "-I", principal, *given]
            verified = _run(words, text, descriptor)
            why = _reason(verified)
            if verified.returncode:
                continue
            if revoked is not None and _run([*words, "-r", revoked], text, descriptor).returncode:
                return f"the key of {principal}, by which it is signed, is revoked in {revoked}"
            return None
    return f"its signature does not count: {why}"


def _principals(output: bytes) -> list[str]:
    """Who may have signed: a line each, or of earlier versions of ssh-keygen several with commas between them."""
    return [name for line in output.decode("utf-8", "replace").splitlines() for name in line.split(",") if name]


def _run(words: Sequence[str], text: bytes, descriptor: int) -> subprocess.CompletedProcess[bytes]:
    # Imported here: an agent that runs no command has nothing of it in its memory.
    import subprocess  # noqa: PLC0415

    try:
        done = subprocess.run(
            ["ssh-keygen", "-Y", *words],
            input=text,
            capture_output=True,
            timeout=LONGEST_TO_VERIFY,
            check=False,
            pass_fds=[descriptor],
            env=inherited(),
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as exc:
        raise PassingError(f"ssh-keygen has not ended within {LONGEST_TO_VERIFY:g} s", "timeout") from exc
    except (OSError, MemoryError) as exc:
        raise PassingError(f"ssh-keygen can't be started: {str(exc) or 'out of memory'}", "process") from exc
    if done.returncode < 0:
        raise KilledError(f"ssh-keygen was killed by signal {-done.returncode}")
    return done


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return "; ".join([line for line in lines if line != NOBODY] or [NOBODY])[:LONGEST_REASON]


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[int]:
    """The descriptor of a file with this text: ssh-keygen takes the signature from none of its streams."""
    descriptor = os.memfd_create("signature")
    try:
        os.write(descriptor, text.encode("utf-8", "replace"))
        yield descriptor
    finally:
        os.close(descriptor)
