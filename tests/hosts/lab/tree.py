"""The trees that hosts are overlays of: a debootstrap of each suite, made once, and anew when its recipe changes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from hosts.lab.errors import LabError
from hosts.lab.mirror import find_mirror
from hosts.lab.places import CACHE, LABS, TREES, WHEELS, locked

SUITES = ("bookworm", "trixie")
RECIPE = Path(__file__).with_name("recipe.sh")
REQUIREMENTS = ("kazoo>=2.9", "GitPython>=3.1.30", "pure-sasl>=0.6", "prometheus-client>=0.14", "typing-extensions")
"""What the agent may want from a package index. All of it is pure Python: one set of wheels serves every suite."""


def tree(suite: str) -> Path:
    """The suite's tree, made first where there is none of this recipe (some minutes)."""
    if suite not in SUITES:
        raise LabError(f"no suite {suite!r}; there are: {', '.join(SUITES)}")
    made = _place(suite)
    with locked(suite):
        if not made.exists():
            _make(suite, made)
            _sweep(suite, made)
    return made


def unmade() -> list[str]:
    """The suites whose trees have yet to be made."""
    return [suite for suite in SUITES if not _place(suite).exists()]


def _place(suite: str) -> Path:
    return TREES / f"{suite}-{_recipe()}"


def _recipe() -> str:
    """Names what a tree is made of."""
    content = RECIPE.read_text() + repr(REQUIREMENTS)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _make(suite: str, made: Path) -> None:
    print(f"making the tree of {suite}, once; this takes some minutes", file=sys.stderr, flush=True)
    new = TREES / f"{suite}.new"
    log = CACHE / f"{suite}.log"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    with log.open("wb") as output:
        _run(_debootstrap(suite, new), log, output.fileno())
        shutil.copy("/etc/resolv.conf", new / "etc" / "resolv.conf")
        shutil.copy(RECIPE, new / "recipe.sh")
        words = ["chroot", str(new), "sh", "/recipe.sh"]
        _run(["unshare", "--pid", "--fork", f"--mount-proc={new}/proc", *words], log, output.fileno())
    (new / "recipe.sh").unlink()
    shutil.copytree(_wheels(), new / "srv" / "wheels")
    new.rename(made)


def _debootstrap(suite: str, root: Path) -> list[str]:
    mirror = find_mirror()
    options = [f"--keyring={mirror.keyring}"] if mirror and mirror.keyring else []
    if mirror and mirror.url.startswith("https:"):
        options.append("--include=ca-certificates")
    return ["debootstrap", "--variant=minbase", *options, suite, str(root), *([mirror.url] if mirror else [])]


def _sweep(suite: str, made: Path) -> None:
    """Remove the suite's trees of older recipes, but for those that hosts are overlays of."""
    records = [json.loads(record.read_text()) for record in LABS.glob("*/lab.json")]
    used = {host["tree"] for record in records for host in record["hosts"].values()}
    for old in TREES.glob(f"{suite}-*"):
        if old != made and old.name not in used:
            shutil.rmtree(old)


def _run(command: list[str], log: Path, output: int) -> None:
    """Run a step in a mount namespace of its own, so that nothing it mounts is seen outside or stays."""
    private = ["unshare", "--mount", "--propagation", "private", *command]
    done = subprocess.run(private, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        last = (log.read_text(errors="replace").splitlines() or ["it printed nothing"])[-1]
        raise LabError(f"{command[0]} ended with status {done.returncode}: {last} (all that it printed: {log})")


def _wheels() -> Path:
    """The directory with the wheels that the agent needs on a host without a package index."""
    with locked("wheels"):
        environment = CACHE / "pip"
        if not WHEELS.exists():
            new = WHEELS.with_name("wheels.new")
            shutil.rmtree(new, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
            pip = [str(environment / "bin" / "pip"), "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "wheel", "--wheel-dir", str(new), *REQUIREMENTS], check=True)
            new.rename(WHEELS)
    return WHEELS
