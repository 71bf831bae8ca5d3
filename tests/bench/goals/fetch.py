"""P10: a fetch of one commit in a repository of 3,500 files, against a bare `git fetch` of the same commit.

Ours is the step `fetching` of the apply process, started as the agent starts it, which times itself. Both sides have
the previous commit. In one more line the yardstick does not, as where no release is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.applying import Applier
from bench.harness import BenchError, Comparison, Sample, Side, goal, timed
from bench.site import Site
from bench.workbench import Workbench
from support.repository import GitRepository

FILES, QUICK = 3_500, 350
CHANGED = 50
KEPT, NOT_KEPT = 1.1, 0.08


@goal("P10")
def fetch(bench: Workbench) -> Iterator[Comparison]:
    """Fetch from a git daemon and from a local path with the previous commit, and from the daemon without it."""
    files = bench.sized(FILES, QUICK)
    with Site.served(bench, "p10", files, CHANGED) as site:
        yield Comparison("P10", f"{files:,} files, git://; git fetch", KEPT, *_sides(bench, "daemon", site), _same)
        yield Comparison(
            "P10", f"{files:,} files, git://; git fetch, no ref kept", NOT_KEPT, *_sides(bench, "all", site, 0), _same
        )
        local = site.from_path()
        yield Comparison("P10", f"{files:,} files, file://; git fetch", KEPT, *_sides(bench, "path", local), _same)


def _sides(bench: Workbench, name: str, site: Site, keeps: int = 1) -> tuple[Side, Side]:
    """Our side, and git with the commits of the `keeps` previous turns."""
    applier = Applier(bench.directory / f"p10-{name}", site)
    applier.apply(site.commit(0))
    ours, turns = itertools.count(1), itertools.count(1)

    def apply() -> Sample:
        commit = site.commit(next(ours))
        return Sample(applier.apply(commit)["fetching"], _content(applier.layout.repository, commit))

    def bare() -> Sample:
        turn = next(turns)
        store = GitRepository(bench.directory / f"p10-{name}-bare-{turn}")
        store.path.mkdir()
        store.git("init", "-q", "--bare")
        for before in range(turn - keeps, turn):
            _fetch(store, site, site.commit(before))
        commit = site.commit(turn)
        seconds = timed(lambda: _fetch(store, site, commit))().figure
        return Sample(seconds, _content(store.path, commit))

    return apply, bare


def _fetch(store: GitRepository, site: Site, commit: str) -> None:
    store.git("fetch", "-q", "--depth=1", site.url, f"+{commit}:refs/kept/{commit}")


def _content(store: Path, commit: str) -> str:
    """The IDs of all objects of a commit, each of which exists."""
    return GitRepository(store).git("rev-list", "--objects", "--no-walk", commit)


def _same(ours: Any, yardstick: Any) -> None:
    if ours != yardstick:
        raise BenchError("the object stores do not have the same objects")
