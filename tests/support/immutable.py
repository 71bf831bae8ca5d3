"""A file or directory that nobody may change, root neither, as a tool that hardens a host makes it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Make it so for as long as the block lasts, also where what it is in moves; skips the test where it can't be."""
    if os.geteuid() != 0 or subprocess.run(["chattr", "+i", path], check=False, capture_output=True).returncode:
        pytest.skip("needs root, and a file system that knows immutable files")
    opened = os.open(path, os.O_RDONLY)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", os.readlink(f"/proc/self/fd/{opened}")], check=True)
        os.close(opened)
