"""Whatever happens to a host, and at whatever instant, it does not stay with a release that was never proved.

Nor does a published release wait indefinitely for something else.

The loop's decisions, the deployments and the journal are the real ones, in one thread. The live releases determine
whether the host is healthy. Publications, controls, restarts and crashes come between two steps or within one.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zoo_watcher.config.config import Config, Hooks
from zoo_watcher.desired import Assignment, Desired, Standstill
from zoo_watcher.errors import DeployError, YieldedError
from zoo_watcher.host import command
from zoo_watcher.host.controls import HELD, RETRY, remove_mark, write_mark
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
from zoo_watcher.rollouts.assignment import assign, stable_of
from zoo_watcher.rollouts.turn import HostView, Wait, next_move
from zoo_watcher.watcher import Watcher
from zoo_watcher.wire.records import GAVE_UP, Release
from zoo_watcher.wire.rollout_events import Ask, Command, Decision, Event, Has, Outcome, Tick
from zoo_watcher.wire.rollout_failures import gives_up, timer
from zoo_watcher.wire.rollout_phases import GOING_BACK, GOING_ON, HALTED, RUNNING
from zoo_watcher.wire.rollout_plan import ON_FAILURE
from zoo_watcher.wire.rollout_records import ADMITTED, FAILED, IN_FLIGHT, LOST, RETURNING, RolloutRecord
from zoo_watcher.wire.rollout_records import begin as begin_rollout
from zoo_watcher.wire.rollout_rules import decide

FIRST, *OTHERS = (letter * 40 for letter in "abcdef")
PLACES = ("site", "other", "third")
Begin = Callable[..., Any]
"""Begins a `Life`, or one of another class, from a seed."""
ROLLOUT_LIVES = int(os.environ.get("ZOO_ROLLOUT_LIVES", "60"))
LIVES, TESTS = 50, 4
"""The number of lives in a test, and the number of tests."""
STEPS = 200
"""The number of steps of the loop within which a life has to come to rest."""
CRASHES = 2
"""The number of crashes that are held against a release. With fewer, each hook that is owed is run."""


class CrashError(BaseException):
    """The agent ends abruptly."""


class RestError(BaseException):
    """Nothing more will happen: what is under way waits indefinitely."""


class Life:
    """The life of a host, from a `seed`. Some releases are not healthy, the first more rarely, or can't be deployed."""

    def __init__(self, seed: int, base: Path) -> None:
        self.chance = random.Random(seed)  # need not be unpredictable
        self.unhealthy, self.failing, self.missing, self.refused = map(self._some, (0.4, 0.15, 0.15, 0.1))
        """Releases that make the host unhealthy, whose hook fails, that no server has, and that are too large."""
        self.demands_contact = self.chance.random() < 0.5
        self.isolating = self._some(0.3) if self.demands_contact else set()
        """Releases that cut the host off from the ensemble."""
        self.is_out = False
        """Whether no server answers, whatever is live."""
        self.shortage = self.chance.choice((0, 0, 0.2))
        """How often the host lacks the resources to start a hook."""
        self.unhealthy |= {FIRST} if self.chance.random() < 0.2 else set()
        self.events: list[Callable[[], None]] = [lambda: self._publish(FIRST, PLACES[0])]
        self.events += [self._event() for _number in range(self.chance.randint(2, 7))]
        self.frequency = self.chance.choice((0, 0.03, 0.1, 0.25))
        self.crashes_left = self.chance.choice((0, 0, 1, 3))
        self.fragility, self.is_begun_again = 0.03, False
        self.crashes = self.generation = self.spared = 0
        self.desired: Desired | None = None
        self.assigned: Assignment | None = None
        """What a rollout tells the host to do instead."""
        self.state: RolloutRecord | None = None
        """The state of the rollout in which the host is among the first."""
        self.is_lost = self.is_over = False
        """Whether the agent has ended abruptly in that rollout, and whether it was halted when the next agent began."""
        self.restarting = False
        self.given_up: set[int] = set()
        self.unused: dict[str, str] = {}
        """The live release by place, until its hook has been run."""
        config = Config.from_object({"hosts": "127.0.0.1:1", "base": str(base)})
        hooks = Hooks(("before",), ("after",), ("back",))
        patience = 1.0 if self.demands_contact else 0.0
        self.config = replace(config, health_timeout=0.0, hooks=hooks, rollback_when_isolated=patience)
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
        others = [self._publish_garbage, self._delete, self._hold, self._release, self._retry, self._restart]
        others += [self._roll_out, self._admit, self._go_out, self._lead, self._halt]
        return self.chance.choice(others)

    def _publish(self, commit_id: str, place: str) -> None:
        self.generation += 1
        self._admit()
        self.desired = Desired(self.generation, 1, Release("https://git.example/site.git", commit_id, place))

    def _publish_garbage(self) -> None:
        self.generation += 1
        self._admit()
        self.desired = Desired(self.generation, 1, problem="garbage")

    def _delete(self) -> None:
        self._admit()
        self.desired = None

    def _roll_out(self) -> None:
        """Publish a release that the host waits for, with its present release or the stable one meanwhile."""
        new, stable = self.chance.sample((FIRST, *OTHERS), 2)
        place = self.chance.choice(PLACES)
        self._publish(new, place)
        has = Desired(-self.generation, 1, Release("https://git.example/site.git", stable, place))
        waits = Standstill(self.generation, "waiting", "waits for its turn")
        self.assigned = Assignment(self.chance.choice((None, has)), waits)

    def _lead(self) -> None:
        """Publish a release that the host gets before others."""
        self._publish(self.chance.choice(OTHERS), PLACES[0])
        assert self.desired
        assert self.desired.release
        stable = replace(self.desired.release, commit_id=FIRST)
        self.state = begin_rollout(self.desired.release, True, stable, 3)

    def _halt(self) -> None:
        self.state = replace(self.state, phase=HALTED, reason="it is") if self.state else None

    def _admit(self) -> None:
        self.assigned = self.state = None
        self.is_lost = self.is_over = False

    def _go_out(self) -> None:
        self.is_out = True

    def _hold(self) -> None:
        write_mark(self.watcher.layout, HELD, "disk swap", "ann")

    def _release(self) -> None:
        remove_mark(self.watcher.layout, HELD)

    def _retry(self) -> None:
        self.given_up.clear()
        write_mark(self.watcher.layout, RETRY, "", "ann")

    def _restart(self) -> None:
        self.restarting = True
        if self.watcher.convergence.deployment:
            self.watcher.convergence.deployment.cancel()

    def close(self) -> None:
        """Close the descriptors of the agent's loop."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = ()

    def _start(self) -> None:
        """Start an agent whose deployments run once the loop has begun them."""
        self.close()
        self.watcher = watcher = Watcher(self.config, "1", lambda: None)
        self._descriptors = (watcher.inbox._readable, watcher.inbox._writable)
        self.restarting = False
        self.begun: LiveProof | None = None
        watcher.layout.make()
        self.is_over = self.is_lost and self._view().is_cut_off

    def _lose(self) -> None:
        """End the agent abruptly, which halts a rollout, and start the next one."""
        self.is_lost = self.state is not None
        self._halt()
        self._start()

    def _view(self) -> HostView:
        """The host as a rollout sees it."""
        assert self.desired
        assert self.desired.release
        convergence, release = self.watcher.convergence, self.desired.release
        is_switched = self.live[release.relative_path] == release.commit_id
        is_cut_off = is_switched and convergence.was_cut_off(self.desired)
        held = self.watcher.controls.held is not None
        ended = convergence.outcome_of(self.desired)
        return HostView("web0", {}, convergence.live(), is_switched, ended=ended, is_held=held, is_cut_off=is_cut_off)

    def _take_part(self) -> None:
        """Have the rollout assign the host what to do."""
        if self.state and self.desired:
            entry = LOST if self.is_lost else ADMITTED
            made = assign(self.desired, self.state, self.state.parsed_plan(), entry, self._view())
            self.assigned = made if made.standstill else None

    def begin(self, deployment: LiveProof) -> None:
        """In place of the thread's `start`: the deployment runs after the loop's step."""
        self.begun = deployment

    @property
    def live(self) -> dict[str, str | None]:
        """The commit that is live at each place."""
        return {place: live_commit(self.watcher.layout, place) for place in PLACES}

    @property
    def is_healthy(self) -> bool:
        """Whether no live release makes the host unhealthy."""
        return self.unhealthy.isdisjoint(filter(None, self.live.values()))

    @property
    def is_connected(self) -> bool:
        """Whether a server answers."""
        return not self.is_out and self.isolating.isdisjoint(filter(None, self.live.values()))

    @property
    def target(self) -> Desired | None:
        """The release that is to be deployed."""
        return self.assigned.desired if self.assigned else self.desired

    def crash_perhaps(self) -> None:
        """Let the agent end, perhaps, while a deployment is under way."""
        if self.watcher.convergence.deployment and self.crashes_left and self.chance.random() < self.fragility:
            self.crashes_left -= 1
            self.crashes += 1
            raise CrashError

    def _pass_instant(self) -> None:
        """Let something happen, perhaps, at this instant of a deployment."""
        self.crash_perhaps()
        if self.events and self.chance.random() < self.frequency:
            self.events.pop(0)()
            self._look()

    def _check(self) -> None:
        """Have the deployment check whether it is cancelled."""
        assert self.watcher.convergence.deployment
        self.watcher.convergence.deployment.handshake.check()

    def _wait_for_ever(self, is_over: Callable[[], bool]) -> None:
        """Have a deployment wait while other things happen, until there are none."""
        while not is_over():
            self._happen()
            self._look()
            self._check()

    def _happen(self) -> None:
        """Have the next event happen; in the end a server answers again. Raises `RestError` if nothing is left."""
        if self.events:
            self.events.pop(0)()
        elif self.is_out:
            self.is_out = False
        else:
            raise RestError

    def wait_answered(self) -> bool:
        """As in `Handshake`."""
        self._pass_instant()
        self._check()
        return self.is_connected

    def find_problem(self) -> str | None:
        """As in `HealthProof`."""
        self._pass_instant()
        self._check()
        return None if self.is_healthy else "not healthy"

    def wait_for_health(self) -> None:
        """As in `HealthProof`."""
        self._wait_for_ever(lambda: self.is_healthy)

    def fetch(self, course: Course) -> bool:
        """As in `Fetching`: a release is on disk, or never will be."""
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
        """Like `activate`."""
        self._pass_instant()
        before = self.live[place]
        activate(layout, place, commit_id)
        if before != commit_id:
            self.unused[place] = commit_id
        self._pass_instant()

    def run_hook(self, words: tuple[str, ...], names: Mapping[str, str]) -> command.Ended:
        """Like `command.run`."""
        commit_id = names["ZOO_COMMIT"]
        if words == self.config.hooks.after_activate:
            self._check_hook(commit_id)
        self._pass_instant()
        if self.chance.random() < self.shortage:
            return command.Ended(f"{command.NOT_NOW} start", "")
        if words != self.config.hooks.after_activate:
            return command.Ended(None, "")
        self.unused = {place: live for place, live in self.unused.items() if live != commit_id}
        return command.Ended("ended with status 1" if commit_id in self.failing else None, "")

    def _check_hook(self, commit_id: str) -> None:
        """Note a further run of the release that ended the host, if the rollout is halted and the stable one works."""
        if not (self.is_over and self.state and self.state.stable):
            return
        new, stable = self.state.release["commitId"], self.state.stable["commitId"]
        is_able = stable not in {*self.unhealthy, *self.failing, *self.missing, *self.refused}
        is_free = self.watcher.controls.held is None and not self.demands_contact and not self.shortage
        if commit_id == new and is_able and is_free:
            # The agent would handle an error raised here as one of its own.
            self.is_begun_again = True
        self.spared += commit_id == stable

    def _look(self) -> None:
        """Let the loop decide."""
        watcher = self.watcher
        self._take_messages()
        watcher.convergence.journal.forget()
        watcher.controls.refresh()
        watcher.convergence.keep_held()
        if self.is_connected:
            self._take_part()
            watcher.desired.is_read = True
            watcher.desired.current = self.desired
            watcher.convergence.assignment = self.assigned
            watcher.convergence.retry_where_asked()
            watcher.convergence.converge()
        else:
            watcher.convergence._alone_since = time.monotonic() - 2 * self.config.rollback_when_isolated
            watcher.convergence.go_on_alone()

    def _take_messages(self) -> None:
        for made, progress in self.watcher.inbox.wait(0):
            self.watcher.convergence.note(made, progress)

    def _step(self) -> bool:
        """Let the loop decide and run what it has begun to its end. Returns whether there was anything to do."""
        if self.watcher.controls.retry:
            self.given_up.clear()
        self._look()
        deployment, self.begun = self.begun, None
        if deployment is None:
            return False
        if isinstance(deployment, Deployment):
            assert deployment.generation not in self.given_up, "what has failed is tried again"
        deployment.run()
        has_ended = not deployment.handshake.is_cancelled() and not deployment.has_yielded
        if has_ended and deployment.handshake.has_gone_back:
            # A release and the stable one that its host has instead fail one after the other.
            self.given_up -= {-deployment.generation}
            self.given_up.add(deployment.generation)
        self._take_messages()
        if self.restarting:
            raise CrashError
        return True

    def run(self) -> None:
        """Live until nothing more happens, and check that all is well then."""
        for _number in range(STEPS):
            try:
                if self.restarting:
                    raise CrashError  # noqa: TRY301  # handled like any end
                if self._step():
                    continue
                self._check_status()
                self._happen()
            except CrashError:
                (self._start if self.restarting else self._lose)()
            except RestError:
                self._check_turn()
                self._check_target()
                break
        else:
            pytest.fail("it comes to no rest")
        self._check_live()

    def _check_turn(self) -> None:
        """Check that what waits indefinitely is the deployment of the published release, if that may be deployed."""
        waits = self.watcher.convergence.deployment
        if waits and self.target and self.target.release and self.watcher.controls.held is None and self.is_connected:
            assert waits.generation == self.target.generation, "what is published never gets its turn"

    def _check_target(self) -> None:
        """Check that the release to deploy has an outcome, if nothing is under way and nothing keeps it from that."""
        convergence = self.watcher.convergence
        is_free = convergence.deployment is None and self.watcher.controls.held is None and self.is_connected
        if is_free and self.target:
            assert convergence.outcome_of(self.target), "what is to be deployed never is"

    def _check_status(self) -> None:
        """Check that the state is true while nothing is under way."""
        status, release = self.watcher.board.status, self.desired.release if self.desired else None
        told = {"waiting", "halted"} if self.assigned else {"idle", "active", *GAVE_UP}
        assert status.state in told or not self.is_connected
        assert status.state in {"idle", "active", "waiting", "halted", *GAVE_UP}
        if self.assigned or not self.is_connected:
            return
        if self.desired is None or release is None or status.generation != self.desired.generation:
            return
        if status.state == "active":
            assert self.live[release.relative_path] == release.commit_id
        assert self.is_healthy or status.state == "failed"
        if status.state in GAVE_UP:
            self.given_up.add(self.desired.generation)

    def _check_live(self) -> None:
        assert not self.is_begun_again, "what has ended the host is run again"
        journal = ReleaseJournal.load(self.watcher.layout.journal)
        for place, commit_id in self.live.items():
            if commit_id is None or self._is_owed(commit_id):
                continue
            others = [other for other, live in self.live.items() if live and other != place]
            earlier = set(journal.place(place).healthy) - {commit_id}
            bad = self.unhealthy | self.isolating
            assert commit_id not in bad or not (others or earlier), f"{commit_id} stays live at {place}"
            assert commit_id not in self.failing or not earlier, f"{commit_id}, whose hook fails, stays live"
            is_used = self.unused.get(place) != commit_id
            assert is_used or self.crashes >= CRASHES, f"{commit_id} is not used"

    def _is_owed(self, commit_id: str) -> bool:
        """Whether the status reports what the host lacked to prove a release, which is tried with the next one."""
        lacked = f"{commit_id}, which was live: hook after_activate {command.NOT_NOW}"
        return lacked in str(self.watcher.board.status.message)


class RolloutLife(Life):
    """A life in rollouts. The rules determine this host's entry in them; people and other hosts move them on."""

    entry: str | None = None
    """The entry of this host in the rollout."""
    moves = 0
    """The moves of the state when the host got this entry."""
    told = 0
    """How often the host has reported something in this turn."""

    def __init__(self, seed: int, base: Path) -> None:
        super().__init__(seed, base)
        self.unhealthy.discard(FIRST)
        self.shortage, self.fragility, self.crashes_left = 0, 0.15, self.chance.choice((0, 1, 2, 4))

    def _event(self) -> Callable[[], None]:
        if self.chance.random() < 0.15:
            commit_id, place = self.chance.choice((FIRST, *OTHERS)), self.chance.choice(PLACES)
            return lambda: self._publish(commit_id, place)
        moves = [self._lead, self._lead, self._halt, self._pause, self._promote, self._fail_elsewhere, self._pass_time]
        return self.chance.choice(
            [*moves, *moves, self._hold, self._release, self._release, self._retry, self._restart]
        )

    def _lead(self) -> None:
        self._publish(self.chance.choice(OTHERS), self.chance.choice(PLACES[:2]))
        assert self.desired
        assert self.desired.release
        plan = {"onFailure": self.chance.choice(ON_FAILURE), "maxFailures": self.chance.choice((0, 1)), "minHealthy": 0}
        stable = replace(self.desired.release, commit_id=FIRST)
        self.state = begin_rollout(self.desired.release, {**plan, "steps": [{"hosts": 1}]}, stable, 3)

    def _admit(self) -> None:
        super()._admit()
        self.entry = None

    def _halt(self) -> None:
        self._command("halt")

    def _pause(self) -> None:
        self._command("pause")

    def _promote(self) -> None:
        self._command("promote", force=True)

    def _command(self, verb: str, *, force: bool = False) -> None:
        if self.state:
            self._move(Command(verb, "ann", force=force))

    def _fail_elsewhere(self) -> None:
        if self.state and self.state.phase in GOING_ON:
            counts = {**self.state.counts, ADMITTED: self.state.counts[ADMITTED] + 1}
            self.state = replace(self.state, counts=counts)
            self._move(Outcome("web9", ADMITTED, FAILED, "status 404"))

    def _pass_time(self) -> None:
        due = timer(self.state.parsed_plan(), self.state) if self.state else None
        if due and self.state and not gives_up(self.state):
            self._move(Tick(due.of, due.seconds))

    def _lose(self) -> None:
        if self.entry in IN_FLIGHT and self.chance.random() < 0.6:
            self._tell(Outcome("web0", self.entry, LOST, "it disappeared on its way"))
        self._start()

    def _move(self, event: Event) -> Decision:
        """Have an event happen in the rollout."""
        assert self.state
        decision = decide(self.state.parsed_plan(), self.state, event)
        self.state = decision.state
        return decision

    def _tell(self, event: Event) -> bool:
        """Report an event of this host to the rollout. Returns whether that changed anything."""
        before = self.state
        entry = self._move(event).entry
        assert self.state
        if self.state is before:
            return False
        self.entry, self.moves = entry, self.state.moves
        return True

    def _view(self) -> HostView:
        view = super()._view()
        convergence, is_healthy = self.watcher.convergence, self.is_healthy
        stable = stable_of(self.desired, self.state) if self.desired and self.state else None
        return replace(
            view,
            stable_ended=convergence.outcome_of(stable) if stable else None,
            sickness=None if is_healthy else "status 500",
            is_healthy=is_healthy,
            healthy_for=1.0 if is_healthy and view.ended and view.ended[0] == "active" else None,
            is_busy=convergence.deployment is not None,
        )

    def _take_part(self) -> None:
        if not (self.state and self.desired):
            return
        view = self._view()
        while self._tell_next(view):
            self.told += 1
            assert self.told < STEPS, f"it is {self.entry} again and again"
        self.told = 0
        made = assign(self.desired, self.state, self.state.parsed_plan(), self.entry, view)
        self.assigned = made if made.standstill else None

    def _tell_next(self, view: HostView) -> bool:
        """Do what the host does next. Returns whether there may be more to do."""
        assert self.state
        move = next_move(self.state, self.state.parsed_plan(), self.entry, view)
        if isinstance(move, Wait):
            is_open = self.state.phase in {RUNNING, *GOING_BACK}
            if move is Wait.ASIDE or self.entry in IN_FLIGHT or not is_open:
                return False
            move = Ask("web0", {}, self.entry)
        return self._tell(move._replace(moves=self.moves) if isinstance(move, (Ask, Has, Outcome)) else move)

    def _check_status(self) -> None:
        if self.state is None:
            super()._check_status()

    def check_rollout(self) -> None:
        """Check that at rest the host has no place that it does not need, and has returned if it could."""
        if not (self.state and self.state.stable) or self.watcher.controls.held or not self.is_connected:
            return
        is_busy, new, stable = self._view().is_busy, self.state.release, self.state.stable["commitId"]
        assert self.entry not in {ADMITTED, RETURNING} or is_busy or not self.is_healthy, f"{self.entry} for ever"
        is_able = stable not in {*self.unhealthy, *self.failing, *self.missing, *self.refused, *self.isolating}
        if self.state.phase in GOING_BACK and self.entry and is_able and self.is_healthy and not is_busy:
            assert self.live[new["relativePath"]] != new["commitId"], f"{self.entry}, and has not returned"


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:  # a patch for each kind of instant
    """Begins a life from a seed."""
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

    def begin_life(seed: int, kind: type[Life] = Life) -> Any:
        lives.append(kind(seed, tmp_path / str(seed)))
        return lives[-1]

    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(ReleaseJournal, "save", pass_and_save)
    monkeypatch.setattr(command, "run", lambda words, _seconds, names, _directory: lives[-1].run_hook(words, names))
    monkeypatch.setattr(Fetching, "fetch", lambda fetching: lives[-1].fetch(fetching._course))
    monkeypatch.setattr(HealthProof, "find_problem", lambda _proof, _soak=0.0: lives[-1].find_problem())
    monkeypatch.setattr(HealthProof, "wait_for_ever", lambda _proof: lives[-1].wait_for_health())
    monkeypatch.setattr(LiveProof, "start", start)
    monkeypatch.setattr(Handshake, "sleep", lambda made, _seconds: made.check())
    monkeypatch.setattr(Handshake, "wait_answered", lambda _made, _seconds: lives[-1].wait_answered())
    for module in ("deployment", "going_back"):
        monkeypatch.setattr(f"zoo_watcher.releases.{module}.activate", swap)
    yield begin_life
    for life in lives:
        life.close()


