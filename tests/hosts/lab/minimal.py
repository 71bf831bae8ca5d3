"""A minimal Debian of each suite, made once by debootstrap: every other tree starts as a copy of one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from hosts.lab.errors import LabError
from hosts.lab.mirror import find_mirror
from hosts.lab.places import CACHE, TREES, locked


def copy_minimal(suite: str, target: Path) -> None:
    """Copy the suite's minimal tree to `target`, which must not exist. Raises `LabError` if it can't be made."""
    made = TREES / f"{suite}.minimal"
    with locked(f"minimal-{suite}"):
        if not made.exists():
            _make(suite, made)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", "--reflink=auto", str(made), str(target)], check=True)


def run_privately(command: list[str], log: Path) -> None:
    """Run a step in its own mount namespace, so that nothing it mounts is visible outside or stays mounted."""
    private = ["unshare", "--mount", "--propagation", "private", *command]
    with log.open("ab") as output:
        done = subprocess.run(private, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        last = (log.read_text(errors="replace").splitlines() or ["it printed nothing"])[-1]
        raise LabError(f"{command[0]} ended with status {done.returncode}: {last} (all that it printed: {log})")


def _make(suite: str, made: Path) -> None:
    print(f"making a minimal tree of {suite}, once; this takes a minute", file=sys.stderr, flush=True)
    new = made.with_name(f"{made.name}.new")
    log = CACHE / f"{suite}.minimal.log"
    shutil.rmtree(new, ignore_errors=True)
    log.unlink(missing_ok=True)
    new.mkdir(parents=True)
    mirror = find_mirror()
    keyring = [f"--keyring={mirror.keyring}"] if mirror and mirror.keyring else []
    address = [mirror.url] if mirror else []
    options = ["--variant=minbase", "--include=ca-certificates", *keyring]
    run_privately(["debootstrap", *options, suite, str(new), *address], log)
    new.rename(made)
