# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The apply child: fetch, stage and activate one release, in a process that may be killed at any instant.

It reads its job from standard input, one JSON object, and writes what it does to standard output, a JSON object a
line: `{"step": "fetching"}` as a step begins, and last `{"done": {...seconds by step}}` or
`{"error": "...", "passing": true or false}`.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .activation import activate, prune
from .errors import DeployError, PassingError
from .layout import Layout, disk_errors
from .records import Release

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Do the job on standard input. 0 where it was done, 1 where not; never a traceback for what a release can bring about."""
    _die_with_parent()
    os.umask(0o022)
    job = json.load(sys.stdin)
    try:
        seconds = apply(job)
    except DeployError as exc:
        say({"error": str(exc), "passing": isinstance(exc, PassingError)})
        return 1
    say({"done": seconds})
    return 0


def apply(job: Mapping[str, Any]) -> dict[str, float]:
    """Bring the job's release live; the seconds that each step took. Raises `DeployError`."""
    layout = Layout(Path(job["base"]))
    release = Release.from_object(job["release"])
    clock = _Clock()
    with _alone(layout):
        with disk_errors("cleaning"):
            layout.make()
            layout.clean_staging()
        if not layout.release(release.commit_id).is_dir():
            _make(layout, release, job, clock)
        with clock.step("activating"):
            activate(layout, release.relative_path, release.commit_id)
    return clock.seconds


def _make(layout: Layout, release: Release, job: Mapping[str, Any], clock: _Clock) -> None:
    # Imported here: going back to a release that is on disk needs no git, and none of its start-up.
    from .repository import Repository  # noqa: PLC0415

    repository = Repository(layout, job["allowed_schemes"])
    repository.open()
    with clock.step("fetching"):
        if not repository.has(release.commit_id):
            repository.fetch(release)
    with clock.step("staging"):
        repository.check_out(release.commit_id)
    with disk_errors("pruning"):
        repository.forget(prune(layout, frozenset([release.commit_id, *job["keep"]])))


class _Clock:
    """Announces steps and takes their times."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        say({"step": name})
        begin = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begin, 4)


def say(what: Mapping[str, Any]) -> None:
    """Tell the agent."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """Hold the lock of the host's object store: a child of a killed agent may still be ending."""
    with disk_errors("locking"):
        layout.make()
        descriptor = os.open(layout.own / "apply.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _die_with_parent() -> None:
    """Be killed when the agent is (prctl(2)): nobody would hear what this child has done."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
