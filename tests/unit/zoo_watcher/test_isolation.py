"""A host that was cut off by a release, and has gone back from it, does not try that again once it is connected."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.waiting import wait_for
from zoo_watcher.config.config import Config
from zoo_watcher.desired import Desired
from zoo_watcher.releases.activation import activate, live_commit
from zoo_watcher.releases.journal import ReleaseJournal
from zoo_watcher.releases.manifest import Manifest
from zoo_watcher.watcher import Watcher
from zoo_watcher.wire.records import Release

EARLIER, ISOLATING = "a" * 40, "b" * 40


def test_a_release_that_was_left_while_no_server_answered_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"hosts": "127.0.0.1:1", "base": str(tmp_path / "base"), "rollback_when_isolated": 0.2}
    watcher = Watcher(Config.from_object(keys), "1", lambda: None)
    layout = watcher.layout
    layout.make()
    monkeypatch.setattr(watcher, "_keep_lock", lambda: None)
    for commit_id in (EARLIER, ISOLATING):
        layout.release(commit_id).mkdir()
        Manifest.of(layout.release(commit_id)).save(layout.manifest(commit_id))
    activate(layout, "site", ISOLATING)
    journal = ReleaseJournal().with_place("site", None, None).with_healthy(EARLIER, "site", 5)
    journal.with_attempt(8, ISOLATING, "site", EARLIER).save(layout.journal)

    def has_gone_back() -> bool:
        watcher._turn()
        watcher._take_messages(0)
        return live_commit(layout, "site") == EARLIER and watcher.convergence.deployment is None

    wait_for(has_gone_back, "it goes back")
    watcher.desired.is_read = True
    watcher.desired.current = Desired(8, 1, Release("https://git.example/site.git", ISOLATING, "site"))
    watcher.convergence.journal.forget()
    watcher.convergence.converge()
    assert watcher.convergence.deployment is None
    assert watcher.board.status.state == "rolled_back"
