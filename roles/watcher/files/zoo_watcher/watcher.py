# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's loop: wait for a reason to act, read the desired release, converge, report."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import queue
import signal
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .config.config import Config
from .errors import AgentError, ConfigError, NameTakenError, SessionTroubleError
from .host import systemd
from .host.filesystem import write_whole
from .host.layout import Layout
from .releases.activation import live_commit
from .releases.deployment import Deployment, Progress
from .releases.journal import ReleaseJournal
from .services.health import Health
from .services.registration import service_path, service_value, source_address
from .wire.records import AgentStatus, InvalidRecord, Release
from .zookeeper.ephemerals import Ephemerals, TakenError
from .zookeeper.session import Node, Session, session_trouble
from .zookeeper.session_memory import session_memory

if TYPE_CHECKING:
    from .files.reconciler import FileReconciler
    from .metrics import Metrics

AGAIN = 1.0
"""Seconds after which what ZooKeeper did not do is asked for again."""
IDLE = 60.0
"""Seconds after which the loop looks around where nothing wakes it."""

OUTCOMES = ("active", "failed", "rolled_back")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desired:
    """The desired release as its znode has it: `release`, or the `problem` with it; `fleet` agents were live then."""

    generation: int
    fleet: int
    release: Release | None = None
    problem: str | None = None

    @classmethod
    def from_node(cls, node: Node, fleet: int, schemes: tuple[str, ...]) -> Desired:
        """What a node asks for, as far as this host allows it."""
        generation = node.stat.mzxid
        try:
            release = Release.from_node(node.data)
        except InvalidRecord as exc:
            return cls(generation, fleet, problem=f"the published release is not valid: {exc}")
        if release.scheme not in schemes:
            allowed = ", ".join(schemes)
            return cls(generation, fleet, problem=f"url: {release.scheme} is not allowed on this host, only {allowed}")
        return cls(generation, fleet, release)


