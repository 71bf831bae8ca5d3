"""What the agent's loop does in its turns: what it deploys, reports, reloads, registers and tries again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from support.waiting import wait_for
from zoo_watcher import watcher as watcher_module
from zoo_watcher.__main__ import _check_reload
from zoo_watcher.config.config import Config
from zoo_watcher.desired import Assignment, Desired, Standstill
from zoo_watcher.errors import AgentError, ConfigError, SessionTroubleError
from zoo_watcher.host.controls import DRAINED, HELD, RETRY, remove_mark, write_mark
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.thread import Thread
from zoo_watcher.releases.activation import activate
from zoo_watcher.releases.course import Progress
from zoo_watcher.releases.deployment import Deployment
from zoo_watcher.releases.handshake import Phase
from zoo_watcher.releases.journal import Failure, ReleaseJournal
from zoo_watcher.rollouts import participation
from zoo_watcher.rollouts.facts import HostFacts
from zoo_watcher.rollouts.participation import Participation
from zoo_watcher.rollouts.znodes import RolloutZnodes, View
from zoo_watcher.status_board import StatusBoard
from zoo_watcher.watcher import Watcher
from zoo_watcher.wire.records import InvalidRecord, Release
from zoo_watcher.wire.rollout_records import HostEntry, begin
from zoo_watcher.zookeeper.session import Session


class Loop:
    """A loop that deploys nothing, but records what it would deploy."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layout = Layout(base)
        self.layout.make()
        self.deployed: list[str] = []
        self._watcher = Watcher(Config.from_object({"hosts": "127.0.0.1:1", "base": str(base)}), "1", lambda: None)
        monkeypatch.setattr(self._watcher.convergence, "_deploy", self._deploy)
        monkeypatch.setattr(self._watcher, "_keep_lock", lambda: None)

    def _deploy(self, desired: Desired, release: Release, **_options: bool) -> None:
        self.deployed.append(release.commit_id)
        self._watcher.convergence._enter("queued", desired)

    def delete(self) -> str:
        """Have nothing desired any more, and return the state afterwards."""
        self.begin_turn()
        self._watcher.desired.is_read = True
        self._watcher.desired.current = None
        self._watcher.convergence.converge()
        return self._watcher.board.status.state

    def follow_in_vain(self, desired: Desired) -> Desired | None:
        """Have a release desired whose rollout this host can't follow, being invisible; returns what to deploy."""
        self._watcher.desired.current = desired
        with pytest.raises(AgentError):
            self._watcher._follow_rollout()
        return self._watcher.convergence._assigned

    def end(self) -> None:
        """Have the deployment that is under way end without an outcome."""
        assert self._watcher.convergence.deployment
        self._watcher.convergence.note(self._watcher.convergence.deployment, None)

    def run_started(self) -> list[tuple[str, str | None]]:
        """Wait for the end of what was begun, and return what it has reported."""
        assert self._watcher.convergence.deployment
        self._watcher.convergence.deployment.join()
        told = []
        for deployment, progress in self._watcher.inbox.wait(0):
            self._watcher.convergence.note(deployment, progress)
            told += [(progress.state, progress.message)] if progress else []
        return told

    def demand_contact(self, seconds: float) -> None:
        """Require that the ensemble answers within this many seconds."""
        self._watcher.convergence._config = replace(self._watcher.config, rollback_when_isolated=seconds)

    def has_begun_in_isolation(self) -> bool:
        """Whether something is under way after a turn in which no server answers."""
        self.turn()
        return self._watcher.convergence.deployment is not None

    def leave_unproved(self, letter: str, before: str, generation: int) -> None:
        """Have a release live that an earlier agent left unproved, after one that was healthy."""
        for one in (before, letter):
            self.activate(one)
        journal = ReleaseJournal().with_place("site", None, None).with_healthy(before * 40, "site", 5)
        journal.with_attempt(generation, letter * 40, "site", before * 40).save(self.layout.journal)

    def has_ended(self, generation: int, letter: str) -> Callable[[], None]:
        """Have a deployment end whose last reports the loop has not taken yet; returns a function that takes them."""
        release = Release("https://git.example/site.git", letter * 40, "site")
        config = self._watcher.config
        told: list[Progress | None] = [Progress("active"), None]
        deployment = Deployment(
            config, self._watcher.convergence.journal, release, generation, 1, self._watcher.health, told.append
        )
        deployment.handshake.enter(Phase.ENDED)
        self._watcher.convergence.deployment = deployment

        def take() -> None:
            for progress in told:
                self._watcher.convergence.note(deployment, progress)

        return take

    def begin(self, generation: int, letter: str) -> Deployment:
        """Have a deployment under way that does nothing."""
        release = Release("https://git.example/site.git", letter * 40, "site")
        made = Deployment(
            self._watcher.config,
            self._watcher.convergence.journal,
            release,
            generation,
            1,
            self._watcher.health,
            lambda _progress: None,
        )
        self._watcher.convergence.deployment = made
        return made

    def begin_packing(self, generation: int, letter: str) -> Deployment:
        """Have a release live and active whose deployment is still packing the object store."""
        self.converge(generation, letter)
        self.activate(letter)
        deployment = self.begin(generation, letter)
        deployment.handshake.activate()
        deployment.handshake.enter(Phase.SETTLED)
        self._watcher.convergence._served = self._watcher.convergence._goal
        self._watcher.convergence.note(deployment, Progress("active"))
        return deployment

    def begin_turn(self) -> None:
        """Begin a turn, in which what was read in the previous one is read again."""
        self._watcher.convergence.journal.forget()

    def take_steps(self, generation: int, letter: str) -> None:
        """Take all steps of a turn with a release desired that may not be deployed, though no server answers."""
        self._watcher.desired.is_read = True
        release = Release("https://git.example/site.git", letter * 40, "site")
        self._watcher.desired.current = Desired(generation, 1, release)
        for step in (self._watcher.convergence.converge, self._watcher._verify_live, self._watcher._serves):
            step()

    def turn(self) -> None:
        """Take a turn of the loop while no server answers."""
        self._watcher._turn()

    def said_of_hold(self) -> str | None:
        """The effect of a hold, according to the status file."""
        said = json.loads(self.layout.status.read_text()).get("holding")
        return None if said is None else str(said)

    def lost(self) -> str | None:
        """The report about a live release that has disappeared."""
        return self._watcher.convergence.loss()

    @property
    def troubles(self) -> list[str]:
        """The troubles in the status."""
        return list(self._watcher.board.status.troubles or ())

    def hold(self) -> None:
        """Have a person hold the host."""
        write_mark(self.layout, HELD, "disk swap", "ann")
        self._watcher.controls.refresh()

    def release(self) -> None:
        """Have a person end the hold."""
        remove_mark(self.layout, HELD)
        self._watcher.controls.refresh()

    def retry(self) -> str:
        """Have a person ask for a retry, and return the answer."""
        self.begin_turn()
        write_mark(self.layout, RETRY, "", "ann")
        self._watcher.controls.refresh()
        self._watcher.desired.is_read = True
        self._watcher.convergence.retry_where_asked()
        answer = self._watcher.controls.answer
        return str(answer["message"]) if answer else "none"

    def activate(self, letter: str) -> None:
        """Have a release live."""
        self.layout.release(letter * 40).mkdir()
        activate(self.layout, "site", letter * 40)

    def converge(self, generation: int, letter: str, url: str = "https://git.example/site.git") -> str:
        """Have a release desired, and return the state afterwards."""
        return self._converge(Desired(generation, 1, Release(url, letter * 40, "site")))

    def refuse(self, generation: int) -> str:
        """Have a release published that this host refuses, and return the state afterwards."""
        return self._converge(Desired(generation, 1, problem="not allowed here"))

    def _converge(self, desired: Desired) -> str:
        self.begin_turn()
        self._watcher.desired.is_read = True
        self._watcher.desired.current = desired
        self._watcher.convergence.converge()
        return self._watcher.board.status.state


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """The loop of an agent that has just been started."""
    return Loop(tmp_path / "base", monkeypatch)


