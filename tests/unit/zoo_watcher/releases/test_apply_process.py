"""The apply process runs the same package as the agent that starts it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import zoo_watcher

FIRST_PATH = """
import sys
sys.path.insert(0, sys.argv[1])
from zoo_watcher.releases.apply_process import _environment
print(_environment()["PYTHONPATH"])
"""


def test_a_package_that_is_a_link_is_imported_by_the_name_of_the_link(tmp_path: Path) -> None:
    shutil.copytree(Path(zoo_watcher.__file__).parent, tmp_path / "versions" / "agent-1")
    (tmp_path / "zoo_watcher").symlink_to("versions/agent-1")
    command = [sys.executable, "-c", FIRST_PATH, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={})
    assert done.stdout == f"{tmp_path}\n"