@pytest.mark.parametrize("first", range(0, LIVES * TESTS, LIVES))
def test_a_host_does_not_stay_with_a_release_that_was_never_proved(begin: Begin, first: int) -> None:
    for seed in range(first, first + LIVES):
        life = begin(seed)
        try:
            life.run()
        except AssertionError as exc:
            raise AssertionError(f"the life {seed}: {exc}") from exc


@pytest.mark.parametrize("first", range(0, LIVES * TESTS, LIVES))
def test_a_host_that_was_lost_does_not_begin_again_with_the_release_that_took_it_down(begin: Begin, first: int) -> None:
    spared = 0
    for seed in range(first, first + LIVES):
        life = begin(seed)
        life.crashes_left, events, life.events = 0, life.events[-1:], []
        publish(life, FIRST, PLACES[0])
        life.events = [life._lead, *events]
        life.crashes_left, life.fragility = 1, 0.3
        try:
            life.run()
        except AssertionError as exc:
            raise AssertionError(f"the life {seed}: {exc}") from exc
        spared += life.spared
    assert spared, "none has the stable release instead"


@pytest.mark.parametrize("block", range(TESTS))
def test_a_host_comes_to_rest_in_any_rollout_without_a_place_or_a_release_that_was_rolled_back(
    begin: Begin, tmp_path: Path, block: int
) -> None:
    for seed in range(block * ROLLOUT_LIVES // TESTS, (block + 1) * ROLLOUT_LIVES // TESTS):
        life = begin(seed, RolloutLife)
        try:
            life.run()
            life.check_rollout()
        except AssertionError as exc:
            raise AssertionError(f"the life {seed}: {exc}") from exc
        shutil.rmtree(tmp_path / str(seed))


@pytest.fixture
def life(begin: Begin) -> Life:
    """A life in which all is well, and nothing happens except what a test does."""
    life: Life = begin(0)
    life.events, life.frequency, life.crashes_left = [], 0, 0
    life.unhealthy, life.failing, life.missing, life.refused, life.isolating = (set() for _kind in range(5))
    life.shortage = 0
    return life


def publish(life: Life, commit_id: str, place: str) -> tuple[str, int | None, str]:
    """Publish a release. Returns the state, its generation and message once nothing happens or everything waits."""
    life._publish(commit_id, place)
    return settle(life)


def settle(life: Life) -> tuple[str, int | None, str]:
    """Like `publish`, without a publication."""
    with contextlib.suppress(RestError):
        while life._step():
            pass
    for made, progress in life.watcher.inbox.wait(0):
        life.watcher.convergence.note(made, progress)
    status = life.watcher.board.status
    return status.state, status.generation, status.message or ""


def leave_unproved(life: Life, *releases: tuple[str, str]) -> None:
    """Have releases live that an agent has begun and brought to no outcome, the first of them used last."""
    journal = ReleaseJournal.load(life.watcher.layout.journal)
    life.generation += 1
    begun = []
    for commit_id, place in reversed(releases):
        journal = journal.with_place(place, None, None)
        activate(life.watcher.layout, place, commit_id)
        begun.append(Attempt(life.generation, commit_id, 0, place))
    replace(journal, begun=tuple(begun)).save(life.watcher.layout.journal)
    life._start()


def test_a_failure_is_reported_even_if_the_live_release_waits_for_its_health(life: Life) -> None:
    first, second = FIRST, OTHERS[0]
    life.unhealthy, life.failing = {first}, {second}
    assert publish(life, first, "site")[:2] == ("checking", 1)
    life._start()
    state, generation, message = publish(life, second, "site")
    assert (state, generation) == ("failed", 2)
    assert "hook after_activate" in message
    assert f"{first}, which was live: not healthy" in message


def test_an_invalid_publication_is_reported_even_if_the_live_release_waits_for_its_health(life: Life) -> None:
    life.unhealthy = {FIRST}
    assert publish(life, FIRST, "site")[:2] == ("checking", 1)
    life._start()
    life._publish_garbage()
    state, generation, message = settle(life)
    assert (state, generation) == ("failed", 2)
    assert message.startswith(f"garbage; {FIRST}, which was live: not healthy")


def test_a_failed_release_stays_failed_for_the_next_agent(life: Life) -> None:
    """This holds even if the host goes back to a release that was never proved and fails as well."""
    live, other = OTHERS[:2]
    leave_unproved(life, (live, "site"))
    life.failing = {live, other}
    told = publish(life, other, "site")
    assert told[:2] == ("failed", 2)
    assert f"{live}, which was live: hook after_activate" in told[2]
    life._start()
    assert settle(life) == told


def test_a_host_that_went_back_has_not_failed_because_of_a_proof_that_was_impossible_before(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rollback is interrupted, its end can't be proved for a moment, and then the release fails once more."""
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
    assert (state, generation, message) == ("rolled_back", 2, f"not healthy; rolled back to {FIRST} at site")
    assert life.is_healthy


@pytest.mark.parametrize("event", ["_delete", "_hold"])
def test_a_live_release_waits_for_its_health_once_nothing_else_is_to_be_deployed(life: Life, event: str) -> None:
    live, newer = OTHERS[:2]
    life.unhealthy, life.refused = {live}, {newer}
    assert publish(life, live, "site")[:2] == ("checking", 1)
    life._start()
    life.frequency, life.events = 1, [getattr(life, event)]
    assert publish(life, newer, "other")[:2] == ("checking", 1), "it is neither idle nor forgotten"
    life.unhealthy = set()
    life._start()
    settle(life)
    assert ReleaseJournal.load(life.watcher.layout.journal).healthy == (live,)


def test_an_unproved_release_has_its_hook_run_and_is_checked_again_where_the_host_goes_back_to_it(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, newer = OTHERS[:2]
    life.unhealthy, life.failing = {live}, {newer}
    assert publish(life, live, "site")[:2] == ("checking", 1)
    life._start()
    used: list[str] = []
    hooks = life.run_hook

    def note(words: tuple[str, ...], names: Mapping[str, str]) -> command.Ended:
        used.extend([names["ZOO_COMMIT"]] if words == life.config.hooks.after_activate else [])
        return hooks(words, names)

    monkeypatch.setattr(life, "run_hook", note)
    state, generation, message = publish(life, newer, "other")
    assert used == [newer, live]
    assert (state, generation) == ("failed", 2)
    assert f"{live}, which was live: not healthy" in message


def test_a_release_that_is_active_reports_nothing_about_another(life: Life) -> None:
    live, other = OTHERS[:2]
    publish(life, FIRST, "other")
    leave_unproved(life, (other, "other"), (live, "site"))
    life.failing = {other}
    assert publish(life, live, "site") == ("active", 3, "")


def test_a_release_is_deployed_when_the_hold_ends_even_if_the_live_one_waits_for_its_health(life: Life) -> None:
    first, second = FIRST, OTHERS[0]
    life.unhealthy = {first}
    publish(life, first, "site")
    life._hold()
    life._start()
    life.events = [life._release]
    assert publish(life, second, "site") == ("active", 2, "")


def test_the_status_reports_when_nothing_is_live_any_more(life: Life) -> None:
    publish(life, FIRST, "site")
    life.watcher.layout.place("site").unlink()
    life._publish_garbage()
    settle(life)
    assert life.watcher.board.status.commit_id is None


def test_while_the_live_release_cannot_be_read_the_status_keeps_the_previous_one(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(life, FIRST, "site")

    def fail(*_words: object) -> str | None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("zoo_watcher.convergence.live_commit", fail)
    life._publish_garbage()
    settle(life)
    assert life.watcher.board.status.commit_id == FIRST


def test_a_failure_is_counted_in_the_state_in_which_the_release_failed(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = OTHERS[:2]
    publish(life, FIRST, "site")
    life.failing, life.unhealthy = {first}, {second}
    counted: list[tuple[str, str]] = []
    metrics = SimpleNamespace(count=lambda state, before, _retry: counted.append((state, before)))
    monkeypatch.setattr(life.watcher.board, "_metrics", metrics)
    publish(life, first, "site")
    publish(life, second, "site")
    failed = [before for state, before in counted if state in GAVE_UP]
    assert failed == ["activating", "checking"]


@pytest.mark.parametrize("event", ["_publish_garbage", "_delete", "_hold"])
def test_a_deployment_that_is_cancelled_is_logged_as_such_once(
    life: Life, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    life.missing, life.events = {FIRST}, [getattr(life, event)]
    publish(life, FIRST, "site")
    told = [record.getMessage() for record in caplog.records]
    assert told.count(f"cancelled, generation=1 commit={FIRST}") == 1


def test_the_release_to_which_a_rollout_returns_a_host_is_deployed_when_the_hold_ends(life: Life) -> None:
    """While the host is held its status reports that the rollout went back, and it reports nothing else afterwards."""
    stable, new = OTHERS[:2]
    publish(life, new, "site")
    life._hold()
    returns = Desired(-life.generation, 1, Release("https://git.example/site.git", stable, "site"))
    life.assigned = Assignment(returns, Standstill(life.generation, "rolled_back", "the rollout went back"))
    assert settle(life) == ("rolled_back", life.generation, "the rollout went back")
    assert life.live["site"] == new
    life._release()
    settle(life)
    assert life.live["site"] == stable


def test_a_release_that_the_host_goes_back_to_has_its_hook_run_even_if_it_was_tried_before(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, other = OTHERS[:2]
    leave_unproved(life, (live, "site"))
    life.unhealthy = {live, other}
    fetch = life.fetch

    def wait_too_long(_course: Course) -> bool:
        monkeypatch.setattr(life, "fetch", fetch)
        raise YieldedError

    monkeypatch.setattr(life, "fetch", wait_too_long)
    assert publish(life, other, "site")[:2] == ("failed", 2)
    assert life.live["site"] == live
    assert not life.unused


def test_an_error_of_a_rollback_is_reported_by_the_next_agent_too(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit does not start with the earlier release, and the agent is restarted while that is checked."""
    other = OTHERS[0]
    publish(life, FIRST, "site")
    life.unhealthy, life.failing = {other}, {FIRST}
    find = life.find_problem

    def restart() -> str | None:
        if life.is_healthy:
            monkeypatch.setattr(life, "find_problem", find)
            life._restart()
        return find()

    monkeypatch.setattr(life, "find_problem", restart)
    with pytest.raises(CrashError):
        publish(life, other, "site")
    life._start()
    state, generation, message = settle(life)
    assert (state, generation) == ("failed", 2)
    assert message == f"not healthy; rolled back to {FIRST}; hook after_activate ended with status 1"


def test_a_release_whose_hook_failed_in_a_rollback_has_it_run_when_it_is_published_again(life: Life) -> None:
    other = OTHERS[0]
    publish(life, FIRST, "site")
    life.unhealthy, life.failing = {other}, {FIRST}
    assert publish(life, other, "site")[:2] == ("failed", 2)
    assert publish(life, FIRST, "site")[:2] == ("failed", 3)
    life.failing = set()
    assert publish(life, FIRST, "site") == ("active", 4, "")


def test_an_interrupted_rollback_from_another_place_leaves_that_place_too(life: Life) -> None:
    left, newer = OTHERS[:2]
    publish(life, FIRST, "site")
    leave_unproved(life, (left, "other"))
    file = life.watcher.layout.journal
    ReleaseJournal.load(file).with_return(2, (left, "other"), (FIRST, "site"), "why").save(file)
    life._start()
    life.unhealthy, life.refused = {left}, {newer}
    assert publish(life, newer, "other")[:2] == ("failed", 3)
    assert life.live == {"site": FIRST, "other": None, "third": None}


def test_what_a_release_at_another_place_is_owed_is_reported_with_the_active_one(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = OTHERS[0]
    leave_unproved(life, (other, "other"))
    hooks = life.run_hook

    def lack(words: tuple[str, ...], names: Mapping[str, str]) -> command.Ended:
        lacks = names["ZOO_COMMIT"] == other
        return command.Ended(f"{command.NOT_NOW} start", "") if lacks else hooks(words, names)

    monkeypatch.setattr(life, "run_hook", lack)
    state, generation, message = publish(life, FIRST, "site")
    assert (state, generation) == ("active", 2)
    assert message.startswith(f"{other}, which was live: hook after_activate can't be started now")
    monkeypatch.setattr(life, "run_hook", hooks)
    assert publish(life, FIRST, "site") == ("active", 3, "")
