"""Wheels for where no package index is: made once, from this machine's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from hosts.lab.places import CACHE, locked


def make_wheels(directory: Path, requirements: Iterable[str]) -> Path:
    """The directory with the wheels of what is required, made first where it is not there."""
    with locked("wheels"):
        if not directory.exists():
            environment = CACHE / "pip"
            new = directory.with_name(f"{directory.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
            pip = [str(environment / "bin" / "pip"), "--quiet", "--disable-pip-version-check"]
            # Each is built in an environment of its own: the pip of Debian 12 has no `wheel` to build one without.
            subprocess.run([*pip, "wheel", "--use-pep517", "--wheel-dir", str(new), *requirements], check=True)
            new.rename(directory)
    return directory
