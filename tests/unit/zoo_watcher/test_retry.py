"""The answer to a retry on a host while a release is rolled out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zoo_watcher.config.config import Config
from zoo_watcher.desired import Desired
from zoo_watcher.host.controls import RETRY, write_mark
from zoo_watcher.releases.journal import Failure, ReleaseJournal
from zoo_watcher.rollouts.assignment import assign
from zoo_watcher.rollouts.turn import HostView
from zoo_watcher.watcher import Watcher
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.rollout_records import FAILED, begin

OLD, NEW = "a" * 40, "b" * 40
DESIRED = Desired(1000, 3, Release("https://git.example/site.git", NEW, "site"))
STATE = begin(
    Release("https://git.example/site.git", NEW, "site"), True, Release("https://git.example/site.git", OLD, "site"), 3
)
GAVE_UP = ("failed", "disk full")
AGAIN = "generation 1000 is tried again once the rollout admits this host"
OPEN = "step 1 of 1 is open; 0 are on their way, 1 may be"


@pytest.mark.parametrize(
    ("phase", "entry", "host", "failed", "said"),
    [
        ("halted", FAILED, {"ended": GAVE_UP}, (1000, NEW), f"{AGAIN}: the rollout is halted: web0 failed"),
        ("running", FAILED, {"ended": GAVE_UP}, (1000, NEW), f"{AGAIN}: {OPEN}: web0 failed"),
        ("done", FAILED, {"ended": GAVE_UP}, (1000, NEW), f"{AGAIN}: it is done without it, which waits for its turn"),
        ("done", None, {"ended": GAVE_UP}, (1000, NEW), f"{AGAIN}: it is done without it, which waits for its turn"),
        ("done", None, {"ended": GAVE_UP, "is_at_head": True}, (1000, NEW), "generation 1000 is tried again"),
        ("running", None, {}, None, "nothing to retry: waits for its turn in the rollout"),
        ("halted", None, {}, None, "nothing to retry: the rollout is halted: web0 failed"),
        ("rolled_back", FAILED, {"stable_ended": GAVE_UP}, (-1000, OLD), "the previous release is tried again"),
        ("rolled_back", FAILED, {}, None, f"nothing to retry: the rollout of {NEW} was rolled back: web0 failed"),
    ],
)  # fmt: skip
def test_the_answer_to_a_retry_is_true_in_a_rollout(
    tmp_path: Path, phase: str, entry: str | None, host: dict[str, Any], failed: tuple[int, str] | None, said: str
) -> None:
    keys = {"hosts": "127.0.0.1:1", "base": str(tmp_path / "base")}
    watcher = Watcher(Config.from_object(keys), "1", lambda: None)
    watcher.layout.make()
    if failed:
        journal = ReleaseJournal().with_failure(Failure(failed[0], *GAVE_UP, failed[1]))
        journal.save(watcher.layout.journal)
    state = replace(STATE, phase=phase, reason="web0 failed")
    convergence = watcher.convergence
    watcher.desired.is_read, watcher.desired.current = True, DESIRED
    convergence.assignment = assign(DESIRED, state, state.parsed_plan(), entry, HostView("web0", has=OLD, **host))
    write_mark(watcher.layout, RETRY, "", "ann")
    watcher.controls.refresh()
    convergence.retry_where_asked()
    assert watcher.controls.answer
    assert watcher.controls.answer["message"] == said
