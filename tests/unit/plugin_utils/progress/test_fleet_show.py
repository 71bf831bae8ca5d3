"""What a task returns once its wait for the fleet is over."""

from __future__ import annotations

import pytest

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
