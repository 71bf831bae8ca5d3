"""Where the lookup `zoo.deploy.config_znodes` finds a directory."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from support.playbook import run_playbook

CASES = {
    # register: (where the task is, the requested directory, the content by which the directory found is known)
    "role_first": ("web", "shared", "files of the role"),
    "role_itself": ("web", "beside", "the role"),
    "playbook_s_from_a_role": ("web", "common", "files of the playbook"),
    "playbook": ("", "shared", "files of the playbook"),
    "named": ("", "files/shared", "files of the playbook"),
    "beside_the_playbook": ("", "beside", "the playbook's directory"),
    "deeper": ("", "shared/deeper", "files of the playbook, deeper"),
    "where_it_was_started": ("", "plugins/doc_fragments", None),
}


def look(name: str, directory: str) -> dict[str, Any]:
    """A task that looks up a directory."""
    query = f"query('zoo.deploy.config_znodes', '/c', directory='{directory}')"
    return {"ansible.builtin.set_fact": {name: f"{{{{ {query} }}}}"}}


@pytest.fixture
def play(tmp_path: Path) -> Path:
    """A playbook with a role, in a directory where several directories have the same name."""
    for place, what in {
        "roles/web/files/shared": "files of the role",
        "roles/web/beside": "the role",
        "files/shared": "files of the playbook",
        "files/shared/deeper": "files of the playbook, deeper",
        "files/common": "files of the playbook",
        "shared": "the playbook's directory",
        "beside": "the playbook's directory",
    }.items():
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "what").write_text(what)
    return tmp_path / "play.yml"


def run(play: Path, tasks: list[dict[str, Any]], role_tasks: list[dict[str, Any]]) -> str:
    """Run the tasks of the play and of its role, and return the output."""
    (play.parent / "roles/web/tasks").mkdir()
    (play.parent / "roles/web/tasks/main.yml").write_text(json.dumps(role_tasks))
    tasks = [{"ansible.builtin.import_role": {"name": "web"}}, *tasks]
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    done = run_playbook(play)
    return done.stdout + done.stderr


def test_a_directory_is_looked_for_as_ansible_looks_for_files(play: Path) -> None:
    asked = {place: [look(name, case[1]) for name, case in CASES.items() if case[0] == place] for place in ("web", "")}
    answer = play.parent / "answer.json"
    dump = {
        "dest": str(answer),
        "content": f"{{{{ {{{', '.join(f'{name!r}: {name}' for name in CASES)}}} | to_json }}}}",
    }
    output = run(play, [*asked[""], {"ansible.builtin.copy": dump}], asked["web"])
    assert answer.exists(), output
    found = json.loads(answer.read_text())
    values = {
        name: base64.b64decode(next(one["value"] for one in entries if one["path"] == "/c/what")).decode()
        for name, entries in found.items()
        if CASES[name][2]
    }
    assert values == {name: case[2] for name, case in CASES.items() if case[2]}
    assert "/c/zookeeper.py" in {one["path"] for one in found["where_it_was_started"]}


def test_a_missing_directory_is_a_one_line_error_that_says_where_it_was_looked_for(play: Path) -> None:
    output = run(play, [look("none", "no/where")], [])
    assert "no/where: no such directory in files/ of the role or the playbook, beside them, or in /" in output
