"""How a deployment deals with the errors that it meets."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from support.descriptors import starved
from support.other_user import other_user
from support.signer import Signer
from support.waiting import wait_for
from zoo_watcher import releases
from zoo_watcher.config.config import Config, Hooks
from zoo_watcher.errors import CancelledError, DeployError, KilledError, PassingError, UnhealthyError
from zoo_watcher.host import command
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases import apply
from zoo_watcher.releases import deployment as deployment_module
from zoo_watcher.releases.accepted_releases import AcceptedRelease, AcceptedReleases
from zoo_watcher.releases.activation import activate, live_commit, prepare
from zoo_watcher.releases.course import Progress
from zoo_watcher.releases.deployment import Deployment
from zoo_watcher.releases.handshake import Phase
from zoo_watcher.releases.journal import KnownJournal, ReleaseJournal
from zoo_watcher.releases.live_proof import LiveProof
from zoo_watcher.releases.manifest import Manifest
from zoo_watcher.releases.release_directory import allowed_signers
from zoo_watcher.releases.return_proof import proof_of
from zoo_watcher.releases.rollback import PlacedRelease, live_releases
from zoo_watcher.releases.unproved import find_unproved
from zoo_watcher.services.health import Health
from zoo_watcher.wire.records import Release

COMMIT, OLD, UNPROVED = "a" * 40, "b" * 40, "c" * 40
Make = Callable[..., Deployment]


@pytest.fixture
def told() -> list[Progress | None]:
    """What the deployment has reported."""
    return []


@pytest.fixture
def deployment(tmp_path: Path, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment that never pauses."""
    config = Config.from_object({"hosts": "zk1", "base": str(tmp_path / "base"), "allowed_schemes": ["file"]})
    release = Release(url="file:///srv/site.git", commit_id=COMMIT, relative_path="site")
    made = Deployment(
        config, KnownJournal(Layout(config.base).journal), release, 7, 1, Health([], lambda: None), told.append
    )
    made.course.layout.make()
    monkeypatch.setattr(made.handshake, "sleep", lambda _seconds: made.handshake.check())
    return made


def outcome(told: list[Progress | None]) -> tuple[str, str | None]:
    """The last state with its message; the report after it says that the deployment has ended."""
    assert told[-1] is None
    last = told[-2]
    assert last is not None
    return last.state, last.message


