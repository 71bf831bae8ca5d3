"""The surroundings of a run: date, machine, versions."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from support.ensemble import Member

CPU = re.compile(r"^model name\s*: (.+)$", re.MULTILINE)
MEMORY = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)
SERVER = re.compile(r"version: ([\d.]+)")


def describe(member: Member) -> str:
    """The date, the machine and the versions, that of ZooKeeper from a running `member`."""
    today = datetime.now(timezone.utc).date().isoformat()
    return f"{today}, on {_machine()}. {_versions(member)}."


def _machine() -> str:
    cpu = CPU.search(Path("/proc/cpuinfo").read_text())
    memory = MEMORY.search(Path("/proc/meminfo").read_text())
    assert memory
    cores, gigabytes = os.cpu_count(), round(int(memory[1]) / 2**20)
    model = f" ({' '.join(cpu[1].split())})" if cpu else ""
    return f"{cores} cores{model} with {gigabytes} GB, Linux {platform.release().partition('-')[0]}"


def _versions(member: Member) -> str:
    server = SERVER.search(member.ask("srvr"))
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    return (
        f"ZooKeeper {server[1] if server else 'unknown'}, Python {platform.python_version()}, "
        f"ansible-core {version('ansible-core')}, kazoo {version('kazoo')}, git {git}"
    )
