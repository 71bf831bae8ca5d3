"""P14: back to the previous release, against forward by the same change.

One agent has 5,000 files, of which each commit changes 50. To go back is to publish the previous commit, whose release
directory is still on the host.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.agents import Fleet
from bench.harness import BenchError, Comparison, Sample, goal
from bench.site import Site
from bench.workbench import Workbench

FILES, SMALL = 5_000, 500
"""Files of a release, and those of a quick run."""
CHANGED = 50


@goal("P14")
def back(bench: Workbench) -> Iterator[Comparison]:
    """From the publication of the previous commit until it is proved, against that of the next one."""
    files = SMALL if bench.quick else FILES
    with Site.served(bench, "p14", files, CHANGED) as site, Fleet.started(bench, "p14", 1) as fleet:
        host = _Host(site, fleet)
        host.go_to_new()
        work = f"rollback, {files:,} files; deployment of the change"
        yield Comparison("P14", work, 0.2, host.go_back, host.go_on, _same)


class _Host:
    """Follows the commits one by one. The result of a step is the number of files that it has changed."""

    def __init__(self, site: Site, fleet: Fleet) -> None:
        self._site, self._fleet = site, fleet
        self._turn = -1

    def go_to_new(self) -> float:
        """Deploy the next commit, and return the seconds."""
        self._turn += 1
        return self._deploy(self._turn)

    def go_on(self) -> Sample:
        """Deploy the next commit."""
        seconds = self.go_to_new()
        return Sample(seconds, self._changed())

    def go_back(self) -> Sample:
        """Deploy a new commit, which is not timed, and go back from it."""
        self.go_to_new()
        return Sample(self._deploy(self._turn - 1), self._changed())

    def _deploy(self, turn: int) -> float:
        commit_id = self._site.commit(turn)
        seconds = self._fleet.deploy(self._site.url, commit_id)
        if self._fleet.trees() != {self._site.checksum(commit_id)}:
            raise BenchError(f"the host does not have the tree of {commit_id}")
        return seconds

    def _changed(self) -> int:
        return self._site.count_changed(self._turn - 1, self._turn)


def _same(ours: int, yardstick: int) -> None:
    if ours != yardstick:
        raise BenchError(f"{ours} files were changed back, {yardstick} were changed")
