"""Whatever happens in a host's life, and at whatever instant, it does not stay with a release that was never proved.

The loop's decisions, the deployments and the journal are the real ones, in one thread. Whether the host is healthy is
told by what is live; publications, controls, restarts and crashes come between two steps, or in the middle of one.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from zoo_watcher.config.config import Config, Hooks
from zoo_watcher.desired import Desired
from zoo_watcher.errors import DeployError, YieldedError
from zoo_watcher.host import command
from zoo_watcher.host.controls import HELD, remove_mark, write_mark
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.activation import activate, live_commit
from zoo_watcher.releases.course import Course
from zoo_watcher.releases.deployment import Deployment
from zoo_watcher.releases.fetching import Fetching
from zoo_watcher.releases.handshake import Handshake
from zoo_watcher.releases.health_proof import HealthProof
from zoo_watcher.releases.journal import Attempt, ReleaseJournal
from zoo_watcher.releases.live_proof import LiveProof
from zoo_watcher.releases.manifest import Manifest
from zoo_watcher.watcher import Watcher
from zoo_watcher.wire.records import GAVE_UP, Release

FIRST, *OTHERS = (letter * 40 for letter in "abcdef")
PLACES = ("site", "other", "third")
LIVES, TESTS = 50, 4
"""How many lives a test has, and how many tests there are."""
STEPS = 200
"""Steps of the loop after which a life should have come to rest."""
CRASHES = 2
"""How many are held against a release: with fewer, each hook that is owed is run."""


class CrashError(BaseException):
    """The agent ends without a word."""


class RestError(BaseException):
    """Nothing will happen any more: what is under way waits for ever."""


class Life:
    """One life, by its `seed`. The first release is healthy; of the others some are not, or can't be deployed."""

    def __init__(self, seed: int, base: Path) -> None:
        self.chance = random.Random(seed)  # nothing to guess
        self.unhealthy, self.failing, self.missing, self.refused = map(self._some, (0.4, 0.15, 0.15, 0.1))
        """Releases that make the host unhealthy, whose hook fails, that nobody has, that are too large."""
        self.events: list[Callable[[], None]] = [lambda: self._publish(FIRST, PLACES[0])]
        self.events += [self._event() for _number in range(self.chance.randint(2, 7))]
        self.frequency = self.chance.choice((0, 0.03, 0.1, 0.25))
        self.crashes_left = self.chance.choice((0, 0, 1, 3))
        self.crashes = self.generation = 0
        self.desired: Desired | None = None
        self.restarting = False
        self.given_up: set[int] = set()
        self.unused: dict[str, str] = {}
        """What is live at a place, until its hook has been run."""
        config = Config.from_object({"hosts": "127.0.0.1:1", "base": str(base)})
        hooks = Hooks(("before",), ("after",), ("back",))
        self.config = replace(config, health_timeout=0.0, hooks=hooks)
        self._descriptors: tuple[int, ...] = ()
        self._start()
        for commit_id in (FIRST, *OTHERS):
            self.watcher.layout.release(commit_id).mkdir()
            Manifest.of(self.watcher.layout.release(commit_id)).save(self.watcher.layout.manifest(commit_id))

    def _some(self, share: float) -> set[str]:
        return {commit_id for commit_id in OTHERS if self.chance.random() < share}

    def _event(self) -> Callable[[], None]:
        if self.chance.random() < 0.6:
            commit_id, place = self.chance.choice((FIRST, *OTHERS)), self.chance.choice(PLACES)
            return lambda: self._publish(commit_id, place)
        return self.chance.choice((self._publish_garbage, self._delete, self._hold, self._release, self._restart))

    def _publish(self, commit_id: str, place: str) -> None:
        self.generation += 1
        self.desired = Desired(self.generation, 1, Release("https://git.example/site.git", commit_id, place))

    def _publish_garbage(self) -> None:
        self.generation += 1
        self.desired = Desired(self.generation, 1, problem="garbage")

    def _delete(self) -> None:
        self.desired = None

    def _hold(self) -> None:
        write_mark(self.watcher.layout, HELD, "disk swap", "ann")

    def _release(self) -> None:
        remove_mark(self.watcher.layout, HELD)

    def _restart(self) -> None:
        self.restarting = True
        if self.watcher.convergence.deployment:
            self.watcher.convergence.deployment.cancel()

    def _start(self) -> None:
        """Start an agent, whose deployments run when the loop has begun them."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self.watcher = watcher = Watcher(self.config, "1", lambda: None)
        self._descriptors = (watcher.inbox._readable, watcher.inbox._writable)
        self.restarting = False
        self.begun: LiveProof | None = None
        watcher.layout.make()
        watcher.desired.is_read = True

    def begin(self, deployment: LiveProof) -> None:
        """As the thread's `start`: it runs when the loop has looked around."""
        self.begun = deployment

    @property
    def live(self) -> dict[str, str | None]:
        """The commit that is live at each place."""
        return {place: live_commit(self.watcher.layout, place) for place in PLACES}

    @property
    def is_healthy(self) -> bool:
        """Whether nothing that is live makes the host unhealthy."""
        return self.unhealthy.isdisjoint(filter(None, self.live.values()))

    def crash_perhaps(self) -> None:
        """While a deployment is under way, the agent may end."""
        if self.watcher.convergence.deployment and self.crashes_left and self.chance.random() < 0.03:
            self.crashes_left -= 1
            raise CrashError

    def _pass_instant(self) -> None:
        """Something may happen at this instant of a deployment."""
        self.crash_perhaps()
        if self.events and self.chance.random() < self.frequency:
            self.events.pop(0)()
            self._look()

    def _check(self) -> None:
        """The deployment sees whether it is cancelled."""
        assert self.watcher.convergence.deployment
        self.watcher.convergence.deployment.handshake.check()

    def _wait_for_ever(self, is_over: Callable[[], bool]) -> None:
        """A deployment waits: other things happen, until there are none."""
        while not is_over():
            if not self.events:
                raise RestError
            self.events.pop(0)()
            self._look()
            self._check()

    def find_problem(self) -> str | None:
        """As in `HealthProof`."""
        self._pass_instant()
        self._check()
        return None if self.is_healthy else "not healthy"

    def wait_for_health(self) -> None:
        """As in `HealthProof`."""
        self._wait_for_ever(lambda: self.is_healthy)

    def fetch(self, course: Course) -> bool:
        """As in `Fetching`: a release is on the disk, or never will be."""
        self._pass_instant()
        self._check()
        commit_id = course.target.commit_id
        if commit_id in self.refused:
            raise DeployError("too large")
        if commit_id in self.missing:
            if course.patience is not None:
                raise YieldedError
            course.report("fetching", "no route")
            self._wait_for_ever(lambda: False)
        return False

    def swap(self, layout: Layout, place: str, commit_id: str) -> None:
        """As `activate`."""
        self._pass_instant()
        before = self.live[place]
        activate(layout, place, commit_id)
        if before != commit_id:
            self.unused[place] = commit_id
        self._pass_instant()

    def run_hook(self, words: tuple[str, ...], names: Mapping[str, str]) -> command.Ended:
        """As `command.run`."""
        self._pass_instant()
        commit_id = names["ZOO_COMMIT"]
        if words != self.config.hooks.after_activate:
            return command.Ended(None, "")
        self.unused = {place: live for place, live in self.unused.items() if live != commit_id}
        return command.Ended("ended with status 1" if commit_id in self.failing else None, "")

    def _look(self) -> None:
        """Let the loop decide."""
        watcher = self.watcher
        watcher.convergence.journal.forget()
        watcher.desired.current = self.desired
        watcher.controls.refresh()
        watcher.convergence.keep_held()
        watcher.convergence.converge()

    def _step(self) -> bool:
        """Let the loop decide, and what it has begun come to its end; whether there was anything to do."""
        self._look()
        deployment, self.begun = self.begun, None
        if deployment is None:
            return False
        if isinstance(deployment, Deployment):
            assert deployment.generation not in self.given_up, "what has failed is tried again"
        deployment.run()
        for made, progress in self.watcher.inbox.wait(0):
            self.watcher.convergence.note(made, progress)
        if self.restarting:
            raise CrashError
        return True

    def run(self) -> None:
        """Live until nothing happens any more, and see to it that all is well then."""
        for _number in range(STEPS):
            try:
                if self.restarting:
                    raise CrashError  # noqa: TRY301  # handled as any end
                if self._step():
                    continue
                self._check_status()
                if not self.events:
                    break
                self.events.pop(0)()
            except CrashError:
                self.crashes += not self.restarting
                self._start()
            except RestError:
                break
        else:
            pytest.fail("it comes to no rest")
        self._check_live()

    def _check_status(self) -> None:
        """While nothing is under way, the state is true."""
        status, release = self.watcher.board.status, self.desired.release if self.desired else None
        assert status.state in {"idle", "active", *GAVE_UP}
        if self.desired is None or release is None or status.generation != self.desired.generation:
            return
        if status.state == "active":
            assert self.live[release.relative_path] == release.commit_id
        assert self.is_healthy or status.state == "failed"
        if status.state in GAVE_UP:
            self.given_up.add(self.desired.generation)

    def _check_live(self) -> None:
        journal = ReleaseJournal.load(self.watcher.layout.journal)
        for place, commit_id in self.live.items():
            others = [other for other, live in self.live.items() if live and other != place]
            earlier = set(journal.place(place).healthy) - {commit_id}
            assert commit_id not in self.unhealthy or not (others or earlier), f"{commit_id} stays live at {place}"
            assert commit_id not in self.failing or not earlier, f"{commit_id}, whose hook fails, stays live"
            is_used = commit_id is None or self.unused.get(place) != commit_id
            assert is_used or self.crashes >= CRASHES, f"{commit_id} is not used"


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Life]:  # a patch for each kind of instant
    """Begins a life by its seed."""
    lives: list[Life] = []
    save = ReleaseJournal.save

    def pass_and_save(journal: ReleaseJournal, path: Path) -> None:
        lives[-1].crash_perhaps()
        save(journal, path)
        lives[-1].crash_perhaps()

    def swap(layout: Layout, place: str, commit_id: str) -> None:
        lives[-1].swap(layout, place, commit_id)

    def start(proof: LiveProof) -> None:
        lives[-1].begin(proof)

    def begin_life(seed: int) -> Life:
        lives.append(Life(seed, tmp_path / str(seed)))
        return lives[-1]

    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(ReleaseJournal, "save", pass_and_save)
    monkeypatch.setattr(command, "run", lambda words, _seconds, names, _directory: lives[-1].run_hook(words, names))
    monkeypatch.setattr(Fetching, "fetch", lambda fetching: lives[-1].fetch(fetching._course))
    monkeypatch.setattr(HealthProof, "find_problem", lambda _proof, _soak=0.0: lives[-1].find_problem())
    monkeypatch.setattr(HealthProof, "wait_for_ever", lambda _proof: lives[-1].wait_for_health())
    monkeypatch.setattr(LiveProof, "start", start)
    monkeypatch.setattr(Handshake, "sleep", lambda made, _seconds: made.check())
    for module in ("deployment", "going_back"):
        monkeypatch.setattr(f"zoo_watcher.releases.{module}.activate", swap)
    return begin_life


