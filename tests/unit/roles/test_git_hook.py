"""The git hook's program by itself: without a library of its, and with names that are no text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles" / "git_hook" / "files" / "program"
OUTCOMES = {
    "pre-receive": "the push is refused, because it could not be published",
    "post-receive": "the push is done, but not published",
}
UPDATE = f"{'0' * 40} {'1' * 40} refs/heads/main\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration, by which the branch main is published."""
    branch = {"branch": "main", "app": "/app/site", "relative_path": "site"}
    path = tmp_path / "hook.json"
    path.write_text(json.dumps({"url": "ssh://git/site.git", "hosts": ["127.0.0.1:1"], "branches": [branch]}))
    return path


@pytest.mark.parametrize("command", OUTCOMES)
def test_without_kazoo_a_push_is_told_so_in_one_line(config: Path, command: str) -> None:
    script = f"""
import sys
sys.modules["kazoo"] = None
sys.path.insert(0, {str(PROGRAM)!r})
from zoo_git_hook.hook import main
sys.exit(main([{command!r}, "--config", {str(config)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], input=UPDATE, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    missing = f"the Python library kazoo is missing; install it for {sys.executable}, or apply the role again"
    assert done.stdout + done.stderr == f"zoo.deploy: {OUTCOMES[command]}: {missing}\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"min_agents": 2, "max_failures": "10%"}, "2 10%\n"),
        ({"min_agents": "many"}, 'expected a whole number of agents or a percentage such as "80%", got "many"'),
        ({"max_failures": True}, 'expected a whole number of agents or a percentage such as "80%", got true'),
    ],
)
def test_how_many_servers_are_waited_for_is_a_number_or_a_percentage(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    branch = {"branch": "main", "app": "/app/site", "relative_path": "site"}
    config = tmp_path / "hook.json"
    content = {"url": "ssh://git/site.git", "hosts": ["127.0.0.1:1"], "branches": [branch], **given}
    config.write_text(json.dumps(content))
    script = f"""
import sys
sys.path.insert(0, {str(PROGRAM)!r})
from zoo_git_hook.config import HookConfig
options = HookConfig.load({str(config)!r}).options
print(options["min_agents"], options["max_failures"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize("command", OUTCOMES)
def test_a_branch_whose_name_is_no_utf_8_is_pushed_as_any_other(config: Path, command: str) -> None:
    update = f"{'0' * 40} {'1' * 40} refs/heads/".encode() + b"\xe9\n"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), command, "--config", str(config)],
        input=update,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
