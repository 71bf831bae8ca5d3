"""A module forked from a prepared Python is like a separate process: its program, environment, outputs and status."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.playbook import run_playbook

DESCRIBE = """
import json, os, sys
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.only_here import HERE
{further}
module = AnsibleModule(argument_spec={{}})
mask = os.umask(0)
module.exit_json(
    changed=False, here=HERE, words=len(sys.argv), executable=sys.executable, directory=os.getcwd(), mask=mask,
    colour=os.environ.get("COLOUR"), prepared="prepared_modules" in sys.modules, rest=sys.stdin.read(),
)
"""
"""A module of the tests, with a part that only the zip has."""
NUMBERS = itertools.count()
"""Each module has a name of its own: one that has been packed is not packed again."""


def describe(directory: Path, further: str = "", task: dict[str, Any] | None = None, **env: str) -> dict[str, Any]:
    """Return the module's result in a playbook's task with further keywords, or what its end is reported as."""
    module = f"describe{next(NUMBERS)}"
    library, parts = directory / "library", directory / "parts"
    for path in (library, parts):
        path.mkdir(exist_ok=True)
    (library / f"{module}.py").write_text(DESCRIBE.format(further=further))
    (parts / "only_here.py").write_text("HERE = 1\n")
    dump = {"ansible.builtin.copy": {"content": "{{ told | to_json }}", "dest": str(directory / "told.json")}}
    tasks = [{module: {}, "register": "told", "ignore_errors": True, **(task or {})}, dump]
    playbook = directory / "play.json"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    done = run_playbook(playbook, env={"ANSIBLE_MODULE_UTILS": str(parts), **env})
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((directory / "told.json").read_text()))


def test_a_module_is_forked_and_sees_what_a_separate_process_would_see(tmp_path: Path) -> None:
    forked = describe(tmp_path, COLOUR="red")
    own = describe(tmp_path, task={"environment": {"COLOUR": "red"}})
    assert (forked.pop("prepared"), own.pop("prepared")) == (True, False)
    assert forked == own
    assert (forked["colour"], forked["rest"], forked["here"]) == ("red", "", 1)


def test_modules_do_not_see_what_others_did(tmp_path: Path) -> None:
    describe(tmp_path, "os.environ['COLOUR'] = 'blue'; os.chdir('/'); os.umask(0o77); sys.path.insert(0, '/nowhere')")
    told = describe(tmp_path)
    assert told["prepared"]
    assert (told["colour"], told["mask"]) == (None, os.umask(told["mask"]))
    assert told["directory"] != "/"


@pytest.mark.parametrize(
    ("further", "words"),
    [
        ("print('text'); sys.exit(3)", {"rc": 3, "module_stdout": "text\n"}),
        ("print('text', file=sys.stderr); os.kill(os.getpid(), 9)", {"rc": 137, "module_stderr": "text\n"}),
        ("os.system('echo of another; echo wrong >&2'); os._exit(4)", {"rc": 4, "module_stdout": "of another\n"}),
    ],
    ids=["exit", "killed", "another process"],
)
def test_an_end_without_a_result_is_reported_like_that_of_a_process(
    tmp_path: Path, further: str, words: dict[str, Any]
) -> None:
    told = describe(tmp_path, further)
    assert told["failed"]
    assert {name: told[name] for name in words} == words


def test_modules_of_two_hosts_run_at_once(tmp_path: Path) -> None:
    """Each creates a file, and waits for the other one's."""
    hosts = {name: {"ansible_connection": "local"} for name in ("one", "two")}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    meet = f"cd {tmp_path}; touch {{{{ inventory_hostname }}}}; until [ -e one ] && [ -e two ]; do sleep 0.05; done"
    playbook = tmp_path / "play.json"
    tasks = [{"ansible.builtin.command": {"argv": ["timeout", "60", "sh", "-c", meet]}}]
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = run_playbook(playbook, "-i", str(inventory))
    assert done.returncode == 0, done.stdout + done.stderr