@pytest.mark.parametrize("first", range(0, LIVES * TESTS, LIVES))
def test_a_host_does_not_stay_with_what_was_never_proved(begin: Callable[[int], Life], first: int) -> None:
    for seed in range(first, first + LIVES):
        life = begin(seed)
        try:
            life.run()
        except AssertionError as exc:
            raise AssertionError(f"the life {seed}: {exc}") from exc


@pytest.fixture
def life(begin: Callable[[int], Life]) -> Life:
    """A life in which all is well, and nothing happens but what a test does."""
    life = begin(0)
    life.events, life.frequency, life.crashes_left = [], 0, 0
    life.unhealthy, life.failing, life.missing, life.refused = set(), set(), set(), set()
    return life


def publish(life: Life, commit_id: str, place: str) -> tuple[str, int | None, str]:
    """Publish a release; the state, its generation and message when nothing happens any more, or all that is waits."""
    life._publish(commit_id, place)
    return settle(life)


def settle(life: Life) -> tuple[str, int | None, str]:
    """As `publish`, without a publication."""
    with contextlib.suppress(RestError):
        while life._step():
            pass
    for made, progress in life.watcher.inbox.wait(0):
        life.watcher.convergence.note(made, progress)
    status = life.watcher.board.status
    return status.state, status.generation, status.message or ""


