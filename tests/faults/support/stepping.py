"""Kills a program at a chosen system call, by strace(1), without any change to the program.

strace sends SIGKILL as a thread enters a call for the n-th time, before the kernel carries it out. Each thread has its
own counts. A first run records which calls are made, and each of them is a point at which to kill.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    *("mkdir", "rmdir", "rename", "renameat2", "link", "linkat", "symlink", "unlink", "unlinkat", "chmod", "fchmod"),
    *("fchmodat", "fsync", "fdatasync", "syncfs", "flock", "ftruncate", "vfork", "write", "pwrite64", "kill", "sendto"),
)
"""The calls that change a disk, start or end a program, or talk to the ensemble."""
ENTRY = re.compile(r"(\d+) +([a-z_0-9]+)\(")
LONGEST = 30
"""Seconds after which a program under strace is given up."""


@dataclass(frozen=True)
class Point:
    """The `number`-th time that one thread of `program` makes `call`."""

    program: str
    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.program}: {self.call} {self.number}"


@dataclass(frozen=True)
class Stepper:
    """Runs `words` under strace. With `alone`, the programs that it starts are not traced."""

    words: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    alone: bool
    calls: Sequence[str] = CALLS

    def command(self, point: Point | None) -> list[str]:
        """The command line under strace, to be killed at a point, or to be recorded."""
        calls = [point.call] if point else self.calls
        follow = ["-f", "-b", "execve"] if self.alone else ["-f"]
        kill = ["-e", f"inject={point.call}:signal=KILL:when={point.number}"] if point else []
        return ["strace", *follow, "-o", str(self.log), "-e", f"trace={','.join(calls)}", *kill, *self.words]

    def run(self, question: str, point: Point | None = None) -> list[str]:
        """Run to the end with `question` on standard input, and return the lines that the program wrote."""
        done = subprocess.run(
            self.command(point),
            input=question,
            env=self.environment,
            timeout=LONGEST,
            check=False,
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines()

    @property
    def killed(self) -> bool:
        """Whether a process was killed in the last run."""
        return "+++ killed by SIGKILL +++" in self.log.read_text()

    def points(self, program: str, others: str = "") -> list[Point]:
        """The points of the last run, a recording. Those that a child process reaches first belong to `others`."""
        counts: Counter[tuple[str, str]] = Counter()
        reached: dict[tuple[str, int], str] = {}
        first = ""
        for found in map(ENTRY.match, self.log.read_text().splitlines()):
            if found is None:
                continue
            process, call = found.groups()
            first = first or process
            counts[process, call] += 1
            reached.setdefault((call, counts[process, call]), process)
        return [
            Point(others if others and process != first else program, call, number)
            for (call, number), process in reached.items()
        ]
