"""Runs a command whose output is read as a person sees it: standard error is in it, where it was printed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS_TO_END = 10
"""How long what a killed command has started may keep its output open."""


def run_merged(
    command: Sequence[str | Path], timeout: float, *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a command printed and returned; it reads nothing.

    After so many seconds it is killed with its process group. Raises `AssertionError` then, with what it has printed.
    """
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _errors = process.communicate(timeout=timeout)
        except BaseException as exc:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(exc, subprocess.TimeoutExpired):
                raise
            raise AssertionError(
                f"{command} has not ended within {timeout:g} s; it printed:\n{_rest(process)}"
            ) from None
    return subprocess.CompletedProcess(command, process.returncode, output)


def _rest(process: subprocess.Popen[str]) -> str:
    """All that a killed command has printed, also where something that it started keeps its output open."""
    try:
        return process.communicate(timeout=SECONDS_TO_END)[0]
    except subprocess.TimeoutExpired as exc:
        assert process.stdout
        process.stdout.close()
        return f"{(exc.output or b'').decode(errors='replace')}\n(something that it started still has its output open)"
