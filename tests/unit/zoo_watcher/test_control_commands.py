"""What a person is told about a request, whoever else makes one at the same time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoo_watcher import control_commands
from zoo_watcher.control_commands import COMMANDS, DONE, PENDING, REFUSED, Report, retry, undrain
from zoo_watcher.errors import AgentError
from zoo_watcher.host.base_lock import lock_base
from zoo_watcher.host.controls import DRAINED, HELD, RETRY, Mark, write_mark
from zoo_watcher.host.layout import Layout
from zoo_watcher.zookeeper.session_states import SYNC_CONNECTED

OTHERS = {"since": "2000-01-01T00:00:00.000+00:00", "request": "x", "done": False, "message": "nothing to retry"}
"""The answer to the earlier request of another person."""


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """A base in which an agent seems to run, but answers no request."""
    made = Layout(tmp_path)
    made.make()
    lock = lock_base(made)
    yield made
    os.close(lock)


def tell(layout: Layout, answer: dict[str, Any]) -> None:
    """Have the status file report the answer to the last request."""
    layout.status.write_text(json.dumps({RETRY: answer}))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_request_that_another_has_replaced_is_answered_by_the_answer_to_that_and_no_earlier_one(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    def be_overtaken(layout: Layout, name: str, reason: str, by: str) -> Mark:
        mine = write_mark(layout, name, reason, by)
        layout.control(RETRY).unlink()
        tell(layout, OTHERS)
        return mine

    if not is_new:
        tell(layout, OTHERS)
    monkeypatch.setattr(control_commands, "write_mark", be_overtaken)
    monkeypatch.setattr(control_commands, "PATIENCE", 0.05)
    report = retry(layout, "", "ann")
    if is_new:
        assert report == Report(REFUSED, "nothing to retry")
    else:
        assert report.exit_status == PENDING


@pytest.mark.parametrize(
    ("command", "name"),
    [("hold", HELD), ("release", HELD), ("drain", DRAINED), ("undrain", DRAINED), ("retry", RETRY)],
)
@pytest.mark.parametrize("is_empty", [True, False])
def test_a_directory_in_place_of_a_marker_is_named_and_stays(
    layout: Layout, command: str, name: str, is_empty: bool
) -> None:
    place = layout.control(name)
    place.mkdir(parents=True)
    inside = [] if is_empty else ["notes"]
    for one in inside:
        (place / one).touch()
    with pytest.raises(AgentError) as raised:
        COMMANDS[command](layout, "disk swap", "ann")
    assert str(raised.value) == f"{place}: {name} is not a regular file; move it away"
    assert os.listdir(layout.controls) == [name]
    assert os.listdir(place) == inside


@pytest.mark.parametrize("command", ["hold", "release", "drain", "undrain", "retry"])
def test_what_keeps_the_agent_from_carrying_out_a_command_is_named(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    # As an earlier agent has left it that was told to hold and to drain.
    status = {"session": SYNC_CONNECTED, HELD: {}, DRAINED: {}, "troubles": ["/service/b: no permission to delete it"]}
    layout.status.write_text(json.dumps(status))
    monkeypatch.setattr(control_commands, "PATIENCE", 0.05)
    report = COMMANDS[command](layout, "disk swap", "ann")
    assert report.exit_status == PENDING
    assert report.line.endswith("registered is nothing; trouble: /service/b: no permission to delete it")


@pytest.mark.parametrize(
    ("troubles", "effect"),
    [
        ([], "healthy services are registered"),
        (["/service/b is taken"], "registered is /service/a; trouble: /service/b is taken"),
    ],
    ids=["all is well", "a registration is refused"],
)
def test_the_end_of_a_drain_is_reported_with_what_is_still_not_registered(
    layout: Layout, troubles: list[str], effect: str
) -> None:
    status = {"session": SYNC_CONNECTED, "registered": ["/service/a"], "troubles": troubles}
    layout.status.write_text(json.dumps(status))
    assert undrain(layout, "", "ann") == Report(DONE, f"not drained; {effect}")
