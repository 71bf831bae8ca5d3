"""P7 and P8: the time from a publication until every host has proved it, against other ways to deploy a commit.

Each pair deploys its own commit, in which one of several files has changed, from one git daemon without a limit of
connections. Every host of either side already has the repository, except in the first deployment of P8, which begins
with nothing. The agents check no service, because the yardsticks do not either.
"""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

from bench.agents import PLACE, Fleet
from bench.harness import BenchError, Comparison, Sample, Side, goal
from bench.site import Site, checksum
from bench.workbench import HERE, Workbench
from support.service import Service

FILES = 40
MANY, FEWER = 50, 10
"""Hosts at the same time, and those of a quick run."""
ANY_NUMBER = "--max-connections=0"
"""An option of the git daemon, which by default refuses the 33rd connection. That is the subject of P12."""
FORKS = (2, 5, 10, 25, 50)
PULLED = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.file": {"src": "{{ playbook_dir }}", "dest": "{{ place }}", "state": "link"}}],
    }
]
"""The play that `ansible-pull` runs once it has the repository, which swaps the symlink."""


@goal("P7")
def proved(bench: Workbench) -> Iterator[Comparison]:
    """One agent and many against a shell script that fetches, checks out and swaps, and the cost of a health check."""
    with Site.served(bench, "p7", FILES, 1, ANY_NUMBER) as site:
        for count, limit in (1, 1.3), (_many(bench), 1.1):
            with Fleet.started(bench, f"p7-{count}", count) as fleet:
                ours, yardstick = agents_side(site, fleet), script_side(site, stores(bench, f"p7-shell-{count}", count))
                yield Comparison("P7", f"{_agent(count)} prove a release; shell", limit, ours, yardstick, same_trees)
        service = Service().open()
        try:
            watched = {"path": "/bench/p7-service", "id": "one", "address": "127.0.0.1", "port": service.port}
            check = {"check": {"type": "tcp", "interval": 2}}
            with (
                Fleet.started(bench, "p7-checked", 1, services=[{**watched, **check}]) as checked,
                Fleet.started(bench, "p7-plain", 1) as plain,
            ):
                work = "1 agent with a TCP check; without"
                yield Comparison("P7", work, None, agents_side(site, checked), agents_side(site, plain), same_trees)
        finally:
            service.close()


@goal("P8")
def pushed_and_pulled(bench: Workbench) -> Iterator[Comparison]:
    """One agent and many against `ansible.builtin.git` at its best forks, a first deployment against `ansible-pull`."""
    playbook: dict[str, str | None] = {"local.yml": yaml.safe_dump(PULLED)}
    with Site.served(bench, "p8", FILES, 1, ANY_NUMBER, beside=playbook) as site:
        for count, limit in (1, 0.03), (_many(bench), 0.05):
            git = _AnsibleGit(bench, site, count)
            work = f"{_agent(count)}; ansible.builtin.git, {git.forks} fork{'s' * (git.forks > 1)}"
            with Fleet.started(bench, f"p8-{count}", count) as fleet:
                yield Comparison("P8", work, limit, agents_side(site, fleet), git.side(), same_trees)
        yield Comparison(
            "P8", "1 agent, first deployment; ansible-pull", 0.018, _first(bench, site), _pull(bench, site), same_trees
        )


def _many(bench: Workbench) -> int:
    return FEWER if bench.quick else MANY


def _agent(count: int) -> str:
    return f"{count} agent{'s' * (count > 1)}"


def _turns(site: Site, deploy: Callable[[str], tuple[float, set[str]]]) -> Side:
    """A side that deploys the next commit each time. `deploy` returns the seconds and the trees of all hosts."""
    turns = itertools.count()

    def side() -> Sample:
        commit_id = site.commit(next(turns))
        seconds, trees = deploy(commit_id)
        if trees != {site.checksum(commit_id)}:
            raise BenchError(f"not every host has the tree of {commit_id}: {trees}")
        return Sample(seconds, trees)

    return side


def same_trees(ours: set[str], yardstick: set[str]) -> None:
    """Raise `BenchError` unless all hosts have the same trees."""
    if ours != yardstick:
        raise BenchError(f"trees {ours} and {yardstick}")


