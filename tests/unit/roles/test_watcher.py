"""The role watcher installs every module of the agent."""

from __future__ import annotations

from pathlib import Path

import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "watcher"
PACKAGE = ROLE / "files" / "zoo_watcher"


def test_the_patterns_of_the_role_find_every_module_of_the_agent() -> None:
    patterns = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["_watcher_patterns"]
    assert {path for pattern in patterns for path in PACKAGE.glob(pattern)} == set(PACKAGE.rglob("*.py"))
