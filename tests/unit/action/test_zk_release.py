"""How the controller's part of zk_release spends the time that the fleet is given."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any

import pytest
import yaml
from kazoo.exceptions import ConnectionClosedError

from ansible_collections.zoo.deploy.plugins.action.zk_release import ActionModule, wait_on
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.modules import zk_release

AGENT = {"name": "slow", "state": "checking"}
WAITS: dict[str, Any] = {
    "changed": True,
    "commit_id": "0" * 40,
    "generation": 7,
    "agents": [AGENT],
    "failed_agents": [],
    "pending_agents": ["slow"],
    "lost_agents": [],
    "timed_out": True,
    "failed": True,
    "msg": "not proved in time by 1 of 1: slow is checking",
}
DONE = {"agents": [{**AGENT, "state": "active"}], "failed_agents": [], "pending_agents": [], "timed_out": False}
OUTAGE = {"failed": True, "msg": "can't reach ZooKeeper at zk1:2181 within 10 s", "timed_out": True}


class Clock:
    """A clock that moves only while somebody waits, and the module, with the answers that it will give.

    The module takes the time that it is given, or `takes` seconds.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, answers: Iterable[dict[str, Any]], takes: float | None = None
    ) -> None:
        self.now = 1000.0
        self.calls: list[dict[str, Any]] = []
        self.pauses: list[float] = []
        self._answers = iter(answers)
        self._takes = takes
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def run(self, options: dict[str, Any]) -> dict[str, Any]:
        """The module's next answer."""
        self.calls.append(options)
        self.now += options["wait_timeout"] if self._takes is None else self._takes
        return next(self._answers)

    def sleep(self, seconds: float) -> None:
        """Wait without the module."""
        self.pauses.append(seconds)
        self.now += seconds

    @property
    def seconds(self) -> list[float]:
        """How long each call was to wait."""
        return [call["wait_timeout"] for call in self.calls]


def test_a_fleet_that_is_too_small_is_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch, [{**WAITS, **DONE}])
    wait_on({**WAITS, **DONE, "timed_out": True, "elapsed": 10.0}, 300.0, clock.run)
    assert capsys.readouterr().out == f"   10 s  1 of 1 agents have proved {'0' * 10}; fewer than min_agents\n"


def test_each_reason_is_said_once_when_it_arrives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def waits(*reasons: str) -> dict[str, Any]:
        agents = [
            {
                "name": f"web{number}",
                "state": "fetching",
                "waitsFor": "fetch",
                "message": f"{reason}; tried again in 4 s",
            }
            for number, reason in enumerate(reasons)
        ]
        names = [str(agent["name"]) for agent in agents]
        return {**WAITS, "agents": agents, "pending_agents": names, "elapsed": 1.0}

    clock = Clock(monkeypatch, [waits("no route", "no route", "no such host"), DONE], takes=2.0)
    wait_on(waits("no route", "no route"), 300.0, clock.run)
    assert [call["_told"] for call in clock.calls] == [["no route"], ["no route", "no such host"]]
    said = capsys.readouterr().out
    assert said.count("web0 and web1: no route\n") == said.count("web2: no such host\n") == 1


def test_how_long_nobody_could_go_on_is_known_to_the_next_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = {**WAITS, "agents": [{**AGENT, "waitsFor": "fetch"}]}
    clock = Clock(monkeypatch, [stuck, stuck, WAITS, stuck, DONE])
    wait_on({**stuck, "elapsed": 1.0}, 300.0, clock.run)
    assert [call["_published"]["stuck"] for call in clock.calls] == [0.0, 10.0, 20.0, 0.0, 0.0]


def test_no_seconds_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [])
    assert wait_on({**WAITS, "elapsed": 0.1}, 0.0, clock.run)["msg"] == WAITS["msg"]
    assert clock.calls == []


def test_all_that_is_waited_is_the_budget_from_the_publication_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [WAITS, WAITS])
    result = wait_on({**WAITS, "elapsed": 10.0}, 25.0, clock.run)
    assert clock.seconds == [10.0, 5.0]
    assert (result["elapsed"], result["timed_out"], result["failed"]) == (25.0, True, True)


def test_what_one_wait_saw_the_next_one_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [{**DONE, "lost_agents": ["gone", "slow"], "warnings": ["live at first: gone"]}])
    first = {**WAITS, "elapsed": 10.0, "lost_agents": ["gone"], "warnings": ["another"]}
    result = wait_on(first, 300.0, clock.run)
    assert clock.calls[0]["_published"] == {
        "generation": 7,
        "commit_id": "0" * 40,
        "agents": ["gone", "slow"],
        "left": 290.0,
        "stuck": 0.0,
    }
    assert result["lost_agents"] == ["gone", "slow"]
    assert result["warnings"] == ["another", "live at first: gone"]
    assert (result["changed"], result["failed"], "msg" in result) == (True, False, False)


