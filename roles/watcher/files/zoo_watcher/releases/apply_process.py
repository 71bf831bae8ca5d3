# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's side of the apply process: starts it, sends it a job, reads its steps, kills it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from zoo_watcher.config.config import Config
from zoo_watcher.config.environment import FILE_VARIABLES
from zoo_watcher.errors import CancelledError, DeployError, KilledError, PassingError
from zoo_watcher.host.command import inherited
from zoo_watcher.host.program import find_missing
from zoo_watcher.host.thread import Thread
from zoo_watcher.wire.records import Release

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from typing import Any

    Job = dict[str, Any]

KILLED = 5.0
"""Seconds that a killed process may take to end."""
PACKING = 3600.0
"""Seconds that packing may take, however short a fetch has to be: if killed, it starts over the next time."""
NOT_FOR_GIT = ("CREDENTIALS_DIRECTORY", "RUNTIME_DIRECTORY", *FILE_VARIABLES)
"""Variables of the agent's environment that say where its credentials and its session are."""
OF_A_REPOSITORY = (
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG_PARAMETERS", "GIT_DEFAULT_HASH", "GIT_DIR"),
    *("GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE"),
    *("GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_REPLACE_REF_BASE"),
    *("GIT_SHALLOW_FILE", "GIT_WORK_TREE"),
)
"""Variables about another repository, most of them as listed by `git rev-parse --local-env-vars`: a git hook, or a
shell, that starts the agent may have them. `GIT_CONFIG_COUNT` stays: a person may configure the agent's git with it."""
END = ""
"""In place of a line: there are no more."""

log = logging.getLogger(__name__)


def stage_job(config: Config, release: Release, keep: Sequence[str], *, outside_symlinks: bool = False) -> Job:
    """Fetch a release and create its directory; the directories of all commits except it and `keep` are removed.

    With `outside_symlinks`, its symlinks may lead out of it.
    """
    return {
        **tidy_job(config),
        "tidy": False,
        "release": release.to_object(),
        "keep": list(keep),
        "shared_paths": config.shared_paths,
        "hard_links": config.hard_links,
        "outside_symlinks": outside_symlinks,
    }


def has_mirror(job: Job) -> bool:
    """Whether a mirror is asked before the repository itself."""
    return any(job["release"]["url"].startswith(beginning) for beginning, _mirror in job["access"]["mirrors"])


def without_mirrors(job: Job) -> Job:
    """The same job, asking only the repository itself."""
    return {**job, "access": {**job["access"], "mirrors": ()}}


def verify_job(config: Config, commit_id: str) -> Job:
    """Verify the signature of a commit that is here, as the configuration demands."""
    return {**tidy_job(config), "tidy": False, "verify": commit_id}


def tidy_job(config: Config) -> Job:
    """Pack the object store."""
    access = {
        "schemes": config.allowed_schemes,
        "ssh_key": config.ssh_key,
        "ssh_known_hosts": config.ssh_known_hosts,
        "credentials": config.git_credentials,
        "signers": config.require_signature,
        "revoked": config.revoked_signers,
        "openpgp": config.openpgp_signers,
        "largest": config.max_release_bytes,
        "most": config.max_release_files,
        "mirrors": config.git_mirrors,
    }
    floor = [config.min_free_bytes, config.min_free_inodes]
    return {"tidy": True, "base": str(config.base), "access": access, "floor": floor, "hidden": secrets(config)}


def secrets(config: Config) -> list[str]:
    """The files and directories with the credentials for the ensemble, and with the session opened by them."""
    connection = config.connection
    directories = [os.environ.get(name, "") for name in NOT_FOR_GIT]
    own = [config.file, *_copies(Path(config.file))] if config.file else []
    tickets = []
    if connection.sasl_mechanism == "GSSAPI":
        named = [os.environ.get(name, "").partition(":") for name in ("KRB5CCNAME", "KRB5_CLIENT_KTNAME")]
        tickets = [*(path or whole for whole, _colon, path in named), f"/tmp/krb5cc_{os.getuid()}"]  # noqa: S108  # theirs
    found = (*directories, *own, *tickets, connection.tls_cert, connection.tls_key)
    # The apply process has another working directory.
    return [os.path.abspath(path) for path in found if path]


def _copies(file: Path) -> list[str]:
    """Files next to a file that begin with its name, such as an editor's backups; none if that can't be told."""
    with contextlib.suppress(OSError):
        return [str(path) for path in file.parent.iterdir() if path.name.startswith(f"{file.name}.")]
    return []


