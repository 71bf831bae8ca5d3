"""Control groups: what a lab has started is known, and ended, by the group that it is in, whoever its parent is now.

Paths here are those of the second version's hierarchy, wherever this machine has it mounted.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from hosts.lab.errors import LabError


def hierarchy() -> Path | None:
    """Where version 2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1; None for neither."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)


def group(name: str) -> Path:
    """The directory of a group by its path from the root, such as `zoo-lab.a/web1`."""
    root = hierarchy()
    if root is None:
        raise LabError("no cgroup version 2 is mounted on this machine")
    return root / name


def processes(directory: Path) -> list[int]:
    """The processes of a group itself, without those of the groups in it, the oldest first."""
    try:
        return [int(line) for line in (directory / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def kill(directory: Path) -> None:
    """Kill every process in a group at one instant, and those of the groups in it, and remove them all."""
    if not directory.exists():
        return
    (directory / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + 20
    while not _removed(directory):
        if time.monotonic() > deadline:
            raise LabError(f"processes in {directory} do not end: {(directory / 'cgroup.events').read_text()}")
        time.sleep(0.02)


def _removed(directory: Path) -> bool:
    """Remove a group that has become empty; False where something in it has not ended yet."""
    try:
        for path, _directories, _files in os.walk(directory, topdown=False):
            Path(path).rmdir()
    except OSError:
        return False
    return True
