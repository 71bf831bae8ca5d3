# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's loop: wait for a reason to act, read the desired release, converge, report."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import signals
from .config.config import Config
from .convergence import Convergence
from .desired import Assignment, DesiredRelease
from .errors import AgentError, ConfigError, NoAnswerError
from .host import command, systemd
from .host.base_lock import keep_lock, lock_base, was_removed
from .host.controls import Controls
from .host.filesystem import make_directory
from .host.layout import READABLE, Layout
from .host.leftovers import Leftovers
from .host.shortage import comes_of_shortage
from .inbox import Inbox
from .releases.handshake import Phase
from .releases.live_signature import LiveSignature
from .services.health import Health
from .services.overdue import Overdue
from .services.registration import Registrations
from .status_board import StatusBoard
from .troubles import Troubles, describe
from .wire.access import has_credentials
from .zookeeper.creation import Creation
from .zookeeper.ephemerals import Ephemerals
from .zookeeper.former_session import close_former_session
from .zookeeper.roster import RosterMembership
from .zookeeper.roster_memory import RosterMemory
from .zookeeper.session import Session
from .zookeeper.session_memory import SessionMemory, chroot_of, memory_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .files.reconciler import FileReconciler
    from .releases.record_trust import RecordTrust
    from .rollouts.participation import Participation

IDLE = 60.0
"""Seconds after which the loop looks around if nothing wakes it."""
LOOK_AGAIN = 60.0
"""Seconds after which the desired release is read again, and what is held checked, even if no watch has fired: a server
that finds that this agent may not read a changed znode just then uses up the watch silently."""
AFTER_MISTAKE = 1.0
"""Seconds before the next turn after one that an unexpected error has broken off."""
END_TIMEOUT = 5.0
"""Seconds that running work gets to end on its own before the agent ends, and the work with it."""

log = logging.getLogger(__name__)