def leave_unproved(life: Life, *releases: tuple[str, str]) -> None:
    """Have releases live at their places that an agent has begun and brought to no outcome, the first used last."""
    journal = ReleaseJournal.load(life.watcher.layout.journal)
    begun = []
    for commit_id, place in reversed(releases):
        journal = journal.with_place(place, None, None)
        activate(life.watcher.layout, place, commit_id)
        begun.append(Attempt(9, commit_id, 0, place))
    replace(journal, begun=tuple(begun)).save(life.watcher.layout.journal)
    life._start()


def test_that_a_release_has_failed_is_told_though_what_is_live_waits_for_its_health(life: Life) -> None:
    first, second = FIRST, OTHERS[0]
    life.unhealthy, life.failing = {first}, {second}
    assert publish(life, first, "site")[:2] == ("checking", 1)
    life._start()
    state, generation, message = publish(life, second, "site")
    assert (state, generation) == ("failed", 2)
    assert "hook after_activate" in message
    assert f"{first}, which was live: not healthy" in message


def test_that_what_is_published_is_not_valid_is_told_though_what_is_live_waits_for_its_health(life: Life) -> None:
    life.unhealthy = {FIRST}
    assert publish(life, FIRST, "site")[:2] == ("checking", 1)
    life._start()
    life._publish_garbage()
    state, generation, message = settle(life)
    assert (state, generation) == ("failed", 2)
    assert message.startswith(f"garbage; {FIRST}, which was live: not healthy")


