"""The file of a page: complete at every moment, and refused in one line if it can't be written."""

from __future__ import annotations

import os
import re
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.zoo.deploy.plugins.action.zk_fleet_info import ActionModule
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import UNANSWERED
from ansible_collections.zoo.deploy.plugins.plugin_utils.page import output
from ansible_collections.zoo.deploy.plugins.plugin_utils.page.output import FleetFileError, FleetOutput
from support.fleet_results import APP, FleetState, agent, fleet_state

STATE = FleetState([agent("web1")])


def output_to(path: Path | str) -> FleetOutput:
    """An output of the fleet to a path."""
    return FleetOutput(str(path), "html", APP, STATE.releases)


def write(made: FleetOutput, fleet: Any = None) -> bool:
    """Write a fleet after one look."""
    made.look(fleet or STATE.fleet)
    return made.finish(fleet or STATE.fleet)


def test_a_file_replaces_the_existing_one_and_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "fleet.html"
    file.write_text("before")
    file.chmod(0o604)
    with file.open() as reader:
        write(output_to(file))
        assert reader.read() == "before"
    assert "web1" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o604
    assert [*tmp_path.iterdir()] == [file]


def test_a_new_file_has_the_mode_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(output_to(tmp_path / "fleet.html"))
    finally:
        os.umask(before)
    assert (tmp_path / "fleet.html").stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "link.html"
    link.symlink_to(tmp_path / "fleet.html")
    write(output_to(link))
    assert link.is_symlink()
    assert "web1" in (tmp_path / "fleet.html").read_text()


def test_an_impossible_path_is_refused_before_anything_is_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(FleetFileError, match=f"zoo_output: expected the path of a file, and {tmp_path} is something"):
        output_to(tmp_path)
    with pytest.raises(FleetFileError, match="zoo_output: expected the path of a file, and /dev/null is something"):
        output_to("/dev/null")
    with pytest.raises(FleetFileError, match=f"zoo_output: {tmp_path}/there is not a directory that"):
        output_to(tmp_path / "there" / "fleet.html")


def test_a_full_disk_leaves_the_existing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_old: str, _new: str) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "fleet.html"
    file.write_text("before")
    made = output_to(file)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FleetFileError, match=f"zoo_output: {file}: No space left on device"):
        write(made)
    made.look({**STATE.fleet, "timed_out": True})
    assert file.read_text() == "before"
    assert [*tmp_path.iterdir()] == [file]


def test_each_turn_of_a_wait_writes_a_page_that_loads_itself_again_and_the_end_one_that_does_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "fleet.html"
    made = output_to(file)
    made.look(fleet_state("running", 5).fleet)
    assert " data-reload=" in file.read_text()
    assert made.finish(fleet_state("halted", 5).fleet)
    assert " data-reload=" not in file.read_text()
    assert "the rollout is halted" in file.read_text()


@pytest.mark.parametrize(("given", "while_written", "at_last"), [(None, 10, 0), (30, 30, 30), (0, 0, 0)])
def test_the_seconds_after_which_a_page_loads_itself_again_can_be_chosen(
    tmp_path: Path, given: int | None, while_written: int, at_last: int
) -> None:
    made, fleet = FleetOutput(str(tmp_path / "x"), "html", APP, {}, given), fleet_state("running", 5).fleet
    seconds = []
    for step in (made.look, made.finish):
        step(fleet)
        found = re.search(r' data-reload="(\d+)"', (tmp_path / "x").read_text())
        seconds.append(int(found[1]) if found else 0)
    assert seconds == [while_written, at_last]


