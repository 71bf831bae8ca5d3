"""How the turns of a long wait divide the time that the fleet is given."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from typing import Any

import pytest
from kazoo.exceptions import ConnectionClosedError

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import UNANSWERED, come_to
from ansible_collections.zoo.deploy.plugins.modules import zk_release
from ansible_collections.zoo.deploy.plugins.plugin_utils.fleet_turns import FleetTurn, wait_on
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_show import Show

AGENT = {"name": "slow", "state": "checking", "generation": 7}
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
HEAD = f"{'0' * 10}\n"
"""The line above the others: neither the application nor the previous release is known here."""
OUTAGE = {"failed": True, "msg": "can't reach ZooKeeper at zk1:2181 within 10 s", "timed_out": True}


class Clock:
    """A clock that moves only during a wait, and the module, with the answers that it will give.

    The module takes the time that it is given, or `takes` seconds.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, answers: Iterable[dict[str, Any]], takes: float | None = None
    ) -> None:
        self.now = 1000.0
        self.calls: list[FleetTurn] = []
        self.pauses: list[float] = []
        self._answers = iter(answers)
        self._takes = takes
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def run(self, turn: FleetTurn) -> dict[str, Any]:
        """The module's next answer."""
        self.calls.append(turn)
        self.now += turn.seconds if self._takes is None else self._takes
        return next(self._answers)

    def sleep(self, seconds: float) -> None:
        """Wait without the module."""
        self.pauses.append(seconds)
        self.now += seconds

    @property
    def seconds(self) -> list[float]:
        """How long each call was to wait."""
        return [turn.seconds for turn in self.calls]


def test_a_fleet_that_is_too_small_is_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch, [{**WAITS, **DONE}])
    wait_on({**WAITS, **DONE, "timed_out": True, "elapsed": 10.0}, 300.0, clock.run)
    said = f"   10 s  1 of 1 agents have proved {'0' * 10}; fewer are live than min_agents and max_missing ask for\n"
    assert capsys.readouterr().out == f"{HEAD}{said}         slow  proved\n"


def test_missing_hosts_are_in_the_line_and_the_last_answer_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch, [{**DONE, "missing_agents": ["web2"]}])
    result = wait_on({**WAITS, "missing_agents": ["web2", "web3"], "elapsed": 10.0}, 300.0, clock.run)
    said = f"   10 s  0 of 1 agents have proved {'0' * 10}; slow is checking; missing: web2 and web3\n"
    assert capsys.readouterr().out == HEAD + said
    assert result["missing_agents"] == ["web2"]


def test_a_named_agent_that_was_never_live_is_waited_for_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch, [DONE])
    named = {"agents": [{**AGENT, "state": "active"}], "pending_agents": ["x", "y"], "missing_agents": ["x", "y"]}
    wait_on({**WAITS, **named, "elapsed": 10.0}, 300.0, clock.run, named=["slow", "x", "y"])
    said = f"   10 s  1 of 3 agents have proved {'0' * 10}; x is not live, y is not live\n"
    assert capsys.readouterr().out == f"{HEAD}{said}         slow  proved\n"


def test_a_wait_for_files_names_agents_that_have_not_proved_them_and_nothing_of_the_release(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch, [DONE])
    stuck = {**AGENT, "state": "fetching", "waitsFor": "fetch", "message": "no route"}
    wait_on({**WAITS, "agents": [stuck], "elapsed": 10.0}, 300.0, clock.run, "/config/shop")
    assert capsys.readouterr().out == "   10 s  0 of 1 agents have proved the files of /config/shop; slow is pending\n"
    assert clock.calls == [FleetTurn(10.0, 290.0, ["slow"], 0.0, [])]


def test_each_reason_is_shown_once_when_it_arrives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def waits(*reasons: str) -> dict[str, Any]:
        agents = [
            {
                "name": f"web{number}",
                "state": "fetching",
                "generation": 7,
                "waitsFor": "fetch",
                "message": f"{reason}; tried again in 4 s",
            }
            for number, reason in enumerate(reasons)
        ]
        names = [str(agent["name"]) for agent in agents]
        return {**WAITS, "agents": agents, "pending_agents": names, "elapsed": 1.0}

    clock = Clock(monkeypatch, [waits("no route", "no route", "no such host"), DONE], takes=2.0)
    wait_on(waits("no route", "no route"), 300.0, clock.run)
    assert [turn.told for turn in clock.calls] == [["no route"], ["no route", "no such host"]]
    said = capsys.readouterr().out
    assert said.count("web0 and web1: no route\n") == said.count("web2: no such host\n") == 1


