"""What the goals deploy: a repository at a git daemon with a commit for each turn, and the checksum of a tree."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from bench.workbench import Workbench
from support.git_server import git_daemon
from support.repository import GitRepository

IN_DIRECTORY = 50
"""Files in each directory."""
LINES = 20


class Site:
    """A repository of `files` files at `url`. Each commit changes `changed` of them."""

    def __init__(self, repository: GitRepository, url: str, files: int, changed: int) -> None:
        self.url = url
        self._repository = repository
        self._changed = changed
        self.commits = [repository.commit({_path(number): _text(number, 0) for number in range(files)})]

    @classmethod
    @contextlib.contextmanager
    def served(
        cls,
        bench: Workbench,
        name: str,
        files: int,
        changed: int = 1,
        *options: str,
        beside: dict[str, str | None] | None = None,
    ) -> Iterator[Site]:
        """A site at a git daemon with further options. `beside` are further files."""
        repository = GitRepository.create(bench.directory / name / "site")
        repository.commit(beside or {})
        with git_daemon(repository, None, *options) as url:
            yield cls(repository, url, files, changed)

    def from_path(self) -> Site:
        """The same site with the same commits, at a local path."""
        other = copy.copy(self)
        other.url = self._repository.url
        return other

    def commit(self, turn: int) -> str:
        """The commit of a turn, 0 for the first. Both sides of a pair deploy the same one."""
        while len(self.commits) <= turn:
            texts: dict[str, str | None] = {
                _path(number): _text(number, len(self.commits)) for number in range(self._changed)
            }
            self.commits.append(self._repository.commit(texts))
        return self.commits[turn]

    def count_changed(self, before: int, after: int) -> int:
        """The number of files that differ between the commits of two turns."""
        return len(self._repository.git("diff", "--name-only", self.commit(before), self.commit(after)).splitlines())

    def checksum(self, commit_id: str) -> str:
        """The `checksum` of a directory with this commit."""
        listed = self._repository.git("ls-tree", "-r", "-z", commit_id).split("\0")
        entries = (line.partition("\t") for line in listed if line)
        return _sum(f"{facts.split()[0]} {facts.split()[2]} {path}" for facts, _tab, path in entries)


def checksum(directory: Path) -> str:
    """The checksum of all files below a directory, of their paths, modes and contents, without git's own files."""
    lines = []
    for place, directories, names in os.walk(os.path.realpath(directory)):
        directories[:] = [name for name in directories if name != ".git"]
        for name in set(names) - {".git"}:
            path = Path(place) / name
            data = path.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            mode = "100755" if path.stat().st_mode & 0o100 else "100644"
            lines.append(f"{mode} {blob} {path.relative_to(os.path.realpath(directory))}")
    return _sum(lines)


def _sum(lines: Iterator[str] | list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _path(number: int) -> str:
    return f"files/{number // IN_DIRECTORY:03}/{number:05}.txt"


def _text(number: int, turn: int) -> str:
    return f"file {number}, turn {turn}\n" * LINES
