"""The suite of real hosts: molecule's scenarios in `tests/hosts`, two at a time, and beside them the tests of the lab.

A scenario has a lab of its own, which is destroyed however it ends. Its tests are those that its `verify` runs;
whatever fails before or after them (converge, idempotence, side effects) is one failure.
"""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hosts.lab.lab import Lab
from hosts.lab.places import CACHE
from hosts.lab.requirements import lacking
from hosts.lab.tree import SUITES, tree
from suites import pytests
from suites.outcome import RESULTS, ROOT, Outcome, read_junit
from suites.tool import run_tool

HOSTS = ROOT / "tests" / "hosts"
AT_ONCE = 2
FIRST = ("watcher_role", "zookeeper", "nginx")
"""The longest, so that none runs alone at the end. What measures seconds runs when the machine is less busy."""


def run(words: list[str]) -> Outcome:
    """Run the lab's tests and all scenarios, or the scenarios named by `words`; skipped if there can be no hosts."""
    reason = lacking()
    if reason:
        print(f"hosts: skipped: {reason}", flush=True)
        return Outcome(skipped=1)
    scenarios = words or sorted((path.parent.name for path in HOSTS.glob("*/molecule.yml")), key=_order)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # Before any test, so that none waits minutes for a tree.
        list(pool.map(tree, SUITES))
        running = pool.map(_scenario, scenarios)
        outcome = Outcome() if words else pytests.run("hosts", [])
        return sum(running, outcome)


def _order(name: str) -> tuple[bool, str]:
    return name not in FIRST, name


def _scenario(name: str) -> Outcome:
    """Run one scenario from its creation to its end."""
    report, log = (RESULTS / f"hosts-{name}.{kind}" for kind in ("xml", "log"))
    report.unlink(missing_ok=True)
    began = time.monotonic()
    lab = Lab(f"suite-{name}")
    # Repositories that an interrupted run has left would be in the way.
    shutil.rmtree(CACHE / "ansible" / lab.name, ignore_errors=True)
    try:
        with log.open("wb") as output:
            status = run_tool(
                [str(HOSTS / "molecule.sh"), "test", "-s", name],
                env={**os.environ, "LAB": lab.name},
                stdout=output,
                stderr=output,
            )
    finally:
        lab.destroy()
    outcome = read_junit(report) if report.exists() else Outcome()
    if status != 0 and not outcome.failed:
        outcome += Outcome(failed=1)
    _print(name, log, outcome, time.monotonic() - began)
    return outcome


def _print(name: str, log: Path, outcome: Outcome, seconds: float) -> None:
    """Print the result of a scenario, and everything that it printed if it failed."""
    text = log.read_text(errors="replace") if outcome.failed else ""
    counts = f"{outcome.passed} passed, {outcome.failed} failed, {outcome.skipped} skipped"
    print(f"{text}--- {name}: {counts} in {seconds:.0f} s (its log: {log})", flush=True)
