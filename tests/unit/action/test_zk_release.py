"""What the controller's part of zk_release does, and how long a later turn waits for a connection."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.zoo.deploy.plugins.action.zk_release import ActionModule, attendant_of, lock_timeout_of
from ansible_collections.zoo.deploy.plugins.modules import zk_release
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.attendant import Attendant
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_show import Show

ROLLOUT: dict[str, Any] = {
    "phase": "paused",
    "waits_for": "gates",
    "moves": 2,
    "step": 1,
    "steps": 2,
    "counts": {},
    "hosts": {},
    "says": "it is paused",
    "reason": "",
    "by": "",
    "since": "",
    "from": None,
    "fleet": 1,
    "plan": {},
}
WAITS: dict[str, Any] = {
    "changed": True,
    "generation": 7,
    "commit_id": "0" * 40,
    "rollout": ROLLOUT,
    "lost_agents": [],
    "agents": [{"name": "web1", "state": "waiting"}],
    "failed_agents": [],
    "pending_agents": ["web1"],
}
DONE = {**WAITS, "rollout": {**ROLLOUT, "phase": "done", "waits_for": ""}, "pending_agents": []}
PASSES = {"name": "smoke", "command": ["/bin/echo", "all is well"]}
FAILS = {"name": "smoke", "command": ["/bin/sh", "-c", "echo no cart; exit 1"]}
LOCKED = {"failed": True, "lock": {"says": "locked by bob"}, "msg": "locked by bob"}


def attended(
    answers: Iterable[dict[str, Any]], silent: bool = False, **options: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result of a task whose module gives these answers, and what the module was asked."""
    action = ActionModule.__new__(ActionModule)
    action._task = SimpleNamespace(check_mode=False, args=options)
    calls: list[dict[str, Any]] = []
    left = iter(answers)

    def run(changed: dict[str, Any]) -> dict[str, Any]:
        calls.append(changed)
        return dict(next(left))

    attendant = attendant_of(options, silent=silent)
    return action._attended(options, attendant, run, run, Show("/app", silent=True)), calls


def test_the_documentation_says_that_async_is_refused() -> None:
    attributes = yaml.safe_load(zk_release.DOCUMENTATION)["attributes"]
    assert attributes["async"]["support"] == ("full" if ActionModule._supports_async else "none")


@pytest.mark.parametrize(("left", "seconds"), [(290.0, 10.0), (4.0, 4.0), (0.01, 1.0)])
def test_a_connection_is_waited_for_no_longer_than_the_fleet(left: float, seconds: float) -> None:
    published = {"generation": 7, "agents": [], "left": left}
    options = {"connect_timeout": 10.0, "wait": True}
    assert zk_release.in_time({**options, "_published": published})["connect_timeout"] == seconds
    assert zk_release.in_time({**options, "_published": None})["connect_timeout"] == 10.0


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 0.0),
        ({"lock_timeout": None}, 0.0),
        ({"lock_timeout": 600}, 600.0),
        ({"lock_timeout": "1.5"}, 1.5),
        # The module itself refuses these, so they are passed on to it.
        ({"lock_timeout": "soon"}, 0.0),
        ({"lock_timeout": -1}, 0.0),
        ({"lock_timeout": "nan"}, 0.0),
        ({"lock_timeout": 1e10}, 0.0),
        ({"lock_timeout": [5]}, 0.0),
    ],
)
def test_the_timeout_for_a_lock_is_read_and_an_invalid_one_is_left_to_the_module(
    given: dict[str, Any], seconds: float
) -> None:
    assert lock_timeout_of(given) == seconds


def test_a_rollout_that_has_failed_at_its_gates_is_not_waited_for() -> None:
    superseded = {**WAITS, "failed": True, "timed_out": False, "msg": "another release was published meanwhile"}
    result, calls = attended([WAITS, superseded], gates=[PASSES])
    assert (result["failed"], result["msg"]) == (True, "another release was published meanwhile")
    assert len(calls) == 2


