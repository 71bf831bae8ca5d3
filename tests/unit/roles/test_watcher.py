"""That the role watcher installs every module of the agent, and what its scripts do on a host."""

from __future__ import annotations

import fcntl
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles" / "watcher"
PACKAGE = ROLE / "files" / "zoo_watcher"
LOOK = {
    "install.py": """
import runpy, sys
from pathlib import Path
print(runpy.run_path(sys.argv[1])["_is_connected"](Path(sys.argv[2])))
""",
    "prove.py": """
import runpy, sys
functions = runpy.run_path(sys.argv[1])
shown = {"ActiveState": "active", "ExecMainStartTimestampMonotonic": "0"}
functions["lacks"].__globals__["_shown"] = lambda unit: shown
print(functions["lacks"]({"unit": "", "base": sys.argv[2], "version": "1", "connected": False}))
""",
}
"""By script of the role, a program that has it read the status below the directory in the second argument."""


def test_the_patterns_of_the_role_find_every_module_of_the_agent() -> None:
    patterns = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["_watcher_patterns"]
    assert {path for pattern in patterns for path in PACKAGE.glob(pattern)} == set(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("script", ["install.py", "prove.py"])
def test_what_the_agents_user_puts_in_place_of_its_status_does_not_hold_up_the_role(
    tmp_path: Path, script: str
) -> None:
    (tmp_path / ".zoo").mkdir()
    os.mkfifo(tmp_path / ".zoo" / "status.json")
    done = subprocess.run(
        [sys.executable, "-c", LOOK[script], str(ROLE / "files" / script), str(tmp_path)],
        timeout=20,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (
        done.stdout
        == {
            "install.py": "False\n",
            "prove.py": f"it has written no status, {tmp_path}/.zoo/status.json\n",
        }[script]
    )


LOCK = """
import runpy, sys
install = runpy.run_path(sys.argv[1])
with install["_locked"](sys.argv[2]):
    print("locked")
"""


def test_a_user_who_may_read_the_directory_does_not_hold_up_an_installation(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        command = [sys.executable, "-c", LOCK, str(ROLE / "files" / "install.py"), str(tmp_path)]
        done = subprocess.run(command, timeout=20, capture_output=True, text=True, check=True)
    finally:
        os.close(descriptor)
    assert done.stdout == "locked\n"
    assert list(tmp_path.iterdir()) == []


def test_one_installation_at_a_time_works_in_a_directory(tmp_path: Path) -> None:
    locked = runpy.run_path(str(ROLE / "files" / "install.py"))["_locked"]
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _time in range(50):
            with locked(str(tmp_path)):
                inside.append(number)
                most.append(len(inside))
                assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o600
                inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert (len(most), max(most)) == (200, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("before", "link"), [("1.0.0", "1.0.0"), ("", None)])
@pytest.mark.parametrize("is_running", [True, False])
def test_what_ran_is_started_again_even_if_another_directory_had_its_version(
    tmp_path: Path, before: str, link: str | None, *, is_running: bool
) -> None:
    task = yaml.safe_load((ROLE / "tasks" / "roll_back.yml").read_text())[0]
    for name in ("systemctl", "journalctl"):
        (tmp_path / name).write_text('#!/bin/sh\necho "${0##*/} $*"\n')
        (tmp_path / name).chmod(0o755)
    unit, current = tmp_path / "unit", tmp_path / "current"
    unit.write_text("new")
    (tmp_path / "unit~").write_text("old")
    words = {
        "_watcher_unit": "web.service",
        "_watcher_current": str(current),
        "before": before if is_running else "",
        "running": "running" if is_running else "",
    }
    first = [words.get(word, word) for word in _first_words(task)]
    command = [task["vars"]["script"] if word == "script" else word for word in first]
    done = subprocess.run(
        [*command, f"{unit}~", str(unit)],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert unit.read_text() == "old"
    assert ("systemctl restart web.service" in done.stdout) is is_running
    assert (os.readlink(current) if current.is_symlink() else None) == (link if is_running else None)


def _first_words(task: dict[str, Any]) -> list[str]:
    """The words of the command before the files."""
    argv = task["ansible.builtin.command"]["argv"]
    return [word.strip("' ") for word in argv[argv.index("[") + 1 : argv.index("]")].split(",")]


def test_the_last_task_is_to_wait_for_the_first_session_which_may_not_come() -> None:
    """The command reports why there is none, and no backup with a password stays."""
    tasks = yaml.safe_load((ROLE / "tasks" / "present.yml").read_text())
    assert tasks[-1]["ansible.builtin.include_tasks"] == "session.yml"
