"""kill -9 at every step of a deployment: the host stays intact, and converges when the agent is started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.support import trees
from faults.support.host import Host
from faults.support.ledger import COMMITS
from faults.support.stepping import LONGEST, Point, Stepper
from support.agent import SOURCE
from support.repository import GitRepository
from support.waiting import wait_for
from zoo_watcher.config.config import Config
from zoo_watcher.releases.apply_process import stage_job
from zoo_watcher.wire.records import Release

Hosts = Callable[..., Host]
PYTHON = [sys.executable, "-m", "zoo_watcher"]
AGENT_CALLS = (
    "mkdir",
    "rename",
    "symlink",
    "link",
    "unlink",
    "fsync",
    "fchmod",
    "flock",
    "vfork",
    "write",
    "sendto",
    "kill",
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}


class Stage:
    """A host with one release live, whose directories can be reset to that state, and a second release published."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.saved = directory / "saved"
        self.log = directory / "strace.log"
        self.old = self._commit_old(host.origin)
        host.start().settle(self.old)
        host.agent.end()
        (host.agent.base / ".zoo/status.json").unlink()
        shutil.copytree(host.agent.base, self.saved, symlinks=True)
        self.new = self._commit_new(host.origin)
        self.generation = host.publish(self.new)

    @staticmethod
    def _commit_old(origin: GitRepository) -> str:
        (origin.path / "current").symlink_to("pages/1.html")
        program = origin.path / "run.sh"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        return origin.commit({f"pages/{number}.html": f"page {number}\n" for number in range(6)})

    @staticmethod
    def _commit_new(origin: GitRepository) -> str:
        (origin.path / "current").unlink()
        (origin.path / "current").symlink_to("pages/2.html")
        return origin.commit({"index.html": "two\n", "pages/1.html": None, "pages/new/deep.html": "deep\n"})

    @property
    def job(self) -> str:
        """The job that the agent would give to its apply process."""
        config = Config.from_file(str(self.host.agent.configure()))
        release = Release(self.host.origin.url, self.new, "site")
        return json.dumps(stage_job(config, release, [self.old]))

    def reset(self) -> None:
        """Reset the host's directories."""
        shutil.rmtree(self.host.agent.base, ignore_errors=True)
        shutil.copytree(self.saved, self.host.agent.base, symlinks=True)

    def empty(self) -> None:
        """Make the host one that has never had a release."""
        shutil.rmtree(self.host.agent.base, ignore_errors=True)

    def check_staged(self) -> None:
        """Check that every release directory is the complete commit that it is named after."""
        for path in (self.host.agent.base / ".zoo/releases").glob("*"):
            self.host.ledger.judge(COMMITS, trees.difference(path, self.host.origin.path, path.name))

    def check_killed(self, *live: str | None) -> None:
        """Check that the host of a killed agent has one of these commits live, and converges after a restart."""
        self.check_staged()
        self.host.check_live(*live)
        self.host.start()
        self.host.settle(self.new, self.generation)
        self.check_staged()
        assert self.host.agent.end() == 0


@pytest.fixture
def stage(host: Hosts, tmp_path: Path) -> Stage:
    """The host and the states of its directories."""
    if not shutil.which("strace"):
        pytest.skip("there is no strace here")
    return Stage(host(), tmp_path)