class Watcher:
    """One agent. `run` returns when a signal says so."""

    def __init__(self, config: Config, version: str) -> None:
        self.config = config
        self.layout = Layout(config.base)
        # A signal handler puts into it too: SimpleQueue is the one that may be interrupted in itself.
        self.inbox: queue.SimpleQueue[tuple[Deployment, Progress | None] | None] = queue.SimpleQueue()
        self.health = Health([service.check for service in config.services], self.wake)
        memory = session_memory(systemd.runtime_directory(), self.layout.session)
        self.session = Session(config.connection, memory, self.wake)
        self.registrar = Ephemerals(self.session)
        self.status = AgentStatus(name=config.name, version=version, since=_now())
        self.reconciler = self._reconciler()
        self.desired: Desired | None = None
        self.deployment: Deployment | None = None
        self.ending: str | None = None
        self._stale = True
        self._followed = False
        self._trouble = ""
        self._taken_since: dict[str, float] = {}
        self._registered: set[str] = set()
        self._address = ""
        self._shown: dict[str, Any] = {}
        self.metrics: Metrics | None = None

    def _reconciler(self) -> FileReconciler | None:
        if not self.config.files:
            return None
        # Imported here: an agent without files has nothing of it in its memory.
        from .files.reconciler import FileReconciler  # noqa: PLC0415

        return FileReconciler(self.config, self.layout, self.session, self.wake)

    def wake(self) -> None:
        """Let the loop look again; from any thread, or a signal handler."""
        self.inbox.put(None)

    def run(self) -> None:
        """Serve until SIGTERM (leave) or SIGUSR2 (hand the session over). Raises `AgentError`."""
        lock = self._lock_base()
        # After the lock: a second agent of this base is told so, not that its port is taken.
        self.metrics = _metrics(self.config)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGUSR2, self._on_signal)
        self.health.start()
        self.session.start()
        if self.reconciler:
            self.reconciler.start()
        systemd.notify("READY=1", f"STATUS={self.status.state}")
        log.info("watching, app=%s base=%s name=%s", self.config.app.root, self.config.base, self.config.name)
        try:
            pause = 0.0
            while self.ending is None:
                self._wait(pause)
                pause = self._turn()
        finally:
            self._end()
            os.close(lock)

    def _lock_base(self) -> int:
        """Two agents in one base would take releases from under each other."""
        try:
            self.layout.make()
            lock = os.open(self.layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise AgentError(f"base: {exc.filename}: {exc.strerror}") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            os.close(lock)
            raise NameTakenError(f"another agent works in {self.config.base}; this one ends") from exc
        return lock

    def _on_signal(self, number: int, _frame: Any) -> None:
        self.ending = "handing over" if number == signal.SIGUSR2 else "leaving"
        self.wake()

    def _wait(self, seconds: float) -> None:
        """Wait for a message, take it and all that have come with it."""
        try:
            message = self.inbox.get(timeout=seconds)
            while True:
                if message is not None:
                    self._take_in(*message)
                message = self.inbox.get_nowait()
        except queue.Empty:
            return

    def _take_in(self, deployment: Deployment, progress: Progress | None) -> None:
        if deployment is not self.deployment or progress is None:
            return
        if self.metrics and progress.state in OUTCOMES:
            self.metrics.count(progress.state, self.status.state)
        log.info(
            "%s, generation=%s commit=%s%s",
            progress.state,
            deployment.generation,
            deployment.release.commit_id,
            f": {progress.message}" if progress.message else "",
        )
        self._set_status(
            progress.state,
            generation=deployment.generation,
            message=progress.message,
            timings=progress.timings or None,
            previous_commit_id=progress.previous,
        )

    def _take_in_files(self) -> None:
        """Take over what the keeper tells of its files, and tell it that there may be a connection again."""
        if self.reconciler is None:
            return
        if not self.reconciler.works:
            raise AgentError("the thread that keeps files has ended; the log says why")
        if self.session.usable:
            self.reconciler.wake()
        if self.status.files != self.reconciler.statuses:
            self.status = self.status.with_changes(files=self.reconciler.statuses)

    def _set_status(self, state: str, **changes: Any) -> None:
        since = self.status.since if state == self.status.state else _now()
        commit_id = self._live() or self.status.commit_id
        self.status = self.status.with_changes(state=state, since=since, commit_id=commit_id, **changes)
        systemd.notify(f"STATUS={state} {self._live() or 'no release'}")

    def _show(self) -> None:
        """Show whoever looks at the host what the ensemble is told."""
        states = self.session.states
        registered = sorted(self._registered) if self.session.seconds_left else []
        if self.metrics:
            self.metrics.update(self.status, states, len(registered))
        shown = {
            **self.status.to_object(),
            "session": states.current,
            "sessionStates": dict(states.entered),
            "registered": registered,
        }
        if shown == self._shown:
            return
        try:
            write_whole(self.layout.status, json.dumps(shown))
            self._shown = shown
        except OSError as exc:
            log.warning("status not written, path=%s: %s", self.layout.status, exc.strerror)

    def _turn(self) -> float:
        """Look at all that may have changed, once; the seconds after which to look again in any case."""
        systemd.notify("WATCHDOG=1")
        self._take_in_files()
        pause = self._look()
        self._show()
        return min(pause, systemd.watchdog_interval() or IDLE)

    def _look(self) -> float:
        pause = IDLE
        if not self.session.usable:
            # A watch that was lost with the connection says nothing: all is read anew.
            self._stale = True
            return min(pause, self.session.seconds_left or pause)
        try:
            self._follow()
            self._converge()
            self._report()
            self._register()
            self._assure()
        except (SessionTroubleError, TakenError) as exc:
            self._note_trouble(str(exc))
            return min(AGAIN, pause)
        self._note_trouble("")
        return pause

    def _note_trouble(self, text: str) -> None:
        if text and text != self._trouble:
            log.warning("trouble with ZooKeeper, tried again: %s", text)
        self._trouble = text

    def _follow(self) -> None:
        """Read the desired release where it may have changed."""
        if self.session.renewed():
            self._stale = True
            self._registered.clear()
            self._address = source_address(self.config.connection.hosts)
        if not self._stale:
            return
        self._stale = False
        try:
            with session_trouble(self.config.app.config):
                # Both are asked for at once: what is desired must not wait for a number.
                agents = self.session.client.exists_async(self.config.app.agents)
                node = self.session.read(self.config.app.config, self._on_release)
                fleet = getattr(self.session.answer(agents), "numChildren", 0)
        except SessionTroubleError:
            self._stale = True
            raise
        self._followed = True
        desired = Desired.from_node(node, fleet, self.config.allowed_schemes) if node else None
        if desired is None or self.desired is None or desired.generation != self.desired.generation:
            self.desired = desired

    def _on_release(self, _event: Any) -> None:
        self._stale = True
        self.wake()

    def _converge(self) -> None:
        """Start what the desired release asks for, unless it is under way, done, or known to fail here."""
        desired = self.desired
        if desired is None or desired.generation == self.status.generation:
            return
        if self.deployment is not None and not self.deployment.ended:
            # Its end wakes the loop. What went live already is brought to its end where nothing takes its place.
            if desired.release is not None or not self.deployment.swapped:
                self.deployment.cancel()
            return
        self.deployment = None
        failure = ReleaseJournal.load(self.layout.journal).failed(desired.generation)
        if desired.release is None:
            log.warning("not deployed, generation=%s: %s", desired.generation, desired.problem)
            self._set_status("failed", generation=desired.generation, message=desired.problem, timings=None)
        elif failure:
            self._set_status(failure.state, generation=desired.generation, message=failure.message)
        else:
            self._deploy(desired, desired.release)

    def _deploy(self, desired: Desired, release: Release) -> None:
        deployment = Deployment(
            self.config,
            release,
            desired.generation,
            desired.fleet,
            self.health,
            lambda progress: self.inbox.put((deployment, progress)),
        )
        self.deployment = deployment
        self._set_status("queued", generation=desired.generation, message=None, timings=None)
        deployment.start()

    def _live(self) -> str | None:
        release = self.desired.release if self.desired else None
        return live_commit(self.layout, release.relative_path) if release else None

    def _report(self) -> None:
        """Write the status where it has changed."""
        path = self.config.app.agent(self.config.name)
        try:
            self.registrar.hold(path, self.status.to_node())
        except TakenError as exc:
            self._check_name(exc)
            raise
        self._taken_since.clear()

    def _check_name(self, taken: TakenError) -> None:
        """An agent of this name is there: its session may be a dead one's, that ends, or it lives."""
        since = self._taken_since.setdefault(f"{taken.path} {taken.owner}", time.monotonic())
        if not taken.owner or time.monotonic() - since > 2 * self.session.timeout:
            raise NameTakenError(
                f"another agent is named {self.config.name}: {taken}; this one takes nothing over and ends"
            )

    def _register(self) -> None:
        """Hold a registration for each service that is healthy, and for no other."""
        serving = self._serves()
        for service, checker in zip(self.config.services, self.health.checkers):
            path = service_path(service)
            if serving and checker.healthy:
                self.registrar.hold(path, service_value(service, service.address or self._address))
                self._registered.add(path)
            elif not serving or checker.healthy is False:
                self.registrar.let_go(path)
                self._registered.discard(path)
        self.registrar.let_go_of_others(
            {self.config.app.agent(self.config.name), *(service_path(service) for service in self.config.services)}
        )

    def _assure(self) -> None:
        """Tell a deployment what it waits for: that the registrations are gone, that the ensemble answers."""
        deployment = self.deployment
        if deployment is None:
            return
        if deployment.draining:
            deployment.drained.set()
        if deployment.awaits_contact:
            self.session.round_trip(self.config.app.config)
            deployment.contact.set()

    def _serves(self) -> bool:
        """Whether this host has what it should serve: a release, where one is published, that is not being drained."""
        if self.deployment is not None and self.deployment.draining:
            return False
        if self.desired is None:
            return self._followed
        if self.desired.release is None:
            return bool(self.layout.staged())
        # A release for another place takes nothing away from what is served until it is live.
        return self._live() is not None or bool(ReleaseJournal.load(self.layout.journal).healthy)

    def _end(self) -> None:
        """Leave, or hand the session over: then it goes on, for the next agent, until it expires."""
        systemd.notify("STOPPING=1")
        log.info("%s", self.ending or "ending")
        if self.deployment is not None:
            self.deployment.cancel()
            self.deployment.join(timeout=5)
        if self.reconciler:
            self.reconciler.end(5)
        if self.ending != "handing over":
            self.session.stop()


def _metrics(config: Config) -> Metrics | None:
    if config.metrics_port is None:
        return None
    try:
        # Imported here: an agent that serves no metrics needs no prometheus-client.
        from .metrics import Metrics  # noqa: PLC0415
    except ImportError as exc:
        raise ConfigError(["metrics_port: prometheus-client is not installed"]) from exc
    return Metrics(config.metrics_port, config.metrics_address)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
