# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves the metrics: a scrape reads what the loop has left for it, and what changes without the loop."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from zoo_watcher.config.config import Config
from zoo_watcher.desired import DesiredRelease
from zoo_watcher.host.layout import Layout
from zoo_watcher.services.health import Checker, Health
from zoo_watcher.services.registration import Registrations, service_path
from zoo_watcher.wire.records import AgentStatus
from zoo_watcher.zookeeper.session import Session

from .disk_use import DiskMeter, FileSystem
from .facts import CheckFacts, Facts, SessionFacts, Tally, Turn
from .metric import OUTCOMES, Family, families
from .scrapes import serve_scrapes


class Metrics(Collector):
    """The metrics of one agent. The loop calls `show` and `count`, a scrape `collect`, in another thread."""

    def __init__(
        self,
        config: Config,
        session: Session,
        desired: DesiredRelease,
        health: Health,
        registrations: Registrations,
        actions_pending: Callable[[], int],
    ) -> None:
        self._app = config.app.root
        self._base = config.base
        self._session = session
        self._desired = desired
        self._registrations = registrations
        self._actions_pending = actions_pending
        self._checkers = [
            (service_path(service), checker) for service, checker in zip(config.services, health.checkers)
        ]
        self._started = time.time()
        self._session_id: int | None = None
        self._session_since = 0.0
        self._turn = Turn(self._started, AgentStatus(name=config.name))
        self._tally = Tally()
        self._layout = Layout(config.base)
        self._disk_meter = DiskMeter(self._layout)

    def serve(self, port: int, address: str) -> None:
        """Answer scrapes from now on. Raises `OSError`; it may then be called again."""
        registry = CollectorRegistry()
        registry.register(self)
        try:
            if not self._disk_meter.is_alive():
                self._disk_meter = DiskMeter(self._layout)
                self._disk_meter.start()
            serve_scrapes(port, address, registry)
        except (ValueError, RuntimeError) as exc:
            raise OSError(str(exc)) from exc

    def show(self, status: AgentStatus, registered: Collection[str]) -> None:
        """Set what scrapes report from now on."""
        self._note_session()
        current = self._desired.current
        converged = status.converged(current.generation) if current else self._desired.is_read
        self._turn = Turn(
            at=time.time(),
            status=status,
            desired_generation=current.generation if current else 0,
            desired_commit=current.release.commit_id if current and current.release else "",
            converged=converged,
            session_since=self._session_since,
            registered=frozenset(registered),
            refused=self._registrations.refused,
            actions_pending=self._actions_pending(),
        )

    def _note_session(self) -> None:
        client_id = self._session.client_id
        if client_id is not None and client_id[0] != self._session_id:
            self._session_id, self._session_since = client_id[0], time.time()

    def count(self, state: str, before: str, retry: str | None) -> None:
        """Count what a deployment reports: the state that it enters, from which, and why it tries a step again."""
        if retry:
            self._tally.retries[retry] += 1
        if state in OUTCOMES:
            self._tally.outcomes[state] += 1
            self._disk_meter.note_change()
            if state != "active":
                self._tally.failures[before] += 1

    def collect(self) -> Iterator[Family]:
        """All metrics, as they are now."""
        return families(
            Facts(
                app=self._app,
                started=self._started,
                turn=self._turn,
                session=_session_facts(self._session),
                tally=self._tally,
                checks=tuple(_check_facts(path, checker) for path, checker in self._checkers),
                disk_use=self._disk_meter.latest,
                file_system=FileSystem.of(self._base),
            )
        )


def _session_facts(session: Session) -> SessionFacts:
    states = session.states
    return SessionFacts(states.current, session.timeout, states.last_contact, states.counts)


def _check_facts(service: str, checker: Checker) -> CheckFacts:
    return CheckFacts(service, bool(checker.healthy), checker.answered_at, checker.max_age)
