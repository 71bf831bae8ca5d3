"""P17: the time from the change of a znode until its file is in place, with 1,000 files, against bare socket and fsync.

Both sides have their session with one member of the ensemble, and the change is made at another. The yardstick gets the
watch event and the value, writes it beside the file, syncs and renames it. After each change both sides rest until the
agent has published its status.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.agents import install
from bench.arrivals import Arrivals
from bench.harness import BenchError, Comparison, Sample, goal
from bench.raw_client import RawClient
from bench.workbench import Workbench
from support.agent import Agent
from support.waiting import wait_for

LIMIT = 1.5
FILES, QUICK = 1_000, 100
TIMES, QUICK_TIMES = 15, 3
"""Changes in one sample, whose median counts."""
REST = 0.6
"""Seconds of rest after each change."""
LONGEST = 10.0
"""Seconds that one change may take."""
ROOT, BARE = "/bench/p17/files", "/bench/p17/bare"
MEMORY = Path("/dev/shm")
TEXT = "setting {} of change {}\n"


@goal("P17")
def changed_file(bench: Workbench) -> Iterator[Comparison]:
    """One change among 1,000 files, on the disk and in memory, where nothing waits for a disk."""
    count = bench.sized(FILES, QUICK)
    for directory, name, limit in (bench.directory, "disk", LIMIT), (MEMORY, "tmpfs", None):
        with (
            tempfile.TemporaryDirectory(prefix="zoo-bench-", dir=directory) as place,
            Host(bench, Path(place), count) as host,
        ):
            work = f"1 of {count:,} files changed, {name}, p50; raw + fsync"
            yield Comparison("P17", work, limit, host.sample(host.change), host.sample(host.change_bare), same_turn)


def file_each(place: Path, count: int) -> list[dict[str, str]]:
    """The agent's configuration of `count` files, each from its own znode."""
    names = (f"{number:04}" for number in range(count))
    return [{"znode": f"{ROOT}/{name}", "dest": f"{place}/{name}"} for name in names]


def one_directory(place: Path, _count: int) -> list[dict[str, str]]:
    """The agent's configuration of a directory with a file for each znode."""
    return [{"znode": ROOT, "dest": str(place), "format": "directory"}]


class Host(contextlib.ExitStack):
    """An agent with `count` files below `place`, configured by `entries`, and a bare socket with one file."""

    def __init__(
        self,
        bench: Workbench,
        place: Path,
        count: int,
        entries: Callable[[Path, int], list[dict[str, str]]] = file_each,
    ) -> None:
        super().__init__()
        self._bench = bench
        self._place = place
        self._count = count
        self._entries = entries
        members = [member.client_port for member in bench.ensemble.members]
        self._start(members[0])
        self._watching, self._setting = (RawClient("127.0.0.1", port) for port in members[:2])
        for client in self._watching, self._setting:
            self.callback(client.close)

    def _start(self, port: int) -> None:
        client = self._bench.client
        if client.exists(ROOT):
            client.delete(ROOT, recursive=True)
        for path in [*(f"{ROOT}/{number:04}" for number in range(self._count)), f"{BARE}/0000"]:
            client.ensure_path(path)
            client.set(path, TEXT.format(path, 0).encode())
        (self._place / "etc").mkdir()
        (self._place / "bare").mkdir()
        config = {"files": self._entries(self._place / "etc", self._count), "session_timeout": 30}
        hosts = f"127.0.0.1:{port}"
        agent = Agent(self._place, hosts, f"/bench/p17-{self._place.name}", client, config=config)
        self.callback(agent.kill)
        agent.start(**install(self._bench))
        wait_for(lambda: self._has_all(agent), f"the agent has all files: {agent.log[-1000:]}", 120)
        self._arrivals = Arrivals(self._place / "etc")
        self.callback(self._arrivals.close)

    def _has_all(self, agent: Agent) -> bool:
        states = [file["state"] for file in agent.status.get("files", {}).values()]
        made = sum(not name.startswith(".") for name in os.listdir(self._place / "etc"))
        return set(states) == {"current"} and made == self._count

    def sample(self, change: Callable[[int], float]) -> Callable[[], Sample]:
        """A side whose figure is the median of several changes, with the last turn as its result."""
        turns = itertools.count(1)

        def side() -> Sample:
            seconds = []
            for turn in itertools.islice(turns, self._bench.sized(TIMES, QUICK_TIMES)):
                seconds.append(change(turn))
                time.sleep(REST)
            return Sample(statistics.median(seconds), turn)

        return side

    def change(self, turn: int) -> float:
        """Change one of the agent's znodes, and return the seconds until its file is in place."""
        name = f"{turn * 7 % self._count:04}"
        text = TEXT.format(name, turn).encode()
        begun = time.perf_counter()
        self._setting.begin_set(f"{ROOT}/{name}", text)
        self._arrivals.wait(name, LONGEST)
        seconds = time.perf_counter() - begun
        self._setting.end_set()
        _check(self._place / "etc" / name, text)
        self._keep()
        return seconds

    def change_bare(self, turn: int) -> float:
        """Change the znode that the bare socket watches, and return the seconds until its file is in place."""
        path = f"{BARE}/0000"
        place = self._place / "bare" / "0000"
        text = TEXT.format("0000", turn).encode()
        self._watching.watch(path)
        begun = time.perf_counter()
        self._setting.begin_set(path, text)
        self._watching.wait_event()
        data, _unused = self._watching.watch(path)
        _write(place, data)
        seconds = time.perf_counter() - begun
        self._setting.end_set()
        _check(place, text)
        self._keep()
        return seconds

    def _keep(self) -> None:
        """Send a request on both sockets, because their sessions expire without one."""
        for client in self._watching, self._setting:
            client.children("/")


def _write(place: Path, data: bytes) -> None:
    beside = place.with_name(".new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(place)


def _check(place: Path, text: bytes) -> None:
    if place.read_bytes() != text:
        raise BenchError(f"{place} has {place.read_bytes()!r}, not {text!r}")


def same_turn(ours: int, yardstick: int) -> None:
    """Raise `BenchError` unless the same number of changes is in place."""
    if ours != yardstick:
        raise BenchError(f"{ours} changes are in place, of the yardstick {yardstick}")
