"""The user that root becomes in a base."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo_watcher.errors import AgentError
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.owner import become_owner


def test_where_there_is_no_base_there_is_nobody_to_become(tmp_path: Path) -> None:
    assert not become_owner(Layout(tmp_path / "base"))


def test_a_base_that_disappears_while_it_is_looked_at_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo_watcher.host.owner.os.path.isdir", lambda _path: True)
    monkeypatch.setattr("zoo_watcher.host.owner.os.geteuid", lambda: 0)
    with pytest.raises(AgentError, match="No such file or directory"):
        become_owner(Layout(tmp_path / "base"))
