# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command of the user's that runs on the controller, told by its environment and its input how a rollout is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

LONGEST = 64_000
"""Bytes of a command's output that are kept, from its beginning."""
LAST_WORDS = 1.0
"""Seconds in which the output is read to its end, once the command has ended: what it left behind may hold it open."""
ENDING = (signal.SIGINT, signal.SIGTERM)
"""How Ansible is told to end, and tells its workers."""


class CommandEnd(NamedTuple):
    """How a command ended: its exit status, None where it has none, then `problem` says why; and what it printed."""

    status: int | None
    output: str = ""
    problem: str = ""


def run(words: Sequence[str], seconds: float, environment: Mapping[str, str], given: str) -> CommandEnd:
    """Run a command without a shell, for `seconds` at the most; `environment` is added to that of the controller.

    `given` is its input. Where it takes too long, and where Ansible is told to end, all that it has started ends too.
    """
    # A pipe would hold up who does not read it.
    with tempfile.TemporaryFile() as told, _ending_with_ansible() as started:
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
        _kill(process)
        return CommandEnd(None, problem=f"has not ended within {seconds:g} s")
    reader.join(LAST_WORDS)
    output = bytes(kept).decode("utf-8", "replace")
    return CommandEnd(status, output) if status >= 0 else CommandEnd(None, output, f"was killed by signal {-status}")


def _read(pipe: Any, kept: bytearray) -> None:
    """Read to the end, so that the command is never held up; the beginning is kept."""
    for chunk in iter(lambda: pipe.read1(LONGEST), b""):
        kept.extend(chunk[: LONGEST - len(kept)])


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _ending_with_ansible() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """The command is in a session of its own, where no signal for Ansible reaches it: it is passed on.

    What this gives is told of the command once it has started. A signal that comes before waits for that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda _process: None
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    running: list[subprocess.Popen[bytes]] = []
    told: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        for process in running:
            _kill(process)
            signal.signal(number, before[signal.Signals(number)] or signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def started(process: subprocess.Popen[bytes]) -> None:
        running.append(process)
        if told:
            end(told[0], None)

    for number in ENDING:
        signal.signal(number, end)
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if told and not running:
            os.kill(os.getpid(), told[0])
