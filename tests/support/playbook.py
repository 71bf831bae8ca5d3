"""Run playbooks as a user does: with `ansible-playbook` in a process of its own and this checkout's collection."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support.commands import BIN, run_command
from support.interpreter import PYTHON

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = BIN / "ansible-playbook"
RECAP = re.compile(r"localhost +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=(\d+)")
MODULES = tempfile.TemporaryDirectory(prefix="zoo-tests-modules-")
"""The packed modules: packing one takes as long as running it, and nothing changes them while tests run."""
DEADLINE = 300
"""Seconds after which a playbook that hangs is killed."""


@dataclass
class Run:
    """The outcome of a playbook on localhost: how many of its tasks changed something, how many failed, its output."""

    changed: int
    failed: int
    output: str

    @classmethod
    def of(cls, done: subprocess.CompletedProcess[str]) -> Run:
        """The outcome according to the playbook's recap."""
        output = done.stdout + done.stderr
        recap = RECAP.search(output)
        assert recap, output
        return cls(int(recap[1]), int(recap[2]), output)


def run_playbook(
    playbook: Path, *args: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run `ansible-playbook playbook args`; `env` is added to the environment."""
    environment = surroundings_of(env)
    return run_command(COMMAND.name, str(playbook), *args, environment=environment, seconds=DEADLINE, cwd=cwd)


def start_playbook(playbook: Path, *args: str, log: Path = Path(os.devnull)) -> subprocess.Popen[bytes]:
    """Start `ansible-playbook playbook args` in a process group of its own, with its output in `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [str(COMMAND), str(playbook), *args],
            cwd=ROOT,
            env=surroundings_of({"PYTHONUNBUFFERED": "1"}),  # the file receives each line immediately
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def surroundings_of(env: Mapping[str, str] | None) -> dict[str, str]:
    """The environment of `ansible-playbook`."""
    surroundings = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_FORCE_COLOR": "false",  # molecule sets it
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_PYTHON_INTERPRETER": PYTHON,
        "ANSIBLE_PIPELINING": "true",  # saves six processes for each module
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callbacks")),
        "ANSIBLE_CALLBACKS_ENABLED": "kept_modules",
        **(env or {}),
    }
    # Another collection has different modules with the same names.
    modules = Path(MODULES.name, surroundings["ANSIBLE_COLLECTIONS_PATH"].replace("/", "%"))
    modules.mkdir(exist_ok=True)
    surroundings["ZOO_TESTS_MODULES"] = str(modules)
    return surroundings
