# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which commit a branch, a tag or a commit id of a repository means, asked with the user's own git and credentials."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .child_session import ended_with_this, kill
from .connection import MissingLibraryError
from .git_errors import ABSENT, REFUSED, reason, says
from .records import COMMIT_ID, check_published_url
from .znode_names import has_control

if TYPE_CHECKING:
    from git import Git

PATIENCE = 120
"""Seconds that one question to a git server may take."""
ABBREVIATED = re.compile(r"[0-9a-fA-F]{7,63}")
THEIR_REPOSITORY = (
    *("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"),
)
"""The variables by which git tells a hook its repository. They take precedence over the current directory."""
ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
}


class CommitError(Exception):
    """The repository does not tell which commit is meant; the message is one line for a person."""


def gitpython() -> Any:
    """GitPython, imported only if a repository is read, because that takes as long as a session with the ensemble.

    Raises `MissingLibraryError`.
    """
    # Importing it looks for git, and prints a warning if there is none: it is told not to.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    try:
        import git  # noqa: PLC0415
    except ImportError as exc:
        raise MissingLibraryError("GitPython", exception=traceback.format_exc()) from exc
    return git


def resolve(url: str, ref: str) -> str:
    """The full id of the commit that `ref` is in the repository at `url`. Raises `CommitError`, `InvalidRelease`."""
    gitpython()
    check_published_url(url)
    if not ref or ref.startswith("-") or has_control(ref):
        raise CommitError(f"ref: expected a branch, a tag or a commit of {url}, got {ref!r}")
    if COMMIT_ID.fullmatch(ref.lower()):
        return _resolve_in_copy(url, ref.lower())
    commit_id = _advertised(url, ref)
    if commit_id:
        return commit_id
    if ABBREVIATED.fullmatch(ref):
        return _resolve_in_copy(url, ref.lower())
    raise CommitError(f"ref: {url} has no branch, tag or commit {ref}")


def _advertised(url: str, ref: str) -> str | None:
    """The commit of a branch or tag according to the server; an annotated tag is resolved to its commit."""
    with _questions(url):
        answer = _answer(None, "ls-remote", "--", url, ref, f"{ref}^{{}}")
    # Not with `splitlines`: a name may contain characters that end a line only for Python.
    refs = {name: commit for commit, name in (line.split("\t") for line in answer.split("\n") if line)}
    candidates = {
        name: refs.get(f"{name}^{{}}", refs[name])
        for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}")
        if name in refs
    }
    if len(set(candidates.values())) > 1:
        raise CommitError(f"ref: {ref} is a branch and a tag of {url}; say refs/heads/{ref} or refs/tags/{ref}")
    return next(iter(candidates.values()), None)


def _resolve_in_copy(url: str, commit_id: str) -> str:
    """Only a fetch shows that a commit exists: of the commit alone, or else of the history without its files."""
    with tempfile.TemporaryDirectory(prefix="zk_release-") as directory:
        with _questions(url):
            _answer(directory, "init", "--bare", "--quiet", "--template=")
            if not COMMIT_ID.fullmatch(commit_id) or not _fetch(directory, url, "--depth=1", commit_id):
                _fetch(directory, url, "--force", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        try:
            return str(in_directory(directory).rev_parse("--verify", "--quiet", f"{commit_id}^{{commit}}"))
        except gitpython().GitCommandError as exc:
            raise CommitError(f"ref: {url} has no commit {commit_id}, or more than one that begins so") from exc


def _fetch(directory: str, url: str, *words: str) -> bool:
    """Fetch without files; whether the server gave what was asked for."""
    try:
        _answer(directory, "fetch", "--quiet", "--filter=tree:0", "--no-tags", words[0], "--", url, *words[1:])
    except _Failed as exc:
        if says(exc.stderr, (*ABSENT, *REFUSED)):
            return False
        raise
    return True


class _Failed(Exception):
    """git has failed."""

    def __init__(self, stderr: str) -> None:
        super().__init__(stderr)
        self.stderr = stderr


def _answer(directory: str | None, *words: str) -> str:
    """The output of git. Raises `_Failed`, and `OSError` if there is no git."""
    done = run(directory, PATIENCE, *words)
    if done.status is None:
        raise _Failed(f"no answer within {PATIENCE:g} s")
    if done.status:
        raise _Failed(done.stderr)
    return done.stdout


class GitEnd(NamedTuple):
    """How git has ended: `status` is None if it had to be killed."""

    status: int | None
    stdout: str
    stderr: str


def run(directory: str | None, seconds: float, *words: str, **variables: str) -> GitEnd:
    """Run git in a directory, as `in_directory`. After `seconds` it is killed with everything it has started.

    GitPython's own `kill_after_timeout` does not kill all of it: git's child has a child that talks to the server.
    Output goes to files, because processes that git leaves running may keep a pipe open. Raises `OSError` without git.
    """
    command = in_directory(directory)
    status: int | None = None
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr, ended_with_this() as started:
        process = subprocess.Popen(
            [command.GIT_PYTHON_GIT_EXECUTABLE or "git", *words],
            cwd=directory,
            env={**os.environ, **command.environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            started(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(max(0.0, seconds))
        finally:
            if process.returncode is None:
                kill(process)
                process.wait()
        stdout.seek(0)
        stderr.seek(0)
        said = stdout.read().decode("utf-8", "surrogateescape")
        return GitEnd(status, said, stderr.read().decode("utf-8", "replace"))


def in_directory(directory: str | None) -> Git:
    """git, run in a directory, and not in the caller's own repository; None: the directory does not matter."""
    for name in THEIR_REPOSITORY:
        os.environ.pop(name, None)  # GitPython can set variables, but not unset them
    command = gitpython().Git(directory)
    command.update_environment(**ENVIRONMENT, **_ssh(command))
    return command


def _ssh(command: Git) -> dict[str, str]:
    """Let ssh fail instead of asking on a terminal, perhaps the controller's; a user's own command is kept."""
    if "GIT_SSH_COMMAND" in os.environ or "GIT_SSH" in os.environ:
        return {}
    try:
        command.config("--get", "core.sshCommand")
    except (gitpython().GitCommandError, gitpython().GitCommandNotFound):
        return {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    return {}


@contextlib.contextmanager
def _questions(url: str) -> Iterator[None]:
    """Turn git's errors inside the block into a `CommitError` that names the repository."""
    try:
        yield
    except FileNotFoundError as exc:
        raise CommitError("git is not installed where the module runs") from exc
    except OSError as exc:
        raise CommitError(f"git can't be run: {exc}") from exc
    except _Failed as exc:
        raise CommitError(f"url: can't read {url}: {reason(exc.stderr)}") from exc
