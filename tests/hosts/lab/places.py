"""Where the labs keep what they make. All of it may be deleted when no lab is up."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""The checkout."""
CACHE = ROOT / ".cache" / "hosts"
TREES = CACHE / "trees"
WHEELS = CACHE / "wheels"
LABS = CACHE / "labs"


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock of this name: only one process at a time is in such a block."""
    path = CACHE / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        # Closing the file releases the lock, and so does the death of this process.
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