def test_what_has_failed_stays_failed_for_the_next_agent(life: Life) -> None:
    """Where the host goes back to what was never proved, and that has failed as well."""
    live, other = OTHERS[:2]
    leave_unproved(life, (live, "site"))
    life.failing = {live, other}
    told = publish(life, other, "site")
    assert told[:2] == ("failed", 1)
    assert f"{live}, which was live: hook after_activate" in told[2]
    life._start()
    assert settle(life) == told


def test_a_host_that_went_back_has_not_failed_for_what_could_not_be_proved_before(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back is cut off, its end can't be proved for a moment, and then the release fails once more."""
    left = OTHERS[0]
    publish(life, FIRST, "site")
    journal = ReleaseJournal.load(life.watcher.layout.journal)
    journal.with_return(2, (left, "other"), (FIRST, "site"), "why").save(life.watcher.layout.journal)
    life.unhealthy = {left}
    hooks = life.run_hook

    def lack_once(_words: tuple[str, ...], _names: Mapping[str, str]) -> command.Ended:
        monkeypatch.setattr(life, "run_hook", hooks)
        return command.Ended(f"{command.NOT_NOW} start", "")

    monkeypatch.setattr(life, "run_hook", lack_once)
    state, generation, message = publish(life, left, "other")
    assert (state, generation, message) == ("rolled_back", 2, f"not healthy; went back to {FIRST} at site")
    assert life.is_healthy


def test_a_release_that_is_live_tells_nothing_of_another(life: Life) -> None:
    live, other = OTHERS[:2]
    publish(life, FIRST, "other")
    leave_unproved(life, (other, "other"), (live, "site"))
    life.failing = {other}
    assert publish(life, live, "site") == ("active", 2, "")
