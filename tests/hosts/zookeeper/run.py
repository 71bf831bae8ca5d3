"""The playbook `ensemble.yml`, run on the scenario's hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hosts.lab.places import ROOT
from hosts.zookeeper.member import FILES

CHANGED = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+)", re.MULTILINE)
COMMAND = [str(Path(sys.executable).with_name("ansible-playbook")), str(ROOT / "playbooks" / "ensemble.yml")]


@dataclass(frozen=True)
class Run:
    """The result of one run."""

    status: int
    output: str

    @property
    def changed(self) -> dict[str, int]:
        """The number of changes by host, without hosts that have none."""
        return {host: int(number) for host, number in CHANGED.findall(self.output) if number != "0"}


def apply(*words: str, **variables: int | str | list[str]) -> Run:
    """Run it with arguments of the command line, and with variables that override all others."""
    done = subprocess.run(
        [*COMMAND, "-i", str(FILES / "inventory"), "-e", json.dumps(variables), *words],
        env={**os.environ, "ANSIBLE_NOCOLOR": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr)
