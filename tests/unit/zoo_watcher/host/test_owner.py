"""Who root becomes in a base."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo_watcher.errors import AgentError
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.owner import become_owner


def test_where_there_is_no_base_nothing_is_done_as_root(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no such directory; the agent was never started here"):
        become_owner(Layout(tmp_path / "base"))


def test_a_base_that_goes_as_it_is_looked_at_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo_watcher.host.owner.os.path.isdir", lambda _path: True)
    monkeypatch.setattr("zoo_watcher.host.owner.os.geteuid", lambda: 0)
    with pytest.raises(AgentError, match="No such file or directory"):
        become_owner(Layout(tmp_path / "base"))
