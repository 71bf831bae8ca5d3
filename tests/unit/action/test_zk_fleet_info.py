"""How the controller's part of zk_fleet_info divides the time of a wait."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.zoo.deploy.plugins.action.zk_fleet_info import ActionModule


def test_all_the_time_that_the_first_turn_takes_counts_towards_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, given = [1000.0], []

    def execute(_self: Any, _name: str, options: dict[str, Any], **_words: Any) -> dict[str, Any]:
        given.append(options["wait_timeout"])
        clock[0] += options["wait_timeout"] + 2.0
        return {"failed": True, "msg": "not proved in time", "timed_out": True}

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(ActionBase, "run", lambda *_words: {})
    monkeypatch.setattr(ActionModule, "_execute_module", execute)
    action = ActionModule.__new__(ActionModule)
    action._task = SimpleNamespace(args={"wait_for_release": "desired", "wait_timeout": 20}, async_val=0, no_log=False)
    assert action.run()["timed_out"]
    assert given == [10.0, 8.0]
