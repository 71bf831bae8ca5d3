"""A file or directory that nobody may change, not even root, as a hardening tool might set it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Make it immutable while the block lasts, even if its parent is moved; skip the test where this is impossible."""
    if os.geteuid() != 0 or subprocess.run(["chattr", "+i", path], check=False, capture_output=True).returncode:
        pytest.skip("needs root, and a file system that knows immutable files")
    opened = os.open(path, os.O_RDONLY)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", os.readlink(f"/proc/self/fd/{opened}")], check=True)
        os.close(opened)