def test_a_release_is_deployed_once(loop: Loop) -> None:
    loop.converge(7, "a")
    loop.converge(7, "a")
    assert loop.deployed == ["a" * 40]


def test_another_release_with_the_same_generation_is_deployed_too(loop: Loop) -> None:
    loop.converge(7, "a")
    loop.converge(7, "b")
    loop.converge(7, "b", url="https://git.example/other.git")
    assert loop.deployed == ["a" * 40, "b" * 40, "b" * 40]


def test_a_step_that_fails_keeps_no_other_from_its_turn_and_is_a_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = Watcher(Config.from_object({"hosts": "127.0.0.1:1", "base": str(tmp_path)}), "1", lambda: None)
    asked: list[bool | None] = []

    def update(*, serving: bool | None) -> list[str]:
        asked.append(serving)
        return []

    def starve(_layout: Layout) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    def err() -> None:
        raise TypeError("wrong")

    def fail() -> None:
        raise AgentError("the agent has to end")

    monkeypatch.setattr(watcher.registrations, "update", update)
    monkeypatch.setattr(watcher.desired, "refresh", lambda: None)
    monkeypatch.setattr(watcher.board, "report", err)
    watcher.desired.current, watcher.desired.is_read = Desired(7, 1, problem="garbage"), True
    with monkeypatch.context() as patch:
        patch.setattr(Layout, "staged", starve)
        watcher._take_steps()
    assert asked == [None], "what is registered stays as it is, unless it is not healthy"
    wrong = "unexpected TypeError('wrong')"
    assert watcher.troubles.current == [wrong, "this host lacks something: OSError(24, 'Too many open files')"]
    watcher.troubles.begin_turn()
    watcher._take_steps()
    assert (asked, watcher.troubles.current) == ([None, False], [wrong])
    monkeypatch.setattr(watcher.board, "report", fail)
    with pytest.raises(AgentError, match="has to end"):
        watcher._take_steps()


