"""What a task returns once its wait for the fleet is over."""

from __future__ import annotations

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.fleet_turns import progress
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress import fleet_show
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_show import Show


def test_the_message_of_a_task_that_has_waited_for_nobody_does_nothing_to_a_terminal() -> None:
    refused = {"failed": True, "msg": "it is known to be bad: web1 failed: \x1b[2Jno disk\u202e"}
    assert Show("/app/shop").end(refused)["msg"] == "it is known to be bad: web1 failed: \\x1b[2Jno disk\\u202e"


def test_a_wait_begins_with_what_a_person_has_to_know_before_the_release_is_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(fleet_show.display, "display", lambda text, **_options: told.append(text))
    Show("/app/shop").begin({"commit_id": "9" * 40, "without_steps": "rollout.steps: there are no steps"})
    assert told == ["shop  9999999999\nrollout.steps: there are no steps"]


EVIL = "\x1b[2J\u202e\nforged"


def test_whatever_names_and_messages_contain_the_output_does_nothing_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(fleet_show.display, "display", lambda text, **_options: told.append(text))
    name, lost = f"web{EVIL}", f"gone{EVIL}"
    agent = {
        "name": name,
        "state": "failed",
        "commitId": EVIL,
        "previousCommitId": EVIL,
        "message": EVIL,
        "since": EVIL,
    }
    mark = {"since": EVIL, "by": EVIL, "reason": EVIL}
    agents = [{**agent, "generation": 7, "waitsFor": EVIL, "held": mark, "troubles": [EVIL], "unit": EVIL}]
    hosts = {name: {"state": "admitted", "message": EVIL}, lost: {"state": "admitted"}}
    rollout = {"phase": "running", "step": 1, "steps": 1, "moves": 0, "plan": None, "since": EVIL, "by": EVIL}
    result = {
        "commit_id": "9" * 40,
        "generation": 7,
        "release": {"publisher": EVIL, "ref": EVIL, "subject": EVIL},
        "before": {"commitId": EVIL, "subject": EVIL},
        "rollout": {**rollout, "hosts": hosts, "reason": EVIL, "counts": {}, "waits_for": ""},
        "agents": agents,
        "elapsed": 1.0,
        **{key: [name] for key in ("failed_agents", "pending_agents")},
        **{key: [lost] for key in ("missing_agents", "lost_agents")},
        "without_steps": EVIL,
        "degraded": [EVIL],
        "failed": True,
        "msg": EVIL,
    }
    show = Show(f"/app/{EVIL}")
    show.begin(result)
    show.tell(progress(result, 1.0))
    ended = show.end(result)
    lines = [*"\n".join(told).split("\n"), ended["msg"], *ended["degraded"], *ended["report"]]
    assert len(lines) > 10
    assert [line for line in lines if not line.isprintable() or line.startswith("forged")] == []
