"""Run playbooks as a user does: `ansible-playbook` in a process of its own, with this checkout's collection."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = Path(sys.executable).with_name("ansible-playbook")
DEADLINE = 300
"""Seconds after which a playbook that hangs is killed."""


def run_playbook(playbook: Path, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What `ansible-playbook playbook args` printed and returned; `env` is added to the environment."""
    surroundings = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_FORCE_COLOR": "false",  # molecule sets it
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        **(env or {}),
    }
    return subprocess.run(
        [str(COMMAND), str(playbook), *args],
        cwd=ROOT,
        env=surroundings,
        timeout=DEADLINE,
        check=False,
        capture_output=True,
        text=True,
    )