def agents_side(site: Site, fleet: Fleet) -> Side:
    """A side in which real agents prove the next commit."""
    return _turns(site, lambda commit_id: (fleet.deploy(site.url, commit_id), fleet.trees()))


def stores(bench: Workbench, name: str, count: int) -> list[Path]:
    """The directories of hosts without an agent, each with an empty repository."""
    hosts = [bench.directory / name / f"host{number:03}" for number in range(count)]
    for host in hosts:
        subprocess.run(["git", "init", "--quiet", "--bare", host / "store"], check=True)
    return hosts


def script_side(site: Site, hosts: Sequence[Path]) -> Side:
    """A side in which `shell_deploy.sh` deploys the next commit on all hosts at the same time."""

    def deploy(commit_id: str) -> tuple[float, set[str]]:
        begun = time.perf_counter()
        done = subprocess.run(
            ["bash", HERE / "shell_deploy.sh", site.url, commit_id, *hosts], check=False, capture_output=True, text=True
        )
        seconds = time.perf_counter() - begun
        if done.returncode != 0:
            raise BenchError(f"shell_deploy.sh: {done.stderr.strip()}")
        return seconds, {checksum(host / PLACE) for host in hosts}

    return _turns(site, deploy)


class _AnsibleGit:
    """`ansible.builtin.git` on `count` hosts with local connections, each with its own clone."""

    def __init__(self, bench: Workbench, site: Site, count: int) -> None:
        self._bench, self._site = bench, site
        root = bench.directory / f"p8-git-{count}"
        self._clones = {f"host{number:03}": root / f"host{number:03}" for number in range(count)}
        hosts = {name: {"ansible_connection": "local"} for name in self._clones}
        self._inventory = bench.write(f"p8-{count}.yml", yaml.safe_dump({"all": {"hosts": hosts}}))
        self._root = root
        self.forks = self._best_forks()

    def side(self) -> Side:
        """A side whose figure is the time of an entire run."""
        return _turns(self._site, lambda commit_id: self._deploy(commit_id, self.forks))

    def _best_forks(self) -> int:
        """The number of forks, of those in `FORKS`, with which a run is fastest."""
        if len(self._clones) == 1 or self._bench.quick:
            return min(len(self._clones), 5)
        self._deploy(self._site.commit(0), 5)
        return min(FORKS, key=lambda forks: self._deploy(self._site.commit(0), forks)[0])

    def _deploy(self, commit_id: str, forks: int) -> tuple[float, set[str]]:
        task = {"repo": self._site.url, "dest": f"{self._root}/{{{{ inventory_hostname }}}}", "version": commit_id}
        play = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.git": task}]}]
        playbook = self._bench.write("p8-git-play.yml", yaml.safe_dump(play))
        begun = time.perf_counter()
        self._bench.ansible("ansible-playbook", "-i", self._inventory, "--forks", forks, playbook)
        seconds = time.perf_counter() - begun
        return seconds, {checksum(clone) for clone in self._clones.values()}


def _first(bench: Workbench, site: Site) -> Side:
    """A side in which an agent deploys its first release."""
    turns = itertools.count()

    def deploy(commit_id: str) -> tuple[float, set[str]]:
        with Fleet.started(bench, f"p8-first-{next(turns)}", 1) as fleet:
            return fleet.deploy(site.url, commit_id), fleet.trees()

    return _turns(site, deploy)


def _pull(bench: Workbench, site: Site) -> Side:
    """A side in which `ansible-pull` deploys into a new directory."""
    turns = itertools.count()

    def deploy(commit_id: str) -> tuple[float, set[str]]:
        host = bench.directory / f"p8-pull-{next(turns)}"
        host.mkdir()
        place = host / PLACE
        words = (
            "--url",
            site.url,
            "--checkout",
            commit_id,
            "--directory",
            host / "clone",
            "--extra-vars",
            f"place={place}",
        )
        begun = time.perf_counter()
        bench.ansible("ansible-pull", *words, "--inventory", "localhost,", "local.yml")
        seconds = time.perf_counter() - begun
        return seconds, {checksum(place)}

    return _turns(site, deploy)
