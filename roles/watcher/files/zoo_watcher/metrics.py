# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus metrics of one agent, served where `metrics_port` says so; needs prometheus-client."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from .errors import ConfigError
from .wire.records import STATES, AgentStatus
from .zookeeper.session_states import ACTIONS, SessionStates


class Metrics:
    """What the agent says of itself, as gauges and counters."""

    def __init__(self, port: int, address: str) -> None:
        registry = CollectorRegistry()
        self._generation = Gauge("zoo_watcher_generation", "Generation that the state is about", registry=registry)
        self._state = Gauge("zoo_watcher_state", "1 for the agent's state", ["state"], registry=registry)
        self._session = Gauge("zoo_watcher_session_state", "1 for the session's state", ["state"], registry=registry)
        self._entered = Counter(
            "zoo_watcher_session_changes", "How often the session entered a state", ["state"], registry=registry
        )
        self._counted = dict.fromkeys(ACTIONS, 0)
        self._registered = Gauge("zoo_watcher_registered", "Registrations that are held", registry=registry)
        self._seconds = Gauge(
            "zoo_watcher_deploy_seconds", "What each step of the last deployment took", ["step"], registry=registry
        )
        self._outcomes = Counter(
            "zoo_watcher_deployments", "Deployments by how they ended", ["outcome"], registry=registry
        )
        self._failures = Counter(
            "zoo_watcher_failures", "Deployments that failed, by the step that did", ["reason"], registry=registry
        )
        try:
            start_http_server(port, address, registry)
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise ConfigError([f"metrics_port: {address}:{port}: {reason}"]) from exc

    def update(self, status: AgentStatus, session: SessionStates, registered: int) -> None:
        """Show the present."""
        self._generation.set(status.generation or 0)
        self._registered.set(registered)
        for state in STATES:
            self._state.labels(state).set(state == status.state)
        for state in ACTIONS:
            self._session.labels(state).set(state == session.current)
            count = session.counts[state]
            self._entered.labels(state).inc(count - self._counted[state])
            self._counted[state] = count
        for step, seconds in (status.timings or {}).items():
            self._seconds.labels(step).set(seconds)

    def count(self, outcome: str, step: str) -> None:
        """Count a deployment's end; `step` is the state that it ended from."""
        self._outcomes.labels(outcome).inc()
        if outcome != "active":
            self._failures.labels(step).inc()