def test_a_process_that_is_killed_again_and_again_is_a_failure(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [KilledError("killed"), PassingError("no route", "fetch"), *[KilledError("killed") for _time in range(4)]]

    def run(*_words: Any) -> dict[str, Any]:
        raise errors.pop(0)

    monkeypatch.setattr(deployment._fetching._process, "run", run)
    deployment.run()
    assert outcome(told) == ("failed", "killed; given up after 3 tries that ended so")
    assert len(errors) == 1, "an error of another kind begins the count anew"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread"), OSError(11, "again")])
def test_an_unexpected_error_is_in_the_status(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def run(*_words: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(deployment._fetching._process, "run", run)
    deployment.run()
    state, message = outcome(told)
    assert state == "failed"
    assert str(message).startswith(f"an internal error of the agent, see its log: {type(error).__name__}")


@pytest.mark.parametrize(
    ("fleet", "rate", "longest"), [(1, 100, None), (50, 100, 0.5), (10_000, 100, 100.0), (10_000, 500, 20.0)]
)
def test_a_fleet_spreads_by_its_size_and_rate(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, fleet: int, rate: int, longest: float | None
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(deployment.handshake, "sleep", slept.append)
    deployment._fetching._fleet = fleet
    for _time in range(200):
        deployment._fetching._spread(rate)
    if longest is None:
        assert slept == []
    else:
        assert max(slept) <= longest
        assert longest * 0.3 < sum(slept) / len(slept) < longest * 0.7


@pytest.mark.parametrize(("is_here", "longest"), [(False, 100.0), (True, 20.0)], ids=["fetched", "on the disk"])
def test_a_fleet_spreads_by_the_activation_rate_where_the_release_is_on_disk_and_by_the_fetch_rate_elsewhere(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, is_here: bool, longest: float
) -> None:
    slept: list[float] = []
    fetched: list[None] = []

    def fetch(*_words: Any) -> dict[str, Any]:
        fetched.append(None)
        return {"done": {}, "untidy": False}

    if is_here:
        stage(deployment, COMMIT)
    monkeypatch.setattr(deployment.handshake, "sleep", slept.append)
    monkeypatch.setattr("zoo_watcher.releases.fetching.random.uniform", lambda _low, high: high)
    monkeypatch.setattr(deployment._fetching._process, "run", fetch)
    deployment._fetching._fleet = 10_000
    deployment._fetching.fetch()
    assert (deployment.course.config.fetch_rate, deployment.course.config.activation_rate) == (100, 500)
    assert (slept, bool(fetched)) == ([longest], not is_here)


@pytest.mark.parametrize(("moment", "has_yielded", "waited"), [(0.5, False, 0.5), (1.5, True, 1.0)])
def test_the_proof_of_the_live_release_does_not_wait_too_long_for_a_fleet_that_spreads(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, moment: float, has_yielded: bool, waited: float
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(deployment.handshake, "sleep", slept.append)
    monkeypatch.setattr("zoo_watcher.releases.fetching.random.uniform", lambda _low, _high: moment)
    monkeypatch.setattr(deployment._fetching._process, "run", lambda *_words: {"done": {}, "untidy": False})
    deployment._fetching._fleet = 10_000
    deployment.course.patience = 1.0
    deployment.run()
    assert (slept, deployment.has_yielded) == ([waited], has_yielded)


def test_a_release_to_return_to_is_fetched_from_an_allowed_repository_only(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(deployment.course.config, allowed_urls=("file:///srv/git",))
    monkeypatch.setattr(deployment.course, "config", config)
    asked: list[Any] = []
    monkeypatch.setattr(deployment._fetching._process, "run", lambda *words: asked.append(words))
    deployment.run()
    state, message = outcome(told)
    assert state == "failed"
    assert str(message).startswith('url: "file:///srv/site.git" is below none of the allowed_urls of this host')
    assert asked == []


def test_a_release_to_return_to_that_is_on_disk_needs_no_allowed_repository(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment.course, "config", replace(deployment.course.config, allowed_urls=("file:///git",)))
    stage(deployment, COMMIT)
    deployment.run()
    assert outcome(told)[0] == "active"


def test_a_full_disk_under_the_swap_is_waited_out(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    errors = [PassingError("activating site: No space left on device", "disk")] * 2

    def swap(layout: Layout, place: str, commit_id: str) -> None:
        if errors:
            raise errors.pop()
        activate(layout, place, commit_id)

    monkeypatch.setattr("zoo_watcher.releases.deployment.activate", swap)
    deployment.run()
    assert live_commit(deployment.course.layout, "site") == COMMIT
    messages = [progress.message for progress in told if progress and progress.message]
    assert len(messages) == 2
    assert all(str(message).startswith("activating site: No space left on device; tried again") for message in messages)


def drain_without_loop(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Have a deployment drain though no loop answers. Returns whether it withholds registrations, for each pause."""
    withheld: list[bool] = []
    monkeypatch.setattr(deployment, "_drain", lambda: deployment.handshake.enter(Phase.DRAINING))
    monkeypatch.setattr(
        deployment.handshake, "sleep", lambda _seconds: withheld.append(deployment.handshake.withholds_registrations)
    )
    return withheld


def test_a_host_serves_while_a_disk_that_became_read_only_after_the_drain_is_waited_out(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage(deployment, COMMIT)
    stage(deployment, OLD)
    activate(deployment.course.layout, "site", OLD)
    notes = have_commands(deployment, tmp_path, monkeypatch, "true")
    withheld = drain_without_loop(deployment, monkeypatch)
    errors = [PassingError("activating site: Read-only file system", "disk")] * 2
    may_be_cancelled: list[bool] = []
    real = deployment.handshake.begin_anew

    def swap(layout: Layout, place: str, commit_id: str) -> None:
        if errors:
            raise errors.pop()
        activate(layout, place, commit_id)

    def begin_anew() -> None:
        real()
        may_be_cancelled.append(not deployment.handshake.has_activated)

    monkeypatch.setattr("zoo_watcher.releases.deployment.activate", swap)
    monkeypatch.setattr(deployment.handshake, "begin_anew", begin_anew)
    deployment.run()
    assert outcome(told) == ("active", None)
    assert withheld == [False, False]
    assert may_be_cancelled == [True, True]
    assert notes.read_text().split() == ["before_activate", "after_activate", "unit"], "what succeeded is not repeated"


def test_a_host_serves_while_a_hook_cannot_be_started(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage(deployment, COMMIT)
    have_commands(deployment, tmp_path, monkeypatch, "true")
    withheld = drain_without_loop(deployment, monkeypatch)
    starve_commands(monkeypatch, lambda number: number == 1)
    deployment.run()
    assert outcome(told) == ("active", None)
    assert withheld == [False]


def test_a_host_does_not_serve_while_it_retries_a_swap_that_may_have_happened(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    withheld = drain_without_loop(deployment, monkeypatch)
    errors = [PassingError("activating site: Input/output error", "disk")]

    def swap(layout: Layout, place: str, commit_id: str) -> None:
        activate(layout, place, commit_id)
        if errors:
            raise errors.pop()

    monkeypatch.setattr("zoo_watcher.releases.deployment.activate", swap)
    deployment.run()
    assert outcome(told) == ("active", None)
    assert withheld == [True]


def test_a_swap_is_prepared_again_as_the_disk_may_have_become_read_only(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = deployment.course.layout
    prepare(layout, "site", COMMIT)

    def refuse(_path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(PassingError, match="Read-only file system"):
        prepare(layout, "site", COMMIT)


def test_a_deployment_that_is_cancelled_does_not_roll_back_and_reports_nothing_more(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    stage(deployment, OLD)
    activate(deployment.course.layout, "site", OLD)
    reported: list[int] = []

    def fail(*_words: Any) -> None:
        deployment.cancel()
        reported.append(len(told))
        raise UnhealthyError("hook after_activate failed")

    monkeypatch.setattr(deployment._hooks, "use", fail)
    deployment.run()
    assert told[reported[0] :] == [None]
    assert live_commit(deployment.course.layout, "site") == COMMIT
    assert ReleaseJournal.load(deployment.course.layout.journal).failure is None


def test_a_deployment_that_fails_after_it_was_cancelled_has_not_failed(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)

    def fail(*_words: Any) -> None:
        deployment.cancel()
        raise DeployError("hook before_activate failed")

    monkeypatch.setattr(deployment._hooks, "run", fail)
    deployment.run()
    assert not any(progress.state == "failed" for progress in told if progress)
    assert ReleaseJournal.load(deployment.course.layout.journal).failure is None


def test_a_deployment_that_has_its_outcome_is_not_reported_as_cancelled(
    deployment: Deployment,
    told: list[Progress | None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A newer release is published while the object store is still being packed."""
    caplog.set_level(logging.INFO)
    stage(deployment, COMMIT)
    monkeypatch.setattr(deployment, "_tidy", deployment.cancel)
    deployment.run()
    assert outcome(told) == ("active", None)
    assert "cancelled" not in caplog.text


def test_a_host_without_room_for_the_swap_is_not_drained_for_it(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    errors = [PassingError("preparing site: No space left on device", "disk")] * 2
    drained: list[int] = []

    def ready(layout: Layout, place: str, commit_id: str) -> None:
        if errors:
            raise errors.pop()
        prepare(layout, place, commit_id)

    monkeypatch.setattr(deployment_module, "prepare", ready)
    monkeypatch.setattr(deployment, "_drain", lambda: drained.append(len(errors)))
    deployment.run()
    assert drained == [0]
    waited = [progress for progress in told if progress and "No space left" in str(progress.message)]
    assert [progress.state for progress in waited] == ["queued"] * 2
    assert live_commit(deployment.course.layout, "site") == COMMIT
    assert list(deployment.course.layout.staging.iterdir()) == []


def test_a_release_that_an_earlier_agent_left_unproved_counts_as_activated(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    activate(deployment.course.layout, "site", COMMIT)
    activated: list[bool] = []
    monkeypatch.setattr(deployment._hooks, "use", lambda *_words: activated.append(deployment.handshake.has_activated))
    deployment.run()
    assert activated == [True]


def stage(deployment: Deployment, commit_id: str, signers: str | None = None) -> None:
    """Make a release directory as staging would, verified against these signers."""
    release = deployment.course.layout.release(commit_id)
    release.mkdir()
    (release / "index.html").write_text(commit_id)
    Manifest.of(release, signers=signers).save(deployment.course.layout.manifest(commit_id))


@pytest.mark.parametrize("name", ["journal.ReleaseJournal.read", "fetching.is_deployable"])
def test_a_lack_of_descriptors_is_waited_out_and_nothing_is_forgotten(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stage(deployment, COMMIT)
    stage(deployment, OLD)
    activate(deployment.course.layout, "site", OLD)
    ReleaseJournal().with_place("site", OLD, None).with_healthy(OLD, "site", 5).save(deployment.course.layout.journal)
    real = attrgetter(name)(releases)
    times = [1, 2]

    def seldom(*words: Any) -> Any:
        if not times:
            return real(*words)
        times.pop()
        with starved():
            return real(*words)

    monkeypatch.setattr(f"zoo_watcher.releases.{name}", seldom)
    deployment.run()
    assert outcome(told) == ("active", None)
    messages = [progress.message for progress in told if progress and progress.message]
    assert len(messages) == 2
    assert all("Too many open files; tried again in" in message for message in messages)
    assert ReleaseJournal.load(deployment.course.layout.journal).healthy == (COMMIT, OLD)


@contextmanager
def uninstalled() -> Iterator[None]:
    """While the block runs, the files of the agent's package are missing."""
    before, releases.__path__ = releases.__path__, []
    try:
        yield
    finally:
        releases.__path__ = before


@pytest.mark.parametrize(
    ("lack", "why"),
    [(starved, "Too many open files"), (uninstalled, "is it being installed?")],
    ids=["files", "package"],
)
def test_a_lack_that_keeps_a_part_of_the_agent_from_being_imported_is_waited_out(
    deployment: Deployment,
    told: list[Progress | None],
    monkeypatch: pytest.MonkeyPatch,
    lack: Callable[[], AbstractContextManager[None]],
    why: str,
) -> None:
    stage(deployment, COMMIT)
    monkeypatch.delattr(releases, "outside_links")
    monkeypatch.delitem(sys.modules, "zoo_watcher.releases.outside_links")
    real = deployment._fetching._check_links
    lacks = [lack()]

    def seldom() -> None:
        with lacks.pop() if lacks else nullcontext():
            real()

    monkeypatch.setattr(deployment._fetching, "_check_links", seldom)
    deployment.run()
    assert outcome(told) == ("active", None)
    [message] = [progress.message for progress in told if progress and progress.message]
    assert f"{why}; tried again in" in message


def test_a_journal_that_may_not_be_read_is_waited_for_and_nothing_is_forgotten(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    journal = deployment.course.layout.journal
    ReleaseJournal().with_healthy(OLD, "site", 5).save(journal)
    real, refusals = ReleaseJournal.read, [1, 2]

    def refuse_twice(path: Path) -> ReleaseJournal:
        if refusals:
            refusals.pop()
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(ReleaseJournal, "read", refuse_twice)
    deployment.run()
    assert outcome(told) == ("active", None)
    waits = [progress.message for progress in told if progress and progress.retry == "disk"]
    assert len(waits) == 2
    assert all(str(text).startswith(f"looking at what is here: {journal}: Permission denied; tried") for text in waits)
    assert ReleaseJournal.load(journal).healthy == (COMMIT, OLD)


def test_a_deployment_that_waits_for_its_journal_is_ended_by_a_newer_release(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = deployment.course.layout.journal
    journal.write_text("another user's")

    def refuse(path: Path) -> ReleaseJournal:
        deployment.cancel()
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(ReleaseJournal, "read", refuse)
    deployment.run()
    assert told[-1] is None
    assert not any(progress.state == "failed" for progress in told if progress)
    assert journal.read_text() == "another user's"


def test_a_full_disk_under_a_rollback_is_waited_out(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    stage(deployment, OLD)
    activate(deployment.course.layout, "site", OLD)
    errors = [PassingError("activating site: No space left on device", "disk")] * 2

    def swap(layout: Layout, place: str, commit_id: str) -> None:
        if commit_id == OLD and errors:
            raise errors.pop()
        activate(layout, place, commit_id)

    def fail(*_words: Any) -> None:
        raise UnhealthyError("not healthy")

    monkeypatch.setattr("zoo_watcher.releases.going_back.activate", swap)
    monkeypatch.setattr(deployment._hooks, "use", fail)
    deployment.run()
    assert outcome(told) == ("rolled_back", f"not healthy; rolled back to {OLD}")
    assert live_commit(deployment.course.layout, "site") == OLD
    said = "not healthy; rolling back: activating site: No space left on device; tried again in"
    assert [str(progress.message).startswith(said) for progress in told if progress].count(True) == 2


def test_a_missing_file_of_signers_delays_a_rollback_until_it_is_there(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signers = tmp_path / "signers"
    signers.write_text("somebody ssh-ed25519 AAAA\n")
    for commit_id in (COMMIT, OLD):
        stage(deployment, commit_id, allowed_signers(str(signers)))
    activate(deployment.course.layout, "site", OLD)
    accepted = AcceptedRelease(1, "", "", OLD, "site", signers=str(allowed_signers(str(signers))))
    AcceptedReleases(deployment.course.layout.accepted, deployment.course.config.app.root).add(accepted)
    deployment.course.config = replace(deployment.course.config, require_signature=str(signers))
    aside = signers.with_name("aside")

    def fail(*_words: Any) -> None:
        signers.rename(aside)
        raise UnhealthyError("not healthy")

    monkeypatch.setattr(deployment._fetching, "fetch", lambda: False)
    monkeypatch.setattr(deployment._hooks, "use", fail)
    monkeypatch.setattr(deployment.handshake, "sleep", lambda _seconds: aside.rename(signers))
    deployment.run()
    assert outcome(told) == ("rolled_back", f"not healthy; rolled back to {OLD}")
    assert live_commit(deployment.course.layout, "site") == OLD
    said = f"not healthy; rolling back: require_signature: {signers}: No such file or directory; tried again in"
    assert [str(progress.message).startswith(said) for progress in told if progress].count(True) == 1


@pytest.mark.parametrize("problem", [None, PassingError("no process", "process"), DeployError("not signed by anybody")])
def test_after_a_change_of_signers_a_host_rolls_back_to_a_release_that_is_verified_again(
    deployment: Deployment,
    told: list[Progress | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    problem: DeployError | None,
) -> None:
    publisher, signers = Signer(tmp_path, "publisher"), tmp_path / "signers"
    signers.write_text(publisher.line)
    layout, before = deployment.course.layout, str(allowed_signers(str(signers)))
    for commit_id in (COMMIT, OLD):
        stage(deployment, commit_id, before)
    activate(layout, "site", OLD)
    signed = {"text": "{}", "signature": publisher.sign(b"{}", "zoo.deploy")}
    accepted = AcceptedRelease(1, "", "", OLD, "site", time.time(), before, **signed)
    AcceptedReleases(layout.accepted, deployment.course.config.app.root).add(accepted)
    deployment.course.config = replace(deployment.course.config, require_signature=str(signers))
    problems = [problem]

    def verify(job: dict[str, Any]) -> dict[str, Any]:
        failure = problems.pop() if problems else None
        if failure:
            raise failure
        apply._note_signers(layout, job["verify"], allowed_signers(str(signers)))
        return {}

    def fail(*_words: Any) -> None:
        signers.write_text(publisher.line + Signer(tmp_path, "another").line)
        raise UnhealthyError("not healthy")

    monkeypatch.setattr(deployment._fetching, "fetch", lambda: False)
    monkeypatch.setattr(deployment._hooks, "use", fail)
    monkeypatch.setattr(deployment._back._process, "run", verify)
    deployment.run()
    if isinstance(problem, PassingError) or problem is None:
        assert outcome(told) == ("rolled_back", f"not healthy; rolled back to {OLD}")
        assert live_commit(layout, "site") == OLD
    else:
        state, message = outcome(told)
        assert (state, live_commit(layout, "site")) == ("failed", COMMIT)
        assert "not verified with the present require_signature" in str(message)
    said = "not healthy; rolling back: no process; tried again in"
    told_so = [str(progress.message).startswith(said) for progress in told if progress].count(True)
    assert told_so == (1 if isinstance(problem, PassingError) else 0)


def test_a_rollback_that_waits_for_the_disk_is_ended_by_a_newer_release(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    stage(deployment, OLD)
    activate(deployment.course.layout, "site", OLD)

    def swap(layout: Layout, place: str, commit_id: str) -> None:
        if commit_id == OLD:
            raise PassingError("activating site: No space left on device", "disk")
        activate(layout, place, commit_id)

    def fail(*_words: Any) -> None:
        raise UnhealthyError("not healthy")

    def cancelled(_seconds: float) -> None:
        raise CancelledError

    monkeypatch.setattr("zoo_watcher.releases.going_back.activate", swap)
    monkeypatch.setattr(deployment._hooks, "use", fail)
    monkeypatch.setattr(deployment.handshake, "sleep", cancelled)
    deployment.run()
    assert told[-1] is None
    assert not any(progress.state in {"failed", "rolled_back"} for progress in told if progress)
    assert ReleaseJournal.load(deployment.course.layout.journal).failure is None


def have_commands(deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Configure a unit, and hooks that run `script` with their name as $0; returns the file where they note it."""
    notes, systemctl = tmp_path / "notes", tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f"#!/bin/sh\necho unit >> {notes}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:/usr/bin:/bin")
    names = ("before_activate", "after_activate", "before_rollback")
    words = {name: ("/bin/sh", "-c", f"echo {name} >> {notes}; {script}", name) for name in names}
    deployment.course.config = replace(deployment.course.config, hooks=Hooks(**words), restart_units=("web.service",))
    return notes


def starve_commands(monkeypatch: pytest.MonkeyPatch, is_starved: Callable[[int], bool]) -> None:
    """Have the host lack descriptors for each command for whose number `is_starved` is true."""
    real, started = command.run, []

    def run(*words: Any) -> command.Ended:
        started.append(words)
        with starved() if is_starved(len(started)) else nullcontext():
            return real(*words)

    monkeypatch.setattr(command, "run", run)


def test_hooks_and_units_that_the_host_lacks_descriptors_to_start_are_waited_for(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage(deployment, COMMIT)
    notes = have_commands(deployment, tmp_path, monkeypatch, "true")
    starve_commands(monkeypatch, lambda number: number % 2 == 1)
    deployment.run()
    assert outcome(told) == ("active", None)
    assert notes.read_text().split() == ["before_activate", "after_activate", "unit"]
    waited = [progress for progress in told if progress and progress.retry]
    assert [(progress.state, progress.retry) for progress in waited] == [("activating", "process")] * 3
    said = [str(progress.message).partition(": ")[0] for progress in waited]
    whats = ("hook before_activate", "hook after_activate", "restarting web.service")
    assert said == [f"{what} can't be started now" for what in whats]
    assert str(waited[0].message).endswith("Too many open files; tried again in 1 s")


def go_back_starved(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, last: int | None
) -> list[str]:
    """Run a deployment whose release fails in its hook and whose way back lacks descriptors; returns what was run."""
    stage(deployment, COMMIT)
    stage(deployment, OLD)
    activate(deployment.course.layout, "site", OLD)
    script = f'test $0 != after_activate || test "$ZOO_COMMIT" = {OLD}'
    notes = have_commands(deployment, tmp_path, monkeypatch, script)
    starve_commands(monkeypatch, lambda number: number > 2 and (last is None or number <= last))
    deployment.run()
    return notes.read_text().split()


def test_in_a_rollback_the_swap_does_not_wait_until_a_hook_can_be_started_but_the_rest_does(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = go_back_starved(deployment, monkeypatch, tmp_path, 5)
    state, message = outcome(told)
    assert (state, live_commit(deployment.course.layout, "site")) == ("rolled_back", OLD)
    assert "hook before_rollback can't be started now" in str(message)
    assert ran == ["before_activate", "after_activate", "after_activate", "unit"]
    waited = [progress for progress in told if progress and progress.retry]
    assert [progress.state for progress in waited] == ["checking"] * 2
    assert all(f"rolled back to {OLD}; hook after_activate can't be started now" in str(one.message) for one in waited)


def test_a_rollback_that_waits_until_a_hook_can_be_started_is_ended_by_a_newer_release(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def cancelled(_seconds: float) -> None:
        raise CancelledError

    monkeypatch.setattr(deployment.handshake, "sleep", cancelled)
    go_back_starved(deployment, monkeypatch, tmp_path, None)
    assert not any(progress.state in {"failed", "rolled_back"} for progress in told if progress)
    assert live_commit(deployment.course.layout, "site") == OLD


def test_that_a_release_took_the_agent_down_is_noted_before_a_hook_is_run_even_if_the_disk_is_full(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage(deployment, COMMIT)
    stage(deployment, OLD)
    activate(deployment.course.layout, "site", COMMIT)
    journal = ReleaseJournal().with_place("site", None, None).with_healthy(OLD, "site", 5)
    begun = journal.with_attempt(7, COMMIT, "site", OLD).with_attempt(7, COMMIT, "site", COMMIT)
    begun.save(deployment.course.layout.journal)
    notes = have_commands(deployment, tmp_path, monkeypatch, f"cp {deployment.course.layout.journal} {tmp_path}/$0")
    save = ReleaseJournal.save
    tries: list[list[str]] = []

    def fill(journal: ReleaseJournal, path: Path) -> None:
        if journal.failure and len(tries) < 2:
            tries.append(notes.read_text().split())
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(journal, path)

    monkeypatch.setattr(ReleaseJournal, "save", fill)
    deployment.run()
    assert outcome(told)[0] == "rolled_back"
    assert tries == [["before_rollback"]] * 2
    assert ReleaseJournal.load(tmp_path / "before_rollback").attempts(7, COMMIT) == 3
    failure = ReleaseJournal.load(tmp_path / "after_activate").failed(7, COMMIT)
    assert failure is not None
    assert failure.state == "failed"
    assert failure.message.endswith("; the agent ended before after_activate and the units were done")
    assert [progress.retry for progress in told if progress and progress.retry] == ["disk"] * 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_deployment_goes_on_and_counts_even_if_the_journal_cannot_be_written_yet(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_journal: ReleaseJournal, path: Path) -> None:
        raise OSError(number, os.strerror(number), str(path))

    def use(*_words: Any) -> None:
        known.append((live_commit(deployment.course.layout, "site"), deployment._memory._known.read()))

    def wait(*_words: Any) -> None:
        raise AssertionError("it waits for the disk")

    known: list[tuple[str | None, ReleaseJournal]] = []
    monkeypatch.setattr(deployment.course, "pause", wait)
    stage(deployment, COMMIT)
    monkeypatch.setattr(deployment._hooks, "use", use)
    with monkeypatch.context() as patch:
        patch.setattr(ReleaseJournal, "save", refuse)
        deployment.run()
        problem = deployment._memory._known.settle()
    assert outcome(told)[0] == "active"
    ((live, journal),) = known
    assert (live, journal.attempts(7, COMMIT)) == (COMMIT, 1), "who looks meanwhile knows of the attempt"
    assert problem is not None
    assert problem.errno == number, "so the status says that it is not written"
    assert deployment._memory._known.settle() is None
    assert ReleaseJournal.load(deployment.course.layout.journal).healthy == (COMMIT,)


def test_the_reason_why_a_step_failed_is_reported_until_it_has_succeeded(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = [
        (["fetching"], PassingError("no route", "fetch")),
        (["fetching", "staging"], PassingError("disk full", "disk")),
        (["fetching", "staging"], DeployError("enough")),
    ]

    def run(_job: Any, step: Callable[[str], None], _within: float | None) -> dict[str, Any]:
        steps, error = tries.pop(0)
        for name in steps:
            step(name)
        raise error

    monkeypatch.setattr(deployment._fetching._process, "run", run)
    deployment.run()
    messages = [(progress.state, (progress.message or "").partition(";")[0]) for progress in told if progress]
    assert messages == [
        ("fetching", ""),
        ("fetching", "no route"),
        ("fetching", "no route"),
        ("staging", ""),
        ("fetching", "disk full"),
        ("fetching", "disk full"),
        ("staging", "disk full"),
        ("failed", "enough"),
    ]
    waits = [progress.waits_for for progress in told if progress]
    assert waits == [None, "fetch", "fetch", None, "disk", "disk", "disk", None]


@pytest.mark.parametrize("signers", [None, "signers"])
def test_a_live_release_that_a_hook_has_built_in_is_used_unchanged_at_another_place(
    deployment: Deployment, told: list[Progress | None], tmp_path: Path, signers: str | None
) -> None:
    stage(deployment, COMMIT)
    activate(deployment.course.layout, "other", COMMIT)
    ReleaseJournal().with_place("other", COMMIT, None).save(deployment.course.layout.journal)
    (deployment.course.layout.release(COMMIT) / "built").write_text("by a hook\n")
    if signers:
        (tmp_path / signers).write_text("somebody ssh-ed25519 AAAA\n")
        deployment.course.config = replace(deployment.course.config, require_signature=str(tmp_path / signers))
    deployment.run()
    assert (deployment.course.layout.place("other") / "built").read_text() == "by a hook\n"
    state, message = outcome(told)
    if signers:
        assert state == "failed"
        assert str(message).startswith(f"{COMMIT} is live at other and modified since it was staged")
    else:
        assert (state, message) == ("active", None)
        assert live_commit(deployment.course.layout, "site") == COMMIT


def test_a_deployment_that_yields_ends_where_it_waits_for_too_long_and_only_before_it_is_live(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[None] = []

    def run(*_words: Any) -> dict[str, Any]:
        tries.append(None)
        raise PassingError("no route", "fetch")

    monkeypatch.setattr(deployment._fetching._process, "run", run)
    deployment.course.patience = 0.0
    deployment.run()
    assert (len(tries), deployment.has_yielded) == (1, True)
    assert told[-1] is None
    assert ReleaseJournal.load(deployment.course.layout.journal) == ReleaseJournal(), "it has come to nothing"


@pytest.mark.parametrize(
    ("patience", "beginning", "tries"),
    [
        pytest.param(-1.0, "file:///srv/", [True], id="yields"),
        pytest.param(None, "file:///srv/", [True, False], id="stays"),
        pytest.param(None, "file:///other/", [True, True], id="is another's mirror"),
    ],
)
def test_the_log_reports_a_mirror_as_skipped_only_where_the_next_try_skips_it(
    deployment: Deployment,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    patience: float | None,
    beginning: str,
    tries: list[bool],
) -> None:
    asked: list[bool] = []

    def run(job: dict[str, Any], *_words: Any) -> dict[str, Any]:
        asked.append(bool(job["access"]["mirrors"]))
        if asked == [True]:
            raise PassingError("not fetched and staged", "timeout")
        raise DeployError("refused")

    mirrors = ((beginning, "file:///mirror/"),)
    deployment.course.config = replace(deployment.course.config, git_mirrors=mirrors)
    deployment.course.patience = patience
    monkeypatch.setattr(deployment._fetching._process, "run", run)
    deployment.run()
    assert asked == tries
    assert ("skips the mirror" in caplog.text) == (False in tries)


def test_a_deployment_whose_release_is_live_already_yields_to_nothing(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    activate(deployment.course.layout, "site", COMMIT)
    errors = [OSError(errno.EIO, os.strerror(errno.EIO))]

    def look(layout: Layout, place: str) -> str | None:
        if errors:
            raise errors.pop()
        return live_commit(layout, place)

    monkeypatch.setattr("zoo_watcher.releases.health_proof.live_commit", look)
    monkeypatch.setattr(deployment.handshake, "sleep", lambda _seconds: None)
    deployment.course.patience = 0.0
    deployment.run()
    assert (errors, deployment.has_yielded, outcome(told)) == ([], False, ("active", None))


@pytest.mark.parametrize("ends", [False, True])
def test_a_swap_that_waits_for_too_long_does_not_count_as_an_attempt(deployment: Deployment, ends: bool) -> None:
    stage(deployment, COMMIT)
    errors = [PassingError("activating site: No space left on device", "disk")]

    def swap(layout: Layout, place: str, commit_id: str) -> None:
        if errors:
            raise errors.pop()
        activate(layout, place, commit_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo_watcher.releases.deployment.activate", swap)
        deployment.course.patience = 0.0 if ends else None
        deployment.run()
    assert deployment.has_yielded is ends
    assert ReleaseJournal.load(deployment.course.layout.journal).attempts(7, COMMIT) == 0
    assert live_commit(deployment.course.layout, "site") == (None if ends else COMMIT)


def test_the_outcome_of_another_release_is_reported_until_this_one_is_live(
    deployment: Deployment, told: list[Progress | None]
) -> None:
    stage(deployment, COMMIT)
    deployment.course.aside = "another went back"
    deployment.run()
    messages = {progress.state: progress.message for progress in told if progress}
    assert messages == {"activating": "another went back", "checking": None, "active": None}


@pytest.fixture
def unproved(deployment: Deployment) -> Deployment:
    """A host whose live release has an interrupted proof, after an earlier release that was healthy."""
    stage(deployment, OLD)
    stage(deployment, UNPROVED)
    journal = ReleaseJournal().with_place("site", None, None).with_healthy(OLD, "site", 5)
    journal.with_attempt(6, UNPROVED, "site", OLD).save(deployment.course.layout.journal)
    activate(deployment.course.layout, "site", UNPROVED)
    return deployment


def proof_of_what_is_live(deployment: Deployment, told: list[Progress | None]) -> LiveProof:
    """The proof of the live release, before something else is deployed."""
    config, layout = deployment.course.config, deployment.course.layout
    journal = ReleaseJournal.load(layout.journal)
    found = find_unproved(live_releases(layout, journal), journal)
    return proof_of(config, KnownJournal(layout.journal), found[0], Health([], lambda: None), told.append, ends=True)


@pytest.mark.parametrize("healthy", [False, True])
def test_the_proof_of_the_live_release_forgets_no_failure_of_the_desired_one(
    unproved: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, healthy: bool
) -> None:
    layout = unproved.course.layout

    def run(*_words: Any) -> dict[str, Any]:
        raise DeployError("too large")

    def problem(_soak: float = 0.0) -> str | None:
        return None if healthy or live_commit(layout, "site") == OLD else "not healthy"

    monkeypatch.setattr(unproved._fetching._process, "run", run)
    unproved.run()
    assert outcome(told) == ("failed", "too large")
    proof = proof_of_what_is_live(unproved, told)
    monkeypatch.setattr(proof._proof, "find_problem", problem)
    proof.run()
    journal = ReleaseJournal.load(layout.journal)
    assert journal.begun == ()
    if healthy:
        assert outcome(told) == ("active", None)
        assert live_commit(layout, "site") == UNPROVED
        assert journal.healthy == (UNPROVED, OLD)
    else:
        assert journal.failed(7, COMMIT)
        assert outcome(told) == ("rolled_back", f"not healthy; rolled back to {OLD}")
        assert live_commit(layout, "site") == OLD
        assert journal.healthy == (OLD,)


def test_a_proof_that_ends_without_a_release_to_go_back_to_says_so_and_changes_nothing(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = deployment.course.layout
    stage(deployment, UNPROVED)
    activate(layout, "site", UNPROVED)
    ReleaseJournal().with_place("site", None, None).with_attempt(6, UNPROVED, "site", None).save(layout.journal)
    proof = proof_of_what_is_live(deployment, told)
    monkeypatch.setattr(proof._proof, "find_problem", lambda _soak: "not healthy")
    proof.run()
    assert outcome(told) == ("checking", "not healthy; there is no earlier release to go back to")
    assert proof.has_yielded
    attempt = ReleaseJournal.load(layout.journal).unproved(UNPROVED, "site")
    assert attempt
    assert (attempt.times, attempt.is_used) == (1, True)


def test_a_rollback_to_a_release_that_was_never_proved_leaves_its_proof_to_be_done(
    unproved: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = unproved.course.layout
    new = replace(unproved._fetching._release, relative_path="new")
    deployment = Deployment(
        unproved.course.config, KnownJournal(layout.journal), new, 7, 1, Health([], lambda: None), told.append
    )
    stage(deployment, COMMIT)
    monkeypatch.setattr(deployment._proof, "find_problem", lambda _soak: "not healthy")
    deployment.run()
    assert outcome(told) == ("rolled_back", f"not healthy; rolled back to {UNPROVED} at site, which was never proved")
    assert live_commit(layout, "new") is None
    proof = proof_of_what_is_live(unproved, told)
    assert proof.target == PlacedRelease(UNPROVED, "site")
    journal = ReleaseJournal.load(layout.journal)
    assert journal.failed(7, COMMIT)


def test_a_disk_that_cannot_be_read_for_a_moment_causes_no_rollback(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    stage(deployment, OLD)
    activate(deployment.course.layout, "site", OLD)
    ReleaseJournal().with_place("site", OLD, None).with_healthy(OLD, "site", 5).save(deployment.course.layout.journal)
    real, seen = os.readlink, set[tuple[str, str]]()

    def fail_once_for_each_target(path: Any) -> str:
        target = str(real(path))
        if (str(path), target) not in seen:
            seen.add((str(path), target))
            raise OSError(errno.EIO, "Input/output error", str(path))
        return target

    monkeypatch.setattr(os, "readlink", fail_once_for_each_target)
    deployment.run()
    assert outcome(told) == ("active", None)
    assert {progress.retry for progress in told if progress} == {None, "disk"}
    assert ReleaseJournal.load(deployment.course.layout.journal).healthy == (COMMIT, OLD)


@pytest.mark.parametrize("closed", ["base", "own", "releases"])
def test_a_directory_that_is_closed_for_a_moment_while_a_release_is_checked_causes_no_rollback(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    layout = deployment.course.layout
    for commit_id in (COMMIT, OLD):
        layout.release(commit_id).mkdir()
    activate(layout, "site", COMMIT)
    directory = getattr(layout, closed)
    monkeypatch.setattr(deployment.handshake, "sleep", lambda _seconds: directory.chmod(0o755))
    find = deployment._proof.find_problem_of_place
    with other_user(layout.base.parent):
        directory.chmod(0o000)
        assert find(PlacedRelease(COMMIT, "site")) is None
        assert [progress.retry for progress in told if progress] == ["disk"]
        assert str(find(PlacedRelease(OLD, "site"))).startswith(f"{layout.base}/site does not lead to release {OLD}")


def test_an_earlier_release_is_looked_for_once_the_directory_it_is_in_can_be_read(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = deployment.course.layout
    layout.release(OLD).mkdir()
    deployment.course.target = PlacedRelease(COMMIT, "shop/site")
    activate(layout, "shop/site", OLD)
    directory = layout.base / "shop"
    monkeypatch.setattr(deployment.handshake, "sleep", lambda _seconds: directory.chmod(0o755))
    with other_user(layout.base.parent):
        directory.chmod(0o000)
        assert deployment.course.wait_out("queued", deployment._back.look_back) == OLD


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_a_release_that_has_failed_does_not_stay_live_because_a_manifest_cannot_be_read(
    deployment: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    layout = deployment.course.layout
    deployment.course.config = replace(deployment.course.config, health_timeout=0.2)
    stage(deployment, COMMIT)
    stage(deployment, OLD)
    activate(layout, "site", OLD)
    ReleaseJournal().with_place("site", OLD, None).with_healthy(OLD, "site", 5).save(layout.journal)
    load, tries = Manifest.load, []

    def fail(path: Path) -> Manifest | None:
        if path == layout.manifest(OLD):
            tries.append(path)
            if len(tries) > 1000:
                deployment.cancel()  # it would be tried again indefinitely
            time.sleep(0.001)
            raise OSError(number, os.strerror(number), str(path))
        return load(path)

    monkeypatch.setattr(Manifest, "load", fail)
    monkeypatch.setattr(deployment._proof, "find_problem", lambda _soak=0.0: "not healthy")
    monkeypatch.setattr(deployment.handshake, "sleep", lambda _seconds: deployment.handshake.check())
    deployment.run()
    assert live_commit(layout, "site") == OLD
    assert f"not healthy; rolled back to {OLD}" in str(outcome(told)[1])
    assert len(tries) > 1, "it may be otherwise the next time"


def test_a_proof_that_has_given_up_does_not_announce_another_try(
    unproved: Deployment, told: list[Progress | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = proof_of_what_is_live(unproved, told)
    tries: list[int] = []

    def fail(*_words: Any) -> None:
        if tries:
            proof.course.patience = -1.0
        tries.append(1)
        raise PassingError("restarting shop can't be started now", "process")

    monkeypatch.setattr(proof._hooks, "_steps", lambda *_words: [fail])
    monkeypatch.setattr(proof.handshake, "sleep", lambda _seconds: None)
    proof.run()
    assert proof.has_yielded
    assert outcome(told) == ("activating", "restarting shop can't be started now")


def test_cancelling_a_deployment_does_not_wait_for_the_disk(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    writes, may_write = threading.Event(), threading.Event()
    save = ReleaseJournal.save

    def save_slowly(journal: ReleaseJournal, path: Path) -> None:
        writes.set()
        may_write.wait(60)
        save(journal, path)

    monkeypatch.setattr(ReleaseJournal, "save", save_slowly)
    deployment.start()
    assert writes.wait(30)
    canceller = threading.Thread(target=deployment.cancel, daemon=True)
    canceller.start()
    wait_for(lambda: not canceller.is_alive(), "it is cancelled")
    may_write.set()
    deployment.join(30)
    assert ReleaseJournal.load(deployment.course.layout.journal).attempts(7, COMMIT) == 0
    assert live_commit(deployment.course.layout, "site") is None


def test_the_end_of_an_agent_whose_hook_still_runs_is_not_held_against_the_release(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(deployment, COMMIT)
    runs, may_end = threading.Event(), threading.Event()

    def run(*_words: Any) -> command.Ended:
        runs.set()
        may_end.wait(60)
        return command.Ended(None, "")

    deployment.course.config = replace(deployment.course.config, hooks=Hooks(after_activate=("use",)))
    monkeypatch.setattr(command, "run", run)
    deployment.start()
    assert runs.wait(30)
    journal = deployment.course.layout.journal
    assert ReleaseJournal.load(journal).attempts(7, COMMIT) == 1
    deployment.end(0.0)
    assert deployment.is_alive()
    assert ReleaseJournal.load(journal).attempts(7, COMMIT) == 0
    may_end.set()
    deployment.join(30)


@pytest.mark.parametrize(("kills", "runs", "state"), [(2, 3, "active"), (9, 3, "failed")])
@pytest.mark.parametrize("name", ["before_activate", "after_activate"])
def test_a_hook_that_is_killed_is_run_again_until_the_third_time_in_a_row(
    deployment: Deployment, told: list[Progress | None], tmp_path: Path, name: str, kills: int, runs: int, state: str
) -> None:
    notes = tmp_path / "notes"
    stage(deployment, COMMIT)
    script = f"echo >> {notes}; test $(wc -l < {notes}) -gt {kills} || kill -9 $$"
    deployment.course.config = replace(deployment.course.config, hooks=Hooks(**{name: ("sh", "-c", script)}))
    deployment.run()
    assert outcome(told)[0] == state
    assert len(notes.read_text().splitlines()) == runs
    why = f"hook {name} ended with status -9; is this host short of memory?"
    waits = [progress for progress in told if progress and progress.retry]
    assert [(progress.retry, progress.state) for progress in waits] == [("killed", "activating")] * 2
    assert all(why in (progress.message or "") for progress in waits)
    if state == "failed":
        assert f"hook {name} ended with status -9" in (outcome(told)[1] or "")
