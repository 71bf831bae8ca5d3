"""A host that a release cut off, and that has rolled back from it, does not try it again once it is connected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.ports import free_ports
from support.waiting import wait_for
from zoo_watcher.config.config import Config
from zoo_watcher.desired import Assignment, Desired, Standstill
from zoo_watcher.host.controls import HELD, RETRY, write_mark
from zoo_watcher.releases.activation import activate, live_commit
from zoo_watcher.releases.journal import Failure, ReleaseJournal
from zoo_watcher.releases.manifest import Manifest
from zoo_watcher.watcher import Watcher
from zoo_watcher.wire.records import Release

EARLIER, ISOLATING, OTHER = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watcher:
    """An agent that no server answers, whose host is not healthy and has two releases."""
    check = {"type": "tcp", "interval": 0.05, "timeout": 0.05}
    service = {"path": "/service", "port": free_ports(1)[0], "check": check}
    keys = {"hosts": "127.0.0.1:1", "base": str(tmp_path / "base"), "health_timeout": 0.2, "services": [service]}
    made = Watcher(Config.from_object({**keys, "rollback_when_isolated": 0.2}), "1", lambda: None)
    made.layout.make()
    monkeypatch.setattr(made, "_keep_lock", lambda: None)
    for commit_id in (EARLIER, ISOLATING):
        made.layout.release(commit_id).mkdir()
        Manifest.of(made.layout.release(commit_id)).save(made.layout.manifest(commit_id))
    return made


def desire(watcher: Watcher, generation: int, commit_id: str | None) -> Desired:
    """Have a server answer that this is desired, or, without a commit, that the published release is not valid."""
    release = Release("https://git.example/site.git", commit_id, "site") if commit_id else None
    desired = Desired(generation, 1, release, None if release else "garbage")
    watcher.desired.is_read = True
    watcher.desired.current = desired
    return desired


def meet(watcher: Watcher) -> None:
    """Do what the loop does about the desired release when a server answers."""
    watcher._take_messages(0)
    watcher.convergence.journal.forget()
    watcher.controls.refresh()
    watcher.convergence.keep_held()
    watcher.convergence.converge()


@pytest.mark.parametrize("generation", [8, -8], ids=["a published release", "the stable release of a rollout"])
@pytest.mark.parametrize("failed_before", [0, 7, -7], ids=["nothing failed before", "another failed", "a stable one"])
@pytest.mark.parametrize("is_read", [False, True], ids=["from its start", "later"])
def test_a_release_that_was_left_while_no_server_answered_is_not_tried_again(
    watcher: Watcher, is_read: bool, failed_before: int, generation: int
) -> None:
    watcher.desired.is_read = is_read
    layout = watcher.layout
    activate(layout, "site", ISOLATING)
    journal = ReleaseJournal().with_place("site", None, None).with_healthy(EARLIER, "site", 5)
    if failed_before:
        journal = journal.with_failure(Failure(failed_before, "rolled_back", "not healthy", OTHER))
    journal.with_attempt(generation, ISOLATING, "site", EARLIER).save(layout.journal)

    def has_gone_back() -> bool:
        watcher._turn()
        watcher._take_messages(0)
        return live_commit(layout, "site") == EARLIER and watcher.convergence.deployment is None

    wait_for(has_gone_back, "it goes back")
    stays = Standstill(8, "waiting", "waits for its turn") if generation < 0 else None
    watcher.convergence.assignment = Assignment(desire(watcher, generation, ISOLATING), stays)
    meet(watcher)
    assert watcher.convergence.deployment is None
    assert "rolled back to" in str(watcher.board.status.message)
    assert watcher.board.status.state == ("failed" if generation > 0 else "waiting")


def prove_without_a_limit(watcher: Watcher) -> None:
    """Have the first release live, never healthy and being proved without a server, after generation 9 has failed."""
    activate(watcher.layout, "site", ISOLATING)
    journal = ReleaseJournal().with_place("site", None, None).with_attempt(8, ISOLATING, "site", None)
    journal.with_failure(Failure(9, "failed", "too large", OTHER)).save(watcher.layout.journal)
    watcher.health.start()

    def waits() -> bool:
        watcher._turn()
        watcher._take_messages(0)
        deployment = watcher.convergence.deployment
        return deployment is not None and not deployment.ends

    wait_for(waits, "what is live is proved")


@pytest.mark.parametrize(
    ("commit_id", "held", "message"),
    [(OTHER, False, "too large"), (OTHER, True, "too large"), (None, False, "garbage"), (None, True, "garbage")],
)
def test_a_proof_without_a_limit_in_isolation_gives_way_once_there_is_contact(
    watcher: Watcher, commit_id: str | None, held: bool, message: str
) -> None:
    """The desired release has failed on this host, or is not valid."""
    prove_without_a_limit(watcher)
    desire(watcher, 9, commit_id)
    if held:
        write_mark(watcher.layout, HELD, "disk swap", "ann")

    def has_told() -> bool:
        meet(watcher)
        status = watcher.board.status
        return (status.state, status.generation) == ("failed", 9)

    wait_for(has_told, "that the desired release has failed is told")
    assert str(watcher.board.status.message).startswith(message)


def test_a_retry_that_was_asked_for_while_no_server_answered_is_carried_out(watcher: Watcher) -> None:
    prove_without_a_limit(watcher)
    write_mark(watcher.layout, RETRY, "", "ann")
    desire(watcher, 9, OTHER)

    def answer() -> str:
        watcher._take_messages(0)
        watcher.controls.refresh()
        watcher.convergence.retry_where_asked()
        answer = (watcher.controls.answer or {}).get("message", "")
        if not answer:
            watcher.convergence.converge()
        return str(answer)

    assert wait_for(answer, "it is answered") == "generation 9 is tried again"


def test_a_host_that_waits_in_a_rollout_reports_what_has_failed_even_while_no_server_answers(watcher: Watcher) -> None:
    layout = watcher.layout
    activate(layout, "site", EARLIER)
    journal = ReleaseJournal().with_place("site", None, None).with_healthy(EARLIER, "site", 5)
    journal.with_failure(Failure(-9, "rolled_back", "not healthy; went back", OTHER)).save(layout.journal)
    desire(watcher, 9, ISOLATING)
    stable = Desired(-9, 1, Release("https://git.example/site.git", OTHER, "site"))
    watcher.convergence.assignment = Assignment(stable, Standstill(9, "waiting", "waits for its turn"))
    meet(watcher)
    told: Any = watcher.board.status
    assert told.message == "waits for its turn; not healthy; went back"

    def is_alone() -> bool:
        watcher._turn()
        return watcher.convergence.go_on_alone() is None

    wait_for(is_alone, "it is alone for long enough")
    assert watcher.board.status == told


def test_a_deployment_that_a_hold_has_cancelled_while_no_server_answers_is_no_longer_under_way(
    watcher: Watcher,
) -> None:
    watcher.config = replace(watcher.config, rollback_when_isolated=0.0)
    watcher.convergence._config = watcher.config
    desire(watcher, 9, OTHER)
    meet(watcher)
    write_mark(watcher.layout, HELD, "disk swap", "ann")

    def says_so() -> bool:
        watcher._turn()
        watcher._take_messages(0)
        return watcher.board.status.state == "idle"

    wait_for(says_so, "the state is what it was before")
    assert watcher.board.status.message == f"the deployment of {OTHER} is cancelled: held"
