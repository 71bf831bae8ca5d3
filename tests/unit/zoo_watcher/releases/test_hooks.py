"""The host's own commands around a switch, and whether one of them may be what ends the agent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from zoo_watcher.config.config import Config
from zoo_watcher.errors import DeployError
from zoo_watcher.host import command
from zoo_watcher.releases import hooks
from zoo_watcher.releases.course import Course
from zoo_watcher.releases.rollback import PlacedRelease

COMMIT = "a" * 40


def test_only_a_command_that_runs_or_has_just_ended_may_be_what_ends_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"hosts": "zk1", "base": str(tmp_path), "restart_units": ["app.service"]}
    config = Config.from_object({**keys, "hooks": {"after_activate": ["true"]}})
    course = Course(config, PlacedRelease(COMMIT, "site"), 7, lambda _progress: None)
    made = hooks.HostHooks(course)
    seen: list[bool] = []
    now = [1000.0]

    def run(*_words: object) -> command.Ended:
        seen.append(made.may_end_agent)
        now[0] += 500
        return command.Ended(None, "")

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(hooks, "time", SimpleNamespace(monotonic=lambda: now[0]))
    assert not made.may_end_agent
    made.use(DeployError, COMMIT, None)
    assert seen == [True, True]
    assert made.may_end_agent, "it has just ended"
    now[0] += hooks.RECENT + 1
    assert not made.may_end_agent
