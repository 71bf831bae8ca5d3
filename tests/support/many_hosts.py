"""One run of `ansible-playbook` for many hosts, which are all this machine, each with variables of its own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.playbook import Run, run_playbook


def run_on_hosts(
    directory: Path,
    play: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    *,
    hidden: str = "",
    **options: Any,
) -> dict[str, Run]:
    """Run a play on several hosts at the same time, given by name with their variables; returns each host's outcome.

    The output must not contain `hidden`.
    """
    variables = {"ansible_connection": "local"}
    inventory = directory / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": dict(hosts), "vars": variables}}))
    playbook = directory / "play.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, **play}]))
    done = run_playbook(playbook, "-i", str(inventory), **options)
    assert "Traceback" not in done.stdout + done.stderr
    assert not hidden or hidden not in done.stdout + done.stderr
    return {name: _run_of(done, name) for name in hosts}


def _run_of(done: subprocess.CompletedProcess[str], name: str) -> Run:
    """The outcome for one host, from the recap and the lines about it."""
    pattern = rf"^{re.escape(name)} +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=(\d+)"
    recap = re.search(pattern, done.stdout, re.MULTILINE)
    assert recap, done.stdout + done.stderr
    said = [line for line in done.stdout.splitlines() if f"[{name}]" in line]
    return Run(int(recap[1]), int(recap[2]), "\n".join(said))
