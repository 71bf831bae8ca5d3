"""A lab: hosts on one bridge, kept under `.cache/hosts/labs/<name>` and in a cgroup of their own."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hosts.lab import access, cgroup, network
from hosts.lab.errors import LabError
from hosts.lab.holder import Holder
from hosts.lab.host import Host
from hosts.lab.places import LABS
from hosts.lab.tree import tree

LAB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
HOST_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
NUMBERS = range(11, 255)
CHECKOUT = hashlib.sha256(str(LABS).encode()).hexdigest()[:8]
"""Distinguishes the labs of this checkout from those of another on the same machine."""


class Lab:
    """The lab of a given name, up or not."""

    def __init__(self, name: str) -> None:
        if not LAB_NAME.fullmatch(name):
            raise LabError(f"a lab's name is of letters, digits, _ and -, got {name!r}")
        self.name = name
        self.directory = LABS / name
        self.group = f"zoo-lab.{CHECKOUT}.{name}"
        self.holder = Holder(self.group)

    @property
    def up(self) -> bool:
        """Whether its namespaces exist."""
        return self.holder.pid is not None and self._record.exists()

    @property
    def inventory_file(self) -> Path:
        """Its Ansible inventory, which is kept current."""
        return self.directory / "inventory.json"

    @property
    def _record(self) -> Path:
        return self.directory / "lab.json"

    def open(self) -> None:
        """Create its network, with nothing on it, unless it exists. What an earlier run left behind is removed."""
        if self.up:
            return
        self.destroy()
        (self.directory / "hosts").mkdir(parents=True)
        (self.directory / "hosts.txt").touch()
        access.make_key(self.directory)
        self.holder.start(self.directory, network.BRIDGE)
        self._write(uuid.uuid4().hex[:8], [])

    def create(self, wanted: dict[str, str]) -> None:
        """Create the hosts, each a name with its suite, and wait until they have booted; existing ones stay."""
        self.open()
        there = {host.name for host in self.hosts()}
        for name, suite in wanted.items():
            if name not in there:
                self._add(name, suite)
        self.start(list(wanted))

    def start(self, names: Sequence[str]) -> None:
        """Boot the hosts that are not running, all at the same time, and wait until they have booted."""
        hosts = self.named(names)
        for host in hosts:
            host.start()
        for host in hosts:
            host.wait()

    def _add(self, name: str, suite: str) -> None:
        if not HOST_NAME.fullmatch(name):
            raise LabError(f"a host's name is of small letters, digits and -, got {name!r}")
        hosts = list(self.hosts())
        number = next(number for number in NUMBERS if number not in {host.number for host in hosts})
        host = self._host(name, {"number": number, "suite": suite, "tree": tree(suite).name})
        host.make((self.directory / "key.pub").read_text())
        self._write(self._read()["run"], [*hosts, host])

    def destroy(self) -> None:
        """Remove whatever exists of it."""
        cgroup.kill(cgroup.group(self.group))
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def remove(self, names: Sequence[str]) -> None:
        """Remove some of its hosts; those that do not exist are ignored."""
        for host in list(self.hosts()) if self.up else []:
            if host.name in names:
                host.remove()
                self._write(self._read()["run"], [other for other in self.hosts() if other.name != host.name])

    def hosts(self) -> Iterator[Host]:
        """Its hosts, in the order of their creation."""
        for name, fields in self._read()["hosts"].items():
            yield self._host(name, fields)

    def named(self, names: Sequence[str]) -> list[Host]:
        """The hosts with these names."""
        found = {host.name: host for host in self.hosts()}
        for name in names:
            if name not in found:
                raise LabError(f"no host {name!r} in the lab {self.name}; there are: {', '.join(found) or 'none'}")
        return [found[name] for name in names]

    def _host(self, name: str, fields: dict[str, Any]) -> Host:
        directory = self.directory / "hosts" / name
        return Host(name=name, directory=directory, group=f"{self.group}/{name}", holder=self.holder, **fields)

    def _read(self) -> dict[str, Any]:
        if not self.up:
            raise LabError(f"the lab {self.name} is not up; create it")
        return dict(json.loads(self._record.read_text()))

    def _write(self, run: str, hosts: list[Host]) -> None:
        """Record its hosts, and write what follows from them: their /etc/hosts, SSH's configuration, the inventory."""
        fields = {host.name: {"number": host.number, "suite": host.suite, "tree": host.tree} for host in hosts}
        self._record.write_text(json.dumps({"run": run, "hosts": fields}))
        names = "".join(f"{host.address} {host.name}\n" for host in hosts)
        # Written in place: the hosts have this very file as their /etc/hosts.
        (self.directory / "hosts.txt").write_text(f"127.0.0.1 localhost\n::1 localhost\n{names}")
        access.write(self.directory, self.holder.network(), hosts)
        self.inventory_file.write_text(json.dumps(access.inventory(self.directory, run, hosts), indent=2))
