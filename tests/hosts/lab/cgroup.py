"""Control groups: the processes of a lab are found and killed by their group, whatever their parent is now.

Paths here are those of the version 2 hierarchy, wherever this machine has it mounted.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from hosts.lab.errors import LabError


def hierarchy() -> Path | None:
    """Where version 2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1; None if neither."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)


def group(name: str) -> Path:
    """The directory of a group by its path from the root, such as `zoo-lab.a/web1`."""
    root = hierarchy()
    if root is None:
        raise LabError("no cgroup version 2 is mounted on this machine")
    return root / name


def processes(directory: Path) -> list[int]:
    """The processes of the group itself, without those of its subgroups, oldest first."""
    try:
        return [int(line) for line in (directory / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def kill(directory: Path) -> None:
    """Kill every process in a group and its subgroups at the same instant, and remove the groups."""
    if not directory.exists():
        return
    (directory / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + 20
    while not _removed(directory):
        if time.monotonic() > deadline:
            raise LabError(f"processes in {directory} do not end: {(directory / 'cgroup.events').read_text()}")
        time.sleep(0.02)


def _removed(directory: Path) -> bool:
    """Remove a group that has become empty; False if something in it has not ended yet."""
    try:
        for path, _directories, _files in os.walk(directory, topdown=False):
            Path(path).rmdir()
    except OSError:
        return False
    return True
