# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands from this host's own configuration: run without a shell, in their own process group, with a time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence

from .excerpt import last_lines
from .shortage import is_shortage

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import IO

NOT_INHERITED = (
    *("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"),
    "PYTHONNODEBUGRANGES",
    *("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"),
    *("ZOO_WATCHER_BOOT", "ZOO_WATCHER_UNIT"),
    *("ZK_DIGEST_PASSWORD", "ZK_SASL_PASSWORD", "ZK_TLS_KEY_PASSWORD"),
)
"""Variables that the unit, the service manager or a container's operator sets only for the agent."""
NOT_STARTED = "can't be started"
"""How the problem begins if the host could not even start a command."""
NOT_NOW = f"{NOT_STARTED} now"
"""The same if that is not the command's fault: this host lacks the resources."""
LONGEST = 64_000
"""Bytes of a command's output that are kept, from its end."""
MOST_LINES = 200
"""Lines of it that go to the log: after too many, a service manager drops what follows, such as the outcome."""
ROOM = 1_000_000
"""Bytes that have to be free for a command's output: on a full disk, a file can be created, but not written to."""
KILLED = 5.0
"""Seconds that a killed command may take to end: one that waits for a disk or a network file system may stay."""
BY_SIGNAL = tuple(f"ended with status {status}" for status in (-signal.SIGKILL, 128 + signal.SIGKILL))
"""How a killed command ended, or a shell whose last command was killed."""


class Ended(namedtuple("Ended", ("problem", "output"))):
    """How a command ended: `problem` is None if it succeeded; `output` is the end of what it wrote."""

    __slots__ = ()

    problem: str | None
    output: str

    @property
    def found_shortage(self) -> bool:
        """Whether the host lacked the resources to start the command."""
        return self.problem is not None and self.problem.startswith(NOT_NOW)

    @property
    def was_killed(self) -> bool:
        """Whether somebody else has killed the command: most likely the kernel, on a host short of memory."""
        return self.problem in BY_SIGNAL

    @property
    def lines(self) -> list[str]:
        """The last lines of the output for the log, without empty ones; preceded by how many were left out, if any."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        before = len(lines) - MOST_LINES
        return [f"at least {before} lines before these are left out", *lines[before:]] if before > 0 else lines

    @property
    def tail(self) -> str:
        """The last lines of the output, for a message."""
        return last_lines(self.output)


class _Run:
    """One command, from before it is started until it has ended."""

    _process: subprocess.Popen[bytes] | None = None

    def note_start(self, process: subprocess.Popen[bytes]) -> None:
        """Note its process, which is killed if the agent ends."""
        with _condition:
            self._process = process
            if _agent_ends:
                _kill(process)

    def kill(self) -> None:
        """Kill it, if it has been started and has not ended."""
        if self._process is not None and self._process.returncode is None:
            _kill(self._process)


_condition = threading.Condition()
_running: list[_Run] = []
_agent_ends = False


def inherited() -> dict[str, str]:
    """The agent's environment without what is only for the agent."""
    return {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}


def run(
    words: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None, directory: str = "/"
) -> Ended:
    """Run a command to its end, for at most `seconds`. Once the agent ends, this ends the thread: `end_all`."""
    with _among_running() as one:
        try:
            output = _output_file()
        except (OSError, MemoryError) as exc:
            return Ended(f"{NOT_NOW}: {_describe(exc)}", "")
        with output:
            try:
                process = _start(words, output, {**inherited(), **(environment or {})}, directory)
            except (OSError, ValueError, MemoryError) as exc:
                return Ended(f"{NOT_NOW if is_shortage(exc) else NOT_STARTED}: {_describe(exc)}", "")
            one.note_start(process)
            problem = _wait(process, seconds)
            output.seek(max(output.seek(0, os.SEEK_END) - LONGEST, 0))
            return Ended(problem, output.read().decode("utf-8", "replace"))


def _start(
    words: Sequence[str], output: IO[bytes], environment: Mapping[str, str], directory: str
) -> subprocess.Popen[bytes]:
    # Imported here, as is `tempfile`: an agent that runs no command does not keep it in memory.
    from subprocess import DEVNULL, STDOUT, Popen  # noqa: PLC0415

    return Popen(  # the host's own command
        list(words),
        stdin=DEVNULL,
        stdout=output,
        stderr=STDOUT,
        start_new_session=True,
        cwd=directory,
        env=environment,
    )


def _describe(error: Exception) -> str:
    return str(error) or "out of memory"


def end_all() -> None:
    """Kill every running command, and start no other; nobody draws conclusions from how they end."""
    global _agent_ends  # noqa: PLW0603  # the process has one end
    with _condition:
        _agent_ends = True
        for one in _running:
            one.kill()
        _condition.wait_for(lambda: not _running, KILLED)


@contextlib.contextmanager
def _among_running() -> Iterator[_Run]:
    """Let the end of the agent know of a command before it is started: afterwards would be too late.

    Raises `SystemExit`, which ends a thread without a message, if the agent has ended the process.
    """
    one = _Run()
    with _condition:
        if _agent_ends:
            raise SystemExit
        _running.append(one)
    try:
        yield one
    finally:
        with _condition:
            _running.remove(one)
            _condition.notify_all()
    if _agent_ends:
        raise SystemExit


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _output_file() -> IO[bytes]:
    """A file, not a pipe: processes that the command leaves in the background may go on writing. Raises `OSError`."""
    import tempfile  # noqa: PLC0415

    # On a full or read-only disk, a command that works, such as a health check, must not fail because of its output.
    with contextlib.suppress(OSError):
        facts = os.statvfs(tempfile.gettempdir())
        if facts.f_bavail * facts.f_frsize >= ROOM:
            return tempfile.TemporaryFile()
    return os.fdopen(os.memfd_create("output"), "w+b")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    from subprocess import TimeoutExpired  # noqa: PLC0415

    try:
        status = process.wait(seconds)
    except TimeoutExpired:
        _kill(process)
        try:
            process.wait(KILLED)
        except TimeoutExpired:
            return f"not ended within {seconds:g} s, and can't be killed"
        return f"not ended within {seconds:g} s"
    return None if status == 0 else f"ended with status {status}"
