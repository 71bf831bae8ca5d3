"""The trees that hosts are overlays of: a debootstrap of each suite, made once, and again when its recipe changes."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

from hosts.lab.errors import LabError
from hosts.lab.minimal import copy_minimal, run_privately
from hosts.lab.places import CACHE, LABS, TREES, WHEELS, locked
from hosts.lab.wheels import make_wheels

SUITES = ("bookworm", "trixie")
RECIPE = Path(__file__).with_name("recipe.sh")
BYTECODE = Path(__file__).parents[2] / "sitecustomize.py"
"""The module that caches the bytecode of Ansible's modules."""
REQUIREMENTS = ("kazoo>=2.9", "pure-sasl>=0.6", "prometheus-client>=0.14", "typing-extensions")
"""What the agent may need from a package index. All is pure Python, so one set of wheels serves every suite."""


def tree(suite: str) -> Path:
    """The suite's tree, made first if there is none of this recipe (some minutes)."""
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
    """A hash of what trees are made from."""
    content = RECIPE.read_text() + BYTECODE.read_text() + repr(REQUIREMENTS)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _make(suite: str, made: Path) -> None:
    print(f"making the tree of {suite}, once; this takes some minutes", file=sys.stderr, flush=True)
    new = TREES / f"{suite}.new"
    log = CACHE / f"{suite}.log"
    shutil.rmtree(new, ignore_errors=True)
    log.unlink(missing_ok=True)
    copy_minimal(suite, new)
    shutil.copy("/etc/resolv.conf", new / "etc" / "resolv.conf")
    shutil.copy(RECIPE, new / "recipe.sh")
    words = ["chroot", str(new), "sh", "/recipe.sh"]
    run_privately(["unshare", "--pid", "--fork", f"--mount-proc={new}/proc", *words], log)
    (new / "recipe.sh").unlink()
    _keep_bytecode(new)
    shutil.copytree(make_wheels(WHEELS, REQUIREMENTS), new / "srv" / "wheels")
    new.rename(made)


def _keep_bytecode(new: Path) -> None:
    """Have the tree's Python cache the bytecode of modules that it receives in zips."""
    kept = "/var/cache/zoo-tests"
    packages = new / "usr/lib/python3/dist-packages"
    (new / kept[1:]).mkdir()
    shutil.copy(BYTECODE, packages / "zoo_tests_bytecode.py")
    (packages / "zoo-tests.pth").write_text(f"import zoo_tests_bytecode; zoo_tests_bytecode.keep('{kept}')\n")


def _sweep(suite: str, made: Path) -> None:
    """Remove the suite's trees of older recipes, except those that hosts are overlays of."""
    records = [json.loads(record.read_text()) for record in LABS.glob("*/lab.json")]
    used = {host["tree"] for record in records for host in record["hosts"].values()}
    for old in TREES.glob(f"{suite}-*"):
        if old != made and old.name not in used:
            shutil.rmtree(old)
