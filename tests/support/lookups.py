"""Lookup plugins in a process of their own, in which Ansible's loader is the first to import the collection.

Run as a program, it answers each line of JSON on its standard input, `[name, terms, variables, options]`, with a line
`{"found": [...]}` or `{"error": MESSAGE}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader, lookup_loader
from ansible.template import Templar

TESTS = Path(__file__).resolve().parent.parent


class LookupFailed(Exception):
    """The message of the error that a lookup raised."""


class Lookups:
    """The running process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def signal(self, number: int) -> None:
        """Send a signal to the process (SIGSTOP and SIGCONT included)."""
        self._process.send_signal(number)

    def run(self, name: str, terms: list[Any], variables: Mapping[str, Any], **options: Any) -> list[Any]:
        """Run a lookup, and return its result. Raises `LookupFailed`."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([name, terms, variables, options]), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise LookupFailed(answer["error"])
        return list(answer["found"])


@contextlib.contextmanager
def lookups(env: Mapping[str, str]) -> Iterator[Lookups]:
    """A running process, with `env` added to its environment."""
    surroundings = {**os.environ, **env, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "support.lookups"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=surroundings) as process:
        assert process.stdin
        try:
            yield Lookups(process)
        finally:
            process.stdin.close()


def _answer(name: str, terms: list[Any], variables: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    templar = Templar(DataLoader(), variables=variables)
    try:
        return {"found": lookup_loader.get(name, templar=templar).run(terms, variables=variables, **options)}
    except AnsibleError as exc:
        return {"error": str(exc)}


def _main() -> None:
    init_plugin_loader([str(TESTS.parent / "collections")])
    for line in sys.stdin:
        print(json.dumps(_answer(*json.loads(line))), flush=True)


if __name__ == "__main__":
    _main()