def test_a_gate_that_fails_fails_a_promotion_that_waits_for_nothing() -> None:
    halted = {**WAITS, "rollout": {**ROLLOUT, "phase": "halted", "waits_for": ""}}
    result, calls = attended([WAITS, halted], state="promoted", wait=False, gates=[FAILS])
    assert (result["failed"], result["msg"]) == (True, "gate smoke failed: no cart")
    assert calls[1]["_command"]["verb"] == "halt"


def test_while_somebody_holds_the_lock_no_gate_is_asked_and_that_is_reported_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    locked = {**WAITS, "_lock": "locked by bob: migration"}
    result, calls = attended([locked, locked, WAITS, DONE], gates=[PASSES])
    assert [(call["_locked_out"], bool(call["_command"])) for call in calls[1:]] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    assert capsys.readouterr().out.count("locked by bob: migration; the gates are asked once it is unlocked") == 1
    assert "_lock" not in result


def test_while_hosts_prove_the_release_once_more_no_gate_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Its earlier answer opens nothing either: it is asked again afterwards."""
    refused = {**WAITS, "_note": "web1 proves the release once more", "_proving": ["web1"]}
    still = {**WAITS, "_proving": ["web1"]}
    result, calls = attended([WAITS, refused, still, still, WAITS, DONE], gates=[PASSES])
    assert [(call["_proving"], bool(call["_command"])) for call in calls[1:]] == [
        ([], True),
        (["web1"], False),
        (["web1"], False),
        (["web1"], False),
        ([], True),
    ]
    said = capsys.readouterr().out
    assert (said.count("gate smoke passed"), said.count("web1 proves the release once more")) == (2, 1)
    assert "_proving" not in result


def test_answers_of_gates_from_before_a_lock_promote_nothing_after_it() -> None:
    result, calls = attended([WAITS, LOCKED, WAITS, DONE], state="promoted", lock_timeout=60, gates=[PASSES])
    assert not result.get("failed")
    assert [call.get("lock_timeout") for call in calls] == [None, 0, None, 0]
    assert [bool(call.get("_asks")) for call in calls] == [True, False, True, False]


def test_the_answers_of_gates_are_not_shown_by_a_silent_task(capsys: pytest.CaptureFixture[str]) -> None:
    attended([WAITS, DONE], silent=True, gates=[PASSES])
    assert "all is well" not in capsys.readouterr().out
    attended([WAITS, DONE], gates=[PASSES])
    assert "all is well" in capsys.readouterr().out


def test_answers_of_gates_about_one_release_promote_no_other() -> None:
    result, calls = attended([WAITS, DONE], state="promoted", gates=[PASSES], only_if="0000000")
    assert not result.get("failed")
    assert (calls[1]["only_if"], calls[1]["_command"]["moves"]) == ("7", 2)


def test_with_nothing_to_promote_no_step_is_opened_whose_gates_were_not_asked() -> None:
    running = {**WAITS, "changed": False, "rollout": {**ROLLOUT, "phase": "running", "waits_for": ""}}
    _result, calls = attended([running, DONE], state="promoted", gates=[PASSES])
    assert (calls[1]["only_if"], calls[1]["_command"]) == ("7", {"verb": "promote", "by": "", "reason": "", "moves": 2})


@pytest.mark.parametrize(
    ("result", "failed"),
    [
        ({"timed_out": True, "failed": False, "rollout": {"step": 2}}, True),
        ({"timed_out": False, "failed": False, "rollout": {"step": 2}}, False),
        ({"timed_out": True, "failed": True, "msg": "not proved in time by 1 of 1"}, True),
    ],
)
def test_a_wait_that_is_over_while_gates_are_to_be_asked_has_failed(result: dict[str, Any], failed: bool) -> None:
    done = Attendant("/app").at_end(result)
    assert done["failed"] == failed
    assert done is result or done["msg"].startswith("not proved in time: step 2 still waits for its gates; promote it")
