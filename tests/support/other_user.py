"""A part of a test in which this process is unprivileged, like an agent that is not root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def other_user(directory: Path) -> Iterator[None]:
    """Give `directory` to an unprivileged user, and be that user while the block lasts; no effect unless root."""
    if os.geteuid() != 0:
        yield
        return
    for path in (directory, *directory.rglob("*")):
        os.lchown(path, NOBODY, NOBODY)
    for parent in directory.parents:
        # Only root may enter pytest's directories.
        if not os.stat(parent).st_mode & 0o001:
            parent.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
