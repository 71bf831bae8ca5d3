"""podman with a storage, a configuration and a network of its own, and the base image, which is built here."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hosts.lab.wheels import make_wheels
from support.bare_tree import CACHE, tree_with
from support.bare_tree import lacking as lacking_for_trees

PROGRAMS = {"podman": "podman", "runc": "runc", "iptables": "iptables", "ip": "iproute2", "nsenter": "util-linux"}
"""The required programs, and the Debian packages that contain them."""
SUITE = "bookworm"
OFFERED = ["git", "nginx-light", "openssh-client", "python3-venv"]
"""The packages that the Containerfiles install."""
REQUIREMENTS = ("hatchling", "kazoo>=2.9,<3")
"""The requirements of pip to build and install the agent."""
BASE = "localhost/base"
CONF = """\
[containers]
# The default is more than root may have on a machine that is a container itself.
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
[network]
network_backend = "netavark"
network_config_dir = "{directory}/networks"
"""


def lacking() -> str:
    """Why no container can run here, in one line; empty if one can."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        return f"containers need programs that are not here: install {' '.join(missing)}"
    return lacking_for_trees()


@dataclass(frozen=True)
class Podman:
    """The command, with all its data below `directory`, and in a network namespace of its own.

    `machine` is this machine's address as seen by containers, `address` the one at which they publish ports.
    """

    directory: Path
    machine: str
    address: str

    @property
    def network(self) -> str:
        """The name of the namespace, of the veth device that connects it, and of the network in it."""
        return f"zoo{os.getpid()}"

    @property
    def beside(self) -> list[str]:
        """The prefix of a command that runs in the network namespace where the containers publish their ports."""
        return ["nsenter", f"--net=/run/netns/{self.network}"]

    def run(
        self, *words: str, check: bool = True, seconds: float = 120, stdin: IO[bytes] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `podman words`."""
        done = subprocess.run(
            self._command(*words),
            env=self._environment,
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0 or not check, f"podman {' '.join(words)}: {done.stdout}"
        return done

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `podman words` without waiting for it."""
        return subprocess.Popen(self._command(*words), env=self._environment, stdin=subprocess.DEVNULL)

    def import_base(self) -> None:
        """Make the base image: a Debian with the packages and wheels for a build without a network."""
        tree = tree_with(f"container-{SUITE}", SUITE, ["ca-certificates"], OFFERED)
        added = self.directory / "added"
        shutil.copytree(make_wheels(CACHE / "container-wheels", REQUIREMENTS), added / "srv" / "wheels")
        (added / "etc").mkdir()
        (added / "etc" / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /srv/wheels\n")
        words = [
            "tar",
            "--create",
            f"--directory={tree}",
            ".",
            f"--directory={added}",
            "./etc/pip.conf",
            "./srv/wheels",
        ]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as tar:
            self.run("import", "--quiet", "-", BASE, stdin=tar.stdout)

    def write_command(self, directory: Path) -> None:
        """Put a command `podman` that runs this one into a directory, for PATH."""
        directory.mkdir()
        conf = f"CONTAINERS_CONF={self.directory}/containers.conf"
        command = directory / "podman"
        command.write_text(f'#!/bin/sh\nexec env {conf} {shlex.join(self._command())} "$@"\n')
        command.chmod(0o755)

    def clear(self) -> None:
        """Kill and remove every container."""
        # A container whose network another one shares can only be removed after that one.
        for _time in range(2):
            done = self.run("rm", "--all", "--force", "--time=0", "--volumes", check=False)
        assert done.returncode == 0, done.stdout

    def status(self, name: str) -> str:
        """The state of a container and its exit status, as in `exited 0`."""
        return self.run("inspect", "--format={{.State.Status}} {{.State.ExitCode}}", name).stdout.strip()

    def _command(self, *words: str) -> list[str]:
        places = [f"--{option}={self.directory / option}" for option in ("root", "runroot", "tmpdir")]
        return [*self.beside, str(shutil.which("podman")), *places, *words]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(self.directory / "containers.conf")}


@contextlib.contextmanager
def own_podman(directory: Path) -> Iterator[Podman]:
    """A podman while the block lasts; then its containers, images and network are removed."""
    # From the range reserved for benchmarks of network devices (RFC 2544).
    number = os.getpid() % 256
    podman = Podman(directory, f"198.18.{number}.1", f"198.18.{number}.2")
    (directory / "containers.conf").write_text(CONF.format(directory=directory))
    try:
        _plug(podman)
        podman.run("network", "create", "--disable-dns", f"--subnet=198.19.{number}.0/24", podman.network)
        yield podman
    finally:
        podman.clear()
        podman.run("rmi", "--all", "--force", check=False)
        _remove_cgroups()
        _unplug(podman)
        shutil.rmtree(directory)


def _plug(podman: Podman) -> None:
    name = podman.network
    for words in (
        f"netns add {name}",
        f"link add {name} type veth peer name eth0 netns {name}",
        f"address add {podman.machine}/24 dev {name}",
        f"link set {name} up",
        f"-netns {name} address add {podman.address}/24 dev eth0",
        f"-netns {name} link set lo up",
        f"-netns {name} link set eth0 up",
        f"-netns {name} route add default via {podman.machine}",
    ):
        subprocess.run(["ip", *words.split()], check=True)


def _unplug(podman: Podman) -> None:
    subprocess.run(["ip", "link", "delete", podman.network], check=False)
    subprocess.run(["ip", "netns", "delete", podman.network], check=False)


def _remove_cgroups() -> None:
    """Remove the cgroups that podman leaves, in each hierarchy, unless they hold another podman's containers."""
    for name in ("libpod_parent/conmon", "libpod_parent"):
        for hierarchy in ("", "*/"):
            for group in Path("/sys/fs/cgroup").glob(hierarchy + name):
                with contextlib.suppress(OSError):
                    group.rmdir()