class ApplyProcess:
    """Runs one process at a time. `end` may be called from any thread, and forbids another one.

    Nothing here waits for ever: a process that waits for a broken disk outlives even SIGKILL.
    """

    def __init__(self, config: Config) -> None:
        self.timeout = config.fetch_timeout
        self.left: list[str] = []
        """What the last process could not remove from the staging directory and of the releases that are not kept."""
        self._process: subprocess.Popen[str] | None = None
        self._conversation: _Conversation | None = None
        self._forbidden = False
        self._lock = threading.Lock()

    def end(self) -> None:
        """Kill the process with everything that it has started, and start no other."""
        self._forbidden = True
        self._kill()
        if self._conversation is not None:
            self._conversation.break_off()

    def run(
        self, job: Job, step: Callable[[str], None] = lambda _name: None, within: float | None = None
    ) -> dict[str, Any]:
        """Do a job, `within` so many seconds if something else waits for it; returns its last message.

        Raises the matching `DeployError`, or `CancelledError` after `end`.
        """
        with self._lock:
            if self._forbidden:
                raise CancelledError
            _unended.check()
            process = self._process = _start()
            conversation = self._conversation = _Conversation(process, job)
        longest = max(self.timeout, PACKING) if job.get("tidy") else self.timeout
        deadline = time.monotonic() + (longest if within is None else min(longest, within))
        try:
            conversation.start()
            message = self._follow(conversation, step, deadline)
        except RuntimeError as exc:
            raise PassingError(f"the apply process can't be watched: {exc}", "process") from exc
        finally:
            self._kill()
            _unended.reap(process)
        if self._forbidden:
            raise CancelledError
        if not message:
            _unended.check()
            if time.monotonic() >= deadline:
                if job.get("tidy"):
                    raise PassingError(f"not done within {longest:g} s", "timeout")
                cut_off = within is not None and within < self.timeout
                limit = (
                    "yet, and what is live is to be proved" if cut_off else f"within {self.timeout:g} s (fetch_timeout)"
                )
                raise PassingError(f"not fetched and staged {limit}", "timeout")
        return _judge(message, process.returncode)

    def _follow(self, conversation: _Conversation, step: Callable[[str], None], deadline: float) -> dict[str, Any]:
        """Pass on the steps of the process; returns its last message, empty if it was interrupted before that."""
        message: dict[str, Any] = {}
        killed = False
        while True:
            line = conversation.next_line(deadline - time.monotonic())
            if line == END:
                return message
            if line is not None:
                # A killed process may leave half a line.
                message = json.loads(line) if line.endswith("\n") else {}
                if "step" in message:
                    step(message["step"])
                    message = {}
                elif "unconfined" in message:
                    _note_unconfined(message["unconfined"])
                    message = {}
                elif "left" in message:
                    self.left[:] = message["left"]
                    message = {}
            elif killed:
                return {}
            else:
                self._kill()
                killed = True
                deadline = time.monotonic() + KILLED

    def _kill(self) -> None:
        """Kill the process with everything it has started, also if it has ended on its own but was not waited for."""
        with self._lock:
            process = self._process
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


class _Conversation(Thread):
    """Sends a process its job and receives its messages, for as long as it has its end of the pipes open."""

    def __init__(self, process: subprocess.Popen[str], job: Job) -> None:
        super().__init__(name="apply-process", daemon=True)
        self._process = process
        self._job = job
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Converse until the process has no more messages."""
        assert self._process.stdin is not None  # noqa: S101  # both are pipes
        assert self._process.stdout is not None  # noqa: S101  # the same
        try:
            with self._process.stdout as lines:
                with contextlib.suppress(BrokenPipeError), self._process.stdin as input_:
                    input_.write(json.dumps({**self._job, "agent": os.getpid()}))
                for line in lines:
                    self._lines.put(line)
        finally:
            self._lines.put(END)

    def next_line(self, seconds: float) -> str | None:
        """The next message, or `END`; None if none comes within `seconds`, or the conversation is to be broken off."""
        try:
            return self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None

    def break_off(self) -> None:
        """Let nobody wait for the next line."""
        self._lines.put(None)


class _Unended:
    """The processes of this agent that were killed and have not ended: their work may still go on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[str]] = []

    def reap(self, process: subprocess.Popen[str]) -> None:
        """Collect the exit status of a killed process; it is one of these if it does not end soon."""
        from subprocess import TimeoutExpired  # noqa: PLC0415

        try:
            process.wait(KILLED)
        except TimeoutExpired:
            with self._lock:
                self._processes.append(process)

    def check(self) -> None:
        """Raises `PassingError` while there is one: no other may work in the same directories."""
        with self._lock:
            self._processes = [process for process in self._processes if process.poll() is None]
            for process in self._processes:
                raise PassingError(
                    f"the apply process {process.pid} was killed and does not end: it waits for a disk; "
                    "no other is started until it has ended, which a restart of the host brings about",
                    "process",
                )


_unended = _Unended()


def _judge(message: Mapping[str, Any], status: int) -> dict[str, Any]:
    """The last message; raises the error in it or, without a message, the one that the exit status shows."""
    if "done" in message:
        return dict(message)
    if "error" in message:
        raise _error(message["error"], message["kind"])
    missing = find_missing() if status > 0 else None
    if missing:
        raise PassingError(f"the apply process lacks {missing}; is the agent being installed?", "process")
    ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    raise KilledError(f"the apply process {ended} without a result; is this host short of memory?")


def _error(text: str, kind: str) -> DeployError:
    """The error that the process has reported."""
    if kind == "killed":
        return KilledError(text)
    return DeployError(text) if kind == "final" else PassingError(text, kind)


@cache
def _note_unconfined(why: str) -> None:
    """Log, once in the life of this agent, which rights its apply processes keep."""
    log.info("the apply process keeps more rights than it needs: %s", why)


def _start() -> subprocess.Popen[str]:
    """The process, in its own process group, so that git is killed with it. Raises `PassingError`."""
    try:
        # Imported here: an agent that has deployed nothing since its start does not keep it in memory.
        from subprocess import PIPE, Popen  # noqa: PLC0415

        return Popen(  # our own program
            [sys.executable, "-m", str(__package__).partition(".")[0], "apply"],
            stdin=PIPE,
            stdout=PIPE,
            text=True,
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )
    except OSError as exc:
        what = f": {exc.filename}" if exc.filename else ""
        raise PassingError(f"the apply process can't be started: {exc.strerror}{what}", "process") from exc


def _environment() -> dict[str, str]:
    """Its environment: that of this process, with this package importable as it is here."""
    # Symlinks in it stay: one of them may be what gives the package its name.
    directory = str(Path(__file__).absolute().parents[2])
    paths = [directory, *filter(None, [os.environ.get("PYTHONPATH")])]
    left_out = {*NOT_FOR_GIT, *OF_A_REPOSITORY}
    environment = {name: value for name, value in inherited().items() if name not in left_out}
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}