def test_a_turn_that_an_error_interrupts_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher(Config.from_object({"hosts": "127.0.0.1:1", "base": str(tmp_path)}), "1", lambda: None)
    turns: list[None] = []

    def turn() -> float:
        turns.append(None)
        if len(turns) < 4:
            raise ValueError("wrong")
        return 7.0

    monkeypatch.setattr(watcher_module, "AFTER_MISTAKE", 0.01)
    monkeypatch.setattr(watcher, "_turn", turn)
    assert [watcher._wait_and_look(0.0) for _turn in range(4)] == [0.0, 0.0, 0.0, 7.0]
    assert caplog.text.count("Traceback") == 1, "it is told once"


def test_a_failure_counts_for_the_release_that_failed_and_not_for_another_of_its_generation(loop: Loop) -> None:
    ReleaseJournal().with_failure(Failure(7, "rolled_back", "not healthy")).save(loop.layout.journal)
    assert loop.converge(7, "a") == "rolled_back"
    assert loop.converge(7, "b") == "queued"
    assert loop.deployed == ["b" * 40]


def test_a_held_agent_deploys_nothing_except_a_release_that_is_already_live(loop: Loop) -> None:
    loop.hold()
    assert loop.converge(7, "a") == "idle"
    loop.activate("a")
    assert loop.converge(7, "a") == "queued"
    assert loop.converge(8, "b") == "idle"
    assert loop.deployed == ["a" * 40]


def test_a_hold_cancels_a_release_that_is_not_live_yet_even_if_no_server_answers(loop: Loop) -> None:
    for activated in (False, True):
        deployment = loop.begin(7, "a")
        if activated:
            deployment.handshake.activate()
        loop.hold()
        loop.turn()
        assert deployment.handshake.is_cancelled() is not activated
        assert loop.said_of_hold() == (
            "what is live already is proved or rolled back"
            if activated
            else f"the deployment of {'a' * 40} is cancelled"
        )


def test_a_release_that_is_not_live_yet_is_not_deployed_once_nothing_is_desired(loop: Loop) -> None:
    loop.converge(7, "a")
    deployment = loop.begin(7, "a")
    loop.delete()
    assert deployment.handshake.is_cancelled()
    loop.end()
    assert loop.delete() == "idle"
    assert loop.converge(7, "a") == "queued", "it is back, with an ensemble of before"
    assert loop.deployed == ["a" * 40] * 2


def test_a_live_release_is_brought_to_its_outcome_even_if_nothing_is_desired_any_more(loop: Loop) -> None:
    loop.converge(7, "a")
    deployment = loop.begin(7, "a")
    deployment.handshake.activate()
    loop.delete()
    assert not deployment.handshake.is_cancelled()


def test_a_refused_release_is_reported_even_while_the_object_store_is_packed(loop: Loop) -> None:
    deployment = loop.begin_packing(7, "a")
    assert loop.converge(7, "a") == "active"
    loop.delete()
    assert not deployment.handshake.is_cancelled(), "nothing is to be told"
    loop.refuse(8)
    assert deployment.handshake.is_cancelled()
    loop.end()
    assert loop.refuse(8) == "failed"


def test_a_live_release_that_disappears_is_reported_and_retried_even_while_the_object_store_is_packed(
    loop: Loop,
) -> None:
    deployment = loop.begin_packing(7, "a")
    loop.hold()
    loop.turn()
    assert loop.said_of_hold() is None
    loop.release()
    loop.layout.place("site").unlink()
    loop.take_steps(7, "a")
    assert loop.lost()
    assert loop.retry() == "generation 7 is tried again"
    loop.converge(7, "a")
    assert deployment.handshake.is_cancelled()


def test_the_state_is_idle_where_a_hold_has_cancelled_a_release_that_is_no_longer_desired(
    loop: Loop,
) -> None:
    loop.converge(7, "a")
    loop.begin(7, "a")
    loop.hold()
    loop.turn()
    loop.end()
    assert loop.delete() == "idle"


def test_a_release_that_a_failed_generation_left_unproved_is_settled_by_the_next_agent(loop: Loop) -> None:
    loop.leave_unproved("b", "a", 8)
    failure = Failure(9, "rolled_back", "not healthy; went back", "c" * 40)
    ReleaseJournal.read(loop.layout.journal).with_failure(failure).save(loop.layout.journal)
    loop.converge(9, "c")
    assert loop.run_started()[-1] == ("active", None)
    assert ReleaseJournal.read(loop.layout.journal).unproved("b" * 40, "site") is None
    assert loop.converge(9, "c") == "rolled_back"
    assert loop.deployed == []