def test_what_a_host_reports_does_nothing_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = {**AGENT, "waitsFor": "fetch", "message": "no\x1b]0;mine\x07 route"}
    wait_on({**WAITS, "agents": [agent], "elapsed": 1.0}, 300.0, Clock(monkeypatch, [DONE]).run)
    assert "no\\x1b]0;mine\\x07 route\n" in capsys.readouterr().out


def test_how_long_nobody_could_go_on_is_known_to_the_next_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = {**WAITS, "agents": [{**AGENT, "waitsFor": "fetch"}]}
    clock = Clock(monkeypatch, [stuck, stuck, WAITS, stuck, DONE])
    wait_on({**stuck, "elapsed": 1.0}, 300.0, clock.run)
    assert [turn.stuck for turn in clock.calls] == [0.0, 10.0, 20.0, 0.0, 0.0]


def test_what_kept_a_host_from_the_previous_generation_does_not_count_for_this_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stuck = {**AGENT, "waitsFor": "fetch", "message": "no route"}
    before = {**WAITS, "agents": [{**stuck, "generation": 6}]}
    now = {**WAITS, "agents": [stuck]}
    clock = Clock(monkeypatch, [before, now, DONE])
    wait_on({**before, "elapsed": 1.0}, 300.0, clock.run)
    assert [(turn.stuck, turn.told) for turn in clock.calls] == [(0.0, []), (0.0, []), (0.0, ["no route"])]
    assert capsys.readouterr().out.count("no route") == 1


def test_a_wait_of_no_seconds_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [])
    assert wait_on({**WAITS, "elapsed": 0.1}, 0.0, clock.run)["msg"] == WAITS["msg"]
    assert clock.calls == []


def test_the_time_of_all_turns_counts_from_the_publication_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [WAITS, WAITS])
    result = wait_on({**WAITS, "elapsed": 10.0}, 25.0, clock.run)
    assert clock.seconds == [10.0, 5.0]
    assert (result["elapsed"], result["timed_out"], result["failed"]) == (25.0, True, True)


def test_what_one_wait_saw_the_next_one_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [{**DONE, "lost_agents": ["gone", "slow"], "warnings": ["live at first: gone"]}])
    first = {**WAITS, "elapsed": 10.0, "lost_agents": ["gone"], "warnings": ["another"]}
    result = wait_on(first, 300.0, clock.run)
    shown = come_to(0, 0, ["checking"])
    assert clock.calls == [FleetTurn(10.0, 290.0, ["gone", "slow"], 0.0, [], None, [*shown])]
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


def test_while_the_ensemble_does_not_answer_that_is_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off = {**WAITS, "agents": [], "msg": f"/app/x/config: {UNANSWERED}"}
    clock = Clock(monkeypatch, [cut_off, OUTAGE, OUTAGE, DONE])
    wait_on({**WAITS, "elapsed": 10.0}, 300.0, clock.run)
    _head, before, *outage = capsys.readouterr().out.splitlines()
    assert before == f"   10 s  0 of 1 agents have proved {'0' * 10}; slow is checking"
    assert outage == [f"   20 s  {cut_off['msg']}", f"   30 s  {OUTAGE['msg']}", f"   40 s  {OUTAGE['msg']}"]


def test_agents_that_were_live_before_an_outage_are_expected_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def prove(*_words: Any) -> None:
        raise ZooKeeperError("the connection is closed") from ConnectionClosedError()

    clock = Clock(monkeypatch, [OUTAGE, {**DONE, "lost_agents": ["web2"]}])
    monkeypatch.setattr(zk_release, "prove", prove)
    monkeypatch.setattr(zk_release, "rollout_result", lambda *_words: {})
    published = {"generation": 7, "changed": True, "commit_id": "0" * 40}
    options = {"app": "/app/x", "_published": None, "_told": None, "_attended": False}
    with pytest.raises(ZooKeeperError) as raised:
        zk_release.wait(None, options, published, ["web1", "web2"], clock.now)
    result = wait_on({"failed": True, "msg": str(raised.value), **raised.value.details}, 300.0, clock.run)
    assert [turn.agents for turn in clock.calls] == [["web1", "web2"]] * 2
    assert (result["failed"], result["lost_agents"]) == (False, ["web2"])


def test_a_named_agent_that_was_never_live_is_not_lost_later(monkeypatch: pytest.MonkeyPatch) -> None:
    awaited = {**WAITS, "pending_agents": ["ghost", "slow"]}
    cut_off = {**awaited, "agents": [], "pending_agents": ["ghost", "slow"], "lost_agents": []}
    clock = Clock(monkeypatch, [cut_off, DONE])
    wait_on({**awaited, "elapsed": 10.0}, 300.0, clock.run, named=["ghost", "slow"])
    assert [turn.agents for turn in clock.calls] == [["slow"], ["slow"]]


