"""P13: the time from the SIGKILL of an agent until its service leaves the inventory, against the session timeout.

The inventory's own reading is repeated at short intervals. At the end `ansible-inventory --list`, which takes too long
to be repeated, has to agree. Another agent, which lives on, has to stay in the inventory.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import yaml

from bench.agents import install
from bench.harness import BenchError, Comparison, Sample, goal
from bench.workbench import Workbench
from support.agent import Agent
from support.service import Service
from support.waiting import wait_for

LIMIT = 1.2
TIMEOUTS, QUICK = (4, 10), (2,)
"""Session timeouts in seconds: a short one, and the one that the role configures."""
REGISTRY = "/bench/p13/service"
WITNESS = "witness"
REST = 0.01
"""Seconds between two readings."""


@goal("P13")
def gone(bench: Workbench) -> Iterator[Comparison]:
    """Kill an agent, with either timeout."""
    service = Service().open()
    try:
        for timeout in QUICK if bench.quick else TIMEOUTS:
            registry = _Registry(bench, service.port, timeout)
            with registry.running(WITNESS):
                work = f"kill -9 to gone; session timeout of {timeout} s"
                yield Comparison("P13", work, LIMIT, registry.kill_one, registry.expire_one, _same)
    finally:
        service.close()


class _Registry:
    """Agents whose service is registered, and the inventory's readings of the registry."""

    def __init__(self, bench: Workbench, port: int, timeout: int) -> None:
        self._bench = bench
        self._port = port
        self._timeout = timeout
        self._turns = itertools.count()
        self._discovery: Any = importlib.import_module(
            "ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery"
        )

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[Agent]:
        """A running agent that has registered its service under its name."""
        service = {"path": REGISTRY, "id": name, "address": "127.0.0.1", "port": self._port}
        directory = self._bench.directory / f"p13-{self._timeout}-{name}"
        config = {"services": [{**service, "check": {"type": "tcp"}}], "session_timeout": self._timeout}
        agent = Agent(directory, self._bench.ensemble.hosts, "/bench/p13", self._bench.client, name, config)
        agent.start(**install(self._bench))
        try:
            wait_for(lambda: self._bench.client.exists(f"{REGISTRY}/{name}"), f"{name} is registered: {agent.log}")
            yield agent
        finally:
            agent.kill()

    def kill_one(self) -> Sample:
        """Kill an agent, and measure the seconds until a reading no longer has it."""
        name = f"server{next(self._turns)}"
        with self.running(name) as agent:
            if self._read() != {WITNESS, name}:
                raise BenchError(f"registered are {self._read()}")
            begun = time.perf_counter()
            agent.kill()
            while name in self._read():
                time.sleep(REST)
            seconds = time.perf_counter() - begun
        return Sample(seconds, self._list())

    def expire_one(self) -> Sample:
        """The session timeout in seconds, and the registrations that are left."""
        return Sample(float(self._timeout), set(self._bench.client.get_children(REGISTRY)))

    def _read(self) -> set[str]:
        """The IDs that the inventory reads."""
        discovery = self._discovery
        (reading,) = discovery.discover(self._bench.client, [discovery.Registry(REGISTRY)], [None])
        return {child.name for child in reading.children}

    def _list(self) -> set[str]:
        """The IDs that `ansible-inventory` prints."""
        options = {"plugin": "zoo.deploy.zk_services", "hosts": self._bench.ensemble.hosts, "registries": [REGISTRY]}
        source = self._bench.write("p13.zk_services.yml", yaml.safe_dump(options))
        inventory = json.loads(self._bench.ansible("ansible-inventory", "-i", source, "--list"))
        found = (variables["zk_id"] for variables in inventory["_meta"]["hostvars"].values())
        return {one if isinstance(one, str) else one["__ansible_unsafe"] for one in found}


def _same(ours: set[str], yardstick: set[str]) -> None:
    if not ours == yardstick == {WITNESS}:
        raise BenchError(f"the inventory has {ours}, the ensemble {yardstick}")
