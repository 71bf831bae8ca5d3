"""A directory deeper than any path is long and than Python can recurse."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def deep_directory(top: Path, levels: int, target: Path | None = None) -> Iterator[None]:
    """Nested directories, each with a file and a symlink to `target`; removed at the end, because pytest cannot."""
    top.mkdir(parents=True)
    directory = os.open(top, os.O_RDONLY)
    for _level in range(levels):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o400, dir_fd=directory))
        os.symlink(target or "nowhere", "link", dir_fd=directory)
        os.mkdir("directory", dir_fd=directory)
        below = os.open("directory", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", str(top)], check=True)
