"""Terminal sessions on a page: commands with lines of their output, and the same commands run again.

In a block of the language `console`, a line that begins with `$ ` is a command, and the lines below it are its output,
not necessarily all of it. Parts of a line that differ from run to run are not compared.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.documents import blocks
from support.merged import run_merged

DIFFERS = {
    re.compile(r"\b[0-9a-f]{40}\b"): "<commit>",
    re.compile(r"\b[0-9a-f]{10}\b"): "<id>",
    re.compile(r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\+00:00)?"): "<time>",
    re.compile(r"\b\d+(?:\.\d+)? s\b"): "<seconds>",
    re.compile(r"\b\w+@[\w.-]+(?=[,\s])"): "<who>",
    re.compile(r'(?<=<id> )\\?"[^"\\]*\\?"'): "<subject>",
    re.compile(r"\bserver[1-5]\b"): "<server>",
    re.compile(r"\s+"): " ",
}
"""Parts that differ from run to run, and their placeholders. The agents decide which server is first in a rollout."""


@dataclass(frozen=True)
class Command:
    """A command of a page, and the lines of its output that the page shows."""

    line: str
    shown: tuple[str, ...]

    @property
    def succeeds(self) -> bool:
        """Whether its exit status is 0, as far as the page shows."""
        return not any(line.startswith("FAILED") for line in self.shown)


def commands(page: Path) -> Iterator[Command]:
    """The commands of a page, in their order."""
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *shown = part.splitlines()
            yield Command(line, tuple(filter(str.strip, shown)))


def run(line: str, directory: Path, environment: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command in bash, with standard error merged into its output."""
    return run_merged(["bash", "-c", line], timeout, cwd=directory, env={**os.environ, **environment})


def missing(shown: tuple[str, ...], output: str) -> list[str]:
    """The shown lines that are not in the output, apart from the parts that differ from run to run."""
    printed = {_comparable(line) for line in output.splitlines()}
    return [line for line in shown if _comparable(line) not in printed]


def _comparable(line: str) -> str:
    for pattern, instead in DIFFERS.items():
        line = pattern.sub(instead, line)
    return line.strip()
