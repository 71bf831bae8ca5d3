"""What a deployment makes of the errors that come up on its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo_watcher.config.config import Config
from zoo_watcher.errors import KilledError, PassingError
from zoo_watcher.releases.deployment import Deployment, Progress
from zoo_watcher.services.health import Health
from zoo_watcher.wire.records import Release

COMMIT = "a" * 40
Make = Callable[..., Deployment]


@pytest.fixture
def told() -> list[Progress | None]:
    """What the deployment has reported."""
    return []


@pytest.fixture
def deployment(tmp_path: Path, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """One that never pauses."""
    config = Config.from_object({"hosts": "zk1", "base": str(tmp_path / "base"), "allowed_schemes": ["file"]})
    release = Release(url="file:///srv/site.git", commit_id=COMMIT, relative_path="site")
    made = Deployment(config, release, 7, 1, Health([], lambda: None), told.append)
    made.layout.make()
    monkeypatch.setattr(made.handshake, "sleep", lambda _seconds: None)
    return made


def outcome(told: list[Progress | None]) -> tuple[str, str | None]:
    """The last state with its message; the report after it says that the deployment has ended."""
    assert told[-1] is None
    last = told[-2]
    assert last is not None
    return last.state, last.message


def test_a_process_that_is_killed_again_and_again_is_a_failure(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [KilledError("killed"), PassingError("no route", "fetch"), *[KilledError("killed") for _time in range(4)]]

    def run(*_words: Any) -> dict[str, Any]:
        raise errors.pop(0)

    monkeypatch.setattr(deployment._process, "run", run)
    deployment.run()
    assert outcome(told) == ("failed", "killed; given up after 3 tries that ended so")
    assert len(errors) == 1, "an error of another kind begins the count anew"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread"), OSError(11, "again")])
def test_an_error_that_nobody_has_thought_of_is_in_the_status(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run(*_words: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(deployment._process, "run", run)
    deployment.run()
    state, message = outcome(told)
    assert state == "failed"
    assert str(message).startswith(f"an error of the agent's own, see its log: {type(error).__name__}")


@pytest.mark.parametrize(
    ("fleet", "rate", "longest"), [(1, 100, None), (50, 100, 0.5), (10_000, 100, 100.0), (10_000, 500, 20.0)]
)
def test_a_fleet_spreads_by_its_size_and_rate(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, fleet: int, rate: int, longest: float | None
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(deployment.handshake, "sleep", slept.append)
    deployment.fleet = fleet
    for _time in range(200):
        deployment._spread(rate)
    if longest is None:
        assert slept == []
    else:
        assert max(slept) <= longest
        assert longest * 0.3 < sum(slept) / len(slept) < longest * 0.7


def test_a_full_disk_under_the_swap_is_waited_out(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [PassingError("activating site: No space left on device", "disk")] * 2
    swapped: list[str] = []

    def swap(_layout: Any, _place: str, commit_id: str) -> None:
        if errors:
            raise errors.pop()
        swapped.append(commit_id)

    monkeypatch.setattr("zoo_watcher.releases.deployment.activate", swap)
    deployment._swap()
    assert swapped == [COMMIT]
    messages = [progress.message for progress in told if progress]
    assert len(messages) == 2
    assert all(str(message).startswith("activating site: No space left on device; tried again") for message in messages)
