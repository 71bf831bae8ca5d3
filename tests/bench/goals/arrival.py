"""P6: the time from a publication until an agent has read it, against a bare socket that watches and gets the znode.

The published value is not a release, so that the agent only logs that it has read it, and the bench reads its log from
a pipe. Both sides have their session with one member of the ensemble, and the publisher's is with another.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import statistics
import time
from collections.abc import Callable, Iterator

from bench.agents import install
from bench.harness import BenchError, Comparison, Sample, Side, goal
from bench.raw_client import RawClient
from bench.workbench import Workbench
from support.agent import Agent
from support.waiting import wait_for

APP = "/bench/p6"
CONFIG = f"{APP}/config"
BARE = "/bench/p6-bare"
"""The znode that the bare socket watches, which the agent does not see."""
TIMES = 50
"""Publications in one sample, whose median counts."""
REST = 0.03
"""Seconds after each publication, in which the agent writes its status."""
LONGEST = 10.0
"""Seconds that one publication may take."""
READ = re.compile(rb"not deployed, generation=(\d+).*\n")


@goal("P6")
def arrival(bench: Workbench) -> Iterator[Comparison]:
    """The median time from a set until the agent logs that it has read it, against that until the answer to a get."""
    for path in CONFIG, BARE:
        bench.client.ensure_path(path)
    with _Agent(bench) as agent:
        yield Comparison(
            "P6",
            "publish to agent has it, p50; set, event, get",
            1.3,
            _published(bench, CONFIG, agent.wait_read),
            lambda: _raw(bench),
            _same,
        )


class _Agent(contextlib.ExitStack):
    """An agent with a session at the first member, whose log is a pipe."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        pipe = bench.directory / "p6.log"
        os.mkfifo(pipe)
        self._log = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.callback(os.close, self._log)
        member = f"127.0.0.1:{bench.ensemble.members[0].client_port}"
        agent = Agent(bench.directory / "p6", member, APP, bench.client, log_to=pipe, config={"session_timeout": 30})
        self.callback(agent.kill)
        agent.start(**install(bench))
        wait_for(lambda: agent.status.get("state") == "failed", "the agent has read that no release is published")
        self.wait_read()

    def wait_read(self) -> int:
        """Wait until the agent logs that it has read a publication, and return the generation."""
        said = b""
        deadline = time.monotonic() + LONGEST
        while not (found := READ.search(said)):
            readable, _unused, _unused = select.select([self._log], [], [], deadline - time.monotonic())
            if not readable:
                raise BenchError(f"the agent has not read what is published within {LONGEST:g} s: {said.decode()}")
            said += os.read(self._log, 65536)
        return int(found.group(1))


def _published(bench: Workbench, path: str, wait_read: Callable[[], int]) -> Side:
    """A side whose figure is the median time from a set to the end of `wait_read`, which returns a generation."""

    def side() -> Sample:
        with contextlib.closing(_client(bench, 1)) as publisher:
            return Sample(statistics.median(_publish(publisher, path, wait_read, turn) for turn in range(TIMES)), TIMES)

    return side


def _publish(publisher: RawClient, path: str, wait_read: Callable[[], int], turn: int) -> float:
    begun = time.perf_counter()
    publisher.begin_set(path, b"no release %d" % turn)
    read = wait_read()
    seconds = time.perf_counter() - begun
    published = publisher.end_set()
    if read != published:
        raise BenchError(f"{published} was published, and {read} read")
    time.sleep(REST)
    return seconds


def _raw(bench: Workbench) -> Sample:
    with contextlib.closing(_client(bench, 0)) as reader:

        def wait_read() -> int:
            reader.wait_event()
            return int(reader.watch(BARE)[1][1])

        reader.watch(BARE)
        return _published(bench, BARE, wait_read)()


def _client(bench: Workbench, member: int) -> RawClient:
    return RawClient("127.0.0.1", bench.ensemble.members[member].client_port)


def _same(ours: int, yardstick: int) -> None:
    if ours != yardstick:
        raise BenchError(f"{ours} publications read, and {yardstick}")
