"""The quickstart's shell environment: its own ensemble only, whatever the user's environment contains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ansible_collections.zoo.deploy.plugins.module_utils.connection import CONNECTION_OPTIONS, environment_variable

PREPARE = Path(__file__).resolve().parents[3] / "playbooks" / "quickstart" / "prepare.py"


def test_its_environment_has_no_other_option_of_a_connection(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(PREPARE), str(tmp_path)], check=True)
    variables = {environment_variable(option) for option in CONNECTION_OPTIONS}
    surroundings = {**os.environ, **dict.fromkeys(variables, "the user's")}
    script = f'. "{tmp_path}/env" && env'
    done = subprocess.run(["sh", "-euc", script], env=surroundings, capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert found.keys() & variables == {"ZK_HOSTS"}
    assert found["ZK_HOSTS"].startswith("127.0.0.1:")