def test_a_host_that_was_cut_off_during_the_proof_of_a_release_proves_it_even_if_no_server_answers(loop: Loop) -> None:
    loop.leave_unproved("b", "a", 8)
    loop.demand_contact(0.1)
    wait_for(loop.has_begun_in_isolation, "what is live is proved")


def test_the_outcome_of_a_deployment_is_reported_before_anything_takes_its_place(loop: Loop) -> None:
    take_last_words = loop.has_ended(7, "a")
    loop.hold()
    loop.converge(8, "b")
    take_last_words()
    assert loop.converge(8, "b") == "active"


def test_while_the_live_release_cannot_be_read_the_status_stays_as_it_was_and_nothing_is_begun(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.activate("a")
    take_last_words = loop.has_ended(7, "a")
    loop.converge(7, "a")

    def fail(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    loop.hold()
    with monkeypatch.context() as patch:
        patch.setattr(os, "readlink", fail)
        take_last_words()
        with pytest.raises(OSError, match="Input/output error"):
            loop.converge(8, "a")
    assert loop.converge(8, "a") == "queued", "its last words have been taken"


def test_the_journal_is_read_once_in_a_turn(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    ReleaseJournal().with_place("other", None, None).save(loop.layout.journal)
    read: list[Path] = []
    real = ReleaseJournal.read

    def count(path: Path) -> ReleaseJournal:
        read.append(path)
        return real(path)

    monkeypatch.setattr(ReleaseJournal, "read", count)
    monkeypatch.setattr(ReleaseJournal, "load", count)
    for times in (1, 2):
        loop.begin_turn()
        loop.take_steps(7, "a")
        assert len(read) == times


def test_an_outcome_that_cannot_be_written_is_written_later_and_counts_meanwhile(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = ReleaseJournal.save

    def refuse(journal: ReleaseJournal, path: Path) -> None:
        if "b" * 40 in journal.healthy:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(journal, path)

    loop.leave_unproved("b", "a", 6)
    with monkeypatch.context() as patch:
        patch.setattr(ReleaseJournal, "save", refuse)
        assert loop.delete() == "queued"
        assert loop.run_started()[-1][0] == "active"
        loop.turn()
        assert f"journal not written, path={loop.layout.journal}: No space left on device" in loop.troubles
        assert loop.delete() == "active", "it is not proved once more"
    assert ReleaseJournal.load(loop.layout.journal).healthy == ("a" * 40,)
    loop.turn()
    assert ReleaseJournal.load(loop.layout.journal).healthy == ("b" * 40, "a" * 40)
    assert loop.troubles == []


def test_a_failed_release_is_tried_again_only_when_a_person_asks_for_it(loop: Loop) -> None:
    ReleaseJournal().with_failure(Failure(7, "rolled_back", "not healthy", "a" * 40)).save(loop.layout.journal)
    assert loop.converge(7, "a") == "rolled_back"
    assert loop.retry() == "generation 7 is tried again"
    assert loop.converge(7, "a") == "queued"
    assert loop.deployed == ["a" * 40]
    assert loop.retry() == "nothing to retry: generation 7 is queued here"
    assert not loop.layout.control(RETRY).exists()


def test_a_retry_waits_for_the_proof_of_the_release_that_the_host_has_gone_back_to(loop: Loop) -> None:
    loop.leave_unproved("b", "a", 6)
    failure = Failure(7, "rolled_back", "not healthy", "c" * 40)
    ReleaseJournal.load(loop.layout.journal).with_failure(failure).save(loop.layout.journal)
    assert loop.converge(7, "c") == "queued"
    assert loop.retry() == "none", "what has failed is not said to be not tried yet"
    loop.run_started()
    assert loop.converge(7, "c") == "rolled_back"
    assert loop.retry() == "generation 7 is tried again"


def test_a_journal_that_cannot_be_read_is_not_wiped_by_a_retry(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = ReleaseJournal().with_healthy("b" * 40, "site", 5).with_failure(Failure(7, "failed", "x", "a" * 40))
    journal.save(loop.layout.journal)
    loop.converge(7, "a")
    before = loop.layout.journal.read_bytes()

    def read(_path: Path) -> ReleaseJournal:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as context:
        context.setattr(ReleaseJournal, "read", read)
        assert loop.retry() == f"not retried: {loop.layout.journal}: Permission denied"
    assert loop.layout.journal.read_bytes() == before


def test_a_failure_that_cannot_be_forgotten_is_not_tried_again_and_the_answer_says_so(loop: Loop) -> None:
    ReleaseJournal().with_failure(Failure(7, "failed", "not healthy", "a" * 40)).save(loop.layout.journal)
    loop.converge(7, "a")
    loop.layout.journal.with_name(".new.journal.json").mkdir()
    assert loop.retry() == f"not retried: {loop.layout.journal}: .new.journal.json is not a regular file"
    assert loop.converge(7, "a") == "failed"


def test_a_reload_for_which_this_host_lacks_something_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({"hosts": "127.0.0.1:1", "base": str(tmp_path / "base")}))
    config = Config.from_file(str(file))
    watcher = Watcher(config, "1", partial(_check_reload, str(file), Layout(config.base)))
    watcher._on_signal(signal.SIGHUP, None)

    def starve(*_words: object, **_options: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files", str(file))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", starve)
        watcher._reload_where_asked()
        watcher._reconcile()
    assert watcher.ending is None
    said = f"not reloaded yet, tried again: {file}: Too many open files"
    assert said in watcher.troubles.current
    watcher._reload_where_asked()
    assert watcher.ending == "reloading"


@pytest.mark.parametrize("what", ["python", "packages", "packages' files"])
def test_a_reload_while_the_agent_could_not_be_restarted_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """As while the agent is being installed. It would end, and with it the ephemerals that it holds."""
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({"hosts": "127.0.0.1:1", "base": str(tmp_path / "base")}))
    config = Config.from_file(str(file))
    watcher = Watcher(config, "1", partial(_check_reload, str(file), Layout(config.base)))
    with monkeypatch.context() as patch:
        if what == "python":
            patch.setattr(sys, "executable", str(tmp_path / "python"))
        else:
            others = [one for one in sys.path if not Path(one, "kazoo").is_dir()]
            patch.setattr(sys, "path", [*others, str(tmp_path / "begun")])
        if what == "packages' files":
            (tmp_path / "begun/kazoo").mkdir(parents=True)
        watcher._on_signal(signal.SIGHUP, None)
        watcher._reload_where_asked()
    assert watcher.ending is None
    missing = f"{tmp_path}/python" if what == "python" else "the Python package kazoo"
    assert f"{missing} is not there; is the agent being installed? Reload it again after that" in caplog.text
    watcher._on_signal(signal.SIGHUP, None)
    watcher._reload_where_asked()
    assert watcher.ending == "reloading"


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR1])
def test_sigterm_that_comes_while_another_signal_is_handled_ends_the_agent(tmp_path: Path, number: int) -> None:
    handler = Watcher._on_signal.__code__
    lines: list[int] = []

    def interrupt_at(place: int) -> Watcher:
        """Handle the signal, and SIGTERM before the handler's line with this number runs."""
        watcher = Watcher(Config.from_object({"hosts": "127.0.0.1:1", "base": str(tmp_path)}), "1", lambda: None)
        lines.clear()

        def trace(frame: FrameType, event: str, _value: object) -> Any:
            if frame.f_code is handler and event == "line":
                lines.append(frame.f_lineno)
                if len(lines) == place:
                    watcher._on_signal(signal.SIGTERM, None)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            watcher._on_signal(number, None)
        finally:
            sys.settrace(before)
        return watcher

    interrupt_at(0)
    places = len(lines)
    assert places > 2
    assert {interrupt_at(place).ending for place in range(1, places + 1)} == {"leaving"}


def test_a_lack_at_a_reload_is_forgotten_once_the_configuration_is_wrong(tmp_path: Path) -> None:
    lacks = iter([OSError(errno.EMFILE, "Too many open files"), None])

    def check() -> None:
        raise ConfigError(["the last word"]) from next(lacks)

    watcher = Watcher(Config.from_object({"hosts": "127.0.0.1:1", "base": str(tmp_path)}), "1", check)
    watcher._on_signal(signal.SIGHUP, None)
    watcher._reload_where_asked()
    watcher._reload_where_asked()
    watcher._reconcile()
    assert watcher.ending is None
    assert not watcher.troubles.current
    watcher._reload_where_asked()
    assert next(lacks, "asked no more") == "asked no more"


def test_a_service_manager_that_took_nothing_is_told_again_that_the_agent_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manager was busy for a moment and its queue full. Without the notification it would end the agent."""
    loop = Loop(tmp_path / "base", monkeypatch)
    place = str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        manager.bind(place)
        manager.setblocking(False)
        other.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", place)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"STATUS=of another unit", place)
        loop.turn()
        assert not [said for said in _received(manager) if said.startswith(b"READY=1")]
        loop.turn()
        loop.turn()
        assert [said for said in _received(manager) if said.startswith(b"READY=1")] == [b"READY=1\nSTATUS=idle"]


def _received(manager: socket.socket) -> list[bytes]:
    received = []
    with contextlib.suppress(BlockingIOError):
        while True:
            received.append(manager.recv(1000))
    return received


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    """An agent that has not started."""
    return Watcher(Config.from_object({"hosts": "127.0.0.1:1", "base": str(tmp_path)}), "1", lambda: None)


def begun(watcher: Watcher, end: Callable[[Deployment], None]) -> Deployment:
    """A deployment whose thread does nothing but `end`, and has ended."""
    release = Release("https://git.example/site.git", "a" * 40, "site")

    def report(progress: Progress | None) -> None:
        watcher.inbox.put((made, progress))

    made = Deployment(watcher.config, watcher.convergence.journal, release, 7, 1, watcher.health, report)
    made.run = lambda: end(made)  # type: ignore[method-assign]
    made.start()
    made.join()
    watcher.convergence.deployment = made
    return made


def test_a_report_of_a_deployment_that_cannot_be_taken_spoils_no_other(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(made: Deployment) -> None:
        made.course.report("checking")
        made.course.report("active")
        made.course.end()

    def fail(state: str, *_words: object, **_options: object) -> None:
        entered.append(state)
        raise ValueError(state)

    entered: list[str] = []
    begun(watcher, end)
    monkeypatch.setattr(watcher.board, "enter", fail)
    with pytest.raises(ValueError, match="checking"):
        watcher._take_messages(0)
    assert (entered, watcher.convergence.deployment) == (["checking", "active"], None)


def test_a_deployment_whose_thread_ends_without_its_last_report_has_ended_and_is_tried_again(
    watcher: Watcher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher.layout.make()
    (watcher.layout.staging / "half").mkdir()
    made = begun(watcher, lambda made: made.course.report("checking"))
    watcher._take_messages(60)
    assert watcher.convergence.deployment is None
    wait_for(lambda: not watcher.layout.in_staging(), "nothing is left of it")
    again: list[int] = []
    monkeypatch.setattr(
        watcher.convergence, "_deploy", lambda desired, *_words, **_options: again.append(desired.generation)
    )
    watcher.desired.is_read = True
    watcher.desired.current = Desired(7, 1, Release("https://git.example/site.git", "a" * 40, "site"))
    watcher.convergence.converge()
    assert again == [7]
    assert watcher.board.status.state == "checking", "what it has said counts"
    assert f"the deployment thread has died, generation={made.generation}" in caplog.text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EACCES, "Permission denied", "/proc"), "/proc: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "this host: Input/output error"),
        (KeyError("x"), "unexpected KeyError('x')"),
    ],
)
def test_a_reload_whose_check_fails_unexpectedly_is_logged_once_and_costs_the_loop_no_turn(
    watcher: Watcher, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def check() -> None:
        raise error

    monkeypatch.setattr(watcher, "_check_again", check)
    monkeypatch.setattr(watcher, "_turn", lambda: 7.0)
    watcher._on_signal(signal.SIGHUP, None)
    assert [watcher._wait_and_look(0.0) for _time in range(2)] == [7.0, 7.0]
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"not reloaded, the previous configuration stays in force: {said}"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_journal_that_may_not_be_read_is_reported_in_one_line_with_its_path(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    real = os.open

    def refuse(path: str, *words: object, **options: object) -> int:
        if str(path) == str(loop.layout.journal):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *words, **options)  # type: ignore[arg-type]

    loop._watcher.troubles.begin_turn()
    with monkeypatch.context() as patch, loop._watcher.troubles.noted():
        patch.setattr(os, "open", refuse)
        loop.converge(7, "a")
    assert loop._watcher.troubles.current == [f"{loop.layout.journal}: {os.strerror(number)}"]
    assert "Traceback" not in caplog.text


def test_no_watch_is_trusted_for_longer_than_a_minute(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    looks: list[float] = []
    monkeypatch.setattr(watcher.ephemerals, "look_again", lambda: looks.append(now))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for seconds in (0, 59, 2, 58, 3):
        now += seconds
        watcher._look_again()
    assert len(looks) == 2
    watcher._on_signal(signal.SIGUSR1, None)
    watcher._look_again()
    assert len(looks) == 3


def test_a_host_that_cannot_take_part_in_a_rollout_stays_as_it_is(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(_board: object) -> None:
        raise AgentError("no status of server1: another agent holds it")

    monkeypatch.setattr(StatusBoard, "report", report)
    release = Release("https://git.example/a.git", "a" * 40, "site", extra={"rollout": True})
    assert loop.follow_in_vain(Desired(7, 1, release)) is None


def test_a_rollout_that_could_not_be_looked_at_keeps_no_later_release_from_being_deployed(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_parts: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("zoo_watcher.rollouts.facts.HostFacts", fail)
    release = Release("https://git.example/a.git", "a" * 40, "site", extra={"rollout": True})
    watcher.desired.current = Desired(7, 1, release)
    with pytest.raises(OSError, match="Too many open files"):
        watcher._follow_rollout()
    assert watcher.convergence._assigned is None
    watcher.desired.current = Desired(8, 1, Release("https://git.example/a.git", "b" * 40, "site"))
    watcher._follow_rollout()
    assert watcher.convergence._assigned == watcher.desired.current


@pytest.mark.parametrize("is_stopping", [True, False], ids=["a reload waits for a hook", "no status can be written"])
def test_a_rollout_that_is_not_followed_keeps_no_processor_busy(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, is_stopping: bool
) -> None:
    def report(_board: object) -> None:
        raise SessionTroubleError("no status of server1: another agent holds it")

    def follow() -> None:
        with watcher.troubles.noted():
            watcher._follow_rollout()

    monkeypatch.setattr(StatusBoard, "report", report)
    monkeypatch.setattr(Session, "usable", True)
    monkeypatch.setattr(watcher, "_take_steps", follow)
    release = Release("https://git.example/a.git", "a" * 40, "site", extra={"rollout": True})
    watcher.desired.current = Desired(7, 1, release)
    facts = HostFacts(watcher.config, watcher.layout, watcher.convergence, watcher.health, watcher.controls)
    watcher.rollout = Participation(facts, watcher.session, watcher.desired.current, watcher.wake, resumes=False)
    watcher.rollout._timers.wake_at(time.monotonic())
    watcher.convergence.is_stopping = is_stopping
    watcher.troubles.begin_turn()
    assert watcher._reconcile() > 0


def test_a_rollout_that_is_too_large_for_a_znode_is_tried_again_only_after_a_while(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, now = [], [1000.0]

    def begin_in_vain(*_arguments: object) -> bool:
        begun.append(now[0])
        raise InvalidRecord("too large")

    monkeypatch.setattr(participation, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(RolloutZnodes, "begin", begin_in_vain)
    monkeypatch.setattr(Session, "read", lambda *_arguments: None)
    release = Release("https://git.example/a.git", "a" * 40, "site", extra={"rollout": True})
    facts = HostFacts(watcher.config, watcher.layout, watcher.convergence, watcher.health, watcher.controls)
    part = Participation(facts, watcher.session, Desired(7, 1, release), watcher.wake, resumes=False)
    for now[0] in (2000.0, 2001.0, 2060.0, 2000.0 + participation.REFUSED_PLAN):
        part._begin()
        assert part.assignment == Assignment(None, Standstill(7, "failed", "rollout: too large"))
    assert begun == [2000.0, 2000.0 + participation.REFUSED_PLAN]


def test_a_host_that_is_to_try_again_is_not_admitted_while_its_status_cannot_be_written(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(_board: object) -> None:
        raise SessionTroubleError("no status of server1: another agent holds it")

    monkeypatch.setattr(StatusBoard, "report", report)
    release = Release("https://git.example/a.git", "a" * 40, "site", extra={"rollout": True})
    desired = watcher.desired.current = Desired(7, 1, release)
    facts = HostFacts(watcher.config, watcher.layout, watcher.convergence, watcher.health, watcher.controls)
    watcher.rollout = Participation(facts, watcher.session, desired, watcher.wake, resumes=False)
    state = replace(begin(release, True, replace(release, commit_id="b" * 40), 3), phase="halted")
    watcher.rollout._sight.view = View(state, 0, HostEntry("failed"))
    # The earlier failure was recorded here, and a person has had it forgotten.
    watcher.rollout.assignment = Assignment(desired)
    with pytest.raises(SessionTroubleError):
        watcher._follow_rollout()
    assert watcher.convergence._assigned != desired


def test_a_hold_is_shown_even_if_the_live_release_cannot_be_read(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> str | None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/srv/site")

    loop.begin(7, "a")
    write_mark(loop.layout, HELD, "disk swap", "ann")
    monkeypatch.setattr("zoo_watcher.releases.live_proof.live_commit", fail)
    loop.turn()
    assert json.loads(loop.layout.status.read_text())["held"]["reason"] == "disk swap"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("can't start new thread"), "deployment of generation {} not started: can't start new thread"),
        (MemoryError(), "this host lacks something: MemoryError()"),
    ],
)
@pytest.mark.parametrize("is_live", [False, True], ids=["a deployment", "a proof"])
def test_a_deployment_for_which_no_thread_can_be_started_is_reported_and_begun_as_soon_as_one_can_be(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str, is_live: bool
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise error

    def converge() -> None:
        watcher.troubles.begin_turn()
        with watcher.troubles.noted():
            watcher.convergence.converge()

    layout = watcher.layout
    layout.make()
    if is_live:
        layout.release("a" * 40).mkdir()
        activate(layout, "site", "a" * 40)
        ReleaseJournal().with_place("site", None, None).with_attempt(6, "a" * 40, "site", None).save(layout.journal)
    monkeypatch.setattr(watcher.board, "report", lambda: None)
    monkeypatch.setattr(Session, "usable", True)
    monkeypatch.setattr(watcher, "_take_steps", converge)
    watcher.desired.is_read = True
    # An invalid release is not deployed.
    release = None if is_live else Release("https://git.example/site.git", "a" * 40, "site")
    watcher.desired.current = Desired(7, 1, release, "garbage" if is_live else None)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pauses = [watcher._reconcile() for _turn in range(2)]
    assert max(pauses) < 30, "it is tried again soon"
    generation = 6 if is_live else 7
    assert list(watcher.board.status.troubles or ()) == [told.format(generation)]
    assert (watcher.convergence.deployment, watcher.board.status.state) == (None, "idle")
    monkeypatch.setattr(Thread, "start", lambda _thread: None)
    watcher._reconcile()
    begun = watcher.convergence.deployment
    assert begun is not None
    assert (begun.generation, watcher.board.status.state) == (generation, "queued")
    assert watcher.board.status.troubles is None


class Service:
    """An agent with one service, and the value that the service is registered with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, base: Path, **keys: Any) -> None:
        service = {"path": "/service", "port": 80, "id": "web1", **keys}
        config = Config.from_object({"hosts": "127.0.0.1:1", "base": str(base), "services": [service]})
        self.watcher = Watcher(config, "1", lambda: None)
        self.watcher.health.checkers[0].healthy = True
        self.value: bytes | None = None
        self.refusal: Exception | None = None
        self.on_withdrawal: Callable[[], None] = lambda: None
        monkeypatch.setattr(self.watcher.ephemerals, "hold", self._hold)
        monkeypatch.setattr(self.watcher.ephemerals, "withdraw", self._withdraw)
        monkeypatch.setattr(self.watcher.ephemerals, "withdraw_others", self._keep_others)
        self.watcher.desired.is_read = True

    def _hold(self, _path: str, value: bytes) -> None:
        self.value = value

    def _withdraw(self, _path: str) -> None:
        if self.refusal:
            raise self.refusal
        self.value = None

    def _keep_others(self, _configured: set[str]) -> None:
        self.on_withdrawal()

    def register(self) -> None:
        """Do what the loop does about registrations in one turn."""
        self.watcher.troubles.begin_turn()
        self.watcher.controls.refresh()
        self.watcher.board.set_controls(self.watcher.controls)
        self.watcher._find_address()
        self.watcher._register()

    @property
    def is_withdrawn(self) -> bool:
        """Whether the status tells the person who drains that nothing is registered."""
        self.watcher.board.show()
        return json.loads(self.watcher.layout.status.read_text()).get("withdrawn") is True