def test_an_outage_leaves_what_was_known_of_the_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [{**OUTAGE, "pending_agents": ["done", "slow"]}])
    first = {**WAITS, "elapsed": 10.0, "agents": [{"name": "done", "state": "active"}, AGENT]}
    result = wait_on(first, 20.0, clock.run)
    assert (result["msg"], result["pending_agents"]) == (OUTAGE["msg"], ["slow"])


@pytest.mark.parametrize(
    "rollout", [{}, {"rollout": {"phase": "done", "step": 1, "steps": 1, "counts": {}, "hosts": {}}}]
)
def test_if_another_release_is_published_all_of_the_result_is_about_that(
    monkeypatch: pytest.MonkeyPatch, rollout: dict[str, Any]
) -> None:
    soaks = {"phase": "soaking", "moves": 1, "step": 1, "steps": 2, "counts": {}, "hosts": {}}
    first = {**WAITS, "release": {"commitId": "0" * 40}, "rollout": soaks, "elapsed": 10.0}
    later = {"commit_id": "f" * 40, "generation": 8, "release": {"commitId": "f" * 40}, **rollout}
    clock = Clock(
        monkeypatch, [{**WAITS, **later, "timed_out": False, "msg": "another release was published meanwhile"}]
    )
    result = wait_on(first, 60.0, clock.run)
    known = {key: result[key] for key in ("commit_id", "generation", "release", "rollout") if key in result}
    assert known == later


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


def test_no_wait_is_below_zero_if_the_deadline_passes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [OUTAGE] * 3, takes=0.0)
    ticks = itertools.count(1000.0, 0.25)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    wait_on({**WAITS, "elapsed": 10.0}, 10.3, clock.run)
    assert [turn.seconds > 0 for turn in clock.calls] == [True]
    assert clock.pauses == [pytest.approx(0.05)]


def test_hosts_that_are_left_when_a_rollout_has_ended_are_waited_for_as_long_as_without_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soaks = {"phase": "soaking", "moves": 1, "step": 1, "steps": 2, "counts": {}, "hosts": {}}
    clock = Clock(
        monkeypatch, [{**WAITS, "rollout": soaks}] * 50 + [{**WAITS, "rollout": {**soaks, "phase": "done"}}] * 100
    )
    result = wait_on({**WAITS, "rollout": soaks, "elapsed": 10.0}, 300.0, clock.run, by_rollout=True)
    assert (result["elapsed"], result["failed"]) == (10.0 + 510.0 + 300.0, True)


@pytest.mark.parametrize(("by_rollout", "seconds"), [(True, 20.0 + 600.0 + 300.0), (False, 300.0)])
def test_a_rollout_that_begins_late_is_waited_for_as_long_as_it_lasts_unless_a_limit_is_given(
    monkeypatch: pytest.MonkeyPatch, by_rollout: bool, seconds: float
) -> None:
    soaks = {"phase": "soaking", "moves": 1, "step": 1, "steps": 2, "counts": {}, "hosts": {}}
    answers = [WAITS, *[{**WAITS, "rollout": soaks}] * 59, *[{**WAITS, "rollout": {**soaks, "phase": "done"}}] * 100]
    clock = Clock(monkeypatch, answers)
    result = wait_on({**WAITS, "elapsed": 10.0}, 300.0, clock.run, by_rollout=by_rollout)
    assert (result["elapsed"], result["failed"]) == (seconds, True)


def test_outcomes_in_a_rollout_are_shown_once_and_passed_to_the_next_turn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rollout = {"phase": "running", "moves": 3, "step": 1, "steps": 2, "counts": {}, "hosts": {}}
    fast = {"name": "fast", "state": "active", "generation": 7, "timings": {"fetching": 0.084, "checking": 1.0}}
    clock = Clock(monkeypatch, [{**WAITS, "agents": [AGENT, fast], "rollout": rollout}, DONE])
    wait_on({**WAITS, "agents": [AGENT, fast], "rollout": rollout, "elapsed": 3.0}, 300.0, clock.run)
    assert [turn.outcomes for turn in clock.calls] == [[1, 0], [1, 0]]
    said = capsys.readouterr().out
    assert said.count("fast  fetching 0.08 s  checking 1.00 s  proved\n") == 1
    assert "step 1 of 2  [#######.......] 1 of 2\n" in said


