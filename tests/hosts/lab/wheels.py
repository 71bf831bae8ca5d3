"""Wheels for hosts without a package index: built once, from this machine's index."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from hosts.lab.places import CACHE, locked


def make_wheels(directory: Path, requirements: Iterable[str]) -> Path:
    """The directory with the wheels of the requirements, made first if it does not exist."""
    with locked("wheels"):
        if not directory.exists():
            environment = CACHE / "pip"
            new = directory.with_name(f"{directory.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
            pip = [str(environment / "bin" / "pip"), "--quiet", "--disable-pip-version-check"]
            # Each is built in an isolated environment: the pip of Debian 12 lacks the `wheel` to build without one.
            subprocess.run([*pip, "wheel", "--use-pep517", "--wheel-dir", str(new), *requirements], check=True)
            new.rename(directory)
    return directory
