"""What the agent's loop starts for a desired release: a rebuilt ensemble counts its transactions from the beginning."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo_watcher.config.config import Config
from zoo_watcher.desired import Desired
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.journal import Failure, ReleaseJournal
from zoo_watcher.watcher import Watcher
from zoo_watcher.wire.records import Release


class Loop:
    """A loop that deploys nothing, but remembers what it would."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout = Layout(base)
        self.layout.make()
        self.deployed: list[str] = []
        self._watcher = Watcher(Config.from_object({"hosts": "127.0.0.1:1", "base": str(base)}), "1", lambda: None)
        monkeypatch.setattr(self._watcher, "_deploy", self._deploy)

    def _deploy(self, desired: Desired, release: Release) -> None:
        self.deployed.append(release.commit_id)
        self._watcher._enter("queued", desired)

    def converge(self, generation: int, letter: str, url: str = "https://git.example/site.git") -> str:
        """Have a release desired; the state afterwards."""
        self._watcher.desired.current = Desired(generation, 1, Release(url, letter * 40, "site"))
        self._watcher._converge()
        return self._watcher.board.status.state


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """The loop of an agent that has just been started."""
    return Loop(tmp_path / "base", monkeypatch)


def test_a_release_is_deployed_once(loop: Loop) -> None:
    loop.converge(7, "a")
    loop.converge(7, "a")
    assert loop.deployed == ["a" * 40]


def test_another_release_with_the_same_generation_is_deployed_too(loop: Loop) -> None:
    loop.converge(7, "a")
    loop.converge(7, "b")
    loop.converge(7, "b", url="https://git.example/other.git")
    assert loop.deployed == ["a" * 40, "b" * 40, "b" * 40]


def test_a_failure_counts_for_the_release_that_failed_and_not_for_another_of_its_generation(loop: Loop) -> None:
    ReleaseJournal().with_failure(Failure(7, "rolled_back", "not healthy")).save(loop.layout.journal)
    assert loop.converge(7, "a") == "rolled_back"
    assert loop.converge(7, "b") == "queued"
    assert loop.deployed == ["b" * 40]
