# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Git, run as a process: its output, or its error. `Repository` decides what is run."""

from __future__ import annotations

import contextlib
import os
import selectors
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import IO

CHUNK = 65_536
LONGEST = 65_536
"""Bytes kept of git's standard error, from its end: a server may send messages for ever."""


class GitError(Exception):
    """Git has failed: its exit status, negative if a signal has ended it, and its standard error."""

    def __init__(self, status: int, stderr: str) -> None:
        super().__init__(f"status {status}: {stderr}")
        self.status = status
        self.stderr = stderr


class GitMissingError(GitError):
    """Git is not there to be run now."""

    def __init__(self) -> None:
        super().__init__(127, "")


class Git:
    """Runs git in `directory`, if that can be entered, with these variables in addition to those of this process."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.environment = dict(environment or {})

    def run(self, *words: str, environment: Mapping[str, str] | None = None, input_: IO[bytes] | None = None) -> bytes:
        """Git's output; it reads `input_`, or nothing. Raises `GitError`, `OSError`."""
        with self._started(words, environment, input_) as process:
            stdout, stderr = _read(process)
            _check(process.wait(), stderr)
            return stdout

    def text(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """The same as text, without the last newline."""
        return os.fsdecode(self.run(*words, environment=environment)).removesuffix("\n")

    @contextlib.contextmanager
    def printing(self, *words: str) -> Iterator[IO[bytes]]:
        """Git's output, to be read in the block as it comes; leaving the block early kills git.

        Raises `GitError` after the block, and `OSError`.
        """
        # A second pipe could fill up while the first is read.
        with os.fdopen(os.memfd_create("errors"), "w+b") as errors, self._started(words, errors=errors) as process:
            assert process.stdout is not None  # noqa: S101  # a pipe
            yield process.stdout
            status = process.wait()
            errors.seek(0)
            _check(status, errors.read())

    @contextlib.contextmanager
    def _started(
        self,
        words: tuple[str, ...],
        environment: Mapping[str, str] | None = None,
        input_: IO[bytes] | None = None,
        errors: IO[bytes] | int = PIPE,
    ) -> Iterator[Popen[bytes]]:
        directory = self.directory if os.access(self.directory, os.X_OK) else None
        variables = {**os.environ, "LANGUAGE": "C", "LC_ALL": "C", **self.environment, **(environment or {})}
        try:
            process = Popen(
                ["git", *words], stdin=input_ or DEVNULL, stdout=PIPE, stderr=errors, cwd=directory, env=variables
            )
        except FileNotFoundError as exc:
            raise GitMissingError from exc
        except OSError as exc:
            # As a shell does for a command that it can't start.
            raise GitError(126, exc.strerror or str(exc)) from exc
        with process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise


def _read(process: Popen[bytes]) -> tuple[bytes, bytes]:
    """The output of a process, and the end of its standard error."""
    stdout, stderr = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for stream, kept in ((process.stdout, stdout), (process.stderr, stderr)):
            assert stream is not None  # noqa: S101  # both are pipes
            selector.register(stream, selectors.EVENT_READ, kept)
        while selector.get_map():
            for key, _events in selector.select():
                chunk = os.read(key.fd, CHUNK)
                key.data.extend(chunk)
                if not chunk:
                    selector.unregister(key.fileobj)
            del stderr[:-LONGEST]
    return bytes(stdout), bytes(stderr)


def _check(status: int, stderr: bytes) -> None:
    if status != 0:
        raise GitError(status, os.fsdecode(stderr).removesuffix("\n"))
