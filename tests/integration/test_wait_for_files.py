"""zk_fleet_info waits for the files of what zk_znode wrote: one run of many tasks, of which each test checks some.

Two agents keep files: `easy` the value of `limits` and the entire configuration as JSON, `picky` the value of `limits`
if it is a number. After a write the run reads easy's file from the disk, as the next task of a play would.
"""

from __future__ import annotations

import base64
import json
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from support.client import connected
from support.ensemble import Ensemble
from support.tasks import Run, run_tasks
from support.waiting import wait_for

PATIENCE = 120
"""Seconds in which a playbook on a busy machine reaches its task."""
NUMBER = ["sh", "-c", "grep -qx '[0-9]*' \"$0\" || { echo no number; exit 3; }", "%s"]


@dataclass(frozen=True)
class Story:
    """The run, and its surroundings."""

    run: Run
    app: str
    etc: Path

    def __getitem__(self, name: str) -> dict[str, Any]:
        """A task's result."""
        return self.run[name]

    @property
    def limits(self) -> str:
        """The znode of which both agents keep a file."""
        return f"{self.app}-config/limits"

    def on_disk(self, name: str) -> str:
        """The content of a file of `easy` right after the task `name`."""
        return base64.b64decode(self[f"{name}_disk"]["content"]).decode()


class Book:
    """The tasks of a playbook, added one by one."""

    def __init__(self, hosts: str, app: str, etc: Path) -> None:
        self.common = {"hosts": hosts, "app": app, "wait_timeout": 30}
        self.config = f"{app}-config"
        self.etc = etc
        self.tasks: list[dict[str, Any]] = []

    def write(self, register: str, *, disk: str = "", **options: Any) -> None:
        """Add a zk_znode task, a wait for the files, and a read of the file `disk` if one is named."""
        waiting = {
            name: options.pop(name) for name in ("min_agents", "max_failures", "wait_timeout") if name in options
        }
        given = {"hosts": self.common["hosts"], **options}
        self.tasks.append({"zoo.deploy.zk_znode": given, "register": f"{register}_write"})
        paths = [znode["path"] for znode in options.get("znodes", [options])]
        self.info(register, wait_for_files=paths, **{"min_agents": 2, **waiting})
        if disk:
            look = {"src": str(self.etc / disk)}
            self.tasks.append({"ansible.builtin.slurp": look, "register": f"{register}_disk"})

    def info(self, register: str, **options: Any) -> None:
        """Add a zk_fleet_info task."""
        self.tasks.append({"zoo.deploy.zk_fleet_info": {**self.common, **options}, "register": register})


def tasks(book: Book) -> None:
    """Add all tasks of the run."""
    limits, deep = f"{book.config}/limits", f"{book.config}/db/host"
    book.write("made", disk="easy", path=limits, value="100", recursive=True)
    book.write("again", path=limits, value="100")
    book.write("changed", disk="easy", path=limits, value="200")
    book.write("deep", path=deep, value="db1", recursive=True, min_agents=1, disk="whole")
    book.write("deep_gone", path=f"{book.config}/db", state="absent", recursive=True, min_agents=1, disk="whole")
    book.write("deep_gone_again", path=deep, state="absent", min_agents=1)
    book.write(
        "several", disk="easy", znodes=[{"path": limits, "value": "300"}, {"path": f"{book.config}/b", "value": "c"}]
    )
    book.write("bad", path=limits, value="many")
    book.info("after_bad", wait_for_files=[limits], min_agents=2)
    book.write("bad_allowed", path=limits, value="many", max_failures=1)
    book.write("mended", disk="easy", path=limits, value="400")
    book.info("info", wait_for_files=[book.config], min_agents=2)
    book.info("info_none", wait_for_files=[f"{book.config}/none/at/all"], min_agents=1)
    book.write("nobody", path=f"{book.config}-other", value="x", wait_timeout=0.3, min_agents=1)
    book.write("nobody_needed", path=f"{book.config}-other", value="x", min_agents=0)
    book.write("gone", disk="easy", path=limits, state="absent")
    book.write("gone_again", disk="easy", path=limits, state="absent")
    book.info("bad_path", wait_for_files=["limits"])
    book.info("bad_release", wait_for_release="main")
    book.info("bad_app", wait_for_files=[limits], app="business")


