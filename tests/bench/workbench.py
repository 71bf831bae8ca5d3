"""What the goals run on, created on first use: a directory, an ensemble, registries, Ansible's commands."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kazoo.client import KazooClient

from bench.harness import BenchError
from support.ensemble import Ensemble

HERE = Path(__file__).resolve().parent
COLLECTIONS = HERE.parent.parent / "collections"
CHUNK = 500
"""Registrations that are created in one transaction."""
EXTRA = ("maxSessionTimeout=60000", "syncLimit=60")
"""On a machine that the goals keep busy, agents must not lose their sessions, nor members their leader: a member that
waits long for a slow disk would close all of its connections."""
OWNED = 10_000
"""Registrations of one session, whose ephemerals are deleted in one transaction, which must not exceed 1 MB."""


@dataclass(frozen=True)
class Registration:
    """One server: its child in the registry, its address and its port, both as strings."""

    child: str
    address: str
    port: str

    @classmethod
    def numbered(cls, number: int) -> Registration:
        """The server `number` of up to 16 million, each with its own address."""
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return cls(f"server-{number:05}", address, "8080")

    @property
    def data(self) -> bytes:
        """The value of its znode, in the first article's form."""
        return json.dumps([self.address, self.port]).encode()


@dataclass(frozen=True)
class Registry:
    """Registrations in ZooKeeper, as ephemeral children of `path`."""

    path: str
    registrations: list[Registration]


class Workbench:
    """The surroundings of a run, created and removed by `opened`."""

    def __init__(self, directory: Path, *, quick: bool = False, jvm: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.quick = quick
        """Whether goals may measure smaller sizes than those they are set for."""
        self._jvm = jvm
        self._ending = contextlib.ExitStack()
        self._registries: dict[int, Registry] = {}

    @classmethod
    @contextlib.contextmanager
    def opened(cls, *, quick: bool = False, jvm: tuple[str, ...] = ()) -> Iterator[Workbench]:
        """A workbench in a temporary directory for the block. `jvm` are options of the ensemble's Java."""
        with tempfile.TemporaryDirectory(prefix="zoo-bench-") as directory:
            bench = cls(Path(directory), quick=quick, jvm=jvm)
            with bench._ending:
                yield bench

    def sized(self, whole: int, quick: int) -> int:
        """The size that a goal uses, smaller in a quick run."""
        return quick if self.quick else whole

    @cached_property
    def ensemble(self) -> Ensemble:
        """Three servers of ZooKeeper."""
        servers = Ensemble(self.directory / "ensemble", extra=EXTRA, jvm=self._jvm)
        self._ending.callback(servers.stop)
        return servers.start()

    @cached_property
    def client(self) -> KazooClient:
        """A connected kazoo client."""
        return self._connected()

    def _connected(self) -> KazooClient:
        client = KazooClient(hosts=self.ensemble.hosts, timeout=10)
        client.start(timeout=20)
        self._ending.callback(client.close)
        self._ending.callback(client.stop)
        return client

    def registry(self, size: int) -> Registry:
        """The registry with `size` servers, created on first use."""
        if size not in self._registries:
            made = Registry(f"/service/of-{size}", [Registration.numbered(number) for number in range(size)])
            self._register(made)
            self._registries[size] = made
        return self._registries[size]

    def _register(self, registry: Registry) -> None:
        self.client.ensure_path(registry.path)
        for begin in range(0, len(registry.registrations), CHUNK):
            if begin % OWNED == 0:
                owner = self._connected()
            transaction = owner.transaction()
            for one in registry.registrations[begin : begin + CHUNK]:
                transaction.create(f"{registry.path}/{one.child}", one.data, ephemeral=True)
            failed = [answer for answer in transaction.commit() if isinstance(answer, Exception)]
            if failed:
                raise BenchError(f"{registry.path}: can't register: {failed[0]!r}")

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a file in the directory, and return its path."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def ansible(self, command: str, *words: object, **surroundings: str) -> str:
        """Run one of Ansible's commands with these environment variables, and return its standard output.

        Raises `BenchError` if it fails or prints a warning.
        """
        return self.run(Path(sys.executable).parent / command, *words, **surroundings)

    def run(self, program: Path, *words: object, **surroundings: str) -> str:
        """Run a program, as `ansible` does."""
        done = subprocess.run(
            [program, *map(str, words)],
            cwd=self.directory,
            env={**self._environment, **surroundings},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or "[WARNING]" in done.stderr:
            command = f"{program.name} {' '.join(map(str, words))}"
            raise BenchError(f"{command}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    @cached_property
    def _environment(self) -> dict[str, str]:
        """The user's environment, without variables that would change Ansible's behaviour."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "ZK_", "PYTHON"))}
        return {
            **kept,
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_CONFIG": str(self.write("ansible.cfg", "[defaults]\n")),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "ansible"),
            "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}",
        }
