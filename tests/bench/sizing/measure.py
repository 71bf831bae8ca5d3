"""What a fleet of simulated hosts takes of an ensemble of three, and of one with two additional observers.

Every host has a session with an agent's timeout, its entry in the roster, its status, one registration, and an agent's
watches. The hosts of each member are in their own process. Members are killed in the end.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Iterator

from kazoo.client import KazooClient

from bench.goals.rollouts import raise_descriptors
from bench.markdown import number
from bench.sizing.crowd_session import APP, COMMIT, REGISTRY
from bench.sizing.crowds import Crowds
from bench.sizing.figures import Load
from bench.sizing.probe import (
    GC_LOG,
    logged_bytes,
    monitored,
    open_files,
    processor_seconds,
    read_heap,
    resident_megabytes,
    snapshot_bytes,
)
from bench.workbench import Workbench
from support.ensemble import Ensemble, Member
from support.waiting import wait_for

MEMBERS, OBSERVERS = 3, 2
SIZES, QUICK = (1_000, 10_000), (30, 100)
REST, QUICK_REST = 15, 2
"""Seconds of rest over which the leader's processor time is measured."""
PUBLICATIONS = 5
WRITES, QUICK_WRITES = 30_000, 500
"""Statuses that all hosts together write."""
SETTLE = 1.0
"""Seconds after which every host has noticed that its server is dead."""
TICK = 2000
"""Milliseconds of a tick, as the role configures it."""
MILLION = 1_000_000
QUIET = logging.getLogger("bench.sizing")
"""A logger for kazoo, which logs each lost connection: members are killed here."""
QUIET.setLevel(logging.CRITICAL)
LONGEST = 120.0
"""Seconds that a member may take to serve again."""
Figures = dict[str, float]


def loads(bench: Workbench) -> Iterator[Load]:
    """The loads of each size, with and without observers."""
    for size in QUICK if bench.quick else SIZES:
        for observers in 0, OBSERVERS:
            yield Load(size, observers, _measured(bench, size, observers))


def _measured(bench: Workbench, hosts: int, observers: int) -> Figures:
    raise_descriptors(hosts)
    directory = bench.directory / f"sizing-{hosts}-{observers}"
    ensemble = Ensemble(directory, MEMBERS + observers, TICK, observers=observers)
    for member in ensemble.members:
        # The heap starts small, so that its size shows what is in use.
        member.jvm = ("-Xms16m", "-Xmx4g", f"-Xlog:gc:file={member.directory / GC_LOG}")
    with ensemble:
        client = KazooClient(hosts=ensemble.hosts, timeout=30, logger=QUIET)
        client.start(timeout=20)
        try:
            for path in (APP.agents, APP.roster, REGISTRY, APP.config):
                client.ensure_path(path)
            with Crowds.started(hosts, [member.client_port for member in ensemble.members]) as crowds:
                return _Trial(bench, ensemble, client, crowds, hosts).run()
        finally:
            client.stop()
            client.close()


class _Trial:
    """One fleet and its ensemble, measured in steps, each of which adds its figures."""

    def __init__(self, bench: Workbench, ensemble: Ensemble, client: KazooClient, crowds: Crowds, hosts: int) -> None:
        self._bench = bench
        self._ensemble = ensemble
        self._client = client
        self._crowds = crowds
        self._hosts = hosts
        self._figures: Figures = {}

    def run(self) -> Figures:
        """Take all steps in order, and return the figures."""
        for step in (
            self._gather,
            self._count,
            self._rest,
            self._publish,
            self._write,
            self._kill_follower,
            self._kill_leader,
            self._look_at_members,
        ):
            before = dict(self._figures)
            step()
            found = (f"{name} {number(value)}" for name, value in self._figures.items() if name not in before)
            print(f"{self._hosts:>9,} {'  '.join(found)}", flush=True)
        return self._figures

    def _gather(self) -> None:
        begun = time.monotonic()
        answers = self._crowds.order("begin")
        self._figures["gathering"] = _last(answers) - begun

    def _count(self) -> None:
        members = self._ensemble.members
        # One session is the publisher's.
        self._figures["sessions"] = monitored(self._ensemble.leader, "zk_global_sessions") - 1
        self._figures["watches"] = sum(monitored(member, "zk_watch_count") for member in members)
        self._figures["znodes"] = monitored(members[0], "zk_znode_count")
        self._figures["descriptors"] = max(open_files(member) for member in members)

    def _rest(self) -> None:
        seconds = self._bench.sized(REST, QUICK_REST)
        leader = self._ensemble.leader
        before = processor_seconds(leader)
        time.sleep(seconds)
        self._figures["idle_cpu"] = (processor_seconds(leader) - before) / seconds * 100

    def _publish(self) -> None:
        leader = self._ensemble.leader
        last, median = [], []
        before = processor_seconds(leader)
        for turn in range(PUBLICATIONS):
            release = {"url": "https://git.example/site.git", "commitId": COMMIT, "relativePath": "site", "turn": turn}
            begun = time.monotonic()
            generation = self._client.set(APP.config, json.dumps(release).encode()).mzxid
            answers = self._crowds.order("read", generation=generation)
            last.append(_last(answers) - begun)
            median.append(statistics.median(answer["median"] for answer in answers) - begun)
        self._figures["published"] = statistics.median(last)
        self._figures["published_median"] = statistics.median(median)
        self._figures["publication_cpu"] = (processor_seconds(leader) - before) / PUBLICATIONS * 1000

    def _write(self) -> None:
        each = max(1, self._bench.sized(WRITES, QUICK_WRITES) // self._hosts)
        leader, count = self._ensemble.leader, each * self._hosts
        processor, disk = processor_seconds(leader), logged_bytes(leader)
        begun = time.monotonic()
        answers = self._crowds.order("write", count=each)
        self._figures["writes"] = count / (_last(answers) - begun)
        self._figures["write_cpu"] = (processor_seconds(leader) - processor) / count * MILLION
        self._figures["write_bytes"] = (logged_bytes(leader) - disk) / count

    def _kill_follower(self) -> None:
        follower = next(member for member in self._ensemble.members if member.mode == "follower")
        begun = self._kill(follower)
        follower.start()
        wait_for(follower.serves, "a follower serves", LONGEST)
        self._figures["member_back"] = time.monotonic() - begun
        self._figures["member_hosts"] = max(0.0, _last(self._crowds.finish()) - begun)

    def _kill_leader(self) -> None:
        leader = self._ensemble.leader
        begun = self._kill(leader)
        answers = self._crowds.finish()
        self._figures["leader_back"] = max(0.0, _last(answers) - begun)
        self._figures["expired"] = sum(answer["expired"] for answer in answers)
        leader.start()
        wait_for(leader.serves, "the member that led serves", LONGEST)

    def _kill(self, member: Member) -> float:
        """Kill a member, order the hosts to report when all are connected again, and return the moment of the kill."""
        begun = time.monotonic()
        member.kill()
        self._crowds.begin("gather", after=begun + SETTLE)
        return begun

    def _look_at_members(self) -> None:
        members = self._ensemble.members
        heaps = [read_heap(member) for member in members]
        self._figures["snapshot"] = max(snapshot_bytes(member) for member in members) / MILLION
        self._figures["heap"] = max(used for used, _pause in heaps)
        self._figures["pause"] = max(pause for _used, pause in heaps)
        self._figures["resident"] = max(resident_megabytes(member) for member in members)


def _last(answers: list[dict[str, float]]) -> float:
    return max(answer["last"] for answer in answers)
