"""Writes `docs/reliability.md` from the counts of a run."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import kazoo.version

from faults.support.ledger import QUESTIONS, Ledger

PLACE = Path(__file__).resolve().parents[3] / "docs" / "reliability.md"
TEMPLATE = """\
# Reliability

Written by the last complete run of `tests/faults` that passed, with

    ZOO_WRITE_RELIABILITY=1 .venv/bin/pytest tests/faults

Every number was counted by that run; none is edited by hand.

**{summary}.**

{date}, {tests} tests in {seconds:.0f} s on {cores} cores, ensembles of three and real agents.
ZooKeeper {zookeeper}, {git}, Python {python}, kazoo {kazoo}, Linux {linux}.

## What must never be

A check looks at one host during or after a fault. It compares the live tree with the commit's objects: every
file's bytes and mode, every symlink, every directory, and nothing else may be there. In a rollout, a check looks at
the whole fleet, several times a second, or at one change of a host's status; none of these is left out.

| | checks | found |
|---|---:|---:|
{answers}

## Faults

| | times |
|---|---:|
{faults}

## Rollouts

These rollouts ran under the faults above that say "in a rollout", and under none; their limits were checked all the
time. Actions of two people at once, and each command in each phase, were tried with the module on a real ensemble,
without agents.

| | times |
|---|---:|
{rollouts}

## Kill points

`strace` kills a program when one of its threads enters a system call for the n-th time. After each kill the agent is
started again, and converges.

{points}
"""


def write(ledger: Ledger, tests: int, seconds: float) -> None:
    """Write the counts of a run of `tests` tests that took `seconds`."""
    PLACE.write_text(
        TEMPLATE.format(
            summary=ledger.summary,
            date=datetime.now(timezone.utc).date(),
            tests=tests,
            seconds=seconds,
            cores=os.cpu_count(),
            zookeeper=ledger.zookeeper,
            git=_output("git", "--version"),
            python=platform.python_version(),
            kazoo=kazoo.version.__version__,
            linux=platform.release().split("-")[0],
            answers=_rows({question: (ledger.asked[question], len(ledger.wrong[question])) for question in QUESTIONS}),
            faults=_rows({kind: (count,) for kind, count in sorted(ledger.faults.items())}),
            rollouts=_rows({what: (count,) for what, count in sorted(ledger.rollouts.items())}),
            points=_points(ledger.points),
        ),
        encoding="utf-8",
    )


def _rows(table: dict[str, tuple[int, ...]]) -> str:
    return "\n".join(f"| {name} | {' | '.join(map(str, numbers))} |" for name, numbers in table.items())


def _points(points: set[str]) -> str:
    """A line for each program and system call, with the numbers of the calls."""
    numbers: dict[str, list[int]] = {}
    for point in points:
        call, _unused, number = point.rpartition(" ")
        numbers.setdefault(call, []).append(int(number))
    return "\n".join(f"- {call}: {', '.join(map(str, sorted(found)))}" for call, found in sorted(numbers.items()))


def _output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
