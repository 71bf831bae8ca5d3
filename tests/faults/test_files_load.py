"""Values change constantly on many hosts while members of the ensemble die: files are complete, in the end right."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import random
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from faults.support.host import patiently
from faults.support.ledger import FILES, INTERVALS, TORN, Ledger
from support.agent import Agent
from support.client import connected
from support.ensemble import Ensemble
from support.lonely import RETRY
from support.waiting import wait_for

AGENTS = 20
ZNODES = 100
SECONDS = 120
CHANGES = 2_000
"""A thousand a minute."""
WRITERS = 4
INTERVAL = 5.0
"""Seconds of `min_interval`."""
DOWN = 4.0
"""Seconds that a killed member is down, and then that all are up before the next is killed."""
PATIENCE = 300
"""Seconds after which a start counts as failed, long enough for a busy machine."""
SOON = 60
"""Seconds after the last change within which every file has to be right."""
LARGEST = 8_000
"""The largest size of a value, in bytes, without the digest."""
DELETED = 0.05
"""The share of the changes that are deletions. A deleted znode is created again by its next change."""


def checked(serial: int, name: str) -> bytes:
    """A value that proves itself: the digest of the rest, then the rest."""
    text = f"{serial} {name}\n".encode() + random.randbytes(random.randrange(LARGEST))
    return hashlib.sha256(text).hexdigest().encode() + text


def is_whole(value: bytes) -> bool:
    return hashlib.sha256(value[64:]).hexdigest().encode() == value[:64]


class Fleet:
    """Agents that each have all files in a directory of their own, and whose actions record when they began."""

    def __init__(self, root: Path, ensemble: Ensemble, zk: KazooClient, app: str) -> None:
        self.znodes = [f"{app}/files/{number:03}.conf" for number in range(ZNODES)]
        self.agents = [
            Agent(root / name, ensemble.hosts, app, zk, name)
            for name in (f"server{number:02}" for number in range(AGENTS))
        ]

    def start(self) -> None:
        """Start all, each with a stand-in for systemctl."""
        for agent in self.agents:
            for directory in ("etc", "notes", "bin"):
                (agent.root / directory).mkdir(parents=True)
            command = agent.root / "bin" / "systemctl"
            command.write_text(f'#!/bin/sh\ndate +%s.%N >>"{agent.root}/notes/$2"\n')
            command.chmod(0o755)
            files = [self._entry(agent, znode, number) for number, znode in enumerate(self.znodes)]
            agent.config = {"files": files, "session_timeout": 10}
            agent.start(PATH=f"{agent.root}/bin:/usr/bin:/bin")
        for agent in self.agents:
            wait_for(functools.partial(getattr, agent, "status"), f"{agent.name} is live", PATIENCE)

    def _entry(self, agent: Agent, znode: str, number: int) -> dict[str, Any]:
        entry = {"znode": znode, "dest": str(self.place(agent, znode)), "min_interval": INTERVAL}
        if number % 2:
            return {**entry, "restart_units": [f"odd{number % 5}.service"]}
        return {**entry, "on_change": [str(agent.root / "bin" / "systemctl"), "note", "command"]}

    @staticmethod
    def place(agent: Agent, znode: str) -> Path:
        """The file of a znode at an agent."""
        return agent.root / "etc" / znode.rpartition("/")[2]

    def places(self) -> list[Path]:
        """All files of all agents."""
        return [self.place(agent, znode) for agent in self.agents for znode in self.znodes]

    def stop(self) -> None:
        """End the agents that are still running."""
        for agent in self.agents:
            agent.kill()


@contextmanager
def all_the_time(work: Callable[[], None]) -> Iterator[None]:
    """Do `work` again and again in a thread for as long as the block lasts. Its exception is raised at the end."""
    over, troubles = threading.Event(), []

    def run() -> None:
        try:
            while not over.is_set():
                work()
        except BaseException as exc:  # noqa: BLE001  # raised again where it is seen
            troubles.append(exc)

    worker = threading.Thread(target=run)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()
    for trouble in troubles:
        raise trouble


class Reading:
    """Reads one file after the other. Each one that exists has to be complete."""

    def __init__(self, places: list[Path], ledger: Ledger) -> None:
        self.ledger = ledger
        random.shuffle(places)
        self._places = itertools.cycle(places)

    def read_some(self) -> None:
        """Read some files, then pause to leave the processor to others."""
        for place in itertools.islice(self._places, 50):
            try:
                value = place.read_bytes()
            except FileNotFoundError:
                continue
            self.ledger.judge(TORN, "" if is_whole(value) else f"{place}: {value[:100]!r}")
        time.sleep(0.02)


class Killing:
    """Kills one member of the ensemble after the other, and starts it again."""

    def __init__(self, ensemble: Ensemble, ledger: Ledger) -> None:
        self.ensemble = ensemble
        self.ledger = ledger
        self.killed = 0

    def kill_one(self) -> None:
        """Kill one member for a while, then let all be up for a while."""
        member = self.ensemble.members[self.killed % len(self.ensemble.members)]
        self.ledger.inject("SIGKILL of a member of the ensemble under 1,000 changes of files a minute")
        member.kill()
        self.killed += 1
        time.sleep(DOWN)
        member.start()
        wait_for(member.serves, "the member is back", PATIENCE)
        time.sleep(DOWN)


class Changing:
    """Changes znodes at an even pace, and knows the final value of each (None: it is deleted)."""

    def __init__(self, zk: KazooClient, znodes: list[str]) -> None:
        self.zk = zk
        self.expected: dict[str, bytes | None] = dict.fromkeys(znodes)
        self._pace = itertools.count()
        self._begun = time.monotonic()

    def change_all(self) -> float:
        """Make all changes, catching up after outages of the ensemble, and return the seconds that it took."""
        # Each writer has its own znodes, so that the last change of each is known.
        with ThreadPoolExecutor(WRITERS) as writers:
            for _done in writers.map(self._change_some, range(WRITERS)):
                pass
        return time.monotonic() - self._begun

    def _change_some(self, number: int) -> None:
        own = list(self.expected)[number::WRITERS]
        while (serial := next(self._pace)) < CHANGES:
            time.sleep(max(0.0, self._begun + SECONDS * serial / CHANGES - time.monotonic()))
            znode = random.choice(own)
            value = None if random.random() < DELETED else checked(serial, znode)
            self.expected[znode] = value
            patiently(functools.partial(self._change, znode, value))

    def _change(self, znode: str, value: bytes | None) -> None:
        """Delete the znode, or set or create it. This may be done twice if an answer was lost."""
        try:
            if value is None:
                self.zk.delete(znode)
            else:
                self.zk.set(znode, value)
        except NoNodeError:
            if value is not None:
                self.zk.create(znode, value, makepath=True)


def troubles(fleet: Fleet, changing: Changing) -> Iterator[tuple[Path, str]]:
    """Each file, and what is wrong with it or its status. The file of a deleted znode keeps an older value."""
    for agent in fleet.agents:
        statuses = patiently(functools.partial(getattr, agent, "status")).get("files", {})
        for znode, value in changing.expected.items():
            place = fleet.place(agent, znode)
            state = statuses.get(str(place), {}).get("state")
            if state != ("missing" if value is None else "current"):
                yield place, f"its state is {state}"
            elif value is not None and place.read_bytes() != value:
                yield place, "another value"
            else:
                yield place, ""


def check_files(fleet: Fleet, changing: Changing, ledger: Ledger) -> None:
    """Check that soon every file is right, and reported to be."""
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not any(trouble for _place, trouble in troubles(fleet, changing)), "every file is right", SOON)
    for place, trouble in troubles(fleet, changing):
        ledger.judge(FILES, trouble and f"{place}: {trouble}")


@pytest.mark.storm
def test_two_thousand_changes_on_twenty_hosts_arrive_while_members_of_the_ensemble_are_killed_in_turn(
    ensemble: Ensemble, app: str, ledger: Ledger
) -> None:
    with ExitStack() as stack:
        stack.callback(ensemble.start)
        # Twenty hosts have twenty disks. On a single one, each would wait for the writes of all others.
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        zk = stack.enter_context(connected(ensemble.hosts, timeout=10, connection_retry=RETRY))
        fleet = Fleet(root, ensemble, zk, app)
        stack.callback(fleet.stop)
        fleet.start()
        reading, killing = Reading(fleet.places(), ledger), Killing(ensemble, ledger)
        changing = Changing(zk, fleet.znodes)
        with all_the_time(reading.read_some):
            with all_the_time(killing.kill_one):
                took = changing.change_all()
            check_files(fleet, changing, ledger)
        if took > SECONDS * 1.5:
            # All checks were made nevertheless, with fewer changes a minute.
            warnings.warn(f"too busy a machine: {60 * CHANGES / took:.0f} changes a minute", stacklevel=1)
        assert killing.killed >= len(ensemble.members), "each member was killed"
        for agent in fleet.agents:
            check_intervals(agent, ledger)


def check_intervals(agent: Agent, ledger: Ledger) -> None:
    """Check that no action began sooner after the previous one than `min_interval`."""
    notes = sorted((agent.root / "notes").iterdir())
    assert len(notes) == 6, "five units and a command"
    for note in notes:
        begun = [float(line) for line in note.read_text().split()]
        assert len(begun) > SECONDS / INTERVAL / 4, f"{note} was acted on all the time, not only {len(begun)} times"
        for earlier, later in itertools.pairwise(begun):
            gap = later - earlier
            ledger.judge(INTERVALS, "" if gap >= INTERVAL else f"{note}: {gap:.3f} s after the one before")
