"""What the goals run on, made when first used: a directory, an ensemble, registries, Ansible's commands."""

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
"""Registrations that are made in one transaction."""
EXTRA = ("maxSessionTimeout=60000", "syncLimit=60")
"""On a machine that is as busy as they make it, agents must not lose their sessions, nor members their leader: one that
has to wait long for a slow disk would close all of its connections."""
OWNED = 10_000
"""Registrations of one session: what a session leaves is deleted in one transaction, which must not exceed 1 MB."""


@dataclass(frozen=True)
class Registration:
    """One server: its child in the registry, its address and its port, both as text."""

    child: str
    address: str
    port: str

    @classmethod
    def numbered(cls, number: int) -> Registration:
        """The server `number` of up to 16 million, each with an address of its own."""
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return cls(f"server-{number:05}", address, "8080")

    @property
    def data(self) -> bytes:
        """The value of its znode, in the first article's form."""
        return json.dumps([self.address, self.port]).encode()


@dataclass(frozen=True)
class Registry:
    """Registrations that are in ZooKeeper, as ephemeral children of `path`."""

    path: str
    registrations: list[Registration]


class Workbench:
    """The surroundings of a run; `opened` makes one and takes it down."""

    def __init__(self, directory: Path, *, quick: bool = False, jvm: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.quick = quick
        """Whether goals may measure smaller things than those they are set for."""
        self._jvm = jvm
        self._ending = contextlib.ExitStack()
        self._registries: dict[int, Registry] = {}

    @classmethod
    @contextlib.contextmanager
    def opened(cls, *, quick: bool = False, jvm: tuple[str, ...] = ()) -> Iterator[Workbench]:
        """A workbench in a temporary directory for the length of the block; `jvm` are words for the ensemble's Java."""
        with tempfile.TemporaryDirectory(prefix="zoo-bench-") as directory:
            bench = cls(Path(directory), quick=quick, jvm=jvm)
            with bench._ending:
                yield bench

    def sized(self, whole: int, quick: int) -> int:
        """How many of something a goal has: fewer in a run that is quick."""
        return quick if self.quick else whole

    @cached_property
    def ensemble(self) -> Ensemble:
        """Three servers of ZooKeeper."""
        servers = Ensemble(self.directory / "ensemble", extra=EXTRA, jvm=self._jvm)
        self._ending.callback(servers.stop)
        return servers.start()

    @cached_property
    def client(self) -> KazooClient:
        """A session of kazoo's."""
        return self._connected()

    def _connected(self) -> KazooClient:
        client = KazooClient(hosts=self.ensemble.hosts, timeout=10)
        client.start(timeout=20)
        self._ending.callback(client.close)
        self._ending.callback(client.stop)
        return client

    def registry(self, size: int) -> Registry:
        """A registry with `size` servers; the same one each time."""
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
        """A file in the directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def ansible(self, command: str, *words: object, **surroundings: str) -> str:
        """Run one of Ansible's commands, with these environment variables; its standard output.

        Raises `BenchError` where it does not end well.
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
        """The user's own, without what would change Ansible's behaviour."""
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