def test_without_a_rollout_too_each_host_that_goes_on_is_shown_without_a_pause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = {"name": "fast", "state": "fetching", "generation": 7}
    proved = {**fast, "state": "active", "timings": {"fetching": 0.084, "checking": 1.0}}
    bad = {"state": "rolled_back", "commitId": "2" * 40, "failedStep": {"step": "checking", "seconds": 5.01}}
    both = ["fast", "slow"]
    answers = [
        {**WAITS, "agents": [proved, AGENT]},
        {**WAITS, "agents": [proved, {**AGENT, **bad}], "failed_agents": ["slow"], "timed_out": False},
    ]
    clock = Clock(monkeypatch, answers, takes=1.0)
    wait_on({**WAITS, "agents": [fast, AGENT], "pending_agents": both, "elapsed": 1.0}, 300.0, clock.run, show=Show(""))
    assert [turn.outcomes for turn in clock.calls] == [
        [*come_to(0, 0, ["fetching", "checking"])],
        [*come_to(1, 0, ["checking"])],
    ]
    assert clock.pauses == []
    said = capsys.readouterr().out
    assert "0 of 2 agents have proved 0000000000; fast is fetching, slow is checking\n" in said
    assert "         fast  fetching 0.08 s  checking 1.00 s  proved\n" in said


def test_of_a_large_fleet_a_line_comes_every_few_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = {"phase": "running", "moves": 3, "step": 1, "steps": 2, "counts": {}, "hosts": {}}
    many = [{"name": f"web{number}", "state": "waiting"} for number in range(201)]
    clock = Clock(monkeypatch, [DONE])
    wait_on({**WAITS, "agents": many, "rollout": rollout, "elapsed": 3.0}, 300.0, clock.run)
    assert [turn.outcomes for turn in clock.calls] == [None]


RUNS: dict[str, Any] = {"phase": "running", "since": None, "moves": 1, "step": 1, "steps": 2, "counts": {}, "hosts": {}}
DESERTED: dict[str, Any] = {**WAITS, "agents": [], "pending_agents": [], "lost_agents": ["slow"], "rollout": RUNS}


def test_a_rollout_without_a_live_agent_is_waited_for_as_long_as_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deserted = {**DESERTED, "rollout": {**RUNS, "plan": {"progressDeadline": 60}}}
    clock = Clock(monkeypatch, [deserted] * 300)
    result = wait_on({**WAITS, "rollout": RUNS, "elapsed": 10.0}, 300.0, clock.run, by_rollout=True)
    assert (result["elapsed"], result["failed"]) == (80.0, True)
    assert result["msg"] == (
        "for 60 s (progressDeadline), no agent has been live that could carry out the rollout: "
        "start zoo-watcher on its hosts, which then continue by themselves; status.yml shows it"
    )


def test_a_rollout_does_not_count_as_deserted_in_an_outage_or_once_an_agent_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = {"rollout": {**RUNS, "plan": {"progressDeadline": 60}}}
    gone, there, unknown = {**DESERTED, **plan}, {**WAITS, **plan}, {**DESERTED, **plan, "msg": UNANSWERED}
    answers = [*[gone] * 5, there, *[gone] * 3, *[OUTAGE] * 20, *[unknown] * 20, *[gone] * 3, {**there, **DONE}]
    clock = Clock(monkeypatch, answers)
    result = wait_on({**there, "elapsed": 10.0}, 300.0, clock.run, by_rollout=True)
    assert (len(clock.calls), result["timed_out"]) == (len(answers), False)


def test_a_given_limit_holds_even_if_no_agent_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, itertools.repeat(DESERTED))
    result = wait_on({**DESERTED, "elapsed": 10.0}, 900.0, clock.run)
    assert (result["elapsed"], result["msg"]) == (900.0, DESERTED["msg"])


def test_a_host_that_is_still_waited_for_when_a_rollout_is_done_is_named_and_shown_as_held(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {"since": "2026-11-24T09:00:00+00:00", "by": "ann", "reason": "disk swap"}
    agents = [
        {"name": "web1", "state": "active", "generation": 7},
        {"name": "web2", "state": "active", "generation": 5, "held": held},
    ]
    waits = {"agents": agents, "pending_agents": ["web2"], "rollout": {**RUNS, "phase": "done"}}
    clock = Clock(monkeypatch, [DONE])
    wait_on({**WAITS, **waits, "elapsed": 10.0}, 300.0, clock.run, by_rollout=True)
    said = capsys.readouterr().out.splitlines()
    assert f"   10 s  {'0' * 10}  done  [#######.......] 1 of 2; web2 is active, held" in said
