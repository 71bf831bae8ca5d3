"""What keeps the agent from its work is logged once."""

from __future__ import annotations

import errno

import pytest

from zoo_watcher.troubles import Troubles


def test_a_trouble_of_several_steps_of_a_turn_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles()
    for path in ("/srv/site", "/srv/site/.zoo", "/srv/site"):
        with troubles.noted():
            raise OSError(errno.EIO, "Input/output error", path)
    assert troubles.current == ["/srv/site: Input/output error", "/srv/site/.zoo: Input/output error"]
    assert troubles.end_turn()
    assert [record.getMessage() for record in caplog.records] == [
        "trouble, tried again: /srv/site: Input/output error",
        "trouble, tried again: /srv/site/.zoo: Input/output error",
    ]
