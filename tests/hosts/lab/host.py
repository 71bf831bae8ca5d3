"""A host: a container that boots systemd, on an overlay of its suite's tree."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hosts.lab import cgroup, network
from hosts.lab.errors import LabError
from hosts.lab.holder import Holder

# nspawn exits with 133 when the host asks for a reboot: it can't reboot a host whose cgroup it was given.
BOOT = """
echo 0 >"/sys/fs/cgroup/$1/cgroup.procs"
shift
while "$@"; [ $? = 133 ]; do :; done
"""
# The kernel allows root 128 inotify instances by default, and all hosts share this machine's root. A host takes four;
# with these units, which serve users at a console or with units of their own, it would take eight.
MASKED = (
    "console-getty.service",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "user@0.service",
)
BOOT_SECONDS = 120
MOUNT = "lowerdir=/run/trees/{tree},upperdir={place}/upper,workdir={place}/work,volatile"


@dataclass(frozen=True)
class Host:
    """A host of a lab, running or not. `directory` is where it is kept, `group` the cgroup that it runs in."""

    name: str
    number: int
    suite: str
    tree: str
    directory: Path
    group: str
    holder: Holder

    @property
    def address(self) -> str:
        """Its address on the bridge's network."""
        return network.address(self.number)

    @property
    def place(self) -> str:
        """Its directory as seen inside the lab."""
        return f"/run/lab/hosts/{self.name}"

    @property
    def init(self) -> int | None:
        """The process ID, on this machine, of its systemd; None if it is not running."""
        scope = cgroup.group(self.group) / "payload" / "init.scope"
        return next(iter(cgroup.processes(scope)), None)

    def is_off(self) -> bool:
        """Whether none of its processes is left, so that it can be started."""
        return self.init is None and not cgroup.processes(cgroup.group(self.group))

    def inside(self) -> list[str]:
        """The prefix of a command that is to run in it, whatever the state of its network."""
        init = self.init
        if init is None:
            raise LabError(f"{self.name} does not run; start it")
        namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        # A host that shuts down stops all its processes, then kills them. An nsenter that forks stops together with
        # its child, which is then never reaped, so the host never ends; a shell goes on waiting.
        return ["nsenter", f"--target={init}", *namespaces, "--no-fork", "--", "sh", "-c", '"$@"; exit $?', "sh"]

    def make(self, key: str) -> None:
        """Create its disk, which admits the owner of an SSH key as root, and connect it to the network."""
        self.remove()
        for path, mode in (("upper/etc", 0o755), ("upper/root/.ssh", 0o700), ("work", 0o755), ("root", 0o755)):
            (self.directory / path).mkdir(parents=True, mode=mode)
        (self.directory / "upper" / "root").chmod(0o700)
        (self.directory / "upper" / "etc" / "hostname").write_text(f"{self.name}\n")
        (self.directory / "upper" / "root" / ".ssh" / "authorized_keys").write_text(key)
        options = MOUNT.format(tree=self.tree, place=self.place)
        self.holder.run("mount", "-t", "overlay", "-o", options, "overlay", f"{self.place}/root")
        network.plug(self.holder, self.name, self.number)

    def remove(self) -> None:
        """End it, and remove whatever exists of it."""
        self.crash()
        if self.directory.exists():
            network.unplug(self.holder, self.name, self.number)
            self.holder.run("sh", "-c", 'if mountpoint -q "$0"; then umount "$0"; fi', f"{self.place}/root")
            shutil.rmtree(self.directory)

    def start(self) -> None:
        """Begin to boot it, unless it is running."""
        group = cgroup.group(self.group)
        if cgroup.processes(group) or self.init:
            return
        group.mkdir(parents=True, exist_ok=True)
        with (self.directory / "console.log").open("ab") as console:
            subprocess.Popen(
                [*self.holder.inside(), "sh", "-c", BOOT, "sh", self.group, *self._nspawn()],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def _nspawn(self) -> list[str]:
        return [
            "systemd-nspawn",
            "--boot",
            "--quiet",
            # There is no systemd to register it with.
            "--register=no",
            "--keep-unit",
            f"--directory={self.place}/root",
            f"--machine={self.name}",
            f"--network-namespace-path=/run/netns/{self.name}",
            "--capability=CAP_NET_ADMIN",
            # By these calls a program gives up rights (Landlock). On a real machine they work.
            "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self",
            "--bind-ro=/run/lab/hosts.txt:/etc/hosts",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            *[f"systemd.mask={unit}" for unit in MASKED],
        ]

    def wait(self) -> None:
        """Wait until it has booted: every job of its boot has finished, successfully or not."""
        deadline = time.monotonic() + BOOT_SECONDS
        while self._state() not in {"running", "degraded"}:
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self.name} has not booted within {BOOT_SECONDS} s; see {self.directory / 'console.log'}"
                )
            time.sleep(0.05)

    def _state(self) -> str:
        """The state that its systemd reports; empty if it can't be asked."""
        try:
            asked = [*self.inside(), "systemctl", "is-system-running", "--wait"]
        except LabError:
            return ""
        done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def crash(self) -> None:
        """Kill all its processes at the same instant. What was written stays, as if the kernel had survived."""
        cgroup.kill(cgroup.group(self.group))

    def reboot(self) -> None:
        """Shut it down cleanly and boot it again."""
        before = self.init
        subprocess.run([*self.inside(), "systemctl", "reboot"], stdin=subprocess.DEVNULL, check=False)
        deadline = time.monotonic() + BOOT_SECONDS
        while self.init in {before, None}:
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self.name} has not gone down within {BOOT_SECONDS} s; see {self.directory / 'console.log'}"
                )
            time.sleep(0.05)
        self.wait()
