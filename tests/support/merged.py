"""Run a command with standard error merged into its output, as a person sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS_TO_END = 10
"""How long the children of a killed command may keep its output open."""


def run_merged(
    command: Sequence[str | Path], timeout: float, *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with empty input.

    After `timeout` seconds it is killed with its process group, and `AssertionError` is raised with its output.
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
    """The output of a killed command, even if a child still keeps it open."""
    try:
        return process.communicate(timeout=SECONDS_TO_END)[0]
    except subprocess.TimeoutExpired as exc:
        assert process.stdout
        process.stdout.close()
        return f"{(exc.output or b'').decode(errors='replace')}\n(something that it started still has its output open)"
