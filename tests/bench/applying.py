"""The agent's apply process, started as the agent starts it, and the seconds that it reports for its steps."""

from __future__ import annotations

from pathlib import Path

from bench.site import Site
from zoo_watcher.config.config import Config, Connection
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.apply_process import ApplyProcess, stage_job
from zoo_watcher.wire.records import Release


class Applier:
    """A base in which releases of a site are made one after the other. Only the last two are kept."""

    def __init__(self, base: Path, site: Site, *, hard_links: bool = True) -> None:
        config = Config(Connection(""), base, "server1", allowed_schemes=("file", "git"), hard_links=hard_links)
        self._config = config
        self._site = site
        self._process = ApplyProcess(config)
        self.layout = Layout(base)
        self.layout.make()
        self.commits: list[str] = []
        """The commits of which a release was made."""

    def apply(self, commit_id: str) -> dict[str, float]:
        """Fetch a commit and make its release, and return the seconds of the steps `fetching` and `staging`."""
        release = Release(self._site.url, commit_id, "site")
        done: dict[str, float] = self._process.run(stage_job(self._config, release, self.commits[-1:]))["done"]
        self.commits.append(commit_id)
        return done

    @property
    def release(self) -> Path:
        """The directory of the last release."""
        return self.layout.release(self.commits[-1])
