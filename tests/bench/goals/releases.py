"""P9: a new durable release of 5,000 files and the disk space that it adds, against `git worktree add`.

Both are on the same file system. Ours is the step `staging` of the apply process, started as the agent starts it, which
times itself. A work tree is made durable as a release is, with one call for its file system. What both write is on the
disk before the next begins.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.applying import Applier
from bench.harness import BenchError, Comparison, Sample, goal
from bench.site import Site, checksum
from bench.workbench import Workbench
from support.repository import GitRepository

FILES, QUICK = 5_000, 500
CHANGED = 50
MEMORY = Path("/dev/shm")
IN_MEMORY, ON_DISK, ADDED = 0.35, 0.08, 0.02


@goal("P9")
def new_release(bench: Workbench) -> Iterator[Comparison]:
    """In memory, on the disk, the added disk space, and a release of which every file is written."""
    files = bench.sized(FILES, QUICK)
    with Site.served(bench, "p9", files, CHANGED) as site:
        for directory, limit in (MEMORY, IN_MEMORY), (bench.directory, ON_DISK):
            with _trees(directory, site) as trees:
                work = f"{files:,} files, {CHANGED} new, {_file_system(directory)}; git worktree add"
                yield Comparison("P9", work, limit, trees.make_release, trees.add_work_tree, _same)
        with _trees(bench.directory, site) as trees:
            sides = trees.release_blocks, trees.work_tree_blocks
            yield Comparison("P9", "disk that it adds; git worktree add", ADDED, *sides, _same, "MB")
        with _trees(bench.directory, site, hard_links=False) as trees:
            sides = trees.make_release, trees.add_work_tree
            yield Comparison("P9", "every file written (no hard_links); git worktree add", None, *sides, _same)


class _Trees:
    """Releases and work trees of the same commits on one file system, the two newest of each."""

    def __init__(self, directory: Path, site: Site, *, hard_links: bool) -> None:
        self._site = site
        self._directory = directory
        self._applier = Applier(directory / "base", site, hard_links=hard_links)
        self._turns = itertools.count(1)
        self._store = GitRepository(directory / "store.git")
        self._store.path.mkdir()
        self._store.git("init", "-q", "--bare")
        self._work_trees: list[Path] = []
        self._work_tree_turns = itertools.count(1)
        self.make(0)
        self.add(0)

    def make(self, turn: int) -> float:
        """Make a release of the commit of a turn, and return the seconds."""
        _sync(self._directory)
        return self._applier.apply(self._site.commit(turn))["staging"]

    def add(self, turn: int) -> float:
        """Add a work tree of the commit of a turn, and return the seconds."""
        commit = self._site.commit(turn)
        self._store.git("fetch", "-q", self._site.url, f"+{commit}:refs/kept/{commit}")
        for old in self._work_trees[:-1]:
            self._store.git("worktree", "remove", "--force", str(old))
            self._work_trees.remove(old)
        self._work_trees.append(self._directory / f"tree{turn}")
        _sync(self._directory)
        begun = time.perf_counter()
        self._store.git("worktree", "add", "--detach", str(self._work_trees[-1]), commit)
        _sync(self._directory)
        return time.perf_counter() - begun

    def make_release(self) -> Sample:
        """Make a release of the next commit."""
        seconds = self.make(next(self._turns))
        return Sample(seconds, checksum(self._applier.release))

    def add_work_tree(self) -> Sample:
        """Add a work tree of the next commit."""
        seconds = self.add(next(self._work_tree_turns))
        return Sample(seconds, checksum(self._work_trees[-1]))

    def release_blocks(self) -> Sample:
        """The megabytes that a release and its manifest take beside the previous one."""
        _unused, result = self.make_release()
        before, now = self._applier.commits[-2:]
        layout = self._applier.layout
        return Sample(_added([layout.release(before)], [layout.release(now), layout.manifest(now)]), result)

    def work_tree_blocks(self) -> Sample:
        """The megabytes that a work tree and its index take beside the previous one."""
        _unused, result = self.add_work_tree()
        before, now = self._work_trees[-2:]
        return Sample(_added([before], [now, self._store.path / "worktrees" / now.name]), result)


@contextlib.contextmanager
def _trees(directory: Path, site: Site, *, hard_links: bool = True) -> Iterator[_Trees]:
    place = Path(tempfile.mkdtemp(prefix="zoo-bench-", dir=directory))
    try:
        yield _Trees(place, site, hard_links=hard_links)
    finally:
        shutil.rmtree(place)


def _sync(directory: Path) -> None:
    subprocess.run(["sync", "--file-system", directory], check=True)


def _file_system(directory: Path) -> str:
    """The type of a directory's file system."""
    words: list[str | Path] = ["df", "--output=fstype", directory]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1]


def _added(before: list[Path], new: list[Path]) -> float:
    """Megabytes of added blocks. A file that already exists under another name takes none."""
    return (_blocks([*before, *new]) - _blocks(before)) / 1e6


def _blocks(paths: list[Path]) -> int:
    words: list[str | Path] = ["du", "--summarize", "--block-size=1", "--total", *paths]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1].split()[0])


def _same(ours: Any, yardstick: Any) -> None:
    if ours != yardstick:
        raise BenchError(f"the release has the checksum {ours}, the work tree {yardstick}")
