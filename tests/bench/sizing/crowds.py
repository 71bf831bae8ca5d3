"""All simulated hosts of a fleet, in one process for each member of the ensemble."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from bench.harness import BenchError
from bench.workbench import HERE

LONGEST = 300.0
"""Seconds that an order may take."""


class Crowds:
    """The processes of the hosts, created by `started`."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        self._processes = processes

    @classmethod
    @contextlib.contextmanager
    def started(cls, count: int, ports: Sequence[int]) -> Iterator[Crowds]:
        """`count` hosts, spread over the members at these ports. Each process tries the other members after its own."""
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        with contextlib.ExitStack() as stack:
            processes = []
            for number, (first, share) in enumerate(shares(count, len(ports))):
                words = map(str, [first, share, *ports[number:], *ports[:number]])
                command = [sys.executable, "-m", "bench.sizing.crowd", *words]
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
                stack.callback(_end, process)
                processes.append(process)
            yield cls(processes)

    def order(self, what: str, **how: Any) -> list[dict[str, Any]]:
        """Give all processes an order, and return the answers. Raises `BenchError` if one is missing."""
        self.begin(what, **how)
        return self.finish()

    def begin(self, what: str, **how: Any) -> None:
        """Give all processes an order, whose answers `finish` returns."""
        for process in self._processes:
            assert process.stdin
            process.stdin.write(json.dumps({"do": what, **how}).encode() + b"\n")
            process.stdin.flush()

    def finish(self) -> list[dict[str, Any]]:
        """The answers to the last order. Raises `BenchError` if one is missing."""
        deadline = time.monotonic() + LONGEST
        return [_answer(process, deadline) for process in self._processes]


def shares(count: int, parts: int) -> list[tuple[int, int]]:
    """Divide `count` hosts into parts that differ by at most one: the first host and the size of each."""
    ends = [count * (number + 1) // parts for number in range(parts)]
    return [(begin, end - begin) for begin, end in zip([0, *ends], ends)]


def _answer(process: subprocess.Popen[bytes], deadline: float) -> dict[str, Any]:
    assert process.stdout
    ready, _unused, _unused = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        raise BenchError(f"simulated hosts have not done within {LONGEST:g} s what they should")
    line = process.stdout.readline()
    if not line:
        raise BenchError("a process of simulated hosts has ended")
    found: dict[str, Any] = json.loads(line)
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in process.stdin, process.stdout:
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