def test_an_outage_is_outlasted_until_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [OUTAGE, OUTAGE, {**DONE, "lost_agents": []}])
    result = wait_on({**WAITS, "elapsed": 10.0}, 60.0, clock.run)
    assert (result["failed"], result["agents"][0]["state"]) == (False, "active")
    clock = Clock(monkeypatch, [OUTAGE] * 2)
    result = wait_on({**OUTAGE, "generation": 7, "commit_id": "0" * 40, "elapsed": 10.0}, 30.0, clock.run)
    assert (result["msg"], result["failed"]) == (OUTAGE["msg"], True)


def test_who_was_live_before_an_outage_is_asked_for_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def prove(*_words: Any) -> None:
        raise ZooKeeperError("the connection is closed") from ConnectionClosedError()

    clock = Clock(monkeypatch, [OUTAGE, {**DONE, "lost_agents": ["web2"]}])
    monkeypatch.setattr(zk_release, "prove", prove)
    published = {"generation": 7, "changed": True, "commit_id": "0" * 40}
    with pytest.raises(ZooKeeperError) as raised:
        zk_release.wait(
            None, {"app": "/app/x", "_published": None, "_told": None}, published, ["web1", "web2"], clock.now
        )
    result = wait_on({"failed": True, "msg": str(raised.value), **raised.value.details}, 300.0, clock.run)
    assert [call["_published"]["agents"] for call in clock.calls] == [["web1", "web2"]] * 2
    assert (result["failed"], result["lost_agents"]) == (False, ["web2"])


def test_an_outage_leaves_what_was_known_of_the_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [{**OUTAGE, "pending_agents": ["done", "slow"]}])
    first = {**WAITS, "elapsed": 10.0, "agents": [{"name": "done", "state": "active"}, AGENT]}
    result = wait_on(first, 20.0, clock.run)
    assert (result["msg"], result["pending_agents"]) == (OUTAGE["msg"], ["slow"])


@pytest.mark.parametrize(
    "answer",
    [
        {"failed": True, "msg": "permission denied", "timed_out": False},
        {"failed": True, "msg": "MODULE FAILURE: No start of json char found", "rc": 1},
    ],
)
def test_another_error_ends_the_wait(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    clock = Clock(monkeypatch, [answer])
    result = wait_on({**WAITS, "elapsed": 10.0}, 60.0, clock.run)
    assert (result["msg"], len(clock.calls), clock.pauses) == (answer["msg"], 1, [])
    assert result.get("timed_out") == answer.get("timed_out")


def test_a_module_that_ends_early_is_run_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [OUTAGE] * 3, takes=0.25)
    result = wait_on({**WAITS, "elapsed": 10.0}, 13.0, clock.run)
    assert (clock.seconds, clock.pauses) == ([3.0, 1.75, 0.5], [1.0, 1.0, 0.25])
    assert (result["elapsed"], result["failed"]) == (13.0, True)
    clock = Clock(monkeypatch, [OUTAGE, OUTAGE, DONE])
    wait_on({**WAITS, "elapsed": 10.0}, 60.0, clock.run)
    assert clock.pauses == []


def test_the_documentation_says_that_async_is_refused() -> None:
    attributes = yaml.safe_load(zk_release.DOCUMENTATION)["attributes"]
    assert attributes["async"]["support"] == ("full" if ActionModule._supports_async else "none")


@pytest.mark.parametrize(("left", "seconds"), [(290.0, 10.0), (4.0, 4.0), (0.01, 1.0)])
def test_a_connection_is_waited_for_no_longer_than_the_fleet(left: float, seconds: float) -> None:
    published = {"generation": 7, "agents": [], "left": left}
    options = {"connect_timeout": 10.0, "wait": True}
    assert zk_release.in_time({**options, "_published": published})["connect_timeout"] == seconds
    assert zk_release.in_time({**options, "_published": None})["connect_timeout"] == 10.0


def test_no_wait_is_below_zero_where_the_deadline_passes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [OUTAGE] * 3, takes=0.0)
    ticks = itertools.count(1000.0, 0.25)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    wait_on({**WAITS, "elapsed": 10.0}, 10.3, clock.run)
    assert [call["wait_timeout"] > 0 for call in clock.calls] == [True]
    assert clock.pauses == [pytest.approx(0.05)]