@pytest.fixture(scope="module")
def story(ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The run with its three agents."""
    root = tmp_path_factory.mktemp("files")
    app, etc = f"/app/test-{uuid.uuid4().hex[:12]}", root / "etc"
    etc.mkdir()
    book = Book(ensemble.hosts, app, etc)
    tasks(book)
    limits = f"{book.config}/limits"
    easy = [
        {"znode": limits, "dest": str(etc / "easy"), "on_delete": "remove"},
        {"znode": book.config, "dest": str(etc / "whole"), "format": "json"},
    ]
    picky = [{"znode": limits, "dest": str(etc / "picky"), "validate": NUMBER}]
    with connected(ensemble.hosts) as client:
        fleet = [
            Agent(root / name, ensemble.hosts, app, client, name, {"files": files})
            for name, files in (("easy", easy), ("picky", picky), ("stranger", []))
        ]
        try:
            for agent in fleet:
                agent.start()
            for agent in fleet:
                agent.wait_live()
            yield Story(run_tasks(root, book.tasks), app, etc)
        finally:
            for agent in fleet:
                agent.end()


def error(result: dict[str, Any]) -> str:
    """The message of a failed task, which has one line and no traceback."""
    assert result["failed"], result
    message = str(result["msg"])
    assert "\n" not in message
    assert "Traceback" not in json.dumps(result)
    return message


def names(result: dict[str, Any]) -> list[str]:
    """The names of the agents in a result."""
    return [agent["name"] for agent in result["agents"]]


def test_when_the_task_ends_the_value_is_in_the_files_of_the_agents_waited_for(story: Story) -> None:
    for name, value in (("made", "100"), ("changed", "200"), ("several", "300"), ("mended", "400")):
        assert story[f"{name}_write"]["changed"]
        assert not story[name].get("failed"), story[name]
        assert names(story[name]) == ["easy", "picky"]
        assert story.on_disk(name) == value
        assert [story[name][f"{kind}_agents"] for kind in ("failed", "pending", "lost")] == [[], [], []]


def test_the_statuses_have_the_transaction_for_which_the_files_are_proved(story: Story) -> None:
    for agent in story["made"]["agents"]:
        (file,) = (one for one in agent["files"].values() if one["znode"] == story.limits)
        assert file["state"] == "current"
        assert file["mzxid"] == story["made_write"]["zxid"] <= file["zxid"]


def test_an_unchanged_value_is_waited_for_all_the_same(story: Story) -> None:
    assert not story["again_write"]["changed"]
    assert names(story["again"]) == ["easy", "picky"]


def test_a_file_of_a_subtree_is_waited_for_whatever_is_written_in_it(story: Story) -> None:
    assert names(story["deep"]) == names(story["deep_gone"]) == names(story["deep_gone_again"]) == ["easy"]
    assert "db1" in story.on_disk("deep")
    assert "db1" not in story.on_disk("deep_gone")
    assert not story["deep_gone_again_write"]["changed"]


def test_a_deletion_is_waited_for(story: Story) -> None:
    for name in ("gone", "gone_again"):
        assert story[f"{name}_write"]["changed"] == (name == "gone")
        assert names(story[name]) == ["easy", "picky"]
        assert story[f"{name}_disk"]["failed"], "on_delete is remove"


def test_an_agent_whose_validation_fails_fails_the_task_with_its_message(story: Story) -> None:
    bad = story["bad"]
    assert error(bad).startswith(f"{story.limits}: not in place on 1 of 2: {story.etc}/picky on picky is failed (")
    assert "no number" in error(bad)
    assert (bad["failed_agents"], bad["timed_out"]) == (["picky"], False)
    assert [one["agents"] for one in bad["failures"]] == [["picky"]]
    assert story.etc.joinpath("picky").read_text() == "400"
    assert error(story["after_bad"]).startswith(f"{story.limits}: not in place on 1 of 2: {story.etc}/picky on picky")
    allowed = story["bad_allowed"]
    assert not allowed.get("failed")
    assert allowed["failed_agents"] == ["picky"]


def test_the_info_waits_for_the_present_state_and_shows_the_files(story: Story) -> None:
    info = story["info"]
    assert not info.get("failed"), info
    assert not info["changed"]
    assert [info[f"{kind}_agents"] for kind in ("failed", "pending", "lost")] == [[], [], []]
    assert names(info) == ["easy", "picky"]
    assert [len(agent["files"]) for agent in info["agents"]] == [2, 1]
    assert not story["info_none"].get("failed"), "a subtree that has it not is what it is to be"


def test_agents_without_such_a_file_are_not_waited_for(story: Story) -> None:
    assert error(story["nobody"]) == (
        f"{story.app}-config-other: published, but timed out waiting for agents with a file from there: "
        f"0 live, at least 1 required"
    )
    assert (story["nobody_needed"]["agents"], story["nobody_needed"].get("failed")) == ([], False)


def test_invalid_options_are_a_one_line_error(story: Story) -> None:
    assert error(story["bad_path"]) == 'path: expected one that begins with /, got "limits"'
    said = 'wait_for_release: expected desired, a commit or a generation, got "main"'
    assert error(story["bad_release"]) == said
    assert error(story["bad_app"]).startswith("path: expected one that begins with /")


@pytest.fixture
def held_back(agents: Callable[..., Agent], app: str, tmp_path: Path) -> Callable[[str], Agent]:
    """Starts an agent that acts on its file at most once an hour, and is therefore pending after the second value."""

    def make(name: str) -> Agent:
        file = {"znode": f"{app}-config", "dest": str(tmp_path / f"{name}.conf")}
        return agents(name, files=[{**file, "on_change": ["true"], "min_interval": 3600}]).start().wait_live()

    return make


def write(ensemble: Ensemble, app: str, value: str, seconds: float = 60) -> list[dict[str, Any]]:
    """The tasks that write a value and wait for the files."""
    path = f"{app}-config"
    waiting = {"hosts": ensemble.hosts, "app": app, "wait_for_files": [path], "wait_timeout": seconds}
    return [
        {"zoo.deploy.zk_znode": {"hosts": ensemble.hosts, "path": path, "value": value}, "register": f"write_{value}"},
        {"zoo.deploy.zk_fleet_info": waiting, "register": f"value_{value}"},
    ]


def watched(ensemble: Ensemble, path: str) -> bool:
    """Whether any client watches a znode."""
    return any(f"{path}\n" in member.ask("wchp") for member in ensemble.members)


def state(agent: Agent) -> str:
    """The state of an agent's only file."""
    return next(iter(agent.status["files"].values()))["state"] if agent.status.get("files") else "unknown"


def test_an_agent_that_is_not_done_in_time_is_named_with_the_reason(
    ensemble: Ensemble, held_back: Callable[[str], Agent], app: str, tmp_path: Path
) -> None:
    held_back("slow")
    run = run_tasks(tmp_path, [*write(ensemble, app, "one"), *write(ensemble, app, "two", 0.5)])
    assert not run["value_one"].get("failed"), run["value_one"]
    said = error(run["value_two"])
    assert said.startswith(f"{app}-config: not proved in time by 1 of 1: {tmp_path}/slow.conf on slow is pending")
    assert (run["value_two"]["pending_agents"], run["value_two"]["timed_out"]) == (["slow"], True)


def test_an_agent_that_dies_is_no_longer_waited_for_and_is_named(
    ensemble: Ensemble, agents: Callable[..., Agent], held_back: Callable[[str], Agent], app: str, tmp_path: Path
) -> None:
    doomed = held_back("doomed")
    agents("good", files=[{"znode": f"{app}-config", "dest": str(tmp_path / "good.conf")}]).start().wait_live()

    def kill() -> None:
        wait_for(lambda: state(doomed) == "current", "it has the first value", PATIENCE)
        wait_for(lambda: state(doomed) == "pending", "it holds back the second", PATIENCE)
        wait_for(lambda: watched(ensemble, f"{app}/agents/doomed"), "the task waits", PATIENCE)
        doomed.end(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    run = run_tasks(tmp_path, [*write(ensemble, app, "one"), *write(ensemble, app, "two")])
    killer.join()
    assert not run["value_two"].get("failed"), run["value_two"]
    assert (names(run["value_two"]), run["value_two"]["lost_agents"]) == (["good"], ["doomed"])
    assert "live at first and gone before the end: doomed" in run.output


def test_an_election_in_the_middle_of_the_wait_is_waited_out(
    ensemble: Ensemble, agents: Callable[..., Agent], app: str, tmp_path: Path
) -> None:
    dest = tmp_path / "a.conf"
    agent = agents(files=[{"znode": f"{app}-config", "dest": str(dest)}])

    def upset() -> None:
        wait_for(lambda: watched(ensemble, f"{app}/agents"), "the task waits", PATIENCE)
        leader = ensemble.leader
        leader.kill()
        leader.start()
        agent.start()

    trouble = threading.Thread(target=upset)
    trouble.start()
    run = run_tasks(tmp_path, write(ensemble, app, "one"))
    trouble.join()
    assert not run["value_one"].get("failed"), run["value_one"]
    assert dest.read_text() == "one"