@pytest.mark.parametrize("outage", [{"msg": "can't reach ZooKeeper", "timed_out": True}, {"msg": UNANSWERED}])
def test_a_page_is_as_old_as_the_last_turn_that_has_seen_the_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outage: dict[str, Any]
) -> None:
    hours = iter([12, 13])
    clock = SimpleNamespace(now=lambda _zone: datetime(2026, 11, 29, next(hours), tzinfo=timezone.utc))
    monkeypatch.setattr(output, "datetime", clock)
    made, fleet = output_to(tmp_path / "fleet.html"), fleet_state("running", 5).fleet
    made.look(fleet)
    made.look({**fleet, **outage} if "timed_out" not in outage else outage)
    assert made.finish({**fleet, **outage})
    assert 'data-read-at="2026-11-29T12:00:00+00:00"' in (tmp_path / "fleet.html").read_text()


def test_a_fleet_that_was_not_read_writes_nothing(tmp_path: Path) -> None:
    assert not write(output_to(tmp_path / "fleet.html"), {"msg": "no connection", "timed_out": True})
    assert [*tmp_path.iterdir()] == []


def test_each_turn_has_what_is_published_by_then_and_what_was_read_last_in_an_outage(tmp_path: Path) -> None:
    file, fleet = tmp_path / "fleet.html", fleet_state("running", 5).fleet
    answers = iter([{**STATE.releases, "lock": {"says": "locked by ann"}}, {}, STATE.releases])
    made = FleetOutput(str(file), "html", APP, STATE.releases, None, lambda: next(answers))
    said = []
    for _turn in range(3):
        made.look(fleet)
        said.append("locked by ann" in file.read_text())
    assert said == [True, True, False]


@pytest.fixture
def action(monkeypatch: pytest.MonkeyPatch) -> ActionModule:
    """The action of the playbook's task."""
    monkeypatch.setattr(ActionBase, "run", lambda *_words: {})
    monkeypatch.setattr(ActionModule, "_execute_module", lambda *_words, **_keys: dict(STATE.fleet))
    made = ActionModule.__new__(ActionModule)
    made._task = SimpleNamespace(async_val=0, no_log=False, check_mode=False)
    return made


def task(action: ActionModule, path: Path, **keys: Any) -> dict[str, Any]:
    """Run the task with an output, and return its result."""
    wanted = {"path": str(path), "format": "html", "releases": STATE.releases}
    action._task.args = {"wait_for_release": "desired", "wait_timeout": 0, "_output": wanted, **keys}
    return action.run()


def test_the_task_returns_where_it_has_written(action: ActionModule, tmp_path: Path) -> None:
    assert task(action, tmp_path / "fleet.html")["written_to"] == str(tmp_path / "fleet.html")
    assert (tmp_path / "fleet.html").exists()


@pytest.mark.parametrize(
    "answer", [{**STATE.releases, "lock": {"says": "locked by ann"}}, {"failed": True, "msg": "no"}]
)
def test_only_a_wait_reads_again_what_is_published(
    action: ActionModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    asked = []

    def execute(_self: Any, name: str, options: dict[str, Any], **_keys: Any) -> dict[str, Any]:
        asked.append((name.rpartition(".")[2], sorted(options)))
        return dict(STATE.fleet) if name.endswith("fleet_info") else answer

    monkeypatch.setattr(ActionModule, "_execute_module", execute)
    task(action, tmp_path / "fleet.html")
    assert [name for name, _options in asked] == ["zk_fleet_info"]
    assert "locked by ann" not in (tmp_path / "fleet.html").read_text()
    task(action, tmp_path / "fleet.html", app=APP, hosts="zk1", wait_timeout=9)
    assert asked[2:] == [("zk_release_info", ["app", "hosts"])]
    assert ("locked by ann" in (tmp_path / "fleet.html").read_text()) == ("lock" in answer)


def test_in_check_mode_nothing_is_written(action: ActionModule, tmp_path: Path) -> None:
    action._task.check_mode = True
    assert "written_to" not in task(action, tmp_path / "fleet.html")
    assert [*tmp_path.iterdir()] == []


def test_an_unwritable_file_ends_the_task_with_one_line(action: ActionModule, tmp_path: Path) -> None:
    with pytest.raises(
        AnsibleActionFail, match=r"zoo_output: .*/there is not a directory that a file can be written to"
    ):
        task(action, tmp_path / "there" / "fleet.html")
