# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The subject of a commit, for people: read only where that is cheap, since a release can be published without it.

An SSH server is not asked: a second login may require a person to touch a key.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import tempfile
import time

from .git_refs import gitpython, in_directory, run
from .znode_names import printable

PATIENCE = 5
"""Seconds for all of it."""
LONGEST = 100
_SERVER = re.compile(r"(https?|git)://")
_LOCAL = re.compile(r"(file://)?(?=/)")
_FILTERS = re.compile(r"< fetch=.*\bfilter\b")
"""What a protocol 2 server that can leave out files reports, in git's trace; any other sends all of them."""


@functools.lru_cache(maxsize=1)
def subject_of(url: str, commit_id: str) -> str | None:
    """The first line of a commit's message, printable and shortened; None if git does not give it cheaply."""
    local = _LOCAL.match(url)
    if not local and not _SERVER.match(url):
        return None
    said = _log(url[local.end() :], commit_id) if local else _fetched(url, commit_id)
    return printable(said).strip()[:LONGEST] or None


def _fetched(url: str, commit_id: str) -> str:
    """The subject, from a copy of only the commit; empty if there is none."""
    with tempfile.TemporaryDirectory(prefix="zk_release-") as directory:
        return _log(directory, commit_id) if _is_fetched(directory, url, commit_id) else ""


def _log(repository: str, commit_id: str) -> str:
    """The subject, from a repository that has the commit; empty if it does not."""
    try:
        return str(
            in_directory(repository).log("-1", "--no-show-signature", "--encoding=UTF-8", "--format=%s", commit_id)
        )
    except (gitpython().GitCommandError, gitpython().GitCommandNotFound, OSError):  # a bundle is not a directory
        return ""


def _is_fetched(directory: str, url: str, commit_id: str) -> bool:
    """Whether only the commit has been fetched into the directory, in time."""
    deadline = time.monotonic() + PATIENCE
    trace = os.path.join(directory, "trace")
    if not _ends_well(directory, deadline, "ls-remote", "--", url, "HEAD", GIT_TRACE_PACKET=trace):
        return False
    if not _filters(trace):
        return False
    fetch = ("fetch", "--quiet", "--filter=tree:0", "--no-tags", "--depth=1", "--", url, commit_id)
    return _ends_well(directory, deadline, "init", "--bare", "--quiet", "--template=") and _ends_well(
        directory, deadline, *fetch
    )


def _filters(trace: str) -> bool:
    """Whether the server can leave out files, from git's trace of what it has reported."""
    with contextlib.suppress(OSError), open(trace, encoding="utf-8", errors="replace") as file:
        return any(map(_FILTERS.search, file))
    return False


def _ends_well(directory: str, deadline: float, *words: str, **variables: str) -> bool:
    """Whether git has succeeded before the deadline."""
    seconds = deadline - time.monotonic()
    try:
        return run(directory, seconds, "-c", "protocol.version=2", *words, **variables).status == 0
    except OSError:
        return False
