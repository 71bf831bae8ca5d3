"""The inventory plugin as a user runs it, by `ansible-inventory`, and its output."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from support.commands import run_command

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "inventory"


class Outcome(NamedTuple):
    """The output of `ansible-inventory --list`: every host's variables, every group's hosts, and standard error."""

    hosts: dict[str, dict[str, Any]]
    groups: dict[str, set[str]]
    said: str


class Inventory:
    """An inventory file in a directory of its own, with a cache beside it."""

    def __init__(self, directory: Path, hosts: str) -> None:
        self.directory = directory
        self.options: dict[str, Any] = {"plugin": "zoo.deploy.zk_services", "hosts": hosts}
        self.cached = {
            "cache": True,
            "cache_plugin": "ansible.builtin.jsonfile",
            "cache_connection": str(directory / "cache"),
            "cache_timeout": 0,
        }

    def file(self, **options: Any) -> Path:
        """Write the file with these options."""
        path = self.directory / "test.zk_services.yml"
        path.write_text(yaml.safe_dump({**self.options, **options}))
        return path

    def read(self, *words: str, env: Mapping[str, str] | None = None, **options: Any) -> Outcome:
        """Read the inventory with these options."""
        return self.read_files(self.file(**options), *words, env=env)

    def read_files(self, source: Path, *words: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Read the inventory file, or the directory of inventory files, at `source`."""
        done = run("ansible-inventory", "-i", str(source), "--list", *words, env=env)
        assert "Traceback" not in done.stderr
        found = json.loads(done.stdout)
        groups = {name: set(group.get("hosts", ())) for name, group in found.items() if name != "_meta"}
        return Outcome(plain(found["_meta"]["hostvars"]), groups, " ".join(done.stderr.split()))


def plain(value: Any) -> Any:
    """The output of `--list`, without its marker at every string that is not a template."""
    if isinstance(value, dict):
        return (
            plain(value["__ansible_unsafe"])
            if "__ansible_unsafe" in value
            else {key: plain(one) for key, one in value.items()}
        )
    return [plain(one) for one in value] if isinstance(value, list) else value


def run(command: str, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's commands as a user does in this checkout."""
    surroundings = {
        **os.environ,
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        **(env or {}),
    }
    return run_command(command, *words, environment=surroundings, seconds=120)