def test_a_host_is_registered_at_the_address_of_its_present_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = Service(monkeypatch, tmp_path)
    registered: list[str] = []
    for connections, address in ((1, "192.0.2.7"), (1, "192.0.2.8"), (2, "192.0.2.9"), (3, "192.0.2.7")):
        monkeypatch.setattr(Session, "connections", connections)
        monkeypatch.setattr(Session, "local_address", address)
        service.register()
        registered.append(json.loads(service.value or b"[null]")[0])
    assert registered == ["192.0.2.7", "192.0.2.7", "192.0.2.9", "192.0.2.7"], "looked up once for each connection"


def test_a_drain_that_begins_while_registrations_are_looked_at_is_answered_once_they_are_withdrawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = Service(monkeypatch, tmp_path, address="192.0.2.7")
    release = Release("https://git.example/site.git", "a" * 40, "site")
    watcher = service.watcher
    made = watcher.convergence.deployment = Deployment(
        watcher.config, watcher.convergence.journal, release, 7, 1, watcher.health, lambda _progress: None
    )
    service.on_withdrawal = lambda: made.handshake.enter(Phase.DRAINING)
    service.register()
    assert service.value is not None, "it had been decided that the host serves"
    assert not made.handshake.wait_answered(0)
    service.on_withdrawal = lambda: None
    service.refusal = SessionTroubleError("not yours")
    service.register()
    assert not made.handshake.wait_answered(0), "it is registered still"
    service.refusal = None
    service.register()
    assert service.value is None
    assert made.handshake.wait_answered(0)


def test_a_drain_is_reported_as_done_only_once_everything_is_withdrawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    service = Service(monkeypatch, tmp_path, address="192.0.2.7")
    layout = service.watcher.layout
    layout.make()
    service.register()

    def drain() -> None:
        write_mark(layout, DRAINED, "disk swap", "ann")
        service.watcher.controls.refresh()

    service.on_withdrawal = drain
    service.register()
    assert (service.value is None, service.is_withdrawn) == (False, False)
    service.on_withdrawal = lambda: None
    service.refusal = SessionTroubleError("not yours")
    service.register()
    assert (service.value is None, service.is_withdrawn) == (False, False)
    service.refusal = None
    service.register()
    assert (service.value is None, service.is_withdrawn) == (True, True)
    remove_mark(layout, DRAINED)
    service.register()
    assert (service.value is None, service.is_withdrawn) == (False, False)