def spread(points: list[Point], most: dict[str, int]) -> list[Point]:
    """The points, but of each call in `most` at most that many, evenly spread."""
    chosen: list[Point] = []
    for call in Counter(point.call for point in points):
        these = [point for point in points if point.call == call]
        limit = min(most.get(call, len(these)), len(these))
        chosen += [these[index * len(these) // limit] for index in range(limit)]
    return chosen


def step_through(
    stage: Stage, stepper: Stepper, begin: Callable[[], None], points: list[Point], *live: str | None
) -> int:
    """Kill the child at each of the points in turn, and return how many were reached."""
    reached = 0
    for point in points:
        begin()
        said = [json.loads(line) for line in stepper.run(stage.job, point)]
        if not stepper.killed:
            continue
        if said and "error" in said[-1]:
            assert said[-1]["kind"] != "final", f"{point}: a killed git is no reason to give up: {said[-1]}"
        reached += 1
        stage.host.ledger.kill_at(str(point))
        stage.check_killed(*live)
    return reached


@pytest.mark.storm
def test_an_apply_process_killed_at_any_call_leaves_the_old_release_live_and_the_agent_converges(stage: Stage) -> None:
    stepper = Stepper([*PYTHON, "apply"], stage.log, ENVIRONMENT, alone=True)
    stage.reset()
    assert "done" in stepper.run(stage.job)[-1]
    points = spread(stepper.points("apply process"), {"write": 6, "vfork": 4, "unlink": 4, "unlinkat": 2})
    assert step_through(stage, stepper, stage.reset, points, stage.old) >= 25


@pytest.mark.storm
def test_an_apply_process_killed_while_it_makes_the_first_release_leaves_nothing_half_made(stage: Stage) -> None:
    stepper = Stepper([*PYTHON, "apply"], stage.log, ENVIRONMENT, alone=True)
    stage.empty()
    assert "done" in stepper.run(stage.job)[-1]
    points = stepper.points("apply process of a first release")
    points = [point for point in points if point.call in {"mkdir", "rename", "syncfs", "fsync", "chmod"}]
    assert step_through(stage, stepper, stage.empty, spread(points, {"fsync": 1, "chmod": 1, "mkdir": 4}), None) >= 8


@pytest.mark.storm
def test_a_git_killed_at_any_call_is_tried_again(stage: Stage) -> None:
    stepper = Stepper([*PYTHON, "apply"], stage.log, ENVIRONMENT, alone=False)
    stage.reset()
    assert "done" in stepper.run(stage.job)[-1]
    points = [point for point in stepper.points("apply process", "git") if point.program == "git"]
    points = spread(points, {"write": 4, "unlink": 3, "vfork": 2})
    assert step_through(stage, stepper, stage.reset, points, stage.old) >= 8


@pytest.mark.storm
def test_an_agent_killed_at_any_call_leaves_the_old_or_the_new_release_live_and_converges(stage: Stage) -> None:
    stepper = agent_stepper(stage)
    stage.reset()
    run_agent(stage, stepper, None, "active")
    points = spread(stepper.points("agent"), {"write": 3, "sendto": 6, "vfork": 2, "fsync": 5, "rename": 7})
    reached = 0
    for point in points:
        stage.reset()
        if run_agent(stage, stepper, point, "active"):
            reached += 1
            stage.host.ledger.kill_at(str(point))
            stage.check_killed(stage.old, stage.new)
    assert reached >= 20


def test_an_agent_killed_at_any_call_during_a_rollback_ends_with_the_previous_release(stage: Stage) -> None:
    page = stage.host.agent.base / "site/index.html"
    check = {"type": "command", "command": ["/bin/sh", "-c", f"! grep two {page}"], "interval": 0.05, "timeout": 5}
    stage.host.agent.config["services"][0]["check"] = check
    stage.host.agent.config["health_timeout"] = 0.3
    stepper = agent_stepper(stage)
    stage.reset()
    run_agent(stage, stepper, None, "rolled_back")
    points = [point for point in stepper.points("agent that goes back") if point.call in {"rename", "symlink", "fsync"}]
    reached = 0
    for point in spread(points, {"rename": 6, "fsync": 4}):
        stage.reset()
        if run_agent(stage, stepper, point, "rolled_back"):
            reached += 1
            stage.host.ledger.kill_at(str(point))
            check_went_back(stage)
    assert reached >= 8


def check_went_back(stage: Stage) -> None:
    """Check that the host of a killed agent has either release live, and after a restart ends with the old one."""
    stage.check_staged()
    stage.host.check_live(stage.old, stage.new)
    said = stage.host.agent.base / ".zoo/status.json"
    said.unlink(missing_ok=True)  # the killed agent's
    stage.host.start()
    wait_for(lambda: '"state": "rolled_back"' in read(said), f"it has gone back: {stage.host.agent.log}")
    stage.host.check_live(stage.old)
    stage.host.check_registered()
    assert stage.host.agent.end() == 0


def agent_stepper(stage: Stage) -> Stepper:
    """Steps through the calls of the agent's own threads."""
    words = [*PYTHON, "run", "--config", str(stage.host.agent.configure())]
    return Stepper(words, stage.log, ENVIRONMENT, alone=True, calls=AGENT_CALLS)


def run_agent(stage: Stage, stepper: Stepper, point: Point | None, state: str) -> bool:
    """Run the agent until it is killed or has reached a state, then end it. Returns whether strace has killed it."""
    process = subprocess.Popen(stepper.command(point), env=ENVIRONMENT)
    agent = stage.host.agent
    logged = f'"state": "{state}"'
    try:
        wait_for(
            lambda: process.poll() is not None or logged in read(agent.base / ".zoo/status.json"),
            f"the agent is killed or {state}",
        )
    finally:
        if process.poll() is None:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for child in children.split():
                os.kill(int(child), signal.SIGTERM)
        process.wait(LONGEST)
    return stepper.killed


def read(path: Path) -> str:
    """The content of a file, empty if there is none."""
    return path.read_text() if path.exists() else ""
