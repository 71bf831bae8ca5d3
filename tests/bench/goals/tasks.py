"""P5: a `zk_znode` task against a module with kazoo and no features, `modules/bare_znode.py`, that writes the same.

The entire `ansible-playbook` run of a play with this one task is judged, because that is what a user waits for. Lines
that are not judged show only the task, from its start to its result as a callback sees them, and the run against the
cheapest possible task, `ansible.builtin.ping`.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from bench.harness import BenchError, Comparison, Sample, Side, goal, timed
from bench.workbench import HERE, Workbench

PARENT = "/bench/tasks"
LIMIT = 1.05
MANY = 50
HOSTS, FEWER = 50, 10
"""Hosts of a play, and those of a quick run."""
FORKS = 10
REPEATS = 5
"""Tasks in a play whose tasks are timed. Their median counts."""
LIBRARY = {"ANSIBLE_LIBRARY": str(HERE / "modules")}

Task = dict[str, Any]
PING: Task = {"ansible.builtin.ping": {}}


@goal("P5")
def znode_task(bench: Workbench) -> Iterator[Comparison]:
    """One znode in a task, 50 in a task, and one on each of 50 hosts. All of them change each time."""
    bench.client.ensure_path(PARENT)
    for count in 1, MANY:
        what = f"{count} znode{'s' * (count > 1)} in a task"
        for work, side, limit in ("run", _run, LIMIT), ("task alone", _task, None):
            yield _comparison(bench, f"{what}, {work}; bare module", limit, side, _Znodes(bench, count))
    ping = _Znodes(bench, 1)
    sides = _run(bench, "znode", ping.ours), _run(bench, "ping", lambda _unused: PING)
    yield Comparison("P5", "1 znode in a task, run; ping", None, *sides, ping.check)
    hosts = bench.sized(HOSTS, FEWER)
    each = _Znodes(bench, 1, hosts)
    yield _comparison(bench, f"1 znode on each of {hosts} hosts, run; bare module", LIMIT, _run, each)


def _comparison(
    bench: Workbench, work: str, limit: float | None, side: Callable[..., Side], znodes: _Znodes
) -> Comparison:
    ours, yardstick = side(bench, "ours", znodes.ours, znodes.hosts), side(bench, "bare", znodes.bare, znodes.hosts)
    return Comparison("P5", work, limit, ours, yardstick, znodes.check)


class _Znodes:
    """Tasks that set `count` znodes from each of `hosts`, each time to a new value, of which the last is remembered."""

    def __init__(self, bench: Workbench, count: int, hosts: int = 1) -> None:
        self.bench = bench
        self.hosts = hosts
        self.names = [f"{count}-{hosts}-{number:02}" for number in range(count)]
        self.value = ""
        self._turns = itertools.count()
        for path in self.paths:
            bench.client.ensure_path(path)

    @property
    def paths(self) -> list[str]:
        """All znodes of all hosts."""
        return [f"{PARENT}/{_host(host)}-{name}" for host in range(self.hosts) for name in self.names]

    def ours(self, number: int) -> Task:
        """The task `number` of a play, with our module."""
        options = self._options(number)
        znodes = options.pop("znodes")
        return {"zoo.deploy.zk_znode": {**options, **(znodes[0] if len(znodes) == 1 else {"znodes": znodes})}}

    def bare(self, number: int) -> Task:
        """The same task with the module that has no features."""
        return {"bare_znode": self._options(number)}

    def _options(self, number: int) -> dict[str, Any]:
        self.value = f"turn {next(self._turns)} task {number}"
        paths = [f"{PARENT}/{{{{ inventory_hostname }}}}-{name}" for name in self.names]
        return {
            "hosts": self.bench.ensemble.hosts,
            "znodes": [{"path": path, "value": self.value} for path in paths],
        }

    def check(self, ours: str, yardstick: str) -> None:
        """Expect that both runs succeeded, and that every znode has the last value."""
        for printed in ours, yardstick:
            if printed.count("failed=0") != self.hosts or printed.count("unreachable=0") != self.hosts:
                raise BenchError(printed)
        for path in self.paths:
            found, _unused = self.bench.client.get(path)
            if found.decode() != self.value:
                raise BenchError(f"{path} holds {found!r}, not {self.value!r}")


def _host(number: int) -> str:
    return f"host{number:02}"


def _run(bench: Workbench, name: str, task: Callable[[int], Task], hosts: int = 1) -> Side:
    """A side whose figure is the time of an entire run with one task."""

    def side() -> Sample:
        return timed(lambda: _play(bench, name, [task(0)], hosts))()

    return side


def _task(bench: Workbench, name: str, task: Callable[[int], Task], hosts: int = 1) -> Side:
    """A side whose figure is the median time of the tasks in one run."""
    seconds = bench.directory / "task-seconds"
    surroundings = {
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "task_seconds",
        "ZOO_BENCH_TASK_SECONDS": str(seconds),
    }

    def side() -> Sample:
        seconds.unlink(missing_ok=True)
        tasks = [task(number) for number in range(REPEATS)]
        printed = _play(bench, f"{name}-repeated", tasks, hosts, **surroundings)
        return Sample(statistics.median(map(float, seconds.read_text().split())), printed)

    return side


def _play(bench: Workbench, name: str, tasks: list[Task], hosts: int, **surroundings: str) -> str:
    """Run a play with these tasks on hosts with local connections, and return its output."""
    play = bench.write(f"{name}.yml", yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    local = {_host(number): {"ansible_connection": "local"} for number in range(hosts)}
    inventory = bench.write(f"{hosts}-hosts.yml", yaml.safe_dump({"all": {"hosts": local}}))
    words = ("-i", inventory, "--forks", FORKS, play)
    return bench.ansible("ansible-playbook", *words, **LIBRARY, **surroundings)
