"""P5: a `zk_znode` task against the cheapest task that there is, `ansible.builtin.ping`.

What is judged is the whole `ansible-playbook` run of a play with this one task: that is what somebody waits for. Lines
that are not judged show the task alone, from its start to its result as a callback sees them.
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
MANY = 50
REPEATS = 5
"""Tasks in a play whose tasks are timed; the median counts."""

Task = dict[str, Any]
PING: Task = {"ansible.builtin.ping": {}}


@goal("P5")
def znode_task(bench: Workbench) -> Iterator[Comparison]:
    """One znode in a task, and 50 in a task; each time all of them change."""
    bench.client.ensure_path(PARENT)
    for count, limit in (1, 1.03), (MANY, 1.08):
        for work, side, judged in ("run", _run, limit), ("task alone", _task, None):
            znodes = _Znodes(bench, count)
            ours, yardstick = side(bench, f"znodes-{count}", znodes.task), side(bench, "ping", lambda _unused: PING)
            what = f"{count} znode{'s' * (count > 1)} in a task, {work}; ping"
            yield Comparison("P5", what, judged, ours, yardstick, znodes.check)


class _Znodes:
    """Tasks that set `count` znodes, each to values of its own; it remembers the last."""

    def __init__(self, bench: Workbench, count: int) -> None:
        self.bench = bench
        self.paths = [f"{PARENT}/{count}-{number:02}" for number in range(count)]
        self.value = ""
        self._turns = itertools.count()

    def task(self, number: int) -> Task:
        """The task `number` of a play."""
        self.value = f"turn {next(self._turns)} task {number}"
        options: dict[str, Any] = {"hosts": self.bench.ensemble.hosts}
        if len(self.paths) == 1:
            options.update(path=self.paths[0], value=self.value)
        else:
            options["znodes"] = [{"path": path, "value": self.value} for path in self.paths]
        return {"zoo.deploy.zk_znode": options}

    def check(self, ours: str, yardstick: str) -> None:
        """Both runs ended well; every znode has the last value."""
        for printed in ours, yardstick:
            if "failed=0" not in printed:
                raise BenchError(printed)
        for path in self.paths:
            found, _unused = self.bench.client.get(path)
            if found.decode() != self.value:
                raise BenchError(f"{path} holds {found!r}, not {self.value!r}")


def _run(bench: Workbench, name: str, task: Callable[[int], Task]) -> Side:
    """The time of a whole run with one task."""

    def side() -> Sample:
        play = _play(bench, name, [task(0)])
        return timed(lambda: bench.ansible("ansible-playbook", play))()

    return side


def _task(bench: Workbench, name: str, task: Callable[[int], Task]) -> Side:
    """The median time of a task, of a few in one run."""
    seconds = bench.directory / "task-seconds"
    surroundings = {
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "task_seconds",
        "ZOO_BENCH_TASK_SECONDS": str(seconds),
    }

    def side() -> Sample:
        seconds.unlink(missing_ok=True)
        play = _play(bench, f"{name}-repeated", [task(number) for number in range(REPEATS)])
        printed = bench.ansible("ansible-playbook", play, **surroundings)
        return Sample(statistics.median(map(float, seconds.read_text().split())), printed)

    return side


def _play(bench: Workbench, name: str, tasks: list[Task]) -> Any:
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
    return bench.write(f"{name}.yml", yaml.safe_dump(play))
