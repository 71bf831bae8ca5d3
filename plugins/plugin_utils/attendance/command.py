# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's command that runs on the controller; its environment and its input describe the rollout."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.child_session import ended_with_this, kill

LONGEST = 64_000
"""Bytes of a command's output that are kept, from its beginning."""
LAST_WORDS = 1.0
"""Seconds to read the output to its end after the command has exited: processes it left behind may hold it open."""


class CommandEnd(NamedTuple):
    """How a command ended: its exit status (None if it has none, then `problem` has the reason) and its output."""

    status: int | None
    output: str = ""
    problem: str = ""


def run(words: Sequence[str], seconds: float, environment: Mapping[str, str], given: str) -> CommandEnd:
    """Run a command without a shell, for at most `seconds`; `environment` is added to that of the controller.

    `given` is its input. If it takes too long, or Ansible is told to stop, everything it has started is stopped too.
    """
    # A pipe would block if the command did not read it.
    with tempfile.TemporaryFile() as told, ended_with_this() as started:
        told.write(given.encode())
        told.seek(0)
        try:
            process = subprocess.Popen(
                list(words),
                stdin=told,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            return CommandEnd(None, problem=f"can't be started: {getattr(exc, 'strerror', None) or type(exc).__name__}")
        started(process)
        return _wait(process, seconds)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> CommandEnd:
    kept = bytearray()
    reader = threading.Thread(target=_read, args=(process.stdout, kept), daemon=True)
    reader.start()
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        return CommandEnd(None, problem=f"has not ended within {seconds:g} s")
    reader.join(LAST_WORDS)
    output = bytes(kept).decode("utf-8", "replace")
    return CommandEnd(status, output) if status >= 0 else CommandEnd(None, output, f"was killed by signal {-status}")


def _read(pipe: Any, kept: bytearray) -> None:
    """Read to the end, so that the command is never blocked; the beginning is kept."""
    for chunk in iter(lambda: pipe.read1(LONGEST), b""):
        kept.extend(chunk[: LONGEST - len(kept)])