class Watcher:
    """One agent. `run` returns when a signal says so."""

    def __init__(self, config: Config, version: str, check_again: Callable[[], object]) -> None:
        """`check_again` returns what is in the configuration file now; raises `ConfigError` if that can't be used."""
        self.config = config
        self.layout = Layout(config.base)
        self.troubles = Troubles()
        self.inbox = Inbox()
        self.health = Health([service.check for service in config.services], self.wake)
        memory = memory_file(systemd.runtime_directory(), self.layout.session)
        chroot = chroot_of(config.connection.hosts)
        own_status = config.app.agent(config.name) if has_credentials(vars(config.connection)) else None
        registries = {service.path.rstrip("/") for service in config.services}
        self.memory = SessionMemory(memory, chroot, own_status, registries)
        self.session = Session(config.connection, self.memory.client_id, self.wake)
        self.creation = Creation(config, self.session)
        self.ephemerals = Ephemerals(self.session, self.memory)
        self.membership = RosterMembership(config, self.session, RosterMemory(self.layout.roster, chroot), version)
        self.registrations = Registrations(config, self.health, self.ephemerals, self.wake)
        self.trust = self._trust()
        self.desired = DesiredRelease(config, self.session, self.wake, self.trust.find_refusal if self.trust else None)
        self.controls = Controls(self.layout)
        self.board = StatusBoard(config, self.layout, self.session, self.ephemerals, version)
        self.convergence = Convergence(
            config, self.layout, self.inbox, self.health, self.desired, self.controls, self.board, self.troubles
        )
        self.rollout: Participation | None = None
        self._follows = False
        """Whether it is followed in this turn: a pause from an earlier turn does not count."""
        self.signature = LiveSignature(config, self.layout, self.wake)
        self.reconciler = self._reconciler()
        self._endings: set[str] = set()
        """The requested endings, by `ENDINGS`."""
        self.ended: str | None = None
        """Why it has ended: a later signal does not change that."""
        self.checked: object = None
        """The content of the configuration that the agent is to restart with."""
        self._check_again = check_again
        self._reload_asked = False
        self._reload_trouble: str | None = None
        self._connections = 0
        self._look_again_at = time.monotonic() + LOOK_AGAIN
        self._serving: bool | None = None
        self._overdue = Overdue()
        self._leftovers: Leftovers | None = None
        self._said_ready = False
        self._resumes = self.memory.client_id is not None

    def _reconciler(self) -> FileReconciler | None:
        if not self.config.files:
            return None
        # Imported here: an agent without files does not keep it in memory.
        from .files.reconciler import FileReconciler  # noqa: PLC0415

        return FileReconciler(self.config, self.layout, self.session, self.wake)

    def _trust(self) -> RecordTrust | None:
        if self.config.require_signature is None:
            return None
        # Imported here: an agent that demands no signature does not keep it in memory.
        from .releases.record_trust import RecordTrust  # noqa: PLC0415

        return RecordTrust(self.config, self.layout)

    def _actions_pending(self) -> int:
        return self.reconciler.actions_pending if self.reconciler else 0

    def wake(self) -> None:
        """Make the loop look again; from any thread, or a signal handler."""
        self.inbox.wake()

    def run(self) -> None:
        """Serve until SIGTERM (leave), SIGUSR2 (hand the session over) or SIGHUP (likewise, to itself).

        Raises `AgentError`.
        """
        # Before the lock, which shows other processes where to send signals.
        self._listen()
        self.lock = lock_base(self.layout)
        """The descriptor; a restart passes it on."""
        with contextlib.suppress(OSError):
            # Now, because on a full disk nobody could create it.
            make_directory(self.layout.controls, READABLE)
        self.board.enter("idle", self.convergence.known_live())
        # After the lock: a second agent of this base fails because of that, not because its port is taken.
        self.board.start(self.desired, self.health, self.registrations, self._actions_pending)
        self.health.start()
        self.session.start()
        if self.memory.former:
            close_former_session(self.config.connection, self.memory.former)
        if self.reconciler:
            self.reconciler.start()
        self._remove_leftovers(self._note_left)
        self._say_ready()
        log.info("watching, app=%s base=%s name=%s", self.config.app.root, self.config.base, self.config.name)
        try:
            pause = 0.0
            while self.ending is None:
                pause = self._wait_and_look(pause)
        finally:
            self._end()
            if self.ended != "reloading":
                os.close(self.lock)

    def _say_ready(self) -> None:
        """Report readiness to the service manager until it takes it: it stops an agent that has not reported."""
        if not self._said_ready:
            self._said_ready = systemd.notify("READY=1", f"STATUS={self.board.status.state}")

    def _note_left(self, paths: Sequence[Path]) -> None:
        self.convergence.note_left(paths)
        self.wake()

    def _remove_leftovers(self, removed: Callable[[Sequence[Path]], None]) -> None:
        """Have the leftovers of an interrupted deployment removed, to free space; only the next deployment waits."""
        if self._leftovers is not None and self._leftovers.is_alive():
            return
        # If no thread can be started now, the next apply process does the same.
        with contextlib.suppress(OSError, RuntimeError):
            self._leftovers = Leftovers(self.layout, removed)
            if self._leftovers.paths:
                self._leftovers.start()

    def _listen(self) -> None:
        self.inbox.be_woken_by_signals()
        for number in signals.SIGNALS:
            signal.signal(number, self._on_signal)
        signals.receive()

    def _wait_and_look(self, pause: float) -> float:
        """Wait for a reason to look, for at most `pause` seconds, then look; returns the next pause."""
        try:
            self._take_messages(pause)
            self._reload_where_asked()
            return self._turn() if self.ending is None else 0.0
        except AgentError:
            raise
        except Exception as exc:  # noqa: BLE001  # an agent that has ended helps nobody
            self.troubles.begin_turn()
            self.troubles.note_mistake(exc)
            self.troubles.end_turn()
            # A turn that fails at once must not keep a processor busy.
            time.sleep(AFTER_MISTAKE)
            return 0.0

    def _take_messages(self, pause: float) -> None:
        """Wait for messages and take all of them; raises the error of the first that can't be taken."""
        # Looked at before: all that a thread has sent is in the inbox once it has ended.
        deployment = self.convergence.deployment
        silent = deployment if deployment and not deployment.is_alive() else None
        mistakes: list[Exception] = []
        for sender, progress in self.inbox.wait(0.0 if silent else pause):
            try:
                self.convergence.note(sender, progress)
            except Exception as exc:  # noqa: BLE001  # raised below: the others, and the last word, count all the same
                mistakes.append(exc)
        if silent and self.convergence.deployment is silent:
            log.error("the deployment thread has died, generation=%s", silent.generation)
            self.convergence.note(silent, None)
        if deployment and self.convergence.deployment is None:
            # Its apply process was killed and has removed nothing. The next one, which would, may come much later.
            self._remove_leftovers(lambda _paths: None)
        if mistakes:
            raise mistakes[0]

    @property
    def ending(self) -> str | None:
        """Why the agent is to end, if it is. Leaving takes precedence over anything else requested meanwhile."""
        return next((ending for ending in signals.ENDINGS.values() if ending in self._endings), None)

    def _on_signal(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            self._reload_asked = True
        elif number == signals.CONTROL:
            self._look_again_at = 0.0
        else:
            # Added, never replaced: a signal may arrive while the one before it is being handled.
            self._endings.add(signals.ENDINGS[signal.Signals(number)])
        self.wake()

    def _reload_where_asked(self) -> None:
        """End in order to restart with the configuration on disk, or keep the old one if that is wrong.

        First, what runs has to end, such as a hook: the restarted agent would run it a second time in parallel.
        """
        if not self._reload_asked:
            return
        problem = self._config_problem()
        self._reload_trouble = f"not reloaded yet, tried again: {problem}" if comes_of_shortage(problem) else None
        if self._reload_trouble:
            return  # what is right may seem wrong
        if (self.convergence.is_stopping or not problem) and not self._has_stopped():
            if not self.convergence.is_stopping:
                log.info("reloading as soon as what runs has ended")
            self.convergence.is_stopping = True
            return  # the end of it wakes the loop
        if problem and self.convergence.is_stopping:
            self._resume()
        self._reload_asked = False
        if problem:
            log.warning("not reloaded, the previous configuration stays in force: %s", problem)
        else:
            self._endings.add(signals.ENDINGS[signal.SIGHUP])

    def _config_problem(self) -> ConfigError | None:
        try:
            self.checked = self._check_again()
        except ConfigError as exc:
            return exc
        except Exception as exc:  # noqa: BLE001  # whatever it is, the agent goes on with the configuration it has
            problem = ConfigError([describe(exc)])
            problem.__cause__ = exc
            return problem
        return None

    def _has_stopped(self) -> bool:
        """Start nothing more; returns whether all that was started has ended."""
        if self.convergence.deployment is not None:
            self.convergence.deployment.cancel_for_end()
        if self.reconciler is not None:
            self.reconciler.end(0)
        return self.convergence.deployment is None and not (self.reconciler is not None and self.reconciler.works)

    def _resume(self) -> None:
        """Go on after all: the configuration has become wrong during the wait for what ran to end."""
        # If it can't be started now, the next turn starts it.
        reconciler = self._reconciler()
        if reconciler:
            reconciler.start()
        self.reconciler = reconciler
        self.convergence.is_stopping = False
        self.convergence.look_again()

    def _turn(self) -> float:
        """Look once at all that may have changed; returns the seconds after which to look again in any case."""
        systemd.live_on()
        self._say_ready()
        self.troubles.begin_turn()
        self.convergence.journal.forget()
        with self.troubles.noted():
            self._keep_lock()
        # Only now: the step before drops what is owed to another base.
        self.convergence.settle_journal()
        with self.troubles.noted():
            self._note_files()
        with self.troubles.noted():
            self.controls.refresh()
            self.board.set_controls(self.controls)
            self.convergence.keep_held()
        pause = self._reconcile()
        if self.board.show():
            self.wake()  # to report it
        return min(pause, systemd.watchdog_interval() or IDLE)

    def _keep_lock(self) -> None:
        before = self.lock
        is_removed = was_removed(before, self.layout)
        try:
            self.lock = keep_lock(self.layout, before)
        except OSError as exc:
            self.troubles.add([f"base: {exc.filename}: {exc.strerror}"])
        if self.lock != before and not is_removed:
            # The base is another one, for instance because a mount has come up over it: what was done, or is in
            # progress, is not what is live there.
            self.convergence.journal.drop()
            self.convergence.look_again()

    def _note_files(self) -> None:
        """Note the statuses of the files, and tell their thread that there may be a connection again."""
        if self.reconciler is None:
            return
        if not self.reconciler.works and not self.convergence.is_stopping:
            raise AgentError("the thread that reconciles files has stopped; see the log")
        if self.session.usable:
            self.reconciler.wake()
        self.board.set_files(self.reconciler.statuses)

    def _reconcile(self) -> float:
        """Do all that there is to do with the ensemble, each step regardless of the outcome of the one before."""
        self.troubles.add([*self.board.troubles, *self.health.troubles, *self.controls.troubles])
        self.troubles.add(self.convergence.troubles)
        self._look_at_withdrawal()
        self.troubles.add([self._reload_trouble] if self._reload_trouble else [])
        if not self.session.usable:
            self.desired.mark_stale()
            pause: float | None = None
            with self.troubles.noted():
                pause = self.convergence.go_on_alone()
            self.board.set_troubles(self.troubles.current)
            return min(pause or IDLE, self.session.seconds_left or IDLE, self.session.look_after())
        self._follows = False
        try:
            self._take_steps()
            if self.board.set_troubles(self.troubles.current):
                with self.troubles.noted():
                    self.board.report()
        except NoAnswerError as exc:
            self.troubles.add([str(exc)])
            self.board.set_troubles(self.troubles.current)
        pause = self.rollout.pause if self.rollout and self._follows else None
        return min(self.troubles.end_turn() or IDLE, IDLE if pause is None else pause, self.session.look_at_losses())

    def _look_at_withdrawal(self) -> None:
        """Let the session end if nothing else removes the registration of an unhealthy service."""
        is_due = self.registrations.is_withdrawal_due and not self.session.has_ended
        connections, timeout = self.session.connections, self.session.timeout
        if self._overdue.look(is_due=is_due, connections=connections, timeout=timeout):
            log.warning("no answer in time to withdraw what is not healthy: the session is left to end")
        self.session.hold_off(holds_off=self._overdue.is_overdue)

    def _take_steps(self) -> None:
        for step in (
            self._follow_session,
            # Before all else: if a server does not answer the first request in time, nothing that follows is done.
            self.registrations.withdraw_ill,
            self._refresh_creation,
            self._look_again,
            self._find_address,
            self.desired.refresh,
            self.convergence.retry_where_asked,
            self._follow_rollout,
            self.convergence.converge,
            self._verify_live,
            self.board.report,
            self._register,
            self._enroll,
            self._prove_contact,
        ):
            with self.troubles.noted():
                step()

    def _follow_session(self) -> None:
        if self.ephemerals.follow_session():
            self.desired.mark_stale()

    def _refresh_creation(self) -> None:
        try:
            self.creation.refresh()
        finally:
            self.board.note_access(self.creation.record, is_open=self.creation.is_open)

    def _follow_rollout(self) -> None:
        """Take part in the rollout of the desired release, if there is one: it says what this host is to deploy now."""
        desired = self.desired.current
        if self.rollout and (desired is None or not desired.asks_the_same(self.rollout.desired)):
            self.rollout.end()
            self.rollout = self.convergence.assignment = None
        if desired is None or not desired.may_roll_out:
            if self.rollout is None:  # also if an earlier one could not be looked at
                self.convergence.assignment = None
            return
        if self.convergence.is_stopping:
            return
        # Whatever goes wrong from here on, the host stays as it is: only a rollout may give it its turn.
        self.convergence.assignment = Assignment()
        if self.rollout is None:
            # Imported here: an agent without rollouts does not keep them in memory.
            from .rollouts.facts import HostFacts  # noqa: PLC0415
            from .rollouts.participation import Participation  # noqa: PLC0415

            facts = HostFacts(self.config, self.layout, self.convergence, self.health, self.controls)
            check = self.trust.check_stable if self.trust else None
            self.rollout = Participation(facts, self.session, desired, self.wake, check, resumes=self._resumes)
            self._resumes = False
        with self.troubles.noted():
            self.rollout.keep()
        self.convergence.assignment = self.rollout.assignment
        # The status first: a host without one counts as lost once it is admitted, another agent of this name may take
        # part already, and nobody may take this host's place before it has reported its outcome.
        self.board.report()
        self._follows = True
        try:
            self.rollout.follow()
        finally:
            self.convergence.assignment = self.rollout.assignment
            self.troubles.add([self.rollout.refused] if self.rollout.refused else [])

    def _look_again(self) -> None:
        """Trust no watch for longer than `LOOK_AGAIN`, nor after a person on this host has asked for something."""
        now = time.monotonic()
        if now < self._look_again_at:
            return
        if self.reconciler and not self._look_again_at:
            self.reconciler.read_again()
        self._look_again_at = now + LOOK_AGAIN
        self.desired.mark_stale()
        self.creation.mark_stale()
        self.membership.look_again()
        self.ephemerals.look_again()
        if self.rollout:
            self.rollout.mark_stale()

    def _find_address(self) -> None:
        connections = self.session.connections
        if connections != self._connections:
            self.registrations.find_address(self.session.local_address)
            self._connections = connections

    def _verify_live(self) -> None:
        loss = self.convergence.loss()
        self.troubles.add([loss] if loss else [])
        self.signature.look(self.convergence.live())
        self.troubles.add([self.signature.trouble] if self.signature.trouble else [])
        release = self.desired.current.release if self.desired.current else None
        staleness = self.trust.find_staleness(release) if self.trust and release else None
        self.troubles.add([staleness] if staleness else [])

    def _register(self) -> None:
        """Hold the registrations that are due; a deployment that drains waits until there are none.

        While it can't be told what this host serves, the last known state counts.
        """
        # Read once: a drain that begins after this is answered in the next turn, when nothing is registered any longer.
        draining = (
            self.convergence.deployment is not None and self.convergence.deployment.handshake.withholds_registrations
        )
        drained = self.controls.drained is not None
        with self.troubles.noted():
            self._serving = self._serves()
        troubles = self.registrations.update(serving=False if draining or drained else self._serving)
        self.troubles.add(troubles)
        if drained and not troubles:
            self.board.note_withdrawal()
        if self.convergence.deployment is not None and draining and not troubles:
            self.convergence.deployment.handshake.answer(Phase.DRAINING)

    def _enroll(self) -> None:
        """Make sure that this host is in the roster, unless its name belongs to another agent."""
        status = self.ephemerals.made(self.config.app.agent(self.config.name))
        if status is not None:
            self.membership.enroll(status)

    def _serves(self) -> bool:
        """Whether this host has what it should serve: a release, if one is published.

        Raises `OSError` if that can't be told now.
        """
        desired = self.desired.current
        if desired is None:
            # While it can't be read, what was proved here before is what this host serves.
            return self.desired.is_read or bool(self.convergence.journal.read().healthy)
        if desired.release is None:
            return bool(self.layout.staged())
        # A release for another place takes nothing away from what is served until it is live.
        return self.convergence.live() is not None or bool(self.convergence.journal.read().healthy)

    def _prove_contact(self) -> None:
        """Ask the ensemble for an answer if a deployment waits for one."""
        deployment = self.convergence.deployment
        if deployment is not None and deployment.handshake.phase == Phase.AWAITING_CONTACT:
            self.session.round_trip(self.config.app.config)
            deployment.handshake.answer(Phase.AWAITING_CONTACT)

    def _end(self) -> None:
        """Leave, or hand over the session: as after an error, it then lasts for the next agent until it expires."""
        systemd.notify(systemd.reloading() if self.ending == "reloading" else "STOPPING=1")
        log.info("%s", self.ending or "ending after an error")
        end = time.monotonic() + END_TIMEOUT
        if self.convergence.deployment is not None:
            self.convergence.deployment.end(END_TIMEOUT)
        if self.reconciler:
            self.reconciler.end(max(0.0, end - time.monotonic()))
        self.signature.end()
        command.end_all()
        self.convergence.settle_journal()
        self.ended = self.ending
        if self.ended == "leaving":
            self.session.stop()
            self.memory.forget()
