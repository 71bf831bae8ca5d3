"""Many tasks in one run of ansible-playbook, and the result of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.playbook import run_playbook

RESULTS = "results.json"


@dataclass(frozen=True)
class Run:
    """A finished playbook: its output, and each task's result by the name of its register."""

    output: str
    results: dict[str, dict[str, Any]]

    def __getitem__(self, name: str) -> dict[str, Any]:
        """A task's result."""
        return self.results[name]


def run_tasks(directory: Path, tasks: list[dict[str, Any]], *words: str, **play: Any) -> Run:
    """Run tasks on the controller, one after the other, even if some fail; `register` names a task's result.

    `play` holds further keys of the play.
    """
    playbook = write_tasks(directory, tasks, **play)
    done = run_playbook(playbook, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(done.stdout + done.stderr, read_results(directory))


def write_tasks(directory: Path, tasks: list[dict[str, Any]], **play: Any) -> Path:
    """Write the playbook of `run_tasks`, to be run in another way; `read_results` then returns its results."""
    names = ", ".join(f"'{task['register']}': {task['register']}" for task in tasks)
    dump = {
        "ansible.builtin.copy": {
            "dest": str(directory / RESULTS),
            "content": f"{{{{ {{{names}}} | to_json }}}}",
        },
        "check_mode": False,
        "diff": False,
    }
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [*({"ignore_errors": True, **task} for task in tasks), dump],
        **play,
    }
    playbook = directory / "playbook.yml"
    playbook.write_text(json.dumps([play]))
    return playbook


def read_results(directory: Path) -> dict[str, dict[str, Any]]:
    """Each task's result by the name of its register, after the playbook has run."""
    results: dict[str, dict[str, Any]] = json.loads((directory / RESULTS).read_text())
    return results
