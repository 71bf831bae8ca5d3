"""Plays that need every host at the same task are run like that, whatever the configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"
PLAYS = [
    (path, play)
    for path in sorted(PLAYBOOKS.glob("*.yml"))
    for play in yaml.safe_load(path.read_text())
    if "import_playbook" not in play
]


@pytest.mark.parametrize(("path", "play"), PLAYS, ids=[f"{path.stem}-{play['name']}" for path, play in PLAYS])
def test_a_play_of_several_hosts_goes_on_with_all_of_them_at_once(path: Path, play: dict[str, Any]) -> None:
    """With the strategy `free`, `run_once` and `any_errors_fatal` have no effect."""
    several = play["hosts"] != "localhost" and path.stem != "loadbalancer"
    refuses = play["name"] == "Refuse to run without a target"
    assert play.get("strategy") == ("ansible.builtin.linear" if several and not refuses else None)
