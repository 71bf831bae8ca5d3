"""What a page shows of a terminal: commands and lines of their output, and the same run again.

In a block of the language `console`, a line that begins with `$ ` is a command, and those below it are printed by it,
maybe not all of them. Of a shown line, what differs from run to run is not compared.
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
"""What differs from run to run, and what stands for it. Which server is first in a rollout, the agents decide."""


@dataclass(frozen=True)
class Command:
    """A command of a page, and the lines that the page shows of its output."""

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
    """Run a command in bash; standard error is in its output."""
    return run_merged(["bash", "-c", line], timeout, cwd=directory, env={**os.environ, **environment})


def missing(shown: tuple[str, ...], output: str) -> list[str]:
    """The shown lines that are not in the output, but for what differs from run to run."""
    printed = {_comparable(line) for line in output.splitlines()}
    return [line for line in shown if _comparable(line) not in printed]


def _comparable(line: str) -> str:
    for pattern, instead in DIFFERS.items():
        line = pattern.sub(instead, line)
    return line.strip()
