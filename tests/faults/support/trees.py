"""Whether a directory equals a commit byte for byte: files, modes, symlinks, directories, and nothing else."""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import subprocess
from pathlib import Path

DIRECTORY = "040000"
FILE = "100644"
PROGRAM = "100755"
SYMLINK = "120000"
GITLINK = "160000"

Contents = dict[bytes, tuple[str, str]]
"""By path, the mode as git writes it, and the hash of the contents, which is empty for a directory."""


@functools.cache
def commit_contents(repository: Path, commit_id: str) -> Contents:
    """The contents of a commit according to git. A submodule is an empty directory."""
    command = ["git", "-C", str(repository), "ls-tree", "-r", "-z", commit_id]
    listed = subprocess.run(command, check=True, capture_output=True).stdout
    contents: Contents = {}
    for line in filter(None, listed.split(b"\0")):
        facts, _tab, path = line.partition(b"\t")
        mode, _type, object_id = facts.decode().split()
        contents[path] = (DIRECTORY, "") if mode == GITLINK else (mode, object_id)
        parents = path.split(b"/")[:-1]
        contents.update({b"/".join(parents[: depth + 1]): (DIRECTORY, "") for depth in range(len(parents))})
    return contents


def directory_contents(root: Path) -> Contents:
    """The contents of a directory on disk."""
    top = os.fsencode(root)
    contents: Contents = {}
    for directory, directories, files in os.walk(top):
        for name in [*directories, *files]:
            path = os.path.join(directory, name)
            contents[os.path.relpath(path, top)] = _facts(path)
    return contents


def _facts(path: bytes) -> tuple[str, str]:
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        return (DIRECTORY, "")
    if stat.S_ISLNK(mode):
        return (SYMLINK, _hash(os.readlink(path)))
    with open(path, "rb") as file:
        return (PROGRAM if mode & 0o111 else FILE, _hash(file.read()))


def _hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def difference(root: Path, repository: Path, commit_id: str) -> str:
    """The first difference between a directory and a commit, empty if there is none."""
    wanted, found = commit_contents(repository, commit_id), directory_contents(root)
    for path in sorted(wanted.keys() | found.keys()):
        if wanted.get(path) != found.get(path):
            return f"{root}: {path!r} is {found.get(path)}, expected {wanted.get(path)}"
    return ""
