"""The process that holds a lab's namespaces: mounts, the network with the bridge, and process IDs.

It is the first process in its PID namespace: when it ends, for whatever reason, the kernel ends every process of the
lab, and mounts, bridge and links go with them. Nothing of a lab is in this machine's own namespaces.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from hosts.lab import cgroup
from hosts.lab.errors import LabError
from hosts.lab.places import TREES

# Orphaned processes become its children; ignoring SIGCHLD lets the kernel reap them.
SLEEP = ["env", "--ignore-signal=CHLD", "sleep", "infinity"]
PRIVATE = ["unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
PREPARE = """
set -eu
mount -t tmpfs -o mode=755 lab /run
mkdir /run/lab /run/trees
mount --bind "$1" /run/lab
mount --bind "$2" /run/trees
mount -t tmpfs -o mode=1777 lab /tmp
mount -t cgroup2 lab /sys/fs/cgroup
ip link set lo up
ip link add lab type bridge
ip address add "$3" dev lab
ip link set lab up
"""
"""Mounts the lab's directory at `/run/lab`, and gives the lab its own `/run` and `/tmp`, a cgroup hierarchy of version
2 alone (newer systemd accepts no other), and the bridge."""


class Holder:
    """The holder of one lab, found by its control group."""

    def __init__(self, group: str) -> None:
        self.group = cgroup.group(f"{group}/holder")

    @property
    def pid(self) -> int | None:
        """Its process ID on this machine; None if it is not running."""
        # The first process in the group is `unshare`, which waits for its child.
        return next(iter(cgroup.processes(self.group)[1:]), None)

    def start(self, directory: Path, address: str) -> None:
        """Start it, with the lab in `directory` and `address` (with its prefix length) on the bridge."""
        self.group.mkdir(parents=True, exist_ok=True)
        TREES.mkdir(parents=True, exist_ok=True)
        subprocess.Popen(
            ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(self.group), *PRIVATE, *SLEEP],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait()
        self.run("sh", "-c", PREPARE, "sh", str(directory), str(TREES), address)

    def _wait(self) -> None:
        """Wait until it sleeps in its own namespaces."""
        deadline = time.monotonic() + 10
        while not (self.pid and Path(f"/proc/{self.pid}/comm").read_text() == "sleep\n"):
            if time.monotonic() > deadline:
                raise LabError("no namespaces for the lab within 10 s; see whether `unshare --mount --net --pid` works")
            time.sleep(0.01)

    def inside(self) -> list[str]:
        """The prefix of a command that is to run inside the lab."""
        return ["nsenter", f"--target={self._held()}", "--mount", "--net", "--pid", "--wd=/", "--"]

    def network(self) -> list[str]:
        """The prefix of a command that is to run in the bridge's network, with this machine's files."""
        return ["nsenter", f"--net=/proc/{self._held()}/ns/net", "--"]

    def _held(self) -> int:
        if self.pid is None:
            raise LabError("the lab is not up; create it")
        return self.pid

    def run(self, *command: str) -> str:
        """Return what a command inside the lab prints; raises LabError with its error output if it fails."""
        done = subprocess.run(
            [*self.inside(), *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LabError(f"{' '.join(command[:4])} ... ended with status {done.returncode}: {done.stderr.strip()}")
        return done.stdout
