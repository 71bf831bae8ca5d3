# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which commit a branch, a tag or a commit's id of a repository is, asked with the user's own git and credentials."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import tempfile
import traceback
from collections.abc import Iterator

from .connection import MissingLibraryError
from .git_errors import ABSENT, REFUSED, reason, says
from .records import COMMIT_ID, check_published_url
from .znode_names import has_control, printable

# GitPython looks for git when it is imported, and says so on the terminal where there is none: it is asked not to.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
try:
    import git
except ImportError:
    GIT_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    GIT_IMPORT_ERROR = None

PATIENCE = 120
"""Seconds that one question to a git server may take."""
SUBJECT_PATIENCE = 5
"""Seconds that a git server gets to tell a commit's subject, without which a release can be published as well."""
SUBJECT_BLOCKS = 2048
"""Blocks of 512 bytes that it may send for that."""
LONGEST_SUBJECT = 100
ABBREVIATED = re.compile(r"[0-9a-fA-F]{7,63}")
ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh", "LC_ALL": "C"}


class CommitError(Exception):
    """The repository does not say which commit is meant; the text is one line for a person."""


def resolve(url: str, ref: str) -> str:
    """The full id of the commit that `ref` is in the repository at `url`. Raises `CommitError`, `InvalidRelease`."""
    if GIT_IMPORT_ERROR is not None:
        raise MissingLibraryError("GitPython", exception=GIT_IMPORT_ERROR)
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
    """What the server says a branch or tag is; an annotated tag is followed to its commit."""
    with _questions(url):
        answer = _git(None).ls_remote("--", url, ref, f"{ref}^{{}}", kill_after_timeout=PATIENCE)
    refs = {name: commit for commit, name in (line.split("\t") for line in answer.splitlines())}
    candidates = {
        name: refs.get(f"{name}^{{}}", refs[name])
        for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}")
        if name in refs
    }
    if len(set(candidates.values())) > 1:
        raise CommitError(f"ref: {ref} is a branch and a tag of {url}; say refs/heads/{ref} or refs/tags/{ref}")
    return next(iter(candidates.values()), None)


def _resolve_in_copy(url: str, commit_id: str) -> str:
    """Only a fetch shows that a commit exists: of the commit alone, else of the history without its files."""
    with tempfile.TemporaryDirectory(prefix="zk_release-") as directory:
        copy = _git(directory)
        with _questions(url):
            copy.init("--bare", "--quiet", "--template=")
            if not COMMIT_ID.fullmatch(commit_id) or not _fetch(copy, url, "--depth=1", commit_id):
                _fetch(copy, url, "--force", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
        try:
            return str(copy.rev_parse("--verify", "--quiet", f"{commit_id}^{{commit}}"))
        except git.GitCommandError as exc:
            raise CommitError(f"ref: {url} has no commit {commit_id}, or more than one that begins so") from exc


@functools.lru_cache(maxsize=1)
def subject_of(url: str, commit_id: str) -> str | None:
    """The first line of a commit's message, printable and shortened, for people; None where git does not give it."""
    with tempfile.TemporaryDirectory(prefix="zk_release-") as directory:
        copy = _git(directory)
        try:
            copy.init("--bare", "--quiet", "--template=")
            if not _is_fetched_in_short(copy, url, commit_id):
                return None
            said = copy.log("-1", "--no-show-signature", "--encoding=UTF-8", "--format=%s", commit_id)
        except (git.GitCommandNotFound, git.GitCommandError):
            return None
    return printable(str(said)).strip()[:LONGEST_SUBJECT] or None


def _is_fetched_in_short(copy: git.Git, url: str, commit_id: str) -> bool:
    """Fetch a commit, if that takes neither long nor much: a server that filters nothing sends all of its files."""
    options = ("-c", "fetch.unpackLimit=1", "fetch", "--quiet", "--filter=tree:0", "--no-tags", "--depth=1")
    limited = ("sh", "-c", f'ulimit -f {SUBJECT_BLOCKS} && exec "$@"', "sh", copy.GIT_PYTHON_GIT_EXECUTABLE or "git")
    try:
        process = subprocess.Popen(
            [*limited, *options, "--", url, commit_id],
            cwd=copy.working_dir,
            env={**os.environ, **copy.environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    try:
        return process.wait(SUBJECT_PATIENCE) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        # What git has started ends with it: nothing is to write into a directory that is being removed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _fetch(copy: git.Git, url: str, *words: str) -> bool:
    """Fetch without files; whether the server gave what was asked for."""
    try:
        copy.fetch(
            "--quiet", "--filter=tree:0", "--no-tags", words[0], "--", url, *words[1:], kill_after_timeout=PATIENCE
        )
    except git.GitCommandError as exc:
        if says(exc.stderr, (*ABSENT, *REFUSED)):
            return False
        raise
    return True


def _git(directory: str | None) -> git.Git:
    command = git.Git(directory)
    command.update_environment(**ENVIRONMENT, **_ssh(command))
    return command


def _ssh(command: git.Git) -> dict[str, str]:
    """Let ssh fail instead of asking a terminal, which may be the controller's; a user's own command stays."""
    if "GIT_SSH_COMMAND" in os.environ or "GIT_SSH" in os.environ:
        return {}
    try:
        command.config("--get", "core.sshCommand")
    except (git.GitCommandError, git.GitCommandNotFound):
        return {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
    return {}


@contextlib.contextmanager
def _questions(url: str) -> Iterator[None]:
    """Turn git's errors inside the block into a `CommitError` that names the repository."""
    try:
        yield
    except git.GitCommandNotFound as exc:
        raise CommitError("git is not installed where the module runs") from exc
    except git.GitCommandError as exc:
        raise CommitError(f"url: can't read {url}: {reason(exc.stderr)}") from exc
